"""Figures show the numbers they were given; their SVG is stable, small and fits a page."""

from __future__ import annotations

import itertools
import re
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest

from assay.report import figures
from assay.report.curves import LABEL_GAP, _asked, _far_apart
from assay.report.figures import Panel, Series
from assay.report.heroes import Dot, dots
from assay.report.record import EstimateModel
from assay.report.scatter import Point, scatter
from assay.report.schema import Bin, Histogram
from assay.report.style import SERIES, _shorter, colour_of, picture
from assay.report.svg import only_drawing
from assay.stats import Estimate


def texts(figure) -> list[str]:
    root = ElementTree.fromstring(figures.inline_svg(figure))
    return ["".join(node.itertext()) for node in root.iter() if node.tag.endswith("}text")]


def data_lines(axes) -> list:
    return [line for line in axes.lines if line.get_transform() == axes.transData]


def test_learning_curves_draw_lines_and_bands():
    one = Series("plain", [1, 2, 3], [0.2, 0.5, 0.6], [0.1, 0.4, 0.5], [0.3, 0.6, 0.7])
    two = Series("skip", [1, 2, 3], [0.3, 0.6, 0.9], dash=1)
    figure = figures.learning_curves([one, two])
    (axes,) = figure.axes
    for line, series in zip(data_lines(axes), (one, two), strict=True):
        np.testing.assert_array_equal(line.get_xdata(), series.x)
        np.testing.assert_array_equal(line.get_ydata(), series.y)
    (band,) = axes.collections
    corners = band.get_paths()[0].vertices
    for x, low, high in zip(one.x, one.low, one.high, strict=True):
        at = corners[corners[:, 0] == x, 1]
        assert at.min() == low
        assert at.max() == high
    assert {"plain", "skip"} <= set(texts(figure))


def test_names_at_line_ends_keep_their_order_and_do_not_overlap():
    ends = [0.500, 0.501, 0.502, 0.9, 0.503]
    figure = figures.learning_curves([Series(f"s{e}", [1, 2], [0.1, e]) for e in ends])
    (axes,) = figure.axes
    placed = sorted((text.xy[1], text.get_text()) for text in axes.texts)
    assert [name for _, name in placed] == [f"s{e}" for e in sorted(ends)]
    heights = np.array([y for y, _ in placed])
    assert (np.diff(heights) > LABEL_GAP - 1e-9).all()
    assert heights.min() >= 0
    assert heights.max() <= 1


def test_zero_gradients_are_gaps_and_powers_are_readable():
    figure = figures.gradient_norms([Series("plain [7,7]", [1, 2, 3], [0.0, 1e-9, 1.0])])
    (axes,) = figure.axes
    np.testing.assert_array_equal(data_lines(axes)[0].get_ydata(), [np.nan, 1e-9, 1.0])
    shown = texts(figure)
    assert "10⁻⁸" in shown
    assert not any("$" in text for text in shown)


def test_accuracy_against_eps_starts_at_clean_accuracy(report):
    curves = report.robustness.curves
    figure = figures.accuracy_against_eps(curves, report.robustness.clean)
    (axes,) = figure.axes
    for line, curve in zip(data_lines(axes), curves, strict=True):
        np.testing.assert_allclose(line.get_xdata(), [0, 1 / 255, 2 / 255, 4 / 255, 8 / 255])
        robust = [point.robust_accuracy.value for point in curve.points]
        np.testing.assert_allclose(line.get_ydata(), [0.914, *robust])
    bars = axes.collections[0].get_segments()
    np.testing.assert_allclose(next(bar[:, 1] for bar in bars), [0.894, 0.934])
    assert {"FGSM", "PGD, 20 steps", "8/255"} <= set(texts(figure))


def test_norms_do_not_share_an_axis(report):
    one, two = report.robustness.curves
    other = two.model_copy(update={"norm": "l2"})
    figure = figures.accuracy_against_eps([one, other], report.robustness.clean)
    assert [axes.get_xlabel() for axes in figure.axes] == ["budget eps (L∞)", "budget eps (L2)"]


def test_reliability_leaves_empty_bins_out():
    accuracy = Estimate(0.7, 0.6, 0.8, 30, "images")
    bins = [Bin(low=0, high=0.5, count=0), Bin(low=0.5, high=1, count=30, confidence=0.9,
                                               accuracy=accuracy)]  # fmt: skip
    figure = figures.reliability(bins)
    axes, below = figure.axes
    diagonal, dots = axes.lines
    np.testing.assert_array_equal(diagonal.get_xdata(), [0, 1])
    np.testing.assert_array_equal([dots.get_xdata(), dots.get_ydata()], [[0.9], [0.7]])
    assert [bar.get_height() for bar in below.patches] == [0, 30]


def test_confusion_shows_counts_and_shares():
    figure = figures.confusion([[9, 1], [0, 4]], ["cat", "dog"])
    (axes,) = figure.axes
    assert sorted(text.get_text() for text in axes.texts) == ["1", "4", "9"]
    shown = np.asarray(axes.images[0].get_array())
    np.testing.assert_allclose(shown[..., 3], [[0.08 + 0.84 * 0.9, 0.08 + 0.84 * 0.1], [0, 0.92]])
    assert {"cat", "dog"} <= set(texts(figure))


def test_histograms_are_shares_of_their_own_set():
    histogram = Histogram(edges=(0, 1, 2), inliers=(3, 1), outliers=(10, 30))
    figure = figures.histograms(histogram, threshold=1.5)
    (axes,) = figure.axes
    values = [patch.get_data().values.tolist() for patch in axes.patches]
    assert values == [[0.75, 0.25], [0.75, 0.25], [0.25, 0.75], [0.25, 0.75]]
    assert list(axes.lines[0].get_xdata()) == [1.5, 1.5]
    assert [(t.get_text(), t.get_ha()) for t in axes.texts] == [
        ("test data", "left"),
        ("outliers", "right"),
    ]
    swapped = Histogram(edges=(0, 1, 2), inliers=(1, 9), outliers=(9, 1))
    (axes,) = figures.histograms(swapped).axes
    assert [(t.get_text(), t.get_ha()) for t in axes.texts] == [
        ("outliers", "left"),
        ("test data", "right"),
    ]


def test_roc_draws_the_points_of_each_detector():
    figure = figures.roc({"max-logit": [(0, 0), (0.1, 0.8), (1, 1)]})
    (axes,) = figure.axes
    np.testing.assert_array_equal(axes.lines[1].get_xydata(), [[0, 0], [0.1, 0.8], [1, 1]])
    assert "max-logit" in texts(figure)


def by_intervals(labels, rows):
    return figures.intervals([(label, row, 1) for label, row in zip(labels, rows, strict=True)], "")


def test_rows_show_value_and_interval():
    rows = [Estimate(0.25, 0.2, 0.3, 40, "images"), Estimate(0.5, 0.4, 0.6, 40, "images")]
    figure = by_intervals(["fgsm", "pgd"], rows)
    (axes,) = figure.axes
    segments = [s for drawn in axes.collections for s in drawn.get_segments()]
    np.testing.assert_allclose([s[:, 0] for s in segments], [[0.2, 0.3], [0.4, 0.6]])
    assert axes.get_ylim()[0] > axes.get_ylim()[1], "the first row stands on top"
    shown = " ".join(texts(figure)).replace("\u00a0", " ")
    assert "25.0 %" in shown
    assert "50.0 %" in shown


def test_a_forest_plot_does_not_enlarge_what_its_values_do_not_show():
    rows = [("a", Estimate(0.0001, 0.00005, 0.00015, 9, "images"), 0)]
    (axes,) = figures.intervals(rows, "gain", 0.0, unit="number").axes
    low, high = axes.get_xlim()
    assert high - low == pytest.approx(0.01)
    assert low < 0 < 0.00015 < high


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_shares_that_are_all_the_same_are_drawn_between_none_and_all(share: float) -> None:
    rows = [(name, Estimate(share, share, share, 9, "texts"), 0) for name in "ab"]
    (axes,) = figures.intervals(rows, "fooled").axes
    low, high = axes.get_xlim()
    assert (low, high) == pytest.approx((-0.04, 1.04))
    seen = [tick for tick in axes.get_xticks() if low <= tick <= high]
    assert (seen[0], seen[-1]) == pytest.approx((0, 1))


def test_intervals_without_an_end_reach_the_edge_and_zero_is_marked():
    rows = [
        ("none", Estimate(0.01, 0.0, 0.02, 10, "seeds"), 0),
        ("dropout", Estimate(-0.03, -np.inf, np.inf, 1, "seeds"), 1),
        ("mixup", EstimateModel(value=None, low=None, high=None, n=0, of="seeds"), 2),
    ]
    figure = figures.intervals(rows, "gain", 0.0, unit="points")
    (axes,) = figure.axes
    first, second = (drawn.get_segments()[0][:, 0] for drawn in axes.collections)
    np.testing.assert_allclose(first, [0.0, 0.02])
    np.testing.assert_allclose(second, axes.get_xlim())
    reference, *dots = axes.lines
    assert list(reference.get_xdata()) == [0.0, 0.0]
    assert [dot.get_color() for dot in dots] == [SERIES[0], SERIES[1]], "nothing is no dot"
    shown = texts(figure)
    assert {"gain, points", "+1", "−3", "0", "–"} <= set(shown)
    assert {"none", "dropout", "mixup"} <= set(shown)


def test_panels_share_scales_and_one_legend():
    fast = Series("batch norm", [0, 1, 2], [2.0, 0.1, 0.001])
    slow = Series("none", [0, 1, 2], [2.0, 1.0, 0.0])
    rows = [[Panel("tanh", [slow, fast]), Panel("ReLU", [fast])], [Panel("GELU", [])]]
    figure = figures.panels(rows, x_label="step", y_label="training loss", log_y=True)
    tanh, relu, gelu = figure.axes
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["tanh", "ReLU", "GELU"]
    np.testing.assert_array_equal(tanh.lines[0].get_ydata(), [2.0, 1.0, np.nan])
    assert relu.lines[0].get_color() == tanh.lines[1].get_color(), "one label, one look"
    assert relu.get_ylim() == tanh.get_ylim() == gelu.get_ylim()
    assert relu.get_yscale() == "log"
    shown = texts(figure)
    for once in ("none", "batch norm", "step", "training loss", "no result"):
        assert shown.count(once) == 1, once


def test_panels_name_the_axis_of_a_single_line_without_a_legend():
    figure = figures.panels(
        [[Panel("a", [Series("only", [1, 2], [0.25, 0.5])])]],
        x_label="epoch",
        y_label="accuracy",
        fraction=True,
    )
    shown = texts(figure)
    assert "epoch" in shown
    assert "only" not in shown
    assert "40 %" in shown


def test_many_lines_are_told_apart():
    many = [Series(f"s{i}", [1, 2], [0.1, i / 20]) for i in range(16)]
    (axes,) = figures.learning_curves(many).axes
    looks = {(line.get_color(), str(line._unscaled_dash_pattern)) for line in data_lines(axes)}
    assert len(looks) == 16


def test_dashed_lines_show_a_piece_of_themselves_before_their_names():
    solid, dashed = (
        Series(name, [1, 2], [0.1, 0.2], colour=0, dash=d) for d, name in enumerate("ab")
    )
    (axes,) = figures.learning_curves([solid, dashed]).axes
    samples = [line for line in axes.lines if line.get_transform() != axes.transData]
    samples = [line for line in samples if list(line.get_ydata()) == [0, 0]]
    dashes = [str(line._unscaled_dash_pattern) for line in samples]
    assert len(set(dashes)) == 2
    assert dashes == [str(line._unscaled_dash_pattern) for line in data_lines(axes)]
    (axes,) = figures.learning_curves([solid]).axes
    assert len(axes.lines) == 1


def test_more_names_than_fit_make_the_figure_taller():
    many = [Series(f"s{i}", [1, 2], [0.1, 0.5]) for i in range(30)]
    figure = figures.learning_curves(many)
    (axes,) = figure.axes
    heights = np.sort([text.xy[1] for text in axes.texts])
    assert heights.min() >= 0
    assert heights.max() <= 1
    assert np.diff(heights).min() * figure.get_figheight() > 0.95 * LABEL_GAP * 3.6


def test_a_long_line_is_thinned_and_keeps_its_ends_and_peaks():
    y = np.sin(np.linspace(0, 3, 5000))
    y[1234], y[3210], y[4000] = 7.0, -5.0, np.nan
    band = Series("a", range(5000), y, y - 0.1, y + 0.1)
    (axes,) = figures.learning_curves([band]).axes
    x, drawn = data_lines(axes)[0].get_data()
    assert len(drawn) <= 200
    assert (x[0], x[-1]) == (0, 4999)
    assert (np.nanmax(drawn), np.nanmin(drawn)) == (7.0, -5.0)
    assert np.isnan(drawn).sum() == 1, "a gap stays a gap"
    np.testing.assert_array_equal(drawn, y[x.astype(int)])
    assert len(axes.collections[0].get_paths()[0].vertices) <= 220


def test_paths_are_written_as_steps_that_lead_to_the_same_points():
    d = "M 10.004 20.006 L 11.2549 20.006 L 10.7549 -0.4951 z M 1 2"
    assert _shorter(d) == "M10 20l1.3 0-.5-20.5z M1 2"
    x = np.cumsum(np.full(3000, 0.0499))
    last = _shorter("M " + " L ".join(f"{v:.5f} 0" for v in x))
    steps = re.findall(r"-?[\d.]+", last)
    assert sum(map(float, steps[0::2])) == pytest.approx(x[-1], abs=0.06), "roundings add up"
    assert _shorter("M 0 0 C 1 1 2 2 3.14159 3") == "M 0 0 C 1 1 2 2 3.14 3", "curves stay"


def test_before_after_says_its_amplification_and_maps_wrap():
    clean = np.full((3, 3, 4, 4), 0.5)
    figure = figures.before_after(clean, clean + 0.05, captions=["a", "b", "c"])
    assert "difference × 10" in texts(figure)
    assert len(figure.axes) == 9
    difference = np.asarray(figure.axes[6].images[0].get_array())
    assert (difference == 255).all()
    shown = [axes for axes in figures.maps(np.zeros((5, 4, 4)), columns=3).axes if axes.images]
    assert len(shown) == 5


def every_figure(report):
    yield figures.accuracy_against_eps(report.robustness.curves, report.robustness.clean)
    yield figures.reliability(report.calibration.bins)
    yield figures.confusion(report.confusion.matrix, report.confusion.classes)
    yield figures.histograms(report.ood.results[0].histogram, threshold=-0.4)
    yield figures.roc({"a": [(0, 0), (1, 1)]})
    yield figures.maps(np.eye(4)[None])
    yield figures.panels(
        [[Panel("a", [Series("one", [1, 2], [0.1, 0.2]), Series("two", [1, 2], [0.3, 0.2])])]],
        x_label="epoch",
        y_label="loss",
    )
    yield figures.intervals([("a", Estimate(0.5, 0.4, 0.6, 9, "seeds"), 2)], "gain", 0.0)


def test_attention_rows_have_one_scale_and_outline_the_top_of_each_map():
    rng = np.random.default_rng(0)
    images, attacked = rng.random((2, 2, 3, 8, 8))
    before, after = rng.random((2, 2, 8, 8)) * np.array([1, 0.3])[None, :, None, None]
    after[1] = 0  # a map that says nothing has no outline
    figure = figures.attention_rows(
        images,
        attacked,
        before,
        after,
        names=["cat", "dog"],
        captions=[("cat, 90 %", "dog, 60 %"), ("dog, 50 %", "dog, 40 %")],
        top=0.25,
    )
    grid = np.array(figure.axes[:10]).reshape(2, 5)
    for i, row in enumerate(grid):
        for column, values, ends in (
            (1, before[i], (0, 1)),
            (3, after[i], (0, 1)),
            (4, after[i] - before[i], (-1, 1)),
        ):
            (image,) = row[column].images
            np.testing.assert_allclose(image.get_array(), values)
            assert image.get_clim() == ends
        assert [bool(axes.collections) for axes in row] == [True, False, i == 0, False, False]
    (line, _) = grid[0, 0].collections
    assert line.levels.tolist() == [np.quantile(before[0], 0.75)]
    assert {"cat, 90 %", "dog, 60 %", "dog, 40 %", "difference of maps"} <= set(texts(figure))


def test_attention_grid_has_one_scale_and_the_clean_outline_on_every_map():
    rng = np.random.default_rng(0)
    images, clean = rng.random((2, 3, 8, 8)), rng.random((2, 8, 8))
    attacked = rng.random((3, 2, 8, 8))
    figure = figures.attention_grid(
        images,
        clean,
        list(attacked),
        names=["cat", "dog"],
        headings=["fgsm", "pgd", "few-pixel"],
        captions=[["cat, 90 %", "dog, 60 %", "cat, 50 %", "no map"]] * 2,
        top=0.25,
    )
    grid = np.array(figure.axes[:10]).reshape(2, 5)
    for i, row in enumerate(grid):
        for axes, values in zip(row[1:], (clean[i], *attacked[:, i]), strict=True):
            (image,) = axes.images
            np.testing.assert_allclose(image.get_array(), values)
            assert image.get_clim() == (0, 1)
        for axes in row:
            line, _ = axes.collections
            assert line.levels.tolist() == [np.quantile(clean[i], 0.75)]
    said = set(texts(figure))
    assert {"image", "map", "cat, 90 %", "few-pixel", "no map", "dog, 60 %", "cat"} <= said


def test_svg_is_deterministic_and_only_draws(report):
    for first, again in zip(every_figure(report), every_figure(report), strict=True):
        svg = figures.inline_svg(first, "a <title>")
        assert svg == figures.inline_svg(again, "a <title>")
        assert only_drawing(svg) == svg
        assert "<style" not in svg
        assert not re.search(r"\d{4}-\d\d-\d\d", svg), "no dates"
        assert 'aria-label="a &lt;title&gt;"' in svg


@pytest.mark.parametrize(
    "name", ["script", "foreignObject", "a", "animate", "set", "iframe", "style", "meta"]
)
def test_an_element_that_does_not_draw_is_refused_empty_or_not(name: str) -> None:
    for inside in (f"<{name}/>", f"<g><{name}/></g>"):
        with pytest.raises(ValueError, match=f"<{name}> may not be in it"):
            only_drawing(f'<svg xmlns="http://www.w3.org/2000/svg">{inside}</svg>')


def test_what_no_reader_of_xml_sees_is_left_out() -> None:
    hidden = "<!-- <meta http-equiv='refresh'> --><?xml-stylesheet href='x'?><g/>"
    written = only_drawing(f'<svg xmlns="http://www.w3.org/2000/svg">{hidden}</svg>')
    assert written == '<svg xmlns="http://www.w3.org/2000/svg"><g/></svg>'


def test_ids_are_unique_across_figures(report):
    ids: list[str] = []
    for figure in every_figure(report):
        svg = figures.inline_svg(figure)
        own = re.findall(r' id="([^"]+)"', svg)
        assert len(own) == len(set(own))
        assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg)) == set(own)
        ids += own
    assert len(ids) == len(set(ids))
    assert ids, "some figure clips or repeats a marker"


def test_svg_colours_follow_the_page(report):
    for figure in every_figure(report):
        svg = figures.inline_svg(figure)
        assert "#1b1d21" not in svg, "ink must be a variable"
        for colour in SERIES:
            assert not re.search(rf"(?:fill|stroke): {colour}", svg)
        assert not re.search(r"fill: #(?!ffffff)", svg), "only text on strong cells is fixed"
    assert "var(--ink" in svg or "<image" in svg


def test_text_stays_text_and_is_escaped():
    figure = figures.learning_curves([Series("<script> $x$ & co", [1, 2], [0.1, 0.2])])
    svg = figures.inline_svg(figure)
    assert "&lt;script&gt; $x$ &amp; co" in svg
    assert "<script>" not in svg
    assert "DejaVu" not in svg


def test_figures_leave_matplotlib_as_it_was():
    before = dict(matplotlib.rcParams)
    figures.inline_svg(figures.learning_curves([Series("a", [1, 2], [0.1, 0.2])]))
    assert dict(matplotlib.rcParams) == before
    assert "matplotlib.pyplot" not in str(figures.__dict__)


def test_a_figure_shows_itself_in_a_notebook():
    figure = figures.learning_curves([Series("a", [1, 2], [0.1, 0.2])])
    assert figure._repr_html_().startswith("<svg")


def test_an_attack_has_one_colour_whatever_its_settings():
    for names in (("pgd", "PGD, 20 steps", "pgd 8/255"), ("fgsm", "FGSM, loss margin")):
        assert len({colour_of(name, 99) for name in names} - {99}) == 1
    assert colour_of("coin", 3) == 3


@pytest.mark.parametrize("width", [8.5, 3.9])
def test_a_scatter_has_a_point_an_interval_and_a_name_each_and_no_two_names_in_one_place(width):
    points = [
        Point("full fine-tuning", 2.2e7, Estimate(0.81, 0.79, 0.83, 3, "seeds"), 1),
        Point("LoRA", 3.3e5, Estimate(0.80, 0.78, 0.82, 3, "seeds")),
        Point("head alone", 770, Estimate(0.75, 0.73, 0.77, 3, "seeds")),
        Point("frozen + logistic regression", 385, Estimate(0.752, 0.73, 0.77, 3, "seeds")),
        Point("frozen + linear SVM", 385, Estimate(0.751, 0.73, 0.77, 3, "seeds")),
        Point("nothing measured", 10, Estimate(float("nan"), 0.0, 1.0, 0, "seeds")),
        Point("one seed", 5e3, Estimate(0.7, float("-inf"), float("inf"), 1, "seeds")),
    ]
    figure = scatter(points, "trained parameters", "test accuracy", width=width)
    (axes,) = figure.axes
    drawn = {(line.get_xdata()[0], line.get_ydata()[0]) for line in data_lines(axes)}
    assert drawn == {(p.x, p.y.value) for p in points if p.label != "nothing measured"}
    named = {note.get_text(): note.xy for note in axes.texts}
    assert "nothing measured" not in named
    figure.draw_without_rendering()
    boxes = [note.get_window_extent() for note in axes.texts]
    for one, other in itertools.combinations(boxes, 2):
        assert not one.overlaps(other)
    for line in data_lines(axes):
        mark = axes.transData.transform((line.get_xdata()[0], line.get_ydata()[0]))
        assert not any(box.contains(*mark) for box in boxes), "no name lies on a mark"
    for box in boxes:
        assert axes.bbox.x0 - 1 <= box.x0, "and none sticks out"
        assert box.x1 <= axes.bbox.x1 + 1
    ticks = [tick.get_window_extent() for tick in axes.get_xticklabels() if tick.get_text()]
    assert not any(one.overlaps(other) for one, other in itertools.pairwise(ticks))
    assert len(axes.collections) == 5, "an interval that says nothing is not drawn"


def test_a_scatter_of_two_fractions_joins_its_front_and_no_name_lies_on_an_interval():
    def share(value, half):
        return Estimate(value, value - half, value + half, 3, "seeds")

    places = {"one": (0.9, 0.0), "two": (0.7, 0.3), "dominated": (0.6, 0.28), "best": (0.6, 0.4)}
    points = [
        Point(name, clean, share(robust, 0.02), k, share(clean, 0.06))
        for k, (name, (clean, robust)) in enumerate(places.items())
    ]
    front = ("one", "two", "best")
    figure = scatter(points, "clean", "robust", width=8.5, joined=front)
    (axes,) = figure.axes
    assert axes.get_xscale() == "linear"
    joined = [tuple(line.get_xdata()) for line in axes.lines if len(line.get_xdata()) > 1]
    assert joined == [tuple(sorted(places[name][0] for name in front))]
    figure.draw_without_rendering()
    assert len(axes.collections) == 8, "an interval each way"
    for note in axes.texts:
        box = note.get_window_extent()
        for bar in axes.collections:
            (ends,) = bar.get_segments()
            (left, low), (right, high) = axes.transData.transform(ends)
            apart = right < box.x0 or left > box.x1 or high < box.y0 or low > box.y1
            assert apart, note.get_text()


def test_a_dot_at_the_end_of_the_axis_is_drawn_whole() -> None:
    rows = [
        ("first", [Dot("a", EstimateModel(value=1.0, low=0.9, high=1.0, n=10, of="networks"), 0)])
    ]
    figure = dots(rows, width=5, x_label="AUROC")
    (dot,) = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert figure.axes[0].get_xlim() == (0, 1)
    assert not dot.get_clip_on()


def test_labels_of_budgets_have_room_and_the_first_is_none() -> None:
    budgets = [0.0, *(k / 255 for k in (1, 2, 4, 8, 16)), 0.1]
    shown = _far_apart(budgets, 0.2)
    assert shown == [0.0, 8 / 255, 16 / 255, 0.1]
    assert _far_apart([0.0, 0.1], 0.2) == [0.0, 0.1]


def test_a_threshold_is_named_where_no_line_crosses_it() -> None:
    def side(*accuracy: float) -> str:
        axes = picture(5, 4).add_subplot()
        _asked(axes, 0.1, 0.5, [([0.0, 0.05, 0.1], np.array(accuracy))])
        return axes.texts[0].get_horizontalalignment()

    assert side(1.0, 0.9, 0.45) == "left"
    assert side(0.9, 0.1, 0.0) == "right"
    assert side(1.0, float("nan"), 0.0) in ("left", "right")
