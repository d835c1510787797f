"""The picture of explanations: what stands where, and what a colour means."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib import colormaps

from assay.report.explained import NO_VALUE, PALE, explained

WRAPPED = ("one two " * 11 + "one\n" + "two one " * 8 + "two").strip()
"""The note in lines as wide as the figure, which is at least 6.5 inches."""


def made(maps: dict[str, np.ndarray], images: np.ndarray):
    return explained(
        images,
        maps,
        title="a title",
        note="one two " * 20,
        captions=[f"image {i}" for i in range(2)],
    )


def tiles(figure) -> list[list]:
    """The axes with pictures, row by row."""
    axes = [place for sub in figure.subfigs for place in sub.axes if place.images]
    return [axes[:3], axes[3:]]


def test_a_row_for_each_image_and_a_column_for_each_explainer():
    images = np.zeros((2, 3, 4, 4), dtype=np.float32)
    images[1, 0] = 1
    low, high = np.full((2, 4, 4), 0.25), np.full((2, 4, 4), 1.0)
    figure = made({"grad-cam": low, "a-name-that-is-long": high}, images)
    first, second = tiles(figure)
    assert [place.get_title() for place in (first[0], second[0])] == ["image 0", "image 1"]
    assert second[0].images[0].get_array()[0, 0].tolist() == [255, 0, 0]
    assert [place.texts[0].get_text() for place in first[1:]] == [
        "grad-cam",
        "a-name-that-\nis-long",
    ]
    # one scale: a colour is the same value in every map, whatever else the map holds
    for row in (first, second):
        for place, value in zip(row[1:], (0.25, 1.0), strict=True):
            shown = np.asarray(place.images[0].get_array())[0, 0]
            np.testing.assert_allclose(shown, colormaps["inferno"](value), atol=1e-6)
    bar = figure.subfigs[1].axes[-1]
    assert bar.get_ylim() == (0, 1)
    assert {text.get_text() for text in figure.subfigs[0].texts} == {"a title", WRAPPED}


def test_explainers_without_a_rank_are_pale_and_the_others_numbered():
    maps = {name: np.ones((1, 4, 4)) for name in ("a", "b", "c")}
    figure = explained(
        np.zeros((1, 1, 4, 4)), maps, title="", note="", captions=[""], unranked=["c"]
    )
    places = [place for sub in figure.subfigs for place in sub.axes if place.images][1:4]
    assert [place.texts[0].get_text() for place in places] == ["1 a", "2 b", "c\nno rank"]
    assert [place.images[0].get_alpha() for place in places] == [1.0, 1.0, PALE]


def test_the_bar_is_as_high_beside_one_row_as_beside_many():
    high = []
    for rows in (2, 9):
        figure = explained(
            np.zeros((rows, 1, 4, 4)),
            {"a": np.ones((rows, 4, 4))},
            title="",
            note="",
            captions=["one"] * rows,
        )
        figure.draw_without_rendering()
        high.append(figure.subfigs[1].axes[-1].get_window_extent().height / figure.dpi)
    assert high[0] == pytest.approx(high[1], rel=0.1)
    assert 1 < high[1] < 1.5


def test_an_empty_map_is_grey_and_says_so():
    maps = np.zeros((2, 4, 4))
    maps[1, 0, 0] = 1
    figure = made({"a": maps, "b": np.ones((2, 4, 4))}, np.zeros((2, 1, 4, 4)))
    (_, empty, _), (_, told, _) = tiles(figure)
    assert [text.get_text() for text in empty.texts] == ["empty", "a"]
    assert len(empty.images) == 2
    np.testing.assert_allclose(np.asarray(empty.images[1].get_array())[0, 0], NO_VALUE)
    assert (len(told.images), len(told.texts)) == (1, 0)
