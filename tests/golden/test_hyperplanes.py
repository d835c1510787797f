"""The shortest move on a hyperplane inside [0, 1], by hand and by scipy's own programs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize

from assay.attacks.methods.hyperplanes import to_hyperplane
from assay.core.random import Stream
from assay.core.threats import Norm

SHAPE = (1, 3, 3)


@pytest.mark.parametrize(
    ("norm", "lead", "moved"),
    [
        # The lead rises by going up in the first two pixels, where there is room for 0.5 and 0.06,
        # and down in the last, where there is room for 0.2; at most by 0.5 + 0.12 + 0.8 = 1.42.
        ("linf", -0.28, [0.04, 0.04, 0, -0.04]),  # 7 λ
        ("linf", -0.8, [0.136, 0.06, 0, -0.136]),  # 5 λ + 0.12
        ("linf", -1.22, [0.3, 0.06, 0, -0.2]),  # λ + 0.12 + 0.8
        ("linf", -9, [0.5, 0.06, 0, -0.2]),  # out of reach: the corner
        ("linf", 0.7, [-0.1, -0.1, 0, 0.1]),  # the other way there is room for all
        ("l2", -0.42, [0.02, 0.04, 0, -0.08]),  # (1 + 4 + 16) λ
        ("l2", -0.8, [0.04, 0.06, 0, -0.16]),  # (1 + 16) λ + 0.12
        ("l2", -1.22, [0.3, 0.06, 0, -0.2]),
        ("l2", -9, [0.5, 0.06, 0, -0.2]),
        ("l2", 2.1, [-0.1, -0.2, 0, 0.4]),
        ("l1", -0.4, [0, 0, 0, -0.1]),  # the steepest alone
        ("l1", -0.9, [0, 0.05, 0, -0.2]),  # 0.8, then the next: 2 · 0.05
        ("l1", -1.22, [0.3, 0.06, 0, -0.2]),
        ("l1", -9, [0.5, 0.06, 0, -0.2]),
        ("l1", 3.4, [0, -0.1, 0, 0.8]),  # 3.2, then 2 · 0.1
    ],
)
def test_by_hand(norm: Norm, lead: float, moved: list[float]) -> None:
    x = torch.tensor([0.5, 0.94, 0.5, 0.2]).view(1, 1, 2, 2)
    slope = torch.tensor([1.0, 2.0, 0.0, -4.0]).view(1, 1, 2, 2)
    found = to_hyperplane(x, torch.tensor([lead]), slope, norm)
    assert torch.allclose(found.flatten(), torch.tensor(moved), atol=1e-6)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_it_is_as_short_as_that_of_a_program(norm: Norm) -> None:
    rng = Stream(4).rows(range(40))
    x, slope = rng.uniform(SHAPE), rng.normal(SHAPE)
    lead = rng.uniform((), -2.5, 1.5)
    moved = to_hyperplane(x, lead, slope, norm).flatten(1).double().numpy()
    ends = x.flatten(1).double().numpy()
    assert bool((ends + moved >= -1e-7).all() and (ends + moved <= 1 + 1e-7).all())
    order = {"linf": np.inf, "l2": 2, "l1": 1}[norm]
    reached = 0
    for point, way, rise, move in zip(
        ends, slope.flatten(1).double().numpy(), -lead.double().numpy(), moved, strict=True
    ):
        up = way if rise > 0 else -way
        most = float(np.where(up > 0, up * (1 - point), -up * point).sum())
        gain = float(up @ move)
        assert gain == pytest.approx(min(abs(rise), most), abs=1e-5)
        if abs(rise) < most:
            reached += 1
            least = shortest(point, way, float(rise), norm)
            assert np.linalg.norm(move, order) == pytest.approx(least, abs=1e-5)
    assert 20 < reached < 40


def shortest(x: np.ndarray, slope: np.ndarray, rise: float, norm: Norm) -> float:
    """Return how long the shortest move v is with slope·v = rise and x + v in [0, 1]."""
    n, eye = len(x), np.eye(len(x))
    if norm == "linf":  # v, and a bound on each |v|
        every = np.block([[eye, -np.ones((n, 1))], [-eye, -np.ones((n, 1))]])
        return linprog(
            [*[0] * n, 1],
            A_ub=every,
            b_ub=np.zeros(2 * n),
            A_eq=[[*slope, 0]],
            b_eq=[rise],
            bounds=[*zip(-x, 1 - x, strict=True), (0, None)],
        ).fun
    if norm == "l1":  # up, and down
        return linprog(
            np.ones(2 * n),
            A_eq=[[*slope, *-slope]],
            b_eq=[rise],
            bounds=[(0, room) for room in (*(1 - x), *x)],
        ).fun
    found = minimize(
        lambda v: (v @ v, 2 * v),
        np.zeros(n),
        jac=True,
        method="SLSQP",
        bounds=list(zip(-x, 1 - x, strict=True)),
        constraints={"type": "eq", "fun": lambda v: slope @ v - rise, "jac": lambda _: slope},
        options={"ftol": 1e-12, "maxiter": 500},
    )
    return float(found.fun**0.5)
