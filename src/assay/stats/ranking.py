"""How well scores tell outliers from inliers. A higher score: more of an outlier."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from assay.errors import AssayError
from assay.stats.estimates import Estimate, Floats, proportion, vector

ROUNDING = 1e-9
"""How far a share may be off by rounding."""


def auroc(scores_in: ArrayLike, scores_out: ArrayLike, level: float = 0.95) -> Estimate:
    """Return the probability that an outlier scores higher than an inlier; ties count half.

    The interval is DeLong's (DeLong et al. 1988; ranks as in Sun & Xu 2014) on the logit scale.
    Within half a pair of 0 or 1, where his variance goes to zero, the variance is at least that
    of Newcombe (2006, "Effect size measure based on the Mann–Whitney statistic", part 2), and
    the interval reaches 0 or 1: fifty of each told apart without a mistake give [0.93, 1].

    Args:
        scores_in, scores_out: (n,) each; infinity is a score, NaN is not.
        level: confidence level.

    Raises:
        AssayError: for NaN.

    >>> assay.stats.auroc([1, 2, 3], [2.5, 4, 5]).value  # 8 of 9 pairs
    0.8888888888888888
    """
    from scipy.stats import rankdata  # which takes a third as long to load as torch

    inliers, outliers = _scores(scores_in, "scores_in"), _scores(scores_out, "scores_out")
    m, n = len(inliers), len(outliers)
    of = f"scores, {m:,} inliers and {n:,} outliers"
    if not (m and n):
        return Estimate(math.nan, 0.0, 1.0, 0, of, level)
    ranks = rankdata(np.concatenate([inliers, outliers]))
    above = (ranks[m:] - rankdata(outliers)) / m  # share of inliers below each outlier
    below = 1 - (ranks[:m] - rankdata(inliers)) / n  # share of outliers above each inlier
    value = float(above.mean())
    variance = 0.0
    if m > 1 and n > 1:
        variance = float(above.var(ddof=1) / n + below.var(ddof=1) / m)
    edge = 0.5 / (min(m, n) + 1)
    centre = min(max(value, edge), 1 - edge)
    at_0, at_1 = value <= edge + ROUNDING, value >= 1 - edge - ROUNDING
    if at_0 or at_1 or variance == 0:
        variance = max(variance, _newcombe_variance(centre, m, n))
    z = float(special.ndtri((1 + level) / 2))
    half = z * math.sqrt(variance) / (centre * (1 - centre))
    logit = float(special.logit(centre))
    low = 0.0 if at_0 else float(special.expit(logit - half))
    high = 1.0 if at_1 else float(special.expit(logit + half))
    return Estimate(value, low, high, m + n, of, level)


def aupr(
    scores_in: ArrayLike,
    scores_out: ArrayLike,
    positive: Literal["in", "out"] = "out",
    level: float = 0.95,
) -> Estimate:
    """Return the area under the precision-recall curve, as average precision: the mean, over the
    positive kind, of the precision at the threshold that takes in the one and all before it. Equal
    scores are taken in together. Unlike the AUROC it depends on how many there are of each kind.

    The interval is the logit one of Boyd, Eng & Page (2013, "Area under the precision-recall curve:
    point estimates and confidence intervals"), kept half an item away from 0 and 1.

    Args:
        scores_in, scores_out: (n,) each; a higher score is more of an outlier.
        positive: which kind is to be found: outliers among the highest scores ("AUPR out"), or
            inliers among the lowest ("AUPR in").
        level: confidence level.

    Raises:
        AssayError: for NaN.

    >>> assay.stats.aupr([1, 2], [3, 4]).value
    1.0
    """
    other, wanted = _scores(scores_in, "scores_in"), _scores(scores_out, "scores_out")
    if positive == "in":
        other, wanted = -wanted, -other
    m, n = len(other), len(wanted)
    of = f"scores, {m if positive == 'out' else n:,} inliers and "
    of += f"{n if positive == 'out' else m:,} outliers"
    if not (m and n):
        return Estimate(math.nan, 0.0, 1.0, 0, of, level)
    thresholds, counts = np.unique(wanted, return_counts=True)
    right = n - np.searchsorted(np.sort(wanted), thresholds)
    wrong = m - np.searchsorted(np.sort(other), thresholds)
    value = float((counts * right / (right + wrong)).sum() / n)
    edge = 0.5 / (n + 1)
    centre = min(max(value, edge), 1 - edge)
    half = float(special.ndtri((1 + level) / 2)) / math.sqrt(n * centre * (1 - centre))
    logit = float(special.logit(centre))
    low = 0.0 if value <= edge else float(special.expit(logit - half))
    high = 1.0 if value >= 1 - edge else float(special.expit(logit + half))
    return Estimate(value, low, high, m + n, of, level)


def fpr_at_tpr(
    scores_in: ArrayLike,
    scores_out: ArrayLike,
    tpr: float = 0.95,
    *,
    positive: Literal["in", "out"] = "in",
    level: float = 0.95,
) -> Estimate:
    """Return FPR95: how many of the other kind pass where `tpr` of the positive kind do.

    The field uses two conventions. With `positive="in"` (Liang et al. 2018, ODIN, and most papers
    since) it is the share of outliers taken for inliers by the strictest threshold that accepts
    `tpr` of the inliers: what a threshold set on inliers alone will do. With `positive="out"`
    (OpenOOD from 1.5 on, pytorch-ood) it is the share of inliers flagged by the strictest
    threshold that catches `tpr` of the outliers. Compare only numbers of one convention.

    The interval joins two doubts by MOVER (Zou & Donner 2008): Wilson's for the share at that
    threshold, and what the share is at the ends of the threshold's own interval (order statistics
    of the positive kind). Fewer than 72 positives cannot bound the threshold at 95 %, so the
    interval then reaches 1.

    Args:
        scores_in, scores_out: (n,) each; a higher score is more of an outlier.
        tpr: the share of the positive kind to keep, in (0, 1].
        positive: which kind is the positive one.
        level: confidence level.

    Raises:
        AssayError: for NaN, or `tpr` outside (0, 1].

    >>> assay.stats.fpr_at_tpr(range(100), [50, 200]).value
    0.5
    """
    from scipy.stats import binom

    if not 0 < tpr <= 1:
        raise AssayError(f"tpr is a share in (0, 1], got {tpr:g}")
    kept, passing = _scores(scores_in, "scores_in"), _scores(scores_out, "scores_out")
    of = "outliers"
    if positive == "out":
        kept, passing, of = -passing, -kept, "inliers"
    m, n = len(kept), len(passing)
    if not (m and n):
        return Estimate(math.nan, 0.0, 1.0, 0, of, level)
    kept, passing = np.sort(kept), np.sort(passing)

    def passed(rank: int) -> int:
        """Count what passes a threshold at the positive score of that rank (from 1)."""
        if rank < 1:
            return 0
        return n if rank > m else int(np.searchsorted(passing, kept[rank - 1], side="right"))

    share = proportion(passed(math.ceil(tpr * m - 1e-9)), n, of, level)
    strict = int(binom.ppf((1 - level) / 2, m, tpr))
    lenient = int(binom.ppf((1 + level) / 2, m, tpr)) + 1
    below = share.value - passed(strict) / n
    above = passed(lenient) / n - share.value
    low = share.value - math.hypot(share.value - share.low, below)
    high = share.value + math.hypot(share.high - share.value, above)
    return Estimate(share.value, max(0.0, low), min(1.0, high), n, of, level)


def roc_curve(scores_in: ArrayLike, scores_out: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """Return (fpr, tpr, thresholds) of "an outlier scores at least the threshold".

    Thresholds (T,) are infinity and then every distinct score, falling; `fpr` (share of inliers
    flagged) and `tpr` (share of outliers caught) rise with them from (0, 0) to (1, 1).

    Raises:
        AssayError: for NaN, or without an inlier and an outlier.

    >>> fpr, tpr, thresholds = assay.stats.roc_curve([1, 2], [3, 4])
    >>> float(fpr[-1]), float(tpr[-1])
    (1.0, 1.0)
    """
    inliers = np.sort(_scores(scores_in, "scores_in"))
    outliers = np.sort(_scores(scores_out, "scores_out"))
    if not (len(inliers) and len(outliers)):
        raise AssayError(
            "a ROC curve needs at least one inlier and one outlier, "
            f"got {len(inliers)} and {len(outliers)}"
        )
    thresholds = np.unique(np.concatenate([inliers, outliers]))[::-1]
    fpr = 1 - np.searchsorted(inliers, thresholds) / len(inliers)
    tpr = 1 - np.searchsorted(outliers, thresholds) / len(outliers)
    return np.append(0.0, fpr), np.append(0.0, tpr), np.append(np.inf, thresholds)


def _newcombe_variance(theta: float, m: int, n: int) -> float:
    mean_size = (m + n) / 2
    overlap = (1 - theta) / (2 - theta) + theta / (1 + theta)
    return theta * (1 - theta) * (1 + (mean_size - 1) * overlap) / (m * n)


def _scores(scores: ArrayLike, name: str) -> Floats:
    array = vector(scores, name)
    bad = int(np.isnan(array).sum())
    if bad:
        raise AssayError(f"{bad} of {len(array)} {name} are NaN; a detector must score every input")
    return array
