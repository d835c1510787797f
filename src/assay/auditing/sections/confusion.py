"""Which class is taken for which."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from assay import stats
from assay.auditing.section import Measured, Section
from assay.report import schema

if TYPE_CHECKING:
    from assay.auditing.evidence import Evidence


class Confusion(Section):
    """Counts of true and predicted class; an image without an answer is in none."""

    texts: ClassVar[bool] = True
    saved: ClassVar[bool] = True
    chapters: ClassVar[tuple[str, ...]] = ("confusion",)

    name: Literal["confusion"] = "confusion"
    """The section's name in configs."""

    def measure(self, evidence: Evidence) -> Measured:
        there = evidence.predictions >= 0
        matrix = stats.confusion(
            evidence.y[there].numpy(),
            evidence.predictions[there].numpy(),
            len(evidence.classes),
        )
        rows = tuple(map(tuple, matrix.tolist()))
        return Measured({"confusion": schema.Confusion(classes=evidence.classes, matrix=rows)})
