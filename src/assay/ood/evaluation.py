"""How well a detector tells inliers from outliers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from assay import stats
from assay.core.embedding import Embedding
from assay.core.images import digests
from assay.errors import AssayError
from assay.ood.fitted import FittedDetector
from assay.stats import Estimate

Array = NDArray[np.float64]

CURVE_POINTS = 200
SAME = 1e-12
"""Scores within this share of their size are equal but for rounding: no bins fit between them."""


@dataclass(frozen=True)
class Confusion:
    """What the calibrated threshold does: counts of images by what they are and are called."""

    inliers_kept: int
    inliers_flagged: int
    outliers_kept: int
    outliers_flagged: int


@dataclass(frozen=True)
class DetectionResult:
    """The OOD scores of inliers and outliers, and how far they lie apart.

    Attributes:
        detector: the detector's name.
        scores_in: float64 (N,) of the inliers.
        scores_out: float64 (M,) of the outliers.
        threshold: the calibrated one, or None.
        calibrated_on: number of rows it was calibrated on; 0 without.
        notes: what to know before the figures are believed, a sentence each.

    >>> scores_in, scores_out = np.array([0.0, 1.0, 2.0]), np.array([1.5, 3.0])
    >>> result = assay.ood.DetectionResult("max-logit", scores_in, scores_out, threshold=2.5)
    >>> round(result.auroc.value, 3)  # 5 of 6 pairs are in order
    0.833
    >>> result.confusion.outliers_flagged
    1
    """

    detector: str
    scores_in: Array
    scores_out: Array
    threshold: float | None = None
    calibrated_on: int = 0
    notes: tuple[str, ...] = ()

    @cached_property
    def auroc(self) -> Estimate:
        """The probability that an outlier scores higher than an inlier; 0.5 is guessing."""
        return stats.auroc(self.scores_in, self.scores_out)

    @cached_property
    def aupr_out(self) -> Estimate:
        """The average precision of finding outliers by high scores; guessing: their share."""
        return stats.aupr(self.scores_in, self.scores_out, "out")

    @cached_property
    def aupr_in(self) -> Estimate:
        """The average precision of finding inliers by low scores; guessing: their share."""
        return stats.aupr(self.scores_in, self.scores_out, "in")

    @cached_property
    def fpr95(self) -> Estimate:
        """The share of outliers taken for inliers where 95 % of the inliers are kept."""
        return stats.fpr_at_tpr(self.scores_in, self.scores_out, 0.95)

    @cached_property
    def roc(self) -> tuple[Array, Array]:
        """(inliers flagged, outliers flagged) as shares, from (0, 0) to (1, 1) by threshold."""
        flagged_in, flagged_out, _ = stats.roc_curve(self.scores_in, self.scores_out)
        return flagged_in, flagged_out

    @cached_property
    def confusion(self) -> Confusion | None:
        """Counts at the calibrated threshold; None without one."""
        if self.threshold is None:
            return None
        flagged_in = int((self.scores_in > self.threshold).sum())
        flagged_out = int((self.scores_out > self.threshold).sum())
        return Confusion(
            inliers_kept=len(self.scores_in) - flagged_in,
            inliers_flagged=flagged_in,
            outliers_kept=len(self.scores_out) - flagged_out,
            outliers_flagged=flagged_out,
        )

    def histogram(self, bins: int = 40) -> tuple[Array, NDArray[np.int64], NDArray[np.int64]]:
        """Return (edges (bins + 1,), counts of inliers, counts of outliers) over common bins, from
        the least finite score to the greatest; infinite ones count in the bins at the ends."""
        edges = _edges(np.concatenate([self.scores_in, self.scores_out]), bins)
        counts = (
            np.histogram(np.clip(scores, edges[0], edges[-1]), edges)[0]
            for scores in (self.scores_in, self.scores_out)
        )
        inliers, outliers = (count.astype(np.int64) for count in counts)
        return edges, inliers, outliers

    def to_dict(self) -> dict[str, Any]:
        """Return what a record keeps: JSON, the curve thinned to 200 points, no scores."""
        edges, inliers, outliers = self.histogram()
        flagged_in, flagged_out = self.roc
        keep = np.unique(np.linspace(0, len(flagged_in) - 1, CURVE_POINTS).round().astype(int))
        confusion = self.confusion
        return {
            "detector": self.detector,
            "n_in": len(self.scores_in),
            "n_out": len(self.scores_out),
            "auroc": self.auroc.to_dict(),
            "aupr_out": self.aupr_out.to_dict(),
            "aupr_in": self.aupr_in.to_dict(),
            "fpr95": self.fpr95.to_dict(),
            "threshold": self.threshold,
            "calibrated_on": self.calibrated_on,
            "notes": list(self.notes),
            "confusion": None if confusion is None else vars(confusion),
            "roc": [[float(flagged_in[i]), float(flagged_out[i])] for i in keep],
            "histogram": {
                "edges": edges.tolist(),
                "inliers": inliers.tolist(),
                "outliers": outliers.tolist(),
            },
        }

    def plot(self, kind: Literal["scores", "roc"] = "scores") -> Any:
        """Return a matplotlib figure: the histogram of the scores, or the ROC curve."""
        from assay.report import figures
        from assay.report.schema import Histogram

        if kind == "roc":
            return figures.roc({self.detector: list(zip(*self.roc, strict=True))})
        edges, inliers, outliers = self.histogram()
        shown = Histogram(
            edges=tuple(edges.tolist()),
            inliers=tuple(inliers.tolist()),
            outliers=tuple(outliers.tolist()),
        )
        return figures.histograms(shown, threshold=self.threshold, x_label=self.detector)

    def _repr_html_(self) -> str:
        from assay.report.figures import inline_svg

        return inline_svg(self.plot())


def _edges(scores: Array, bins: int) -> Array:
    """Return the edges (bins + 1,) of as many bins; of scores that are equal, but for rounding,
    they lie about them."""
    finite = scores[np.isfinite(scores)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)
    size = max(abs(low), abs(high))
    if high - low <= SAME * size:
        around = 0.5 * max(1.0, size)
        low, high = low - around, high + around
    return np.linspace(low, high, bins + 1)


def evaluate(fitted: FittedDetector, inside: Embedding, outside: Embedding) -> DetectionResult:
    """Score inliers and outliers that were neither fitted nor calibrated on.

    Args:
        fitted: a fitted detector; where it has a threshold, the result has a confusion matrix.
        inside: data of the kind that was trained on.
        outside: data of another kind.

    >>> fitted = assay.ood.MaxSoftmax().fit(clf.embed(x))
    >>> grey = torch.full_like(x, 0.5)
    >>> found = assay.ood.evaluate(fitted, clf.embed(x), clf.embed(grey))
    >>> found.auroc.value
    1.0
    >>> print(found.notes[0])
    only 12 inliers: the threshold that keeps 95 % of them is their largest score
    """
    scores = (fitted.score(e).cpu().numpy().astype(np.float64) for e in (inside, outside))
    scores_in, scores_out = scores
    return DetectionResult(
        detector=fitted.detector.name,
        scores_in=scores_in,
        scores_out=scores_out,
        threshold=fitted.cut,
        calibrated_on=fitted.calibrated_on,
        notes=(*fitted.notes, *_doubts(scores_in, scores_out), *_twins(inside, outside)),
    )


FEW = 20
"""Of fewer, 5 % are less than one."""


def _doubts(scores_in: Array, scores_out: Array) -> Iterator[str]:
    """Say what is wrong with scores that are numbers, but tell little."""
    if len(scores_in) < FEW:
        yield (
            f"only {len(scores_in)} inliers: the threshold that keeps 95 % of them is their "
            "largest score"
        )
    if 0 < len(scores_out) < FEW:
        step = 100 / len(scores_out)
        yield f"only {len(scores_out)} outliers: FPR95 moves in steps of {step:.3g} points"
    every = np.concatenate([scores_in, scores_out])
    if len(every) > 1 and (every == every[0]).all():
        yield "all inliers and outliers have the same score, which tells nothing of either"


def _twins(inside: Embedding, outside: Embedding) -> Iterator[str]:
    """Say which rows the model cannot tell apart, as it cannot an image from itself."""
    same = _equal_rows(inside.logits, outside.logits)
    if inside.features is not None and outside.features is not None:
        same = [(i, j) for i, j in same if torch.equal(inside.features[i], outside.features[j])]
    if same:
        yield (
            f"{len(same)} of {len(outside)} outliers give the model's very answer to an inlier, "
            f"and may be the same inputs: {_pairs(same)}"
        )


def overlap(inside: Embedding, outside: Embedding) -> list[tuple[int, int]]:
    """Return which outliers are inliers too: pairs of row numbers (inlier, outlier) whose images
    are equal at 256 levels; each outlier once. Reads both sources again.

    >>> again = torch.cat([1 - x[:2], x[3:5]])
    >>> assay.ood.overlap(clf.embed(x), clf.embed(again))
    [(3, 2), (4, 3)]
    """
    seen: dict[bytes, int] = {}
    for rows, x in inside.batches():
        for row, image in enumerate(_levels(x), rows.start):
            seen.setdefault(image, row)
    return [
        (seen[image], row)
        for rows, x in outside.batches()
        for row, image in enumerate(_levels(x), rows.start)
        if image in seen
    ]


def _levels(x: Tensor) -> list[bytes]:
    """Return a digest of each image float32 (N, C, H, W) at 256 levels."""
    return digests((x * 255).round().to(torch.uint8))


def _equal_rows(a: Tensor, b: Tensor) -> list[tuple[int, int]]:
    """Return the rows of b that are a row of a bit by bit, each as (row of a, row of b)."""
    if a.shape[1] != b.shape[1]:
        return []
    first: dict[bytes, int] = {}
    for i, row in enumerate(a.cpu().numpy()):
        first.setdefault(row.tobytes(), i)
    found = ((first.get(row.tobytes()), j) for j, row in enumerate(b.cpu().numpy()))
    return [(i, j) for i, j in found if i is not None]


def _pairs(same: list[tuple[int, int]]) -> str:
    shown = ", ".join(f"outlier {j} is inlier {i}" for i, j in same[:3])
    return shown + (", …" if len(same) > 3 else "")


@dataclass(frozen=True)
class RiskCoverage:
    """What rejecting by a score does to the errors that are left.

    Attributes:
        coverage: float64 (N,), the share that is kept, rising to 1: the lowest scores first.
        risk: float64 (N,), the share of errors among those.
        aurc: the mean of `risk` over all coverages (Geifman & El-Yaniv 2017, "Selective
            classification for deep neural networks"); lower is better, all errors the guess.
        least: that of a score that rejects every error first.

    >>> curve = assay.ood.risk_coverage([0.1, 0.2, 0.3, 0.4], wrong=[False, False, True, False])
    >>> [round(risk, 3) for risk in curve.risk.tolist()]
    [0.0, 0.0, 0.333, 0.25]
    >>> round(curve.aurc, 3), curve.least
    (0.146, 0.0625)
    """

    coverage: Array
    risk: Array
    aurc: float
    least: float

    def at(self, coverage: float) -> float:
        """Return the risk where at least this share, in (0, 1], is kept."""
        return float(self.risk[np.searchsorted(self.coverage, coverage - 1e-12)])


def risk_coverage(scores: ArrayLike, wrong: ArrayLike) -> RiskCoverage:
    """Return the risk-coverage curve of rejecting the highest scores first.

    Equal scores are rejected in a random order, and the curve is its mean, so that it does not
    depend on the order of the rows.

    Args:
        scores: (N,), OOD scores.
        wrong: bool (N,), whether keeping the row is an error: the prediction is wrong, or it is an
            outlier.

    Raises:
        AssayError: for NaN, no rows, or lengths that differ.

    >>> assay.ood.risk_coverage([1, 1, 1, 1], wrong=[True, False, True, False]).aurc  # guessing
    0.5
    """
    x, errors = np.asarray(scores, np.float64), np.asarray(wrong, np.float64)
    if not len(x) or x.shape != errors.shape:
        raise AssayError(f"one error or none per score: {len(x)} scores, {len(errors)} errors")
    if np.isnan(x).any():
        raise AssayError(f"{int(np.isnan(x).sum())} of {len(x)} scores are NaN")
    _, group = np.unique(x, return_inverse=True)
    share = np.bincount(group, errors) / np.bincount(group)
    kept = np.arange(1, len(x) + 1)
    risk = np.cumsum(share[np.sort(group)]) / kept
    total = int(errors.sum())
    least = np.maximum(0, kept - (len(x) - total)) / kept
    return RiskCoverage(kept / len(x), risk, float(risk.mean()), float(least.mean()))
