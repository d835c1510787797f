"""Pixels, differences and maps."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from assay.report import figures, pictures


def decode(uri: str) -> np.ndarray:
    raw = base64.b64decode(uri.removeprefix("data:image/png;base64,"))
    return np.asarray(Image.open(io.BytesIO(raw)).convert("RGB"))


def test_pixels_round_to_the_nearest_level_and_become_a_png_losslessly():
    image = np.zeros((3, 2, 4), dtype=np.float32)
    image[0, 1, 2] = 1.0
    image[1, 0, 3] = 100.4 / 255
    shown = pictures.pixels(image)
    assert shown.shape == (2, 4, 3)
    assert shown[1, 2].tolist() == [255, 0, 0]
    assert shown[0, 3].tolist() == [0, 100, 0]
    np.testing.assert_array_equal(decode(pictures.png(shown)), shown)


def test_one_channel_is_grey():
    shown = pictures.pixels(np.full((1, 2, 2), 0.5))
    assert (shown == 128).all()


def test_a_large_image_is_averaged_down():
    image = np.zeros((400, 200, 3), dtype=np.uint8)
    image[::3] = 255  # a third of the rows
    shown = decode(pictures.png(image))
    assert shown.shape == (134, 67, 3)
    assert (shown[:133] == 85).all()


@pytest.mark.parametrize(
    ("largest", "factor"),
    [(8 / 255, 10.0), (1 / 255, 100.0), (0.25, 2.0), (0.5, 1.0), (0.9, 1.0), (0.0, 1.0)],
)
def test_amplification_is_round_and_does_not_clip(largest, factor):
    clean = np.full((2, 3, 4, 4), 0.4)
    moved = clean.copy()
    moved[1, 0, 0, 0] -= largest
    assert pictures.fit_amplification(clean, moved) == factor


def test_differences_are_amplified_around_mid_grey():
    clean = np.full((1, 1, 1, 3), 0.5)
    moved = clean + np.array([0.0, 0.02, -0.04])
    shown = pictures.amplify(clean, moved, 10)
    np.testing.assert_allclose(shown[0, 0, 0], [0.5, 0.7, 0.1], atol=1e-6)


def test_an_overlay_leaves_what_was_not_looked_at_grey():
    image = np.stack([np.full((4, 4), level) for level in (0.9, 0.5, 0.1)])
    values = np.zeros((4, 4))
    values[1, 2] = 1.0
    shown = pictures.overlay(image, values).astype(int)
    away = shown[3, 3]
    assert away.max() - away.min() <= 2
    assert away.min() > 100, "the mean of the channels, 127, hardly tinted"
    looked = shown[1, 2]
    assert looked[0] - looked[2] > 60  # the hot end of the map: red well above blue


def test_rows_of_images_stand_below_one_another_with_their_names():
    dark, light = np.zeros((3, 1, 4, 4)), np.ones((2, 1, 4, 4))
    for given, shape in (({"dark": dark, "light": light}, (2, 3)), ({"dark": dark}, (1, 3))):
        figure = figures.rows(given)
        assert figure.axes[0].get_gridspec().get_geometry() == shape
        levels = [axes.images[0].get_array().max() for axes in figure.axes if axes.images]
        assert levels == [0] * 3 + [255] * (2 * (len(given) - 1))
        names = [text.get_text() for axes in figure.axes for text in axes.texts]
        assert names == list(given)
