"""Outliers that are generated: by their own index alone, and what each is meant to be."""

from __future__ import annotations

import pytest
import torch

from assay.core.random import Stream
from assay.data import Dataset, load_data, outliers
from assay.data.codec import jpeg
from assay.data.dataset import in_memory, to_float
from assay.data.outliers import KINDS, MADE_FROM_IMAGES
from assay.data.synthetic import FONTS, scrambled
from assay.errors import AssayError

GENERATED = [name for name, kind in KINDS.items() if kind.make or name in MADE_FROM_IMAGES]
SHAPE = (3, 16, 16)


@pytest.fixture(scope="module")
def photographs() -> Dataset:
    grey = load_data("digits").images[:60]
    large = to_float(grey).repeat_interleave(2, 2).repeat_interleave(2, 3)
    tint = torch.tensor([1.0, 0.6, 0.3]).view(1, 3, 1, 1)
    images = (0.2 + 0.8 * large * tint).mul(255).round().to(torch.uint8)
    return in_memory("tinted", "test", ("one",), images, torch.zeros(60, dtype=torch.int64))


@pytest.mark.parametrize("name", GENERATED)
def test_fewer_are_the_beginning_of_more(name: str, photographs: Dataset) -> None:
    many, few = (outliers(name, SHAPE, n, of=photographs, seed=3) for n in (30, 7))
    assert many.images.shape == (30, *SHAPE)
    assert torch.equal(many.images[:7], few.images)
    assert set(many.labels.tolist()) == {-1}
    again = outliers(name, SHAPE, 7, of=photographs, seed=4)
    assert not torch.equal(again.images, few.images)


@pytest.mark.parametrize("name", GENERATED)
def test_a_codec_changes_them_little_but_noise(name: str, photographs: Dataset) -> None:
    plain = outliers(name, SHAPE, 20, of=photographs)
    through = outliers(name, SHAPE, 20, of=photographs, quality=75)
    assert torch.equal(through.images, jpeg(plain.images, 75))
    moved = (to_float(plain.images) - to_float(through.images)).abs().mean()
    assert 0 < float(moved) < (0.3 if "noise" in name or name == "fake-data" else 0.1)


def test_every_kind_says_what_it_probes() -> None:
    assert all(kind.probes.endswith(".") and len(kind.probes) > 40 for kind in KINDS.values())


def test_a_flat_image_has_one_colour_and_a_gradient_a_line_of_them() -> None:
    flat = outliers("flat", SHAPE, 9).images
    assert bool((flat == flat[:, :, :1, :1]).all())
    assert len(flat[:, :, 0, 0].unique(dim=0)) == 9
    slopes = to_float(outliers("gradient", SHAPE, 9).images)
    curved = slopes[:, :, :, 2:] - 2 * slopes[:, :, :, 1:-1] + slopes[:, :, :, :-2]
    assert float(curved.abs().max()) < 2.1 / 255
    assert float(slopes.flatten(2).std(2).max()) > 0.1


def test_fake_data_is_uniform() -> None:
    levels = outliers("fake-data", (1, 32, 32), 100).images.flatten().long()
    counts = torch.bincount(levels, minlength=256).double()
    # Bytes are cut towards zero: level 0 also gets what lies between -1 and 0.
    more = 1 / (255 * (2 * torch.pi) ** 0.5)
    expected = float(counts.sum()) * (1 - more) / 256
    # χ² with 255 degrees of freedom: mean 255, standard deviation 22.6
    assert float((counts[1:] - expected).square().sum() / expected) < 255 + 4 * 22.6
    assert float(counts[0] / expected) == pytest.approx(1 + 256 * more, abs=0.15)


def test_letters_are_two_colours_with_edges_between() -> None:
    x = outliers("letters", (1, 32, 32), 40).images[:, 0]
    corner = x[:, 0, 0]
    drawn = (x.int() - corner[:, None, None].int()).abs() > 50
    share = drawn.double().mean((1, 2))
    assert float(share.min()) > 0.005
    assert 0.05 < float(share.mean()) < 0.5
    assert len(FONTS) == 8


def test_a_scrambled_image_has_the_same_patches() -> None:
    x = torch.arange(2 * 9 * 9).reshape(2, 1, 9, 9).float()
    made = scrambled(x, Stream(0).rows(range(2)), cuts=4)
    assert torch.equal(made[:, :, 8], x[:, :, 8]), "what is left over stays"
    assert torch.equal(made[:, :, :, 8], x[:, :, :, 8])

    def patches(images: torch.Tensor) -> list[list[float]]:
        cut = images[0, 0, :8, :8].unfold(0, 2, 2).unfold(1, 2, 2).reshape(16, 4)
        return sorted(cut.tolist())

    assert patches(made) == patches(x)
    assert not torch.equal(made, x)


def test_what_cannot_be_made_says_why() -> None:
    with pytest.raises(AssayError, match="scrambled is made from images of the classes: give of="):
        outliers("scrambled", SHAPE, 5)
    with pytest.raises(AssayError, match="held-out classes are images of a data set"):
        outliers("held-out", SHAPE, 5)
    with pytest.raises(AssayError, match="from 1 to 100, not 0"):
        outliers("flat", SHAPE, 5, quality=0)
