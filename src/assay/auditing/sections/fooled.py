"""Three images that fool the model, for those who look at one picture only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from assay.attacks.result import AttackResult
from assay.core.classifier import Classifier
from assay.report.numerals import budget, norm_name
from assay.report.pictures import fit_amplification, gallery_items
from assay.report.record import NotRun
from assay.report.schema import Gallery

if TYPE_CHECKING:
    from assay.auditing.evidence import Evidence

SHOWN = 3


def fooled(name: str, found: AttackResult, evidence: Evidence) -> Gallery | NotRun:
    """Return the first images that an attack fooled, of different classes where there are some.

    A network is attacked once more, with every step taken: an image that leaves at its first
    success lies at the decision boundary, which is not what an attacker would send.

    Args:
        name: what the report calls the attack.
        found: what it came to on the attacked images, at the audit's eps.
    """
    config = evidence.config
    rows = _of_different_classes(found)
    if not len(rows):
        at = f"{norm_name(config.norm)} {budget(config.eps, config.norm)}"
        return NotRun(not_run=f"{name} fools the model on no image at {at}")
    ids = evidence.attacked[rows]
    x, moved, after = evidence.x[ids], found.adversarial[rows], found.adversarial_prediction[rows]
    if isinstance(evidence.model, Classifier):
        again = evidence.run(found.attack, ids, "never")
        if bool(again.fooled.all()):
            moved, after = again.adversarial, again.adversarial_prediction
    before = evidence.predictions[ids]
    sure: list[tuple[float | None, float | None]] = [(None, None)] * len(ids)
    if isinstance(evidence.model, Classifier):
        attacked = evidence.model.query(moved).softmax(1).cpu()
        clean = evidence.probabilities[ids]
        sure = [(float(clean[i, before[i]]), float(attacked[i, after[i]])) for i in range(len(ids))]
    names = [*evidence.classes, "no answer"]  # which is -1
    amplification = fit_amplification(x.numpy(), moved.numpy())
    said = [
        {
            "id": int(ids[i]),
            "label": names[int(evidence.y[ids[i]])],
            "prediction": names[int(before[i])],
            "confidence": sure[i][0],
            "adversarial_prediction": names[int(after[i])],
            "adversarial_confidence": sure[i][1],
            "fooled": True,
        }
        for i in range(len(ids))
    ]
    return Gallery(
        attack=name,
        norm=config.norm,
        eps=config.eps,
        amplification=amplification,
        chosen="the first images that it fools, of different classes where there are some",
        items=gallery_items(x.numpy(), moved.numpy(), said, amplification=amplification),
    )


def _of_different_classes(found: AttackResult) -> Tensor:
    """Return rows of fooled images: int64, at most `SHOWN`; those of a new class come first."""
    rows = found.success.nonzero()[:, 0].tolist()
    seen: set[int] = set()
    first: list[int] = []
    rest: list[int] = []
    for row in rows:
        label = int(found.labels[row])
        (rest if label in seen else first).append(row)
        seen.add(label)
    return torch.tensor((first + rest)[:SHOWN], dtype=torch.int64)
