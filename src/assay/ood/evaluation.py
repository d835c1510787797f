"""How well a detector tells inliers from outliers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from assay import stats
from assay.core.embedding import Embedding
from assay.ood.base import FittedDetector
from assay.stats import Estimate

Array = NDArray[np.float64]

CURVE_POINTS = 200


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

    @cached_property
    def auroc(self) -> Estimate:
        """The probability that an outlier scores higher than an inlier; 0.5 is guessing."""
        return stats.auroc(self.scores_in, self.scores_out)

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
        """Return (edges (bins + 1,), counts of inliers, counts of outliers) over common bins."""
        edges = np.histogram_bin_edges(np.concatenate([self.scores_in, self.scores_out]), bins)
        counts = (np.histogram(scores, edges)[0] for scores in (self.scores_in, self.scores_out))
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
            "fpr95": self.fpr95.to_dict(),
            "threshold": self.threshold,
            "calibrated_on": self.calibrated_on,
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


def evaluate(fitted: FittedDetector, inside: Embedding, outside: Embedding) -> DetectionResult:
    """Score inliers and outliers that were neither fitted nor calibrated on.

    Args:
        fitted: a fitted detector; where it has a threshold, the result has a confusion matrix.
        inside: data of the kind that was trained on.
        outside: data of another kind.

    >>> fitted = assay.ood.MaxSoftmax().fit(clf.embed(x))
    >>> grey = torch.full_like(x, 0.5)
    >>> assay.ood.evaluate(fitted, clf.embed(x), clf.embed(grey)).auroc.value
    1.0
    """
    scores = (fitted.score(e).cpu().numpy().astype(np.float64) for e in (inside, outside))
    scores_in, scores_out = scores
    return DetectionResult(
        detector=fitted.detector.name,
        scores_in=scores_in,
        scores_out=scores_out,
        threshold=fitted.cut,
        calibrated_on=fitted.calibrated_on,
    )
