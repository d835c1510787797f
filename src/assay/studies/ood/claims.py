"""What the study `ood` claims. Each δ was set before anything was measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from assay import stats
from assay.report.numerals import budget
from assay.runs.entry import Result
from assay.studies.cells import Cells
from assay.studies.ood.presets import LOGIT_NORM, NATURAL
from assay.tasks.outside import HELD_OUT

if TYPE_CHECKING:
    from assay.studies.ood.study import OOD

WEAKER = {"odin": "ODIN", "dice": "DICE", "ash": "ASH", "gradnorm": "GradNorm"}
"""Detectors that OpenOOD v1.5 found no better than max-softmax on near outliers."""
STRONGER = ("knn", "relative-mahalanobis", "gen")
POINT = "A point of AUROC is what papers on detectors report as a gain."

Value = Callable[[Result], float]


def auroc(detector: str, kind: str) -> Value:
    """Return what reads an AUROC of a result, NaN where the detector could not be used."""
    return lambda run: float(run.metrics["auroc"].get(detector, {}).get(kind, np.nan))


def gain(a: str, b: str, *kinds: str) -> Value:
    """Return by how much detector `a` is better than `b`, on the mean over kinds."""

    def value(run: Result) -> float:
        gains = [auroc(a, kind)(run) - auroc(b, kind)(run) for kind in kinds]
        return float(np.mean(gains))

    return value


def called(kind: str) -> str:
    """Return what a kind of outliers is called in a sentence."""
    return "held-out classes" if kind == HELD_OUT else kind.replace("-", " ")


def effects(study: OOD, cells: Cells) -> tuple[stats.Effect, ...]:
    """Return what is claimed, so far as the detectors that it is about are there."""
    names, near = {detector.name for detector in study.detectors}, called(study.near)
    runs = cells.kept(NATURAL)
    if runs:  # of what no network could be scored by, nothing is claimed: the page says why
        names &= {name for run in runs for name in run.metrics["detectors"]}
    found = list(_of_the_course(cells)) if study.reconstructing() else []
    if {"reconstruction", "max-logit"} <= names:
        found.append(
            _natural(
                cells,
                "ood.near",
                f"On {near} max-logit is better than reconstruction by an autoencoder.",
                gain("max-logit", "reconstruction", study.near),
                delta=study.delta,
                why=POINT,
            )
        )
    if {"reconstruction", "complexity"} <= names:
        found.append(
            _natural(
                cells,
                "ood.complexity",
                "The length of an image as a PNG, which has seen no training image, detects as "
                "well as reconstruction: no more than two points worse, on the mean over all kinds "
                "but corruptions.",
                gain("complexity", "reconstruction", *study.uncorrupted),
                delta=-0.02,
                why="A model that is trained should be worth two points more than a file's size.",
            )
        )
    if "max-softmax" in names:
        found += _of_the_field(study, cells, names, near)
    if study.attacked:
        found.append(
            cells.effect(
                "ood.evaded",
                f"PGD of {budget(study.eps, 'linf')} that knows the detector takes the best of "
                f"{', '.join(study.attacked)} below an AUROC of 0.5 on {near}.",
                delta=0.0,
                of=("attack",),
                value=lambda run: (
                    0.5 - max(own[study.near] for own in run.metrics["attacked"].values())
                ),
                why_delta="Below a half the score is worse than a coin: the attacker's images look "
                "more normal than test images do.",
            )
        )
    return tuple(found)


def _of_the_course(cells: Cells) -> list[stats.Effect]:
    """Return what the course found on noise, with its preprocessing and with a matched one."""

    def better(how: str) -> Value:
        return lambda run: float(
            run.metrics["course"][f"reconstruction, {how}"]
            - run.metrics["course"][f"max-logit, {how}"]
        )

    return [
        _natural(
            cells,
            f"ood.{how}",
            f"{said}, reconstruction tells fake data apart better than max-logit.",
            better(how),
            delta=0.05,
            why="The course read a gap of 35 points; less than five would have passed unremarked.",
        )
        for how, said in (
            ("course", "As the course did it, with images scaled as neither was trained on"),
            ("matched", "With images scaled as each was trained on"),
        )
    ]


def _of_the_field(study: OOD, cells: Cells, names: set[str], near: str) -> list[stats.Effect]:
    """Return what the field's benchmarks found, on the nearest outliers."""
    found = []
    there = [name for name in STRONGER if name in names]
    if there:
        gains = {name: gain(name, "max-softmax", study.near) for name in there}
        best = max(there, key=lambda name: _mean(cells, gains[name]))
        found.append(
            replace(
                _natural(
                    cells,
                    "ood.best",
                    f"The best of {', '.join(there)} beats max-softmax on {near}.",
                    gains[best],
                    delta=study.delta,
                    note=f"The best by its mean is {best}; its interval allows for the choice.",
                    why=POINT,
                ),
                chosen_among=len(there),
            )
        )
    if study.logit_norm:
        score = auroc("max-softmax", study.near)
        found.append(
            cells.effect(
                "ood.logit-norm",
                f"Trained by LogitNorm, networks tell {near} apart better by max-softmax than "
                "trained by cross-entropy.",
                delta=study.delta,
                of=(LOGIT_NORM, NATURAL),
                value=lambda new, old: score(new) - score(old),
                why_delta="It is one line of a recipe, and a point is what a detector gains.",
            )
        )
    found += [
        _natural(
            cells,
            f"ood.{name}",
            f"{called} is not a point better than max-softmax on {near}.",
            gain("max-softmax", name, study.near),
            delta=-study.delta,
            why="A detector that costs more than max-softmax should gain a point.",
        )
        for name, called in WEAKER.items()
        if name in names
    ]
    return found


def _mean(cells: Cells, value: Value) -> float:
    values = [value(run) for run in cells.kept(NATURAL)]
    return float(np.nanmean(values)) if np.isfinite(values).any() else -np.inf


def _natural(
    cells: Cells, code: str, text: str, value: Value, *, delta: float, why: str, note: str = ""
) -> stats.Effect:
    """Return an effect of the networks trained by cross-entropy, one value each."""
    return cells.effect(
        code, text, delta=delta, of=(NATURAL,), value=value, note=note, why_delta=why
    )
