"""What interval bounds prove of a network, beside what attacks have left of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import torch

from assay import stats
from assay.auditing.attacking import at_budget
from assay.auditing.cost import Work
from assay.auditing.section import Measured, Section
from assay.core.classifier import Classifier
from assay.errors import AssayError
from assay.report.numerals import budget
from assay.report.record import EstimateModel
from assay.report.result import Cell, Table
from assay.report.schema import Chapter

if TYPE_CHECKING:
    from assay.auditing.evidence import Evidence

BOUNDS = 3
"""Forward passes that interval bounds take, about: of centres and of radii, in smaller batches."""
HELD_AGAINST = 64
"""Images that are misclassified or fooled, and yet bounded: none may be certified."""


class Certificate(Section):
    """Certified accuracy by interval bounds (Gowal et al. 2018), beside accuracy under attack.

    Shown of networks that bounds prove something of at the audit's L∞ budget: those that were
    trained to be certified, as by `assay train --recipe certified`. An image that is certified and
    fooled all the same means that the bound or the attack is wrong: the section then fails, and
    says which.
    """

    texts: ClassVar[bool] = True
    """Of texts, as of what can only be queried, nothing is proved and nothing shown."""

    name: Literal["certificate"] = "certificate"
    """The section's name in configs."""

    def rests_on(self, evidence: Evidence) -> int:
        return len(evidence.attacked)

    def work(self, evidence: Evidence) -> tuple[Work, ...]:
        if evidence.config.norm != "linf" or not isinstance(evidence.model, Classifier):
            return ()
        return (Work("bounds", forward=BOUNDS * len(evidence.attacked)),)

    def measure(self, evidence: Evidence) -> Measured:
        config = evidence.config
        if not self.work(evidence):
            return Measured({})
        evidence.tick("certificate")
        n = len(evidence.attacked)
        armed = [at_budget(attack, config, config.eps) for attack in config.attacks]
        left = evidence.correct[:n].clone()
        for attack in armed:  # whatever was run already
            fooled = evidence.fooled(attack, run=False)
            left &= torch.ones(n, dtype=torch.bool) if fooled is None else ~fooled
        # What is misclassified or fooled cannot be certified: of it a few show that bounds hold.
        tried = left.clone()
        tried[(~left).nonzero()[:HELD_AGAINST, 0]] = True
        certified = evidence.certified(tried)
        if certified is None or not bool(certified.any()):
            return Measured({})
        survivors = evidence.correct[:n].clone()
        for attack in armed:
            fooled = evidence.fooled(attack)
            assert fooled is not None
            survivors &= ~fooled
        broken = certified & ~survivors
        if bool(broken.any()):
            raise AssayError(
                f"{int(broken.sum())} images are certified and fooled all the same, image "
                f"{int(broken.nonzero()[0])} for one: the bound or the attack is wrong. Please "
                "report it with the model"
            )
        left_over = stats.proportion(int(survivors.sum()), n, "images")
        proved = stats.proportion(int(certified.sum()), n, "images")
        at = budget(config.eps, "linf")
        return Measured(
            {self.name: _chapter(proved, left_over, at)},
            arrays={"certificate/certified": certified.numpy()},
        )


def _chapter(certified: stats.Estimate, left: stats.Estimate, at: str) -> Chapter:
    attacked = "attacked, the worst of all attacks"
    rows = tuple(
        (Cell(text=name), Cell(estimate=EstimateModel.model_validate(one, from_attributes=True)))
        for name, one in (("certified by interval bounds", certified), (attacked, left))
    )
    between = "The best attack there is would leave something between the two."
    if left.value == certified.value:
        between = "That is as many: no attack, however good, leaves fewer."
    return Chapter(
        title=f"At {at} {100 * certified.value:.1f} % are certified: nothing within it fools them",
        lead=f"The attacks left {100 * left.value:.1f} %. {between}",
        tables=(Table(title="Certified and attacked", columns=("accuracy", at), rows=rows),),
        part="robustness",
        name="Certificate",
    )
