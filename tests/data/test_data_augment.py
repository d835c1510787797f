"""Augmentation, against what is worked out by hand, and image by image."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from scipy import stats
from torch import Tensor

from assay.core.random import Rows, Stream
from assay.data import Augmentation, CropFlip, Heavy, NoAugmentation, Simple, load_data
from assay.data import augment as a
from assay.errors import AssayError

ALL = [NoAugmentation(), CropFlip(), CropFlip(padding=0, cutout=8), Simple(), Heavy()]


def rows(count: int, first: int = 0, seed: int = 0) -> Rows:
    return Stream(seed).child("augment").rows(torch.arange(first, first + count))


def image(*values: list[float]) -> Tensor:
    return torch.tensor(values)[None, None]


NUMBERS = image([1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0])


def moved(
    x: Tensor,
    degrees: float = 0,
    shift: tuple[float, float] = (0, 0),
    scale: float = 1,
    **more: float,
) -> Tensor:
    maps = a.affine(
        x,
        torch.tensor([float(degrees)]),
        torch.tensor([shift], dtype=torch.float32),
        torch.tensor([float(scale)]),
        torch.tensor([more["shear"]]) if more else None,
    )
    return a.resample(x, maps)


def test_a_quarter_turn_clockwise() -> None:
    expected = image([7.0, 4.0, 1.0], [8.0, 5.0, 2.0], [9.0, 6.0, 3.0])
    assert torch.allclose(moved(NUMBERS, degrees=90), expected, atol=1e-5)


def test_a_shift_to_the_right_and_down_in_pixels() -> None:
    expected = image([0.0, 0.0, 0.0], [0.0, 1.0, 2.0], [0.0, 4.0, 5.0])
    assert torch.allclose(moved(NUMBERS, shift=(1, 1)), expected, atol=1e-5)
    # half a pixel to the right: the mean of neighbours, black beyond the border
    expected = image([0.5, 1.5, 2.5], [2.0, 4.5, 5.5], [3.5, 7.5, 8.5])
    assert torch.allclose(moved(NUMBERS, shift=(0.5, 0)), expected, atol=1e-5)


def test_twice_as_large_about_the_middle() -> None:
    # four pixels in a row: their middles lie at -1.5 -0.5 0.5 1.5, and come from half of that,
    # -0.75 -0.25 0.25 0.75; between 2 (at -0.5) and 3 (at 0.5), or 1 and 2, ...
    expected = torch.tensor([1.75, 2.25, 2.75, 3.25])
    x = torch.tensor([1.0, 2.0, 3.0, 4.0]).expand(1, 1, 4, 4)
    assert torch.allclose(moved(x, scale=2)[0, 0], expected.expand(4, 4), atol=1e-5)


def test_a_turn_of_an_oblong_image_keeps_its_pixels_square() -> None:
    x = torch.zeros(1, 1, 3, 7)
    x[0, 0, 1, 2:5] = torch.tensor([1.0, 2.0, 3.0])  # a bar across the middle
    expected = torch.zeros(1, 1, 3, 7)
    expected[0, 0, :, 3] = torch.tensor([1.0, 2.0, 3.0])
    assert torch.allclose(moved(x, degrees=90), expected, atol=1e-5)


def test_a_shear_moves_lower_rows_to_the_left() -> None:
    x = torch.zeros(1, 1, 3, 5)
    x[0, 0, :, 2] = 1.0
    expected = torch.zeros(1, 1, 3, 5)
    expected[0, 0, [0, 1, 2], [3, 2, 1]] = 1.0
    assert torch.allclose(moved(x, shear=45.0), expected, atol=1e-5)


def test_shear_comes_before_the_turn() -> None:
    x = torch.zeros(1, 1, 5, 5)
    x[0, 0, 1:4, 2] = 1.0  # sheared: (1, 3), (2, 2), (3, 1); turned clockwise: (3, 3), (1, 1)
    out = moved(x, degrees=90, shear=45.0)
    assert out[0, 0].diagonal()[1:4].tolist() == pytest.approx([1, 1, 1], abs=1e-5)


def test_perspective_draws_the_corners_where_they_are_told() -> None:
    x = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    corners = torch.tensor([[[-0.5, -0.75], [1.0, -1.0], [0.75, 0.5], [-1.0, 1.0]]])
    maps = a.perspective(x, corners)
    places = torch.cat([corners[0], torch.ones(4, 1)], 1) @ maps[0].T
    square = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    assert torch.allclose(places[:, :2] / places[:, 2:], square, atol=1e-5)
    # straight lines stay straight: the crossing of the diagonals is that of the corners'
    middle = torch.tensor([0.0, 0.0, 1.0])
    back = torch.linalg.inv(maps[0]) @ middle
    u, v = (back[:2] / back[2]).tolist()
    # diagonals (-0.5, -0.75)-(0.75, 0.5) and (1, -1)-(-1, 1) meet where v = u - 0.25 and v = -u
    assert (u, v) == pytest.approx((0.125, -0.125), abs=1e-5)


def test_a_crop_reflects_the_border_and_mirrors_afterwards() -> None:
    shift = torch.tensor([[0, 0], [1, -2], [1, -2]])
    mirror = torch.tensor([False, False, True])
    out = a.crop_flip(NUMBERS.expand(3, 1, 3, 3), shift, mirror)
    assert torch.equal(out[:1], NUMBERS)
    # rows 1, 2, then 1 again; columns -2, -1, 0 are 2, 1, 0 reflected
    expected = torch.tensor([[6.0, 5.0, 4.0], [9.0, 8.0, 7.0], [6.0, 5.0, 4.0]])
    assert torch.equal(out[1, 0], expected)
    assert torch.equal(out[2, 0], expected.flip(1))


def test_crops_are_those_of_the_padded_image() -> None:
    x, _ = load_data("shapes").take(200)
    out = CropFlip(padding=4, flip=0.0)(x, rows(200))
    padded = torch.nn.functional.pad(x, (4, 4, 4, 4), mode="reflect")
    windows = padded.unfold(2, 32, 1).unfold(3, 32, 1)  # (N, C, 9, 9, 32, 32)
    found = torch.stack(
        [
            torch.stack([(windows[:, :, i, j] == out).flatten(1).all(1) for j in range(9)], 1)
            for i in range(9)
        ],
        1,
    )
    assert found.flatten(1).any(1).all()


def test_crops_come_from_every_place_equally_often() -> None:
    places = torch.arange(81.0).view(1, 1, 9, 9).expand(8100, 1, 9, 9)
    middle = CropFlip(padding=4, flip=0.0)(places, rows(8100))[:, 0, 4, 4]
    counts = middle.long().bincount(minlength=81).numpy()
    assert stats.chisquare(counts).pvalue > 1e-4


def test_flips_happen_as_often_as_told() -> None:
    x = torch.rand(2000, 1, 2, 3, generator=torch.Generator().manual_seed(0))
    out = CropFlip(padding=0, flip=0.3)(x, rows(2000))
    mirrored = (out == x.flip(3)).flatten(1).all(1)
    assert ((out == x).flatten(1).all(1) ^ mirrored).all()
    assert mirrored.float().mean() == pytest.approx(0.3, abs=4 * math.sqrt(0.21 / 2000))


def test_a_blurred_point_is_the_gaussian() -> None:
    x = torch.zeros(2, 1, 21, 21)
    x[:, 0, 10, 10] = 1.0
    out = a.blur(x, torch.tensor([1.5, 0.0]))
    place = torch.arange(21.0) - 10
    density = torch.exp(-place.square() / (2 * 1.5**2))
    density /= density.sum()
    assert torch.allclose(out[0, 0], density[:, None] * density[None, :], atol=1e-6)
    assert torch.equal(out[1], x[1])
    assert torch.allclose(a.blur(torch.ones(1, 1, 5, 9), torch.tensor([2.0])), torch.ones(1))


def test_erasing_one_rectangle() -> None:
    x = torch.ones(2, 1, 4, 5)
    out = a.erase(x, torch.tensor([[1, -1], [0, 0]]), torch.tensor([[2, 3], [0, 4]]))
    expected = torch.ones(4, 5)
    expected[1:3, :2] = 0
    assert torch.equal(out[0, 0], expected)
    assert torch.equal(out[1], x[1])


def test_erased_areas_are_those_asked_for() -> None:
    x = torch.ones(3000, 1, 50, 50)
    out = a.random_erase(x, rows(3000), (0.02, 0.15), 0.3)
    share = (out == 0).float().mean((1, 2, 3))
    hit = share > 0
    assert hit.float().mean() == pytest.approx(0.3, abs=4 * math.sqrt(0.21 / 3000))
    assert 0.015 < share[hit].min() < 0.03
    assert 0.14 < share[hit].max() < 0.16
    assert share[hit].mean() == pytest.approx(0.085, abs=0.006)
    tall = (out == 0).any(3).sum(2)[hit, 0] / (out == 0).any(2).sum(2)[hit, 0]
    assert 0.25 < tall.min() < 0.36  # height over width is 0.3 to 3.3, up to whole pixels
    assert 2.8 < tall.max() < 3.9
    assert tall.log().mean() == pytest.approx(0, abs=0.1)


def test_affine_draws_stay_in_their_ranges_and_fill_them() -> None:
    x = torch.zeros(2000, 1, 40, 20)
    forward = torch.linalg.inv(a.random_affine(rows(2000), x, 10.0, 0.05, (0.95, 1.05)))
    # back to pixels: x spans 20, y 40
    scale = torch.sqrt(torch.linalg.det(forward[:, :2, :2]))
    angle = torch.rad2deg(torch.atan2(forward[:, 1, 0] * 2, forward[:, 0, 0]))
    shift = forward[:, :2, 2] / 2  # as a share of width and height
    for drawn, low, high in [(scale, 0.95, 1.05), (angle, -10, 10), (shift, -0.05, 0.05)]:
        slack = 1e-4 * (high - low)
        assert low - slack <= drawn.min() < low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) < drawn.max() <= high + slack
        assert drawn.mean() == pytest.approx((low + high) / 2, abs=0.03 * (high - low))


def test_elastic_displacements_are_smooth_and_of_the_strength_told() -> None:
    x = torch.zeros(200, 1, 64, 64)
    bend = a.random_bend(rows(200), x, 50.0, 5.0)[:, 16:48, 16:48]  # away from the border
    # uniform noise in [-1, 1] has variance 1/3; a Gaussian of sigma leaves 1 / (4 pi sigma^2) of it
    expected = 50 / 64 * math.sqrt(1 / 3 / (4 * math.pi * 25))
    assert bend.std().item() == pytest.approx(expected, rel=0.05)
    assert (bend[:, 1:] - bend[:, :-1]).std() < 0.2 * expected


@pytest.mark.parametrize("augmentation", ALL, ids=lambda config: config.name)
def test_an_image_is_augmented_alike_in_any_batch(augmentation: Simple) -> None:
    x, _ = load_data("shapes").take(40)
    together = augmentation(x, rows(40))
    apart = torch.cat([augmentation(x[:7], rows(7)), augmentation(x[7:], rows(33, first=7))])
    assert torch.allclose(together, apart, atol=1e-6)
    assert together.shape == x.shape
    assert together.min() >= 0
    assert together.max() <= 1
    if augmentation.name != "none":
        changed = (together != x).flatten(1).any(1)
        assert changed.float().mean() > 0.9
        other = augmentation(x, rows(40, seed=1))
        assert not torch.allclose(together, other, atol=1e-3)


@pytest.mark.parametrize("augmentation", [CropFlip(), Simple(), Heavy()], ids=lambda c: c.name)
def test_the_given_images_are_left_alone(augmentation: Simple) -> None:
    x, _ = load_data("digits").take(20)
    before = x.clone()
    augmentation(x, rows(20))
    assert torch.equal(x, before)


def test_strength_zero_changes_nothing() -> None:
    x, _ = load_data("shapes").take(10)
    still = Simple(degrees=0, translate=0, scale=(1, 1), blur_p=0)
    assert torch.allclose(still(x, rows(10)), x, atol=1e-5)
    still_too = Heavy(
        degrees=0,
        translate=0,
        scale=(1, 1),
        shear=0,
        perspective_p=0,
        elastic=0,
        blur_p=0,
        erase_p=0,
    )
    assert torch.allclose(still_too(x, rows(10)), x, atol=1e-5)


@pytest.mark.parametrize("augmentation", ALL, ids=lambda config: config.name)
def test_a_config_is_read_back_from_its_yaml(augmentation: Simple) -> None:
    adapter: TypeAdapter[Simple] = TypeAdapter(Augmentation)
    assert adapter.validate_python(augmentation.model_dump()) == augmentation
    assert type(augmentation).from_yaml(augmentation.to_yaml()) == augmentation
    with pytest.raises(ValidationError):
        adapter.validate_python({"name": augmentation.name, "degrees": -1})


@pytest.mark.parametrize("span", [(1.1, 0.9), (0.0, 1.0)])
def test_ranges_that_make_no_sense_are_refused(span: tuple[float, float]) -> None:
    with pytest.raises(AssayError, match="scale: a range is"):
        Simple(scale=span)


@pytest.mark.cuda
def test_a_gpu_augments_as_the_cpu_does() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    x, _ = load_data("shapes").take(64)
    for augmentation in ALL:
        here = augmentation(x, rows(64))
        there = augmentation(x.cuda(), rows(64).to("cuda")).cpu()
        assert torch.allclose(here, there, atol=1e-4), augmentation.name
