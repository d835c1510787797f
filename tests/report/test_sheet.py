"""Pictures of attacks: PNGs pixel by pixel, and the sheet that shows all of them."""

from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from assay.report.sheet import SIDE, TILE, contact_sheet, picture_bytes, png_bytes


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_a_png_is_the_image_rounded_to_the_nearest_level(channels, mode):
    image = np.random.default_rng(0).random((channels, 5, 7)).astype(np.float32)
    with Image.open(io.BytesIO(png_bytes(image))) as shown:
        assert shown.mode == mode
        held = np.asarray(shown).reshape(5, 7, channels)
    assert np.array_equal(held, np.rint(255 * image).transpose(1, 2, 0))


def sheet(n, names=("cat", "dog"), shape=(3, 8, 8), **settings):
    rng = np.random.default_rng(1)
    clean = rng.uniform(0.2, 0.8, (n, *shape))
    moved = clean + rng.uniform(-0.03, 0.03, clean.shape)
    given = {"title": "PGD", "notes": ["Fooled: all"], "captions": [names] * n, "amplification": 5}
    return clean, moved, contact_sheet(clean, moved, **{**given, **settings})


def test_a_sheet_shows_all_three_of_every_image_in_bands_of_eight():
    clean, moved, figure = sheet(11)
    (page,) = figure.axes
    assert len(page.images) == 3 * 11
    for i, (first, second, third) in enumerate(zip(*[iter(page.images)] * 3, strict=True)):
        band, column = divmod(i, 8)
        for shown, image in ((first, clean), (second, moved), (third, 0.5 + 5 * (moved - clean))):
            wanted = np.rint(255 * image[i]).transpose(1, 2, 0)
            assert np.abs(shown.get_array() - wanted).max() <= 1
            left, right, bottom, top = shown.get_extent()
            assert right - left == pytest.approx(SIDE)
            assert bottom - top == pytest.approx(SIDE)
            assert left == pytest.approx(page.images[0].get_extent()[0] + TILE * column)
            assert (top > page.images[3 * 7 + 2].get_extent()[2]) == (band == 1)
    width, height = figure.get_size_inches()
    last = page.images[-1].get_extent()
    assert height > last[2] > height - 0.2
    assert page.images[23].get_extent()[1] < width


def test_a_sheet_says_what_it_shows_and_never_cuts_it():
    title = "HopSkipJump towards least-likely, L2 without a limit on http://127.0.0.1:8765/a/path/that/is/longer/than/a/line"
    names = ("automobile", "a golden retriever with a stick")
    figure = sheet(2, names, title=title, notes=["Fooled: 3 %", "Rounded: 2 %"])[2]
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts[0].replace("\n", " ") == title
    assert texts[1] == "Fooled: 3 %\nRounded: 2 %"
    assert texts.count("automobile\n→ a golden retr…") == 2
    assert {"image", "attacked", "difference × 5"} <= set(texts)
    width, height = figure.get_size_inches() * figure.dpi
    renderer = FigureCanvasAgg(figure).get_renderer()
    boxes = [text.get_window_extent(renderer) for text in figure.axes[0].texts]
    for box in boxes:
        assert box.x0 >= 0
        assert box.x1 <= width
        assert box.y0 >= 0
        assert box.y1 <= height
    for i, one in enumerate(boxes):
        assert not any(one.overlaps(other) for other in boxes[i + 1 :])


def test_images_keep_their_shape():
    page = sheet(1, shape=(1, 4, 8))[2].axes[0]
    left, right, bottom, top = page.images[0].get_extent()
    assert (right - left, bottom - top) == pytest.approx((SIDE, SIDE / 2))


def test_the_same_sheet_gives_the_same_bytes():
    one, other = (picture_bytes(sheet(3)[2]) for _ in range(2))
    assert one == other
    assert one != picture_bytes(sheet(3, amplification=2)[2])
