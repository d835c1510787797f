"""Noise has the full size of its budget, asks nothing, and each draw is another."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from assay.attacks import PGD, Noise
from assay.core.classifier import Classifier
from assay.core.random import Stream
from assay.errors import AssayError

N = 64


@pytest.fixture(scope="module")
def x() -> Tensor:
    return Stream(3).rows(range(N)).uniform((3, 12, 12), 0.3, 0.7)


@pytest.fixture(scope="module")
def clf(x: Tensor) -> Classifier:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Tanh(), nn.Flatten(), nn.Linear(800, 5)).eval()
    with torch.no_grad():
        model[3].bias -= model(x).mean(0)
    return Classifier(model)


@pytest.mark.parametrize(
    ("norm", "eps", "size"), [("linf", 0.1, 0.1), ("l2", 0.9, 0.9), ("l1", 9.0, 9.0), ("l0", 7, 7)]
)
def test_it_has_the_size_of_its_budget(
    clf: Classifier, x: Tensor, norm: str, eps: float, size: float
) -> None:
    result = Noise(norm=norm, eps=eps)(clf, x, seed=0)
    assert result.distance.tolist() == pytest.approx([size] * N, rel=1e-3)
    assert result.refused == 0
    moved = result.adversarial != x
    assert len({tuple(row.flatten().tolist()) for row in moved if norm == "l0"}) in (0, N)
    if norm == "linf":
        up = float((result.adversarial > x).float().mean())
        assert abs(up - 0.5) < 5 * 0.5 / moved.numel() ** 0.5  # as often up as down


def test_it_queries_nothing_but_whether_it_fooled(clf: Classifier, x: Tensor) -> None:
    result = Noise(eps=0.1)(clf, x, seed=0)
    assert result.queries.tolist() == [2] * N  # the clean prediction, and the confirmation


def test_more_draws_fool_more_and_a_gradient_fools_more_still(clf: Classifier, x: Tensor) -> None:
    one, many = (Noise(eps=0.03, draws=draws)(clf, x, stop="fooled") for draws in (1, 8))
    assert bool((many.success | ~one.success).all())
    assert 0 < int(one.success.sum()) < int(many.success.sum())
    assert int(PGD(eps=0.03)(clf, x).success.sum()) > 2 * int(many.success.sum())


def test_a_budget_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(AssayError, match="whole number"):
        Noise(norm="l0", eps=1.5)
