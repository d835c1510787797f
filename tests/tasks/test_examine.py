"""What a hardened network is shown that belongs to no class."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from assay.core.classifier import Classifier
from assay.data import load_data
from assay.data.codec import jpeg
from assay.data.dataset import Dataset, in_memory, to_float
from assay.data.outliers import outliers
from assay.tasks.examine import Examining, strange


def some(images: Tensor) -> Dataset:
    return in_memory("images", "test", (), images, torch.full((len(images),), -1))


@pytest.fixture(scope="module")
def jpegs() -> Dataset:
    return some(jpeg(load_data("shapes", split="test").sample(40, 0).images, 75))


@pytest.mark.parametrize("quality", [75, None])
def test_what_is_made_has_been_through_what_test_images_have_been_through(
    quality: int | None, jpegs: Dataset
) -> None:
    part = jpegs if quality else some(load_data("digits", split="test").sample(40, 0).images)
    classifier = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(part.images[0].numel(), 3)))
    found = strange(Examining(near="scrambled", steps=1), classifier, part, 1)
    for name, kind in (("noise", "uniform-noise"), ("near", "scrambled")):
        wanted = outliers(kind, part.shape, 40, seed=1, of=part, quality=quality)
        assert torch.equal(found[name], to_float(wanted.images))


def test_near_outliers_are_read_at_the_size_of_the_images(
    shared_data: Path, jpegs: Dataset
) -> None:
    if not (shared_data / "clothing").is_dir():
        pytest.skip("the photographs of clothes are not here")
    classifier = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 3)))
    near = str(shared_data / "clothing")
    found = strange(Examining(near=near, steps=1), classifier, jpegs, 0)
    assert found["near"].shape == (40, 3, 32, 32)
