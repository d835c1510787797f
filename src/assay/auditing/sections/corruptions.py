"""How accuracy falls when images are noisy, blurred, foggy or badly compressed."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor

from assay import stats
from assay.auditing.checks import Criterion, Value, Words
from assay.auditing.cost import Work
from assay.auditing.section import Measured, Section
from assay.core.classifier import Classifier
from assay.core.random import Stream
from assay.data.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from assay.errors import AssayError, unknown
from assay.report.result import Table
from assay.report.schema import Chapter

if TYPE_CHECKING:
    from assay.auditing.config import AuditConfig
    from assay.auditing.evidence import Evidence

ONLY_QUERIED = 100
"""Most images where the model can only be queried: every kind and severity is a query for each."""
PER_PIXEL = 2e-8
"""Seconds that it takes to corrupt one number of an image, about (measured on CIFAR-10)."""
PER_FILE = {"jpeg": 1e-4}
"""Seconds that it takes to write and read an image, where that is what corrupts it."""
LIKELY = 0.65
"""The share that is likely to be spent of what evaluating the model takes: its fast copy answers
most of it (benchmarks/audit.py)."""


class Corruptions(Section):
    """Accuracy under common corruptions (Hendrycks & Dietterich 2019), none of them an attack.

    COR-001 is the mean over kinds and severities. Every image meets all of them, so its interval is
    over images, each with the share of its corrupted versions that are classified correctly.
    """

    fewest: ClassVar[int] = 50

    name: Literal["corruptions"] = "corruptions"
    """The section's name in configs."""
    kinds: tuple[str, ...] = Field(
        default=("gaussian-noise", "motion-blur", "fog", "contrast", "jpeg"), min_length=1
    )
    """The corruptions; by default one of noise, one of blur, one of weather, two digital."""
    severities: tuple[int, ...] = Field(default=(1, 3, 5), min_length=1)
    """From 1 (slight) to 5 (severe)."""
    images: int = Field(default=500, ge=1)
    """How many images are corrupted (the first ones); 100 at most of a model that can only be
    queried."""

    @field_validator("kinds")
    @classmethod
    def _known(cls, kinds: tuple[str, ...]) -> tuple[str, ...]:
        for kind in kinds:
            if kind not in CORRUPTIONS:
                raise unknown("corruption", kind, CORRUPTIONS)
        return kinds

    @field_validator("severities")
    @classmethod
    def _in_range(cls, severities: tuple[int, ...]) -> tuple[int, ...]:
        if any(severity not in SEVERITIES for severity in severities):
            raise ValueError("severities are whole numbers from 1 to 5")
        return severities

    def criteria(self, config: AuditConfig) -> tuple[Criterion, ...]:
        return (
            Criterion(
                "COR-001",
                "accuracy under common corruptions",
                "Does it stay right on average over noise, blur, weather and compression?",
                config.thresholds.corruptions,
                "at least",
                advice="train with augmentation that resembles what your images suffer (AugMix, "
                "Hendrycks et al. 2020), or keep such images away from the model",
                gated=False,
                words=Words(
                    "steady under common corruptions",
                    "unsteady under common corruptions",
                    "it is steady under common corruptions",
                    "common corruptions",
                ),
            ),
        )

    def rests_on(self, evidence: Evidence) -> int:
        most = self.images
        if not isinstance(evidence.model, Classifier):
            most = min(most, ONLY_QUERIED)
        return evidence.first(most)

    def work(self, evidence: Evidence) -> tuple[Work, ...]:
        n = self.rests_on(evidence)
        likely = LIKELY if isinstance(evidence.model, Classifier) else 1.0
        per_image = evidence.x[0].numel() * PER_PIXEL
        return tuple(
            Work("corruption", n, seconds=n * (per_image + PER_FILE.get(kind, 0.0)), likely=likely)
            for kind in self.kinds
            for _ in self.severities
        )

    def measure(self, evidence: Evidence) -> Measured:
        x, y = evidence.x, evidence.y
        if x.ndim != 4 or x.shape[1] not in (1, 3):
            raise AssayError(f"images of 1 or 3 channels are corrupted, not {tuple(x.shape[1:])}")
        most = self.rests_on(evidence)
        x, y = x[:most], y[:most]
        right = torch.zeros(len(self.kinds), len(self.severities), len(x), dtype=torch.bool)
        for i, kind in enumerate(self.kinds):
            for j, severity in enumerate(self.severities):
                evidence.tick(f"{kind} of severity {severity}")
                right[i, j] = self._right(evidence, x, y, kind, severity)
        mean = over_images(right)
        clean = stats.proportion(int(evidence.correct[:most].sum()), len(x), "images")
        lead = (
            f"Mean over {len(self.kinds)} kinds of corruption at {len(self.severities)} "
            f"{'severity' if len(self.severities) == 1 else 'severities'}, of {len(x):,} images."
        )
        found = said(clean.value, mean.value, self._worst(right, clean.value))
        return Measured(
            {
                self.name: Chapter(
                    title=found,
                    lead=lead,
                    tables=(self._table(right, clean),),
                    name="Common corruptions",
                )
            },
            {"COR-001": Value(mean)},
            {"corruptions/correct": right.numpy()},
        )

    def _worst(self, right: Tensor, clean: float) -> str:
        """Return the kind that costs most; empty if there is but one, or none costs anything."""
        means = right.double().mean((1, 2)).tolist()
        costs = len(means) > 1 and min(means) < clean
        return self.kinds[means.index(min(means))] if costs else ""

    def _right(self, evidence: Evidence, x: Tensor, y: Tensor, kind: str, severity: int) -> Tensor:
        """Return which corrupted images are classified correctly: bool (N,)."""
        stream = Stream(evidence.config.seed).child("audit", "corruptions", kind, severity)
        corrupted = corrupt(kind, x, severity, stream.rows(torch.arange(len(x))))
        return evidence.labels_of(corrupted) == y

    def _table(self, right: Tensor, clean: stats.Estimate) -> Table:
        rows = [
            (kind, *(stats.proportion(int(one.sum()), right.shape[2], "images") for one in found))
            for kind, found in zip(self.kinds, right, strict=True)
        ]
        as_they_are = ("none", clean, *("" for _ in self.severities[1:]))
        return Table.model_validate(
            {
                "title": "Accuracy by corruption and severity",
                "columns": ("corruption", *(f"severity {one}" for one in self.severities)),
                "rows": (as_they_are, *rows),
                "caption": "Severities are those of CIFAR-10-C: 1 is slight, 5 is severe. "
                "Intervals are Wilson's, at 95 %.",
            }
        )


def over_images(right: Tensor) -> stats.Estimate:
    """Return the mean share of corrupted versions that are right, over images.

    Where every image has all of them right, or none, their spread is zero and says nothing; the
    interval is then that of as many single answers, which is never narrower.

    Args:
        right: bool (kinds, severities, N).
    """
    if right.all() or not right.any():
        n = right.shape[-1]
        return stats.proportion(n if right.all() else 0, n, "images")
    return stats.mean_interval(right.double().mean((0, 1)).numpy(), "images")


def said(clean: float, corrupted: float, worst: str) -> str:
    """Return what corruptions do to accuracy, in a sentence; `worst` costs most, if it is known."""
    change = f"from {100 * clean:.1f} % to {100 * corrupted:.1f} %"
    costs = f"; {worst} costs most" if worst else ""
    if f"{100 * clean:.1f}" == f"{100 * corrupted:.1f}":
        return f"Corruptions leave accuracy at {100 * clean:.1f} %{costs}"
    if corrupted > clean:
        return f"Corruptions raise accuracy {change}{costs}"
    return f"Corruptions take accuracy {change}{costs}"
