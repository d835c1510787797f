"""Where the model looked, and where once it is attacked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from assay import stats
from assay.attacks.methods.noise import noisy
from assay.attacks.result import AttackResult
from assay.auditing.attacking import at_budget, label
from assay.auditing.checks import Criterion, Value, Words
from assay.auditing.cost import Work, attack_work
from assay.auditing.section import Measured, Section
from assay.core.attribution import Attribution
from assay.core.oracle import Access
from assay.core.random import Stream
from assay.errors import AssayError, told
from assay.explain.shift import (
    HARDLY,
    SaliencyShift,
    most_and_least,
    of_mates,
    saliency_shift,
)
from assay.explain.together import settled
from assay.report.pictures import fit_amplification, gallery_items
from assay.report.record import NotRun
from assay.report.schema import Attention, Gallery, Measure

if TYPE_CHECKING:
    from assay.auditing.config import AuditConfig
    from assay.auditing.evidence import Evidence

MAPPED = 128
"""Pairs of saliency maps that the measures of shift rest on."""

READINGS = (
    ("overlap", "overlap of the top 20 %", "1: did not move, 0: looks elsewhere, 0.11: chance"),
    ("correlation", "rank correlation", "Spearman; 1: did not move, 0: unrelated"),
    ("distance", "shift of the centre", "pixels; 0: did not move"),
    (
        "entropy",
        "change of entropy",
        "of the greatest; above 0: scatters, below: concentrates",
    ),
    ("gini", "change of the Gini coefficient", "above 0: concentrates, below: scatters"),
    (
        "clinging",
        "clings to the perturbation",
        "its energy under the map, over that everywhere; above 0: the map went where it is",
    ),
    ("inside", "share inside the object", "by how much it rose; below 0: the map left the object"),
)
WITHOUT_CONTROL = ("entropy", "gini", "clinging", "inside")
"""Measures that say nothing of another image of the class, the same-class control: the changes from
one image to the next add up to 0 once round, and the others are about this image's perturbation and
object."""
LIKELY = 0.85
"""The share that is likely to be spent of what attack and maps take at most (benchmarks/audit.py).
"""
PER_PAIR = 2e-3
"""Seconds that it takes to compare a pair of maps by every measure, about."""


def mapped(evidence: Evidence) -> int:
    """Return how many images are attacked and explained, at most."""
    return max(evidence.config.gallery, MAPPED)


class Saliency(Section):
    """Images that are classified correctly and their saliency maps, before and after the last of
    the attacks: how far the maps move, and galleries of those that moved most and least."""

    needs: ClassVar[Access] = "gradient"
    chapters: ClassVar[tuple[str, ...]] = ("attention", "gallery", "hardly")
    fewest: ClassVar[int] = 40

    name: Literal["saliency"] = "saliency"
    """The section's name in configs."""

    def criteria(self, config: AuditConfig) -> tuple[Criterion, ...]:
        return (
            Criterion(
                "EXP-001",
                "saliency maps that explain nothing",
                "Are its saliency maps for the true class seldom empty?",
                config.thresholds.explanation,
                "at most",
                advice="do not rest on these maps: choose another explainer, or another layer of "
                "it (--explainer.name, --explainer.layer)",
                words=Words(
                    "",
                    "with saliency maps that are often empty",
                    "its saliency maps are seldom empty",
                    "saliency",
                ),
                more=f"--attacked; beyond {MAPPED} also --gallery",
            ),
        )

    def rests_on(self, evidence: Evidence) -> int:
        return evidence.first(min(evidence.config.attacked, mapped(evidence)))

    def work(self, evidence: Evidence) -> tuple[Work, ...]:
        rows = evidence.attacked
        n = min(int(evidence.correct[rows].sum()), mapped(evidence))
        attacked = attack_work(evidence.config.attacks[-1], n)
        forward, gradient = attacked.forward + n, attacked.gradient + 3 * n
        return (Work("saliency", forward, gradient, PER_PAIR * n, likely=LIKELY),)

    def measure(self, evidence: Evidence) -> Measured:
        evidence.tick("gallery and saliency")
        shown = show(evidence)
        moved, hardly = galleries(shown, evidence)
        arrays = {
            "gallery/ids": shown.ids.numpy(),
            "gallery/adversarial": shown.result.adversarial.cpu().numpy(),
        }
        maps = shown.maps
        if maps is not None:
            for when in ("before", "after", "noise"):
                values = getattr(maps, when).values.cpu().numpy()
                arrays[f"gallery/map_{when}"] = values.astype(np.float32)
        return Measured(
            {
                "attention": attention(maps, evidence.config.explainer.name)
                if maps is not None
                else NotRun(not_run=shown.why_no_maps),
                "gallery": moved,
                "hardly": hardly,
            },
            {"EXP-001": empty_maps(maps) if maps else NotRun(not_run=shown.why_no_maps)},
            arrays,
        )


@dataclass(frozen=True)
class Maps:
    """The maps of the true class, of images, attacked images and images with as much noise.

    Attributes:
        before, after, noise: (N, H, W) each.
        shift: from image to attacked image.
        null: from image to the image with noise.
        mates: from image to another image of its class.
    """

    before: Attribution
    after: Attribution
    noise: Attribution
    shift: SaliencyShift
    null: SaliencyShift
    mates: SaliencyShift


@dataclass(frozen=True)
class Shown:
    """Images that are classified correctly, under the last of the attacks with every step taken.

    Attributes:
        ids: (N,) which images.
        result: what the attack came to.
        maps: saliency maps; None where the explainer does not work on it.
        why_no_maps: why it does not.
    """

    ids: Tensor
    result: AttackResult
    maps: Maps | None
    why_no_maps: str = ""


def show(evidence: Evidence) -> Shown:
    """Attack and explain images that are classified correctly, all for the true class.

    Every step is taken (stop="never"): images that stop early, at the first success, all lie at the
    decision boundary, which is not what an attacker would send.

    Raises:
        AssayError: no image is classified correctly, or the attack cannot be run.
    """
    config, x, y, masks = evidence.config, evidence.x, evidence.y, evidence.masks
    rows = evidence.attacked
    ids = rows[evidence.correct[rows]][: mapped(evidence)]
    if len(ids) == 0:
        raise AssayError("no image is classified correctly, so there is nothing to attack")
    attack = at_budget(config.attacks[-1], config, config.eps)
    result = evidence.run(attack, ids, "never")
    draws = Stream(config.seed).child("audit", "attention", "noise").rows(ids)
    noise = noisy(attack.threat, x[ids], draws)
    try:
        clf = evidence.classifier
        explainer = settled({"": config.explainer}, clf, x[ids])[""].using(evidence.copies)
        before, after, null = (
            explainer(clf, images, targets=y[ids]) for images in (x[ids], result.adversarial, noise)
        )
    except Exception as error:  # whatever a user's model, or explainer, may raise
        return Shown(ids, result, None, told(error))
    objects = None if masks is None else masks[ids].numpy()
    shift, beside = (
        saliency_shift(before, maps, perturbation=(images - x[ids]).numpy(), masks=objects)
        for maps, images in ((after, result.adversarial), (null, noise))
    )
    return Shown(
        ids,
        result,
        Maps(
            before,
            after,
            null,
            shift=shift,
            null=beside,
            mates=saliency_shift(before, of_mates(before, y[ids].numpy())),
        ),
    )


def galleries(shown: Shown, evidence: Evidence) -> tuple[Gallery | NotRun, Gallery | NotRun]:
    """Return two galleries: where saliency moved most, and where it hardly moved though the
    answer changed. Without maps the first one holds the first images."""
    config = evidence.config
    if config.gallery == 0:
        none = NotRun(not_run="no gallery was requested")
        return none, none
    if shown.maps is None:
        rows = torch.arange(min(config.gallery, len(shown.ids)))
        chosen = "the first images that the model classifies correctly"
        return _gallery(shown, rows, evidence, chosen), NotRun(not_run=shown.why_no_maps)
    fooled = shown.result.success.numpy()
    maps = shown.maps
    most, least = most_and_least(maps.shift.overlap, fooled, config.gallery)
    hardly: Gallery | NotRun
    least = least[maps.shift.overlap[least] >= HARDLY]
    if len(least):
        chosen = (
            f"of the fooled images those whose maps overlap most, by {100 * HARDLY:.0f} % at least"
        )
        hardly = _gallery(shown, torch.from_numpy(least).long(), evidence, chosen)
    else:
        hardly = NotRun(
            not_run=f"in no image that was fooled do the maps overlap by {100 * HARDLY:.0f} %"
        )
    chosen = "correctly classified images whose maps overlap least, the furthest moved first"
    if not len(most):
        return NotRun(not_run="no image has a map before and after that could be compared"), hardly
    return _gallery(shown, torch.from_numpy(most).long(), evidence, chosen), hardly


def _gallery(
    shown: Shown,
    rows: Tensor,
    evidence: Evidence,
    chosen: str,
) -> Gallery:
    """Return the given rows of what is shown: images, attacked images, differences and maps."""
    found, maps = shown.result, shown.maps
    config, classes = evidence.config, evidence.classes
    originals, moved = evidence.x[shown.ids[rows]], found.adversarial[rows]
    clean = evidence.probabilities[shown.ids[rows]]
    attacked = found.oracle.query(moved).softmax(1)
    said = []
    names = [*classes, "no answer"]  # which is -1
    for i, row in enumerate(rows.tolist()):
        before, after = int(found.clean_prediction[row]), int(found.adversarial_prediction[row])
        said.append(
            {
                "id": int(shown.ids[row]),
                "label": classes[int(found.labels[row])],
                "prediction": names[before],
                "confidence": float(clean[i, before]) if before >= 0 else None,
                "adversarial_prediction": names[after],
                "adversarial_confidence": float(attacked[i, after]) if after >= 0 else None,
                "fooled": bool(found.success[row]),
                "distance": float(found.distance[row]),
                "overlap": None if maps is None else float(maps.shift.overlap[row]),
            }
        )
    amplification = fit_amplification(originals.numpy(), moved.numpy())
    return Gallery(
        attack=label(found.attack),
        norm=config.norm,
        eps=config.eps,
        amplification=amplification,
        chosen=chosen,
        arrays="arrays.npz",
        items=gallery_items(
            originals.numpy(),
            moved.numpy(),
            said,
            amplification=amplification,
            maps_before=None if maps is None else maps.before.values[rows].numpy(),
            maps_after=None if maps is None else maps.after.values[rows].numpy(),
        ),
    )


def attention(maps: Maps, method: str) -> Attention:
    """How far the model's saliency moved, as numbers, beside the noise baseline and the
    same-class control; over maps that are not empty."""
    return Attention(
        method=method,
        layer=maps.before.layer,
        n=int((~maps.shift.empty).sum()),
        empty_before=int(maps.before.empty.sum()),
        empty_after=int(maps.after.empty.sum()),
        measures=tuple(
            Measure(
                name=name,
                estimate=_mean(getattr(maps.shift, measure)),
                noise=_mean(getattr(maps.null, measure)),
                beyond=_mean(getattr(maps.shift, measure) - getattr(maps.null, measure)),
                mate=None if measure in WITHOUT_CONTROL else _mean(getattr(maps.mates, measure)),
                reading=reading,
            )
            for measure, name, reading in READINGS
            if np.isfinite(getattr(maps.shift, measure)).any()
        ),
    )


def empty_maps(maps: Maps) -> Value:
    """Return the share of maps of clean images that explain nothing."""
    empty = maps.before.empty
    return Value(stats.proportion(int(empty.sum()), len(empty), "maps"))


def _mean(values: NDArray[Any]) -> Any:
    return stats.mean_interval(values[np.isfinite(values)], "pairs of maps")
