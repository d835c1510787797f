"""One pixel against torchattacks, and few pixels against the paper's own projection."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.attacks import OnePixel
from assay.attacks.methods.pixels import nearest
from assay.core.classifier import Classifier
from assay.core.random import Stream
from assay.data import load_data
from assay.stats.estimates import paired_difference

from .peers import benchmark, peer, trained


def fooled_by_torchattacks(
    clf: Classifier, x: Tensor, y: Tensor, pixels: int, steps: int, size: int
) -> Tensor:
    torchattacks = peer("torchattacks")
    np.random.seed(0)  # noqa: NPY002 - what its differential evolution draws from
    model = benchmark("nets").Normalised(clf).eval()
    attack = torchattacks.OnePixel(model, pixels=pixels, steps=steps, popsize=size)
    return clf.predict(attack(x, y)) != y


def test_one_pixel_fools_as_many_as_torchattacks_with_as_many_queries() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 12, 3, stride=2), nn.Tanh(), nn.Flatten(), nn.Linear(588, 10))
    clf = Classifier(net, mean=[0.5] * 3, std=[0.5] * 3)
    x = Stream(2).rows(range(48)).uniform((3, 16, 16), 0.2, 0.8)
    y = clf.predict(x)
    theirs = fooled_by_torchattacks(clf, x, y, pixels=1, steps=15, size=20)
    ours = [OnePixel(population=20, steps=15)(clf, x, y, seed=seed).success for seed in range(3)]
    assert 0 < float(theirs.float().mean()) < 1
    assert float(torch.stack(ours).float().mean()) >= float(theirs.float().mean()) - 0.02


def test_the_projection_is_that_of_the_papers_formula() -> None:
    """Pixel by pixel: the largest reductions of the squared distance are kept (proposition 2.1)."""
    rows = Stream(3).rows(range(4))
    x, far = rows.uniform((3, 6, 6)), rows.uniform((3, 6, 6), -2, 3)
    found = nearest(x, far, 5, 0.3)
    for image, wish, got in zip(x.numpy(), far.numpy(), found.numpy(), strict=True):
        low, high = np.maximum(-0.3, -image), np.minimum(0.3, 1 - image)
        move = wish - image
        over = np.minimum(np.minimum(high - move, move - low), 0)
        gain = (move**2).sum(0) - (over**2).sum(0)
        kept = gain >= np.sort(gain.ravel())[-5]
        assert np.allclose(got, image + np.clip(move, low, high) * kept, atol=1e-6)


@pytest.mark.slow
def test_one_pixel_on_cifar_is_no_weaker_than_torchattacks(shared_data: Path) -> None:
    """1,000 images: the one-sided 95 % bound of what we fool less is within half a point."""
    clf = trained("natural")
    images = int(os.environ.get("ASSAY_PARITY_IMAGES", "1000"))
    x, y = load_data(str(shared_data / "cifar10"), split="test").take(2 * images)
    right = clf.predict(x) == y
    x, y = x[right][:images], y[right][:images]
    theirs = fooled_by_torchattacks(clf, x, y, pixels=1, steps=10, size=10)
    ours = OnePixel(population=10, steps=10)(clf, x, y, stop="fooled").success
    lead = paired_difference(theirs.double(), ours.double(), of="images", level=0.9)
    assert lead.high <= 0.005
