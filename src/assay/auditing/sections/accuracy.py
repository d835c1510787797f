"""How often the model is right on the data as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import torch

from assay import stats
from assay.auditing.checks import Criterion, Value, Words
from assay.auditing.section import Measured, Section
from assay.report import schema

if TYPE_CHECKING:
    from assay.auditing.config import AuditConfig
    from assay.auditing.evidence import Evidence


class Accuracy(Section):
    """Clean accuracy, overall and by class."""

    texts: ClassVar[bool] = True
    saved: ClassVar[bool] = True
    chapters: ClassVar[tuple[str, ...]] = ("accuracy",)

    name: Literal["accuracy"] = "accuracy"
    """The section's name in configs."""

    def criteria(self, config: AuditConfig) -> tuple[Criterion, ...]:
        question = "Does it classify at least the required share of the images right?"
        threshold = config.thresholds.accuracy
        advice = (
            "see that images are prepared as in training (--mean, --std, --size), and that classes "
            "are in the order of the labels (--classes); if so, train on, or ask for "
            "what your use needs"
        )
        code, title = "ACC-001", "clean accuracy"
        words = Words("accurate", "not accurate enough", "it is accurate enough", "accuracy")
        return (
            Criterion(
                code,
                title,
                question,
                threshold,
                "at least",
                advice=advice,
                words=words,
                share=True,
            ),
        )

    def measure(self, evidence: Evidence) -> Measured:
        k = len(evidence.classes)
        images = torch.bincount(evidence.y, minlength=k).tolist()
        right = torch.bincount(evidence.y[evidence.correct], minlength=k).tolist()
        overall = stats.proportion(sum(right), sum(images), evidence.kind)
        per_class = tuple(
            schema.ClassAccuracy.model_validate(
                {
                    "name": name,
                    "accuracy": stats.proportion(right[i], images[i], f"{evidence.kind} of {name}"),
                }
            )
            for i, name in enumerate(evidence.classes)
        )
        chapter = schema.Accuracy.model_validate(
            {"overall": overall, "per_class": per_class, "n": len(evidence.y)}
        )
        return Measured({"accuracy": chapter}, {"ACC-001": Value(overall)})
