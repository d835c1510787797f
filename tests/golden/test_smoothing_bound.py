"""The bound and the radius of randomized smoothing: numbers that are printed, or by hand."""

from __future__ import annotations

import pytest

from assay.certify.smoothing import lower_bound, radius_of


@pytest.mark.parametrize(
    ("successes", "n", "low"), [(81, 263, 0.2527), (15, 148, 0.0578), (0, 20, 0), (1, 29, 0.0009)]
)
def test_the_bound_is_what_newcombe_1998_prints(successes: int, n: int, low: float) -> None:
    """Newcombe (1998), method 5, Clopper & Pearson's: the lower end of the interval of 95 %."""
    assert round(lower_bound(successes, n, 0.025), 4) == low


@pytest.mark.parametrize(
    ("share", "radius"),
    # Φ(1/2), Φ(1), Φ(2), Φ(3) of any table of the normal distribution, for σ = 0.25
    [(0.691462, 0.125), (0.841345, 0.25), (0.977250, 0.5), (0.998650, 0.75)],
)
def test_the_radius_is_sigma_times_the_normal_quantile(share: float, radius: float) -> None:
    assert radius_of(share, 0.25) == pytest.approx(radius, abs=1e-5)


def test_the_most_that_so_many_draws_certify() -> None:
    """All of 100,000 draws at α = 0.001: the bound is 0.001^(1/100000) = 0.99993, and the radius
    3.8 σ; of 100 draws 0.93325, which is 1.5 σ."""
    most = lower_bound(100_000, 100_000, 0.001)
    assert most == pytest.approx(0.999930924, abs=1e-9)
    assert radius_of(most, 1.0) == pytest.approx(3.8, abs=0.05)
    assert lower_bound(100, 100, 0.001) == pytest.approx(0.9332543, abs=1e-7)
    assert radius_of(lower_bound(100, 100, 0.001), 1.0) == pytest.approx(1.5, abs=0.01)
