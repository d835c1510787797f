"""Whether saliency maps can be believed: explainers by what their maps are worth."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from assay import stats
from assay.auditing.cost import Work
from assay.auditing.section import Measured, Section
from assay.core.oracle import Access
from assay.errors import AssayError
from assay.explain.faithful import Faithfulness as Found
from assay.explain.faithful import faithfulness
from assay.report.schema import Explained, Faithful

if TYPE_CHECKING:
    from assay.auditing.evidence import Evidence

JUDGED = 32
"""Images that explainers are judged on."""
LIKELY = 0.7
"""The share that is likely to be spent of what that takes at most (benchmarks/audit.py): explainers
of one layer share a pass, and the fast copy is the faster one."""


class Faithfulness(Section):
    """Explainers compared on images that are classified correctly, for the true class."""

    needs: ClassVar[Access] = "gradient"
    chapters: ClassVar[tuple[str, ...]] = ("faithful",)

    name: Literal["faithfulness"] = "faithfulness"
    """The section's name in configs."""

    def rests_on(self, evidence: Evidence) -> int:
        return evidence.first(min(evidence.config.attacked, JUDGED))

    def work(self, evidence: Evidence) -> tuple[Work, ...]:
        asked, rows = evidence.config.faithfulness, evidence.attacked
        n = min(int(evidence.correct[rows].sum()), JUDGED)
        curves = 2 * (asked.steps + 1) * n
        random = asked.randomised * (1 + asked.stages)
        each = Work("explainer", curves, n + random)
        many = len(asked.explainers)
        forward, gradient = many * each.forward, many * each.gradient
        return (Work("faithfulness", forward, gradient, likely=LIKELY),)

    def measure(self, evidence: Evidence) -> Measured:
        evidence.tick("which explainer is the most faithful")
        rows = evidence.attacked
        ids = rows[evidence.correct[rows]][:JUDGED]
        if len(ids) < 2:
            raise AssayError("fewer than two images are classified correctly")
        found = faithfulness(
            evidence.classifier,
            evidence.x[ids],
            evidence.y[ids],
            masks=None if evidence.masks is None else evidence.masks[ids].numpy(),
            config=evidence.config.faithfulness,
            copies=evidence.copies,
            logits=evidence.answer[ids],
        )
        return Measured({"faithful": chapter(found)})


def chapter(found: Found) -> Faithful:
    """Return the comparison as the report holds it."""
    return Faithful(
        n=len(found.targets),
        pointing_chance=next((one.pointing.chance for one in found.judged if one.pointing), None),
        best=found.best,
        within_noise=found.ties,
        failed=dict(found.failed),
        explainers=tuple(
            Explained.model_validate(
                {
                    "name": one.name,
                    "insertion": stats.mean_interval(one.insertion.area, "images"),
                    "deletion": stats.mean_interval(one.deletion.area, "images"),
                    "gain": one.better,
                    "correlation": one.randomisation and one.randomisation.correlation,
                    "verdict": one.verdict,
                    "pointing": one.pointing and one.pointing.rate,
                    "empty": one.empty,
                }
            )
            for one in found.judged
        ),
    )
