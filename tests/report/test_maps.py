"""A colour means one number throughout a figure, and what has no value has none of its colours."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest

from assay.errors import AssayError
from assay.report import figures
from assay.report.maps import ACROSS, COLOURS, NO_VALUE, Scale, _ticks, scale_of
from assay.report.svg import only_drawing

ALPHAS = np.linspace(-1, 1, 5)
FIRST, SECOND = np.meshgrid(ALPHAS, ALPHAS)


def texts(figure) -> list[str]:
    root = ElementTree.fromstring(figures.inline_svg(figure))
    return ["".join(node.itertext()) for node in root.iter() if node.tag.endswith("}text")]


def bar_of(figure):
    *_, bar = figure.axes
    return bar


def one_map(values, **more):
    rows, columns = np.shape(values)
    names = [f"layer {i}" for i in range(rows)]
    return figures.heat_map(values, x=range(columns), y=names, **more)


class TestHeatMaps:
    def test_colours_are_those_of_the_logarithm_and_the_bar_ends_at_the_values(self) -> None:
        figure = one_map([[1e-4, 1e-2], [1.0, 1e-3]])
        shown = figure.axes[0].images[0].get_array()
        np.testing.assert_allclose(shown, COLOURS([[0.0, 0.5], [1.0, 0.25]]), atol=0.01)
        assert bar_of(figure).get_ylim() == pytest.approx((1e-4, 1))
        assert bar_of(figure).get_yscale() == "log"

    def test_a_linear_scale(self) -> None:
        figure = one_map([[0.0, 3.0, 4.0]], log=False, bar_label="dead units")
        shown = figure.axes[0].images[0].get_array()
        np.testing.assert_allclose(shown, COLOURS([[0.0, 0.75, 1.0]]), atol=0.01)
        assert bar_of(figure).get_ylim() == (0, 4)
        assert "dead units" in texts(figure)

    def test_maps_side_by_side_share_one_scale(self) -> None:
        small, large = np.full((2, 3), 1e-4), np.array([[1.0, 1e-2, 1e-2]])
        names = [["1", "2"], ["output"]]
        figure = figures.heat_maps(["sigmoid", "ReLU"], [small, large], x=[0, 1, 2], y=names)
        one, other, bar = figure.axes
        assert bar.get_ylim() == pytest.approx((1e-4, 1))
        np.testing.assert_allclose(one.images[0].get_array()[0, 0], COLOURS(0.0), atol=0.01)
        np.testing.assert_allclose(other.images[0].get_array()[0, 1], COLOURS(0.5), atol=0.01)
        assert {"sigmoid", "ReLU", "1", "2", "output"} <= set(texts(figure))

    def test_the_first_row_is_on_top_and_every_axis_is_named(self) -> None:
        figure = one_map([[1.0, 2.0], [3.0, 4.0]], x_label="step", y_label="layer")
        axes = figure.axes[0]
        bottom, top = axes.get_ylim()
        assert top < 0 < 1 < bottom
        assert [label.get_text() for label in axes.get_yticklabels()] == ["layer 0", "layer 1"]
        assert {"step", "layer", "gradient norm"} <= set(texts(figure))

    def test_long_axes_name_some_of_their_cells_where_these_are(self) -> None:
        steps = range(0, 20_000, 50)
        figure = figures.heat_map(np.ones((21, 400)), x=steps, y=[f"n{i}" for i in range(21)])
        axes = figure.axes[0]
        named = {
            label.get_text(): at
            for at, label in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
        }
        assert named == {"0": 0, "5,000": 100, "10,000": 200, "15,000": 300}
        assert [label.get_text() for label in axes.get_yticklabels()] == [
            f"n{i}" for i in range(0, 21, 3)
        ]

    def test_names_are_not_said_again_beside_the_same_ones(self) -> None:
        ones, names = np.ones((2, 2)), ["a", "b"]
        figure = figures.heat_maps("xyz", [ones] * 3, x=[0, 1], y=[names, names, ["a", "c"]])
        said = [[t.get_text() for t in axes.get_yticklabels()] for axes in figure.axes[:3]]
        assert said == [["a", "b"], ["", ""], ["a", "c"]]

    def test_a_zero_has_the_lowest_colour_and_the_bar_an_arrow(self) -> None:
        figure = one_map([[0.0, 1e-2, 1.0]])
        shown = figure.axes[0].images[0].get_array()
        np.testing.assert_array_equal(shown[0, 0], COLOURS(0.0))
        assert bar_of(figure).get_ylim() == pytest.approx((1e-2, 1))
        assert scale_of([np.array([0.0, 1e-2, 1.0])], True).extend == "min"
        assert "no value" not in texts(figure)

    def test_a_cell_without_a_value_is_grey_and_the_key_says_so(self) -> None:
        figure = one_map([[np.nan, 1.0, 10.0]])
        shown = figure.axes[0].images[0].get_array()
        np.testing.assert_array_equal(shown[0, 0], NO_VALUE)
        assert (shown[0, 1:, 3] == 1).all()
        assert "no value" in texts(figure)

    @pytest.mark.parametrize("log", [True, False])
    @pytest.mark.parametrize("value", [3.0, np.nan])
    def test_a_constant_map_and_an_empty_one_can_be_drawn(self, log: bool, value: float) -> None:
        figure = one_map(np.full((2, 2), value), log=log)
        low, high = bar_of(figure).get_ylim()
        assert low < high
        assert ("no value" in texts(figure)) == bool(np.isnan(value))

    def test_names_must_fit_the_map(self) -> None:
        with pytest.raises(AssayError, match=r"'plain' has shape \(2, 3\), but 2 rows and 4 col"):
            figures.heat_maps(["plain"], [np.ones((2, 3))], x=range(4), y=[["a", "b"]])


class TestTheScale:
    def test_a_logarithmic_one_is_at_most_twelve_decades_long(self) -> None:
        scale = scale_of([np.array([1e-40, 1.0])], True)
        assert (scale.low, scale.high) == (pytest.approx(1e-12), 1.0)
        assert scale.extend == "min"

    def test_given_limits_are_kept_and_what_lies_beyond_is_said(self) -> None:
        values = [np.array([0.5, 50.0]), np.array([np.inf])]
        assert scale_of(values, True, (1, 10)).extend == "both"
        assert scale_of(values, True, (0.1, 100)).extend == "max"
        assert scale_of(values[:1], True, (0.1, 100)).extend == "neither"
        assert scale_of(values, True) == Scale(0.5, 50, True, False, True, False)

    @pytest.mark.parametrize(
        ("low", "high", "log", "ticks"),
        [
            (1e-5, 3, True, [1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1]),
            (1e-12, 1, True, [1e-12, 1e-10, 1e-8, 1e-6, 1e-4, 1e-2, 1]),
            (1e-11, 1, True, [1e-11, 1e-9, 1e-7, 1e-5, 1e-3, 0.1]),
            (0.5, 20, True, [1, 3, 10]),
            (2, 9, True, [2, 3, 4, 5, 6, 7, 8, 9]),
            (1.01, 1.02, True, [1.01, 1.02]),
            (0, 1, False, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        ],
    )
    def test_the_bar_has_readable_numbers(
        self, low: float, high: float, log: bool, ticks: list[float]
    ) -> None:
        assert _ticks(Scale(low, high, log, False, False, False)) == pytest.approx(ticks)


class TestSurfaces:
    def test_rows_go_along_the_second_direction(self) -> None:
        figure = figures.surfaces(["plain"], [10.0**SECOND], ALPHAS)
        lines = figure.axes[0].collections[1]
        for level, path in zip(lines.levels, lines.get_paths(), strict=True):
            if len(path.vertices):
                heights = path.vertices[:, 1]
                np.testing.assert_allclose(heights, np.log10(level), atol=0.1)
        assert [figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()] == [
            "first direction",
            "second direction",
        ]

    def test_they_share_one_scale_and_mark_the_centre(self) -> None:
        figure = figures.surfaces(["plain", "skip"], [10.0**FIRST, 10.0 ** (2 + SECOND)], ALPHAS)
        *panels, bar = figure.axes
        assert bar.get_ylim() == pytest.approx((0.1, 1000))
        for axes in panels:
            filled = axes.collections[0]
            assert (filled.levels[0], filled.levels[-1]) == pytest.approx((0.1, 1000))
            assert (filled.norm.vmin, filled.norm.vmax) == pytest.approx((0.1, 1000))
            (mark,) = axes.lines
            np.testing.assert_array_equal(mark.get_xydata(), [[0, 0]])
        assert {"plain", "skip", "training loss"} <= set(texts(figure))

    def test_every_value_is_within_a_contour_and_infinity_in_the_uppermost(self) -> None:
        bowl = 1 + FIRST**2 + SECOND**2
        bowl[0, 0] = np.inf
        figure = figures.surfaces(["plain"], [bowl], ALPHAS)
        paths = figure.axes[0].collections[0].get_paths()
        covered = np.array(
            [
                any(p.contains_point((a, b), radius=1e-6) for p in paths)
                for a in ALPHAS[1:-1]
                for b in ALPHAS[1:-1]
            ]
        )
        assert covered.all()
        assert paths[-1].contains_point((-0.97, -0.97))
        assert "no value" not in texts(figure)

    def test_where_there_is_no_loss_the_ground_is_seen(self) -> None:
        bowl = 1 + FIRST**2 + SECOND**2
        bowl[3:, 3:] = np.nan
        figure = figures.surfaces(["plain"], [bowl], ALPHAS)
        axes = figure.axes[0]
        paths = axes.collections[0].get_paths()
        assert not any(path.contains_point((0.8, 0.8)) for path in paths)
        (ground,) = axes.patches
        assert ground.get_facecolor() == NO_VALUE
        assert "no value" in texts(figure)

    @pytest.mark.parametrize("value", [np.nan, np.inf, 2.3])
    def test_a_flat_one_and_one_without_any_loss_can_be_drawn(self, value: float) -> None:
        figure = figures.surfaces(["plain"], [np.full((5, 5), value)], ALPHAS)
        assert ("no value" in texts(figure)) == bool(np.isnan(value))


def test_more_maps_than_fit_go_on_below_and_leave_no_empty_axes() -> None:
    ones = np.ones((2, 2))
    figure = figures.heat_maps("abcd", [ones] * 4, x=[0, 1], y=[["1", "2"]] * 4)
    titles = [axes.get_title(loc="left") for axes in figure.axes if axes.axison]
    assert titles == ["a", "b", "c", "d", ""]  # and the bar
    named = [axes.get_xlabel() for axes in figure.axes[:4]]
    assert named == [""] + ["step"] * ACROSS


def test_the_svg_may_stand_in_a_page_and_is_small() -> None:
    rng = np.random.default_rng(0)
    arrays = [10 ** rng.uniform(-9, 0, (21, 100)) for _ in range(6)]
    names = [[str(i) for i in range(21)]] * 6
    drawn = figures.inline_svg(figures.heat_maps("abcdef", arrays, x=range(100), y=names))
    assert only_drawing(drawn).count("data:image/png;base64,") == 7  # the bar is one too
    assert len(drawn) < 150_000
    a, b = np.meshgrid(*2 * [np.linspace(-1, 1, 17)])
    rough = [np.exp(6 * np.hypot(a, b) + rng.normal(0, 0.5, (17, 17))) for _ in range(2)]
    surfaces = figures.inline_svg(figures.surfaces(["a", "b"], rough, a[0]))
    assert len(only_drawing(surfaces)) < 100_000
