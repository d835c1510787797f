"""Randomized smoothing: radius and bound by hand, what it abstains from, and that it holds."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from assay import stats
from assay.certify import Smoothed, Smoothing
from assay.certify.smoothing import lower_bound, radius_of
from assay.core.blackbox import BlackBox
from assay.core.classifier import Classifier
from assay.core.random import Stream
from assay.errors import AssayError


def test_the_bound_and_the_radius_by_hand() -> None:
    """All of n draws: p is at least α^(1/n), since that is when n of n have the probability α."""
    assert lower_bound(1000, 1000, 0.001) == pytest.approx(0.001 ** (1 / 1000))
    assert lower_bound(0, 10, 0.001) == 0
    # 1 of 2 with p: 1 - (1 - p)² = α
    assert lower_bound(1, 2, 0.1) == pytest.approx(1 - math.sqrt(0.9))
    # Φ⁻¹(0.8413447) = 1
    assert radius_of(0.8413447, 0.25) == pytest.approx(0.25, rel=1e-5)
    assert radius_of(0.5, 0.25) == 0
    assert radius_of(lower_bound(1000, 1000, 0.001), 1.0) == pytest.approx(2.46, abs=0.005)


def halves() -> Classifier:
    """Class 1 where the first of four pixels is above 0.5."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[0.0] * 4, [1000.0, 0.0, 0.0, 0.0]]))
        model[1].bias.copy_(torch.tensor([0.0, -500.0]))
    return Classifier(model, classes="ab")


def first(*values: float) -> Tensor:
    x = torch.full((len(values), 1, 2, 2), 0.5)
    x[:, 0, 0, 0] = torch.tensor(values)
    return x


def test_a_half_space_is_certified_almost_to_its_edge() -> None:
    """P(class 1) = Φ((x₁ - 0.5) / σ): the true radius is the distance to the edge, and the bound of
    1,000 draws lies a little below it, and above it for one image in a thousand at most."""
    x = first(0.55, 0.6, 0.7, 0.5)
    found = Smoothing(sigma=0.1)(halves(), x, seed=1)
    assert found.label.tolist() == [1, 1, 1, -1]
    far = torch.tensor([0.05, 0.1, 0.2], dtype=torch.float64)
    assert bool((found.radius[:3] <= far).all())
    assert bool((found.radius[:3] > 0.5 * far).all())
    assert float(found.radius[3]) == 0
    assert found.abstained.value == 0.25
    y = torch.tensor([1, 1, 0, 1])
    assert found.accuracy(y).value == 0.5
    assert found.certified(y, 0.06).tolist() == [False, True, False, False]


def test_no_point_within_the_radius_is_classified_otherwise() -> None:
    """The smoothed half space is the half space itself."""
    x = first(*torch.rand(20, generator=Stream(1).torch()).tolist())
    clf = halves()
    found = Smoothing(sigma=0.2, draws=200)(clf, x)
    for row in range(20):
        if found.label[row] < 0:
            continue
        step = torch.zeros(1, 1, 2, 2)
        step[0, 0, 0, 0] = float(found.radius[row]) * (-1 if found.label[row] else 1)
        assert clf.predict((x[[row]] + 0.999 * step).clamp(0, 1)).tolist() == [found.label[row]]


def test_draws_depend_on_seed_and_row_and_any_oracle_is_taken() -> None:
    x = first(0.45, 0.52, 0.6)
    smoothing = Smoothing(sigma=0.1, draws=150, selection=10)
    found = smoothing(halves(), x, seed=3)
    again = smoothing(halves(), x[:2], seed=3)
    assert torch.equal(found.radius[:2], again.radius)
    assert not torch.equal(found.radius, smoothing(halves(), x, seed=4).radius)
    queried = BlackBox(lambda x: halves().predict(x), classes="ab", access="labels")
    assert torch.equal(smoothing(queried, x, seed=3).radius, found.radius)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(AssayError, match="sigma"):
        Smoothing(sigma=0)
    nothing = Smoothed(torch.tensor([0]), torch.tensor([0.1]), 0.1, 10, 0.001)
    with pytest.raises(AssayError, match="radius"):
        nothing.accuracy(torch.tensor([0]), -1)
    assert nothing.accuracy(torch.tensor([0]), 0.05) == stats.proportion(1, 1, "images")
