"""What rejecting inputs by a score is worth: the risk of what is kept."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from assay.errors import AssayError
from assay.stats.estimates import Floats, vector


def risk_coverage(scores: ArrayLike, wrong: ArrayLike) -> tuple[Floats, Floats]:
    """Return (coverage, risk): the share of inputs that are kept, those of the lowest scores, and
    the share of mistakes among them, for every number kept from 1 to n: float64 (n,) each.

    Inputs of equal scores are kept in no order: each counts as the mean of its ties.

    Args:
        scores: (n,), higher is rejected first.
        wrong: bool (n,), whether the model is wrong on each.

    Raises:
        AssayError: for NaN, none at all, or as many of the one as not of the other.

    >>> coverage, risk = assay.stats.risk_coverage([0.1, 0.2, 0.9, 0.8], [0, 0, 1, 0])
    >>> risk.tolist()
    [0.0, 0.0, 0.0, 0.25]
    """
    values, mistakes = vector(scores, "scores"), np.asarray(wrong, dtype=float)
    if not len(values) or values.shape != mistakes.shape or np.isnan(values).any():
        raise AssayError(
            f"risk and coverage take a score, not NaN, for each of one or more inputs: "
            f"{len(values)} scores, {len(mistakes)} mistakes"
        )
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    share = (np.bincount(place, weights=mistakes) / counts)[np.sort(place)]
    kept = np.arange(1, len(values) + 1)
    return kept / len(values), np.cumsum(share) / kept


def aurc(scores: ArrayLike, wrong: ArrayLike) -> float:
    """Return the area under risk and coverage: the mean share of mistakes among what is kept, over
    all coverages; lower is better (Geifman & El-Yaniv 2017, "Selective classification for deep
    neural networks"; the name is of Geifman et al. 2019).

    Raises:
        AssayError: as `risk_coverage` does.

    >>> round(aurc([0.1, 0.2, 0.9], [0, 0, 1]), 3)  # 0, 0 and a third
    0.111
    """
    return float(risk_coverage(scores, wrong)[1].mean())
