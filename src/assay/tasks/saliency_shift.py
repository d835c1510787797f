"""The trial that explains a trained network before and after an attack."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, field_validator

from assay import stats
from assay.attacks.base import Attack
from assay.attacks.losses import margin
from assay.attacks.methods.noise import noisy
from assay.attacks.methods.pgd import PGD
from assay.attacks.registry import AnyAttack
from assay.attacks.runner import run
from assay.config import Config
from assay.core.fast import versions
from assay.core.random import Stream
from assay.errors import AssayError
from assay.explain.cam import GradCAM
from assay.explain.registry import AnyExplainer
from assay.explain.shift import (
    MEASURES,
    SaliencyShift,
    most_and_least,
    of_mates,
)
from assay.explain.shift import saliency_shift as shift_between
from assay.runs.trial import Outcome, Trial
from assay.runs.worker import Workspace
from assay.tasks.attack import kinds, on_network, subject
from assay.train.precision import computing

TASK = "saliency-shift"

PAIRS = ("attacked", "noise", "mate", "predicted")
"""What the map of an image is compared with: its own when attacked; its own under noise of the
budget's size (the noise baseline); that of another image of its class (the same-class control); its
own when attacked, but for the class that the network then predicts."""


SHOWN_AS = ("moved most", "hardly moved", "median", "drawn at random")
"""Why an image is kept: its saliency moved most; it was fooled though its saliency hardly moved;
half of the others moved more; or it was drawn at random, the same for every attack on a network."""


class AttendNetwork(Config):
    """An attack on a trained network, and how the network is explained before and after."""

    VERSION = 2

    attack: AnyAttack = PGD()
    """The method; it makes all its steps."""
    explainer: AnyExplainer = GradCAM()
    """How the network is explained."""
    images: int = Field(default=300, ge=10)
    """How many of the network's test images: a stable random subset."""
    images_by_seed: bool | None = None
    """Each seed draws its own, so that seeds are a sample of images too; none: the same for all."""
    kept: int = Field(default=8, ge=1)
    """How many images to keep of each kind of `SHOWN_AS`."""
    target: int | None = Field(default=None, ge=0, exclude_if=lambda target: target is None)
    """The class that the attack leads to, as the course's did; images of that class are left out.
    None: away from the true class."""

    @field_validator("attack")
    @classmethod
    def _has_a_budget(cls, attack: Attack) -> Attack:
        if not attack.threat.limited:
            raise ValueError(f"{attack.name} has no budget, so there is no noise of its size")
        return attack

    def trials(self, needs: Iterable[Trial], label: str) -> list[Trial]:
        """Return the trials of this attack on the networks that `needs` train, each with the
        network's seed, device and threads."""
        used = (type(self), *kinds(self.attack), type(self.explainer))
        known = {kind.__name__: kind.VERSION for kind in used} | versions(self.explainer)
        return [on_network(TASK, self, (need,), known, label) for need in needs]


def saliency_shift(trial: Trial, work: Workspace) -> Outcome:
    """Attack the network that the trial needs on a part of its test images, and measure how far its
    saliency map moved on those that it classifies correctly.

    Metrics: for each of `PAIRS` the means of `MEASURES` (the explained class is the true one on
    both images, but in "predicted"), over pairs of maps of which neither is empty; their number;
    the share that was fooled; `gap`, by how much more of the top fifth is lost on fooled images
    than on others at equal clean margin, and its weight. Arrays: of all
    images their id in the whole test set, success and correct; of those classified correctly, whose
    ids are `ids`, every measure; pictures of a few.

    Raises:
        AssayError: for data that has changed since the network was planned, or a network that
            classifies none of the images correctly.
    """
    config = AttendNetwork.parse(trial.config, where="trial")
    classifier, part = subject(trial, work, config.images, config.images_by_seed)
    if config.target is not None:
        part = part.subset(part.labels != config.target)
    ids, x, y = next(part.batches(len(part)))
    x = x.to(trial.device)
    with computing(trial.threads):
        work.progress(0.0, f"{config.attack.name} on {len(x)} images")
        result = run(
            config.attack,
            classifier,
            x,
            y,
            targets=config.target,
            stop="never",
            seed=trial.seed,
            ids=ids,
        )
        rows = result.correct.cpu().nonzero()[:, 0]
        if not len(rows):
            raise AssayError(f"the network classifies none of {len(x)} images correctly")
        ids, x, y = ids[rows], x[rows], y[rows]
        attacked, predicted = result.adversarial[rows], result.adversarial_prediction[rows].cpu()
        draws = Stream(trial.seed).child("attention", "noise").rows(ids).to(trial.device)
        noise = noisy(config.attack.threat, x, draws)
        work.progress(0.7, f"{config.explainer.name} on {len(x)} images")
        maps = {
            "clean": config.explainer(classifier, x, targets=y),
            "attacked": config.explainer(classifier, attacked, targets=y),
            "noise": config.explainer(classifier, noise, targets=y),
            "predicted": config.explainer(classifier, attacked, targets=predicted.clamp_min(0)),
        }
        before, after = (classifier.query(z).cpu() for z in (x, attacked))
    masks = None if part.masks is None else part.masks[rows].numpy()
    moved = {"attacked": attacked - x, "noise": noise - x, "predicted": attacked - x}
    shifts = {"mate": shift_between(maps["clean"], of_mates(maps["clean"], y.numpy()))}
    for name, change in moved.items():
        perturbation = change.cpu().numpy()
        shifts[name] = shift_between(
            maps["clean"], maps[name], perturbation=perturbation, masks=masks
        )
    fooled = result.success[rows].cpu().numpy()
    lead = -margin(before, y).numpy()
    gap, weight = stats.stratified_difference(1 - shifts["attacked"].overlap, fooled, lead)
    metrics: dict[str, Any] = {
        "success_share": float(fooled.mean()),
        "n_success": len(rows),
        "gap": gap if weight else None,
        "gap_weight": weight,
        "layer": maps["clean"].layer,
        "collapsed": work.needs[0].metrics["collapsed"],
        **{f"{name}_empty": int(found.empty.sum()) for name, found in maps.items()},
        **means(shifts),
    }
    arrays = {
        "image_ids": part.ids.numpy(),
        "success": result.success.cpu().numpy(),
        "correct": result.correct.cpu().numpy(),
        "ids": ids.numpy(),
        "labels": y.numpy(),
        "fooled": fooled,
        "lead": lead,
        **{
            f"{name}_{measure}": getattr(shift, measure).astype(np.float32)
            for name, shift in shifts.items()
            for measure in MEASURES
        },
    }
    kinds_of = chosen(shifts["attacked"].overlap, fooled, config.kept, trial.seed)
    shown = torch.from_numpy(np.concatenate(kinds_of))
    arrays |= {
        "shown": shown.numpy(),
        "shown_as": np.repeat(np.arange(len(SHOWN_AS)), [len(kind) for kind in kinds_of]),
        "shown_before": before[shown].softmax(1).numpy(),
        "shown_after": after[shown].softmax(1).numpy(),
    }
    pictures = {
        "image": x,
        "attacked": attacked,
        "map_before": maps["clean"].values,
        "map_after": maps["attacked"].values,
    }
    on = shown.to(trial.device)
    arrays |= {f"shown_{name}": held[on].cpu().numpy() for name, held in pictures.items()}
    return Outcome(metrics, arrays)


def chosen(
    overlap: NDArray[np.float64], fooled: NDArray[np.bool_], count: int, seed: int
) -> tuple[NDArray[np.intp], ...]:
    """Return the rows that are kept, at most `count` for each of `SHOWN_AS`; those drawn at random
    depend on nothing but how many there are, and the seed."""
    order = np.argsort(overlap, kind="stable")
    order = order[np.isfinite(overlap[order])]
    start = max(0, (len(order) - count + 1) // 2)
    drawn = np.random.default_rng(seed).permutation(len(overlap))[:count]
    most, least = most_and_least(overlap, fooled, count)
    return most, least, order[start : start + count], drawn


def means(shifts: dict[str, SaliencyShift]) -> dict[str, float | int]:
    """Return the mean of every measure that there is, over the pairs that have it, and how many
    pairs of maps there are."""
    found: dict[str, float | int] = {}
    for name, shift in shifts.items():
        found[f"n_{name}"] = int((~shift.empty).sum())
        for measure in MEASURES:
            values = getattr(shift, measure)
            known = values[np.isfinite(values)]
            if len(known):
                found[f"{name}_{measure}"] = float(known.mean())
    return found
