"""Images that have been a JPEG are known by what saving them again changes."""

from __future__ import annotations

import pytest
import torch

from assay.data import load_data, outliers
from assay.data.codec import jpeg, quality_of
from assay.data.outliers import KINDS


def photographs(n: int = 20, side: int = 32) -> torch.Tensor:
    """Smooth light with some grain: what a JPEG is made for."""
    draw = torch.Generator().manual_seed(0)
    coarse = torch.rand(n, 3, 5, 5, generator=draw)
    smooth = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic")
    grain = 0.03 * torch.randn(n, 3, side, side, generator=draw)
    return ((smooth + grain).clamp(0, 1) * 255).round().to(torch.uint8)


@pytest.mark.parametrize("quality", [50, 75, 90])
def test_the_quality_that_photographs_have_been_through_is_found(quality: int) -> None:
    images = photographs()
    assert quality_of(images) is None
    assert quality_of(jpeg(images, quality)) == quality
    assert quality_of(jpeg(images, quality)[:, :, 3:, 5:]) is None  # no blocks where they should be


@pytest.mark.parametrize("name", ["flat", "letters", "uniform-noise", "gradient", "digits"])
def test_what_never_was_a_jpeg_is_not_taken_for_one(name: str) -> None:
    images = outliers(name, (3, 32, 32), 20).images if name in KINDS else load_data(name).images
    assert quality_of(images) is None


def test_where_nothing_tells() -> None:
    assert quality_of(torch.zeros(0, 3, 8, 8, dtype=torch.uint8)) is None
    assert quality_of(torch.zeros(5, 3, 8, 8, dtype=torch.uint8)) is None
    assert quality_of(torch.zeros(5, 4, 8, 8, dtype=torch.uint8)) is None
