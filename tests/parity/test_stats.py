"""Networks and images against statsmodels: errors clustered in two ways, analysis of variance, and
McNemar's exact test; proportions against scipy."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binomtest
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm
from statsmodels.stats.contingency_tables import mcnemar as peer_mcnemar
from statsmodels.stats.sandwich_covariance import cov_cluster_2groups

from assay.stats import crossed_mean, mcnemar, proportion


def table(networks: int, images: int, *, missing: float = 0.0) -> NDArray[np.float64]:
    """Return values with an effect of networks, of images and a rest, some of them NaN."""
    rng = np.random.default_rng(networks)
    x = (
        rng.normal(0, 1.0, (networks, 1))
        + rng.normal(0, 1.5, (1, images))
        + rng.normal(0, 0.7, (networks, images))
    )
    x[rng.random(x.shape) < missing] = np.nan
    return x


@pytest.mark.parametrize("missing", [0.0, 0.3, 0.6])
@pytest.mark.parametrize("shape", [(5, 60), (12, 25)])
def test_the_variance_of_a_mean_is_that_of_errors_clustered_in_two_ways(
    shape: tuple[int, int], missing: float
) -> None:
    """Cameron, Gelbach & Miller's (2011), with G / (G − 1) for either way of clustering and nothing
    for single values, also where more than half of the table is missing."""
    x = table(*shape, missing=missing)
    networks, images = np.nonzero(~np.isnan(x))
    y = x[networks, images]
    fit = sm.OLS(y, np.ones(len(y))).fit()
    groups = np.stack([networks, images], axis=1)
    _, of_networks, of_images = cov_cluster_2groups(fit, groups, use_correction=False)
    of_values = float((fit.resid**2).sum()) / len(y) ** 2
    s, n = (len(np.unique(way)) for way in (networks, images))
    expected = of_networks.item() * s / (s - 1) + of_images.item() * n / (n - 1) - of_values
    found = crossed_mean(x)
    assert found.variances is not None
    assert min(found.variances.networks, found.variances.images, found.variances.rest) > 0
    assert found.estimate.value == pytest.approx(float(fit.params.item()))
    assert found.variances.of_mean == pytest.approx(expected, rel=1e-9)


def test_where_all_is_there_the_parts_are_those_of_an_analysis_of_variance() -> None:
    """Pairs of values say σ² of networks less that of images / N and so on, since the mean that is
    taken off is estimated too: of 200 networks on 300 images within two percent."""
    x = table(200, 300)
    s, n = x.shape
    rows, columns = n * x.mean(1).var(ddof=1), s * x.mean(0).var(ddof=1)
    squares = float(((x - x.mean()) ** 2).sum())
    left = (squares - (s - 1) * rows - (n - 1) * columns) / ((s - 1) * (n - 1))
    found = crossed_mean(x).variances
    assert found is not None
    assert found.networks == pytest.approx((rows - left) / n, rel=0.02)
    assert found.images == pytest.approx((columns - left) / s, rel=0.02)
    assert found.rest == pytest.approx(left, rel=0.02)


def test_the_parts_of_a_small_table_by_its_mean_squares() -> None:
    x = table(4, 6)
    s, n = x.shape
    long = pd.DataFrame(
        {"y": x.ravel(), "network": np.repeat(range(s), n), "image": np.tile(range(n), s)}
    )
    squares = anova_lm(ols("y ~ C(network) + C(image)", data=long).fit()).sum_sq
    whole = float(squares.sum())
    of_networks, of_images = float(squares["C(network)"]), float(squares["C(image)"])
    found = crossed_mean(x).variances
    assert found is not None
    assert found.networks == pytest.approx(
        (n * s / (s - 1) * of_networks - whole) / (s * n * (n - 1))
    )
    assert found.images == pytest.approx((s * n / (n - 1) * of_images - whole) / (s * n * (s - 1)))


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (1, 0), (3, 9), (12, 12), (40, 11)])
def test_mcnemar_is_statsmodels_exact_one(only_a: int, only_b: int) -> None:
    both, neither = 50, 7
    a = np.repeat([True, True, False, False], [both, only_a, only_b, neither])
    b = np.repeat([True, False, True, False], [both, only_a, only_b, neither])
    peer = peer_mcnemar([[both, only_a], [only_b, neither]], exact=True)
    assert mcnemar(a, b).p == pytest.approx(peer.pvalue)


@given(st.integers(1, 10**6), st.floats(0, 1), st.sampled_from([0.5, 0.9, 0.95, 0.99375]))
def test_a_proportion_is_scipys_but_for_rounding(n: int, share: float, level: float) -> None:
    successes = round(share * n)
    theirs = binomtest(successes, n).proportion_ci(level, method="wilson")
    ours = proportion(successes, n, "images", level)
    assert ours.low == pytest.approx(theirs.low, rel=1e-12, abs=1e-15)
    assert ours.high == pytest.approx(theirs.high, rel=1e-12, abs=1e-15)
