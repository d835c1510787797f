"""Whether a confidence of 80 % is right 80 % of the time."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

from assay import stats
from assay.auditing.checks import Criterion, Value, Words
from assay.auditing.section import Measured, Section
from assay.core.oracle import Access
from assay.core.random import Stream
from assay.report import schema

if TYPE_CHECKING:
    from assay.auditing.config import AuditConfig
    from assay.auditing.evidence import Evidence


class Calibration(Section):
    """Reliability diagram and expected calibration error (Guo et al. 2017)."""

    needs: ClassVar[Access] = "scores"
    texts: ClassVar[bool] = True
    saved: ClassVar[bool] = True
    chapters: ClassVar[tuple[str, ...]] = ("calibration",)

    name: Literal["calibration"] = "calibration"
    """The section's name in configs."""

    def criteria(self, config: AuditConfig) -> tuple[Criterion, ...]:
        question = "Is its confidence close to its accuracy (expected calibration error)?"
        threshold = config.thresholds.calibration
        advice = (
            "divide the logits by a temperature that is fitted on held-out images (Guo et al. "
            "2017), or do not show confidences as probabilities"
        )
        code, title = "CAL-001", "calibration"
        words = Words("calibrated", "miscalibrated", "it is calibrated", "calibration")
        return (Criterion(code, title, question, threshold, "at most", advice=advice, words=words),)

    def measure(self, evidence: Evidence) -> Measured:
        evidence.tick("calibration")
        there = evidence.predictions >= 0
        p, y = evidence.probabilities[there], evidence.y[there]
        rng = Stream(evidence.config.seed).child("audit", "calibration").numpy()
        found = stats.calibration(p.numpy(), y.numpy(), rng=rng)
        bins = tuple(
            schema.Bin.model_validate(
                {
                    "low": found.edges[i],
                    "high": found.edges[i + 1],
                    "count": count,
                    "confidence": found.confidence[i],
                    "accuracy": stats.proportion(right, count, f"{evidence.kind} in the bin")
                    if count
                    else None,
                }
            )
            for i, (count, right) in enumerate(
                zip(found.count.tolist(), found.correct.tolist(), strict=True)
            )
        )
        ece = replace(found.ece, of=evidence.kind)
        sure = float(p.amax(1).mean())
        right = float((evidence.predictions == evidence.y)[there].double().mean())
        words = Words(
            "calibrated",
            "overconfident" if sure > right else "underconfident",
            "it is calibrated",
            "calibration",
        )
        chapter = schema.Calibration.model_validate(
            {"ece": ece, "bins": bins, "mean_confidence": sure}
        )
        return Measured({"calibration": chapter}, {"CAL-001": Value(ece, words=words)})
