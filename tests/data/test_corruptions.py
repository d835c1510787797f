"""Corruptions: by the row alone, worse with severity, and what each leaves alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from assay.core.random import Stream
from assay.data.corruptions import CORRUPTIONS, FAMILIES, SEVERITIES, corrupt
from assay.errors import AssayError


@pytest.fixture(scope="module")
def x() -> Tensor:
    """Smooth colours with an edge in them."""
    down, across = torch.meshgrid(torch.linspace(0, 1, 32), torch.linspace(0, 1, 32), indexing="ij")
    base = torch.stack([down, across, (down + across) / 2]) * 0.6 + 0.1
    shift = torch.linspace(0, 0.2, 24).view(24, 1, 1, 1)
    images = (base + shift).clamp(0, 1)
    images[:, :, 8:20, 10:22] = 0.9 - images[:, :, 8:20, 10:22]
    return images.clamp(0, 1)


@pytest.mark.parametrize("name", [*CORRUPTIONS, "mixed"])
def test_a_row_is_corrupted_by_itself_and_more_severely(name: str, x: Tensor) -> None:
    made = [corrupt(name, x, s, Stream(0).rows(range(24))) for s in SEVERITIES]
    part = corrupt(name, x[5:9], 5, Stream(0).rows(range(5, 9)))
    torch.testing.assert_close(part, made[4][5:9])
    assert all(0 <= float(m.min()) <= float(m.max()) <= 1 and m.shape == x.shape for m in made)
    moved = [float((m - x).square().mean()) for m in made]
    assert moved[4] > 1.1 * moved[0] > 0
    if name != "pixelate":  # how its blocks meet an edge counts for more than their size
        assert moved == sorted(moved)


def test_families_are_of_all_corruptions() -> None:
    assert [name for family in FAMILIES.values() for name in family] == list(CORRUPTIONS)


def test_mixed_is_each_in_turn(x: Tensor) -> None:
    mixed = corrupt("mixed", x, 3, Stream(0).rows(range(24)))
    for row, name in enumerate(CORRUPTIONS):
        alone = corrupt(name, x[row : row + 1], 3, Stream(0).rows([row]))
        torch.testing.assert_close(mixed[row : row + 1], alone)


def test_strengths_by_hand(x: Tensor) -> None:
    grey = torch.full((400, 1, 8, 8), 0.5)
    rows = Stream(1).rows(range(400))
    noise = corrupt("gaussian-noise", grey, 4, rows) - 0.5
    assert float(noise.std()) == pytest.approx(0.09, rel=0.02)
    shot = corrupt("shot-noise", grey, 5, Stream(1).rows(range(400)))  # Poisson: √(0.5 · 50) / 50
    assert float(shot.std()) == pytest.approx(0.1, rel=0.03)
    salt = corrupt("impulse-noise", grey, 5, Stream(1).rows(range(400)))
    assert float((salt != 0.5).double().mean()) == pytest.approx(0.07, abs=0.005)
    rows = Stream(1).rows(range(24))
    torch.testing.assert_close(
        corrupt("contrast", x, 5, rows).std((2, 3)), 0.15 * x.std((2, 3)), rtol=1e-4, atol=1e-6
    )
    risen = corrupt("brightness", x * 0.5, 5, rows)
    torch.testing.assert_close(risen.amax(1), 0.5 * x.amax(1) + 0.3)
    torch.testing.assert_close(risen[:, 0] / risen[:, 1], x[:, 0] / x[:, 1])


@pytest.mark.parametrize("name", FAMILIES["blur"])
def test_a_blur_keeps_flat_images_and_the_light_of_others(name: str) -> None:
    flat = torch.full((3, 3, 16, 16), 0.3)
    rows = Stream(0).rows(range(3))
    torch.testing.assert_close(corrupt(name, flat, 5, rows), flat)
    point = torch.zeros(3, 1, 33, 33)
    point[:, :, 16, 16] = 1
    assert corrupt(name, point, 5, Stream(0).rows(range(3))).sum((1, 2, 3)).tolist() == (
        pytest.approx([1, 1, 1], rel=1e-4)
    )


def test_what_there_is_not_is_refused(x: Tensor) -> None:
    rows = Stream(0).rows(range(24))
    with pytest.raises(AssayError, match="severities of corruptions are 1 to 5, not 6"):
        corrupt("fog", x, 6, rows)
    with pytest.raises(AssayError, match="did you mean 'snow'"):
        corrupt("snoww", x, 1, rows)
