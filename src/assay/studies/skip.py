"""Do skip connections undo the degradation of deep plain CNNs? (He et al. 2015, 2016)

He et al. call it degradation when a deeper network has a higher *training* error although its
gradients are healthy. The course's plain networks have neither normalisation nor a fitting
initialisation: what they show at [7,7] is mostly a gradient that vanished. `quick` therefore uses
batch norm and He initialisation; `paper` repeats the course.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, field_validator

from assay import stats
from assay.config import Number
from assay.data.augment import Augmentation, NoAugmentation
from assay.models import CNN
from assay.report import figures
from assay.report.result import Cell, Drawing, Table
from assay.runs.engine import Results
from assay.runs.entry import Result
from assay.runs.trial import Trial
from assay.studies.base import Cost, Findings, Study
from assay.studies.networks import TrainNetwork, expected_seconds, settings
from assay.train import SGD, OneCycle, Recipe

COURSE = {
    (False, 2): 0.68,
    (False, 5): 0.77,
    (False, 7): 0.75,
    (True, 2): 0.63,
    (True, 5): 0.79,
    (True, 7): 0.82,
}
"""The course's test accuracies: one seed, early stopping on the test set."""

KIND = {False: "plain", True: "skip"}


class Skip(Study):
    """Plain CNNs against CNNs with skip connections, at rising depth, over seeds."""

    NAME: ClassVar[str] = "skip"
    QUESTION: ClassVar[str] = "Do skip connections undo the degradation of deep plain CNNs?"
    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {
            "data": "digits",
            "seeds": 2,
            "depths": (1, 2, 3),
            "widths": (8, 16),
            "train_images": 1200,
            "test_images": 300,
            "recipe": {
                "epochs": 3,
                "batch_size": 50,
                "optimizer": {"name": "adamw", "lr": 1e-2},
                "schedule": {"name": "one_cycle"},
            },
        },
        "quick": {},
        "paper": {
            "norm": "none",
            "init": "default",
            "stem_stride": 1,
            "stage_stride": 1,
            "seeds": 1,
            "augmentation": {"name": "simple"},
            "recipe": {
                "epochs": 100,
                "batch_size": 64,
                "optimizer": {"name": "adam", "lr": 1e-3},
                "schedule": {"name": "constant"},
                "patience": 15,
            },
        },
    }

    depths: tuple[int, ...] = Field(default=(2, 5, 7), min_length=2)
    """Blocks in each of the two stages; 7 is the course's [7,7]. Rising."""
    widths: tuple[int, int] = (16, 32)
    """Channels of the two stages."""
    norm: Literal["none", "batch"] = "batch"
    """Normalisation after each convolution."""
    init: Literal["default", "he"] = "he"
    """Initial weights: PyTorch's own, or He et al. 2015."""
    stem_stride: int = Field(default=2, ge=1)
    """Stride of the first convolution, in pixels; 1 is the course's."""
    stage_stride: int = Field(default=2, ge=1)
    """Stride of the second stage's first block, in pixels; 1 is the course's."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout before the linear layer."""
    augmentation: Augmentation = NoAugmentation()
    """What is done to training images."""
    recipe: Recipe = Recipe(
        epochs=4,
        batch_size=128,
        optimizer=SGD(lr=0.2, momentum=0.9, nesterov=True, weight_decay=5e-4),
        schedule=OneCycle(),
    )
    """How every cell is trained."""
    train_images: int | None = None
    """How many training images are used; none: all."""
    test_images: int | None = None
    """How many test images are used; none: all."""
    delta: Number = Field(default=0.02, ge=0)
    """Smallest difference of accuracy that matters, as a fraction."""

    @field_validator("depths")
    @classmethod
    def _distinct(cls, depths: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(depths)) < len(depths):
            raise ValueError("every depth must be there once")
        return depths

    def cell(self, depth: int, skip: bool) -> TrainNetwork:
        """Return the training of one cell of the table."""
        return TrainNetwork(
            data=self.data,
            network=CNN(
                depths=(depth, depth),
                widths=self.widths,
                skip=skip,
                norm=self.norm,
                init=self.init,
                stem_stride=self.stem_stride,
                stage_stride=self.stage_stride,
                dropout=self.dropout,
            ),
            recipe=self.recipe.model_copy(update={"threads": self.threads}),
            augmentation=self.augmentation,
            train_images=self.train_images,
            test_images=self.test_images,
            gradient_norms=True,
        )

    def trial(self, depth: int, skip: bool, seed: int) -> Trial:
        """Return the trial of one cell with one seed."""
        return self.cell(depth, skip).trial(seed, self.device, name(skip, depth))

    def resolved(self) -> Self:
        made = super().resolved()
        deepest = made.cell(max(made.depths), skip=True)
        return made.model_copy(update={"recipe": deepest.settled(made.device)})

    def plan(self, done: Results) -> Sequence[Trial]:
        del done
        return [
            self.trial(depth, skip, seed)
            for seed in range(self.seeds)
            for depth in sorted(self.depths, reverse=True)  # the longest first
            for skip in (False, True)
        ]

    def cost(self, trial: Trial) -> Cost:
        return Cost(expected_seconds(settings(trial), trial.device), 2_000_000)

    def findings(self, done: Results) -> Findings:
        cells = {
            (skip, depth): [done.get(self.trial(depth, skip, seed)) for seed in range(self.seeds)]
            for skip in (False, True)
            for depth in self.depths
        }
        effects = self._effects(cells)
        return Findings(
            effects=effects,
            tables=(self._table(cells),),
            figures=tuple(self._figures(cells)),
            summary=self._summary(cells),
            notes=self._notes(),
        )

    # -- claims --------------------------------------------------------------------------------

    def _effects(self, cells: Cells) -> tuple[stats.Effect, ...]:
        low, high = min(self.depths), max(self.depths)
        middle = sorted(self.depths)[-2]

        def effect(
            code: str, text: str, a: tuple[bool, int], b: tuple[bool, int], metric: str
        ) -> stats.Effect:
            pairs = [
                (one, other)
                for one, other in zip(cells[a], cells[b], strict=True)
                if one is not None and other is not None
            ]
            whole = [p for p in pairs if not any(r.metrics["collapsed"] for r in p)]
            values = [one.metrics[metric] - other.metrics[metric] for one, other in whole]
            lost = {
                name(*key): sum(bool(r and r.metrics["collapsed"]) for r in cells[key])
                for key in (a, b)
            }
            return stats.Effect(
                code=code,
                text=text,
                delta=self.delta,
                values=values,
                floor_variance=_floor(whole, metric) if whole else None,
                collapsed={key: count for key, count in lost.items() if count},
            )

        return (
            effect(
                "skip.degrades",
                f"Plain networks degrade: from {_at(middle)} to {_at(high)} their training "
                "accuracy falls.",
                (False, middle),
                (False, high),
                "train_accuracy",
            ),
            effect(
                "skip.gains",
                f"Networks with skip connections gain test accuracy from {_at(low)} to "
                f"{_at(high)}.",
                (True, high),
                (True, low),
                "test_accuracy",
            ),
            effect(
                "skip.wins",
                f"At {_at(high)} a network with skip connections has a higher test accuracy than "
                "the plain one.",
                (True, high),
                (False, high),
                "test_accuracy",
            ),
        )

    # -- what the page shows -------------------------------------------------------------------

    def _table(self, cells: Cells) -> Table:
        rows = []
        best = (
            max(
                (_mean(results, "test_accuracy").value, key)
                for key, results in cells.items()
                if _kept(results)
            )[1]
            if any(_kept(results) for results in cells.values())
            else None
        )
        for key, results in cells.items():
            kept = _kept(results)
            collapsed = sum(bool(r and r.metrics["collapsed"]) for r in results)
            row: list[Any] = [name(*key)]
            for metric in ("test_accuracy", "train_accuracy", "train_loss"):
                unit = "number" if metric == "train_loss" else "fraction"
                mark = "best" if key == best and metric == "test_accuracy" else None
                row.append(
                    Cell(estimate=_mean(results, metric), unit=unit, mark=mark)
                    if kept
                    else Cell(text="all collapsed" if collapsed else "no result")
                )
            row.append(f"{collapsed} of {sum(r is not None for r in results)}")
            row.append(f"{COURSE[key]:.0%}" if key in COURSE and self.data == "cifar10" else "")
            rows.append(tuple(row))
        return Table(
            title="The six cells" if len(rows) == 6 else "The cells",
            columns=(
                "network",
                "test accuracy",
                "training accuracy",
                "training loss",
                "collapsed",
                "course",
            ),
            rows=tuple(rows),
            caption="Mean over seeds with its 95 % interval; collapsed runs are counted and left "
            "out of the means. Training accuracy and loss are those of the final network in eval "
            "mode. The course's figures are from one seed, chosen on the test set.",
        )

    def _figures(self, cells: Cells) -> Sequence[Drawing]:
        validation, training, norms = [], [], []
        for (skip, depth), results in cells.items():
            kept = [r for r in results if r is not None and len(r.arrays["train_loss"])]
            if not kept:
                continue
            style = {"colour": sorted(self.depths).index(depth), "dash": 0 if skip else 1}
            title = name(skip, depth)
            validation.append(_band(title, [r.arrays["val_accuracy"] for r in kept], 1, style))
            training.append(_band(title, [r.arrays["train_loss"] for r in kept], 1, style))
            first = [r.arrays["gradient_norms"][0] for r in kept]
            norms.append(_band(title, first, 1, style))
        return (
            Drawing(
                title="Validation accuracy by epoch",
                caption="Mean over seeds, with the range from the least to the greatest seed. "
                "Solid: skip connections. Dashed: plain.",
                svg=figures.inline_svg(figures.learning_curves(validation)),
            ),
            Drawing(
                title="Training loss by epoch",
                caption="Degradation is about this: a deeper plain network that does not even fit "
                "its training data (He et al. 2015).",
                svg=figures.inline_svg(
                    figures.learning_curves(training, y_label="training loss", fraction=False)
                ),
            ),
            Drawing(
                title="Gradient norm by layer, before the first step",
                caption="From the first convolution (left) to the linear layer (right), on the "
                "first batch. A line that falls to the left is a gradient that vanishes.",
                svg=figures.inline_svg(figures.gradient_norms(norms)),
            ),
        )

    def _summary(self, cells: Cells) -> str:
        high = max(self.depths)
        said = [
            f"{name(skip, high)} reaches {_mean(cells[skip, high], 'test_accuracy').percent()}"
            if _kept(cells[skip, high])
            else f"{name(skip, high)} has no run that trained"
            for skip in (False, True)
        ]
        return "; ".join(said) + " test accuracy."

    def _notes(self) -> tuple[str, ...]:
        fair = self.norm == "batch" and self.init == "he"
        first = (
            "Batch norm and He initialisation keep gradients healthy, so a difference between "
            "plain and skip is not a vanished gradient. The course had neither."
            if fair
            else "As the course did it: without batch norm and with PyTorch's initialisation, a "
            "deep plain network fails mostly because its gradient vanishes, which is not what He "
            "et al. 2015 call degradation. Preset quick tells the two apart."
        )
        second = (
            f"The first convolution has stride {self.stem_stride} and the second stage begins with "
            f"stride {self.stage_stride}, so that every cell trains in minutes: a few points less "
            "accurate than at full size, where the course worked."
            if self.stem_stride * self.stage_stride > 1
            else "The stages see images at full size, as in the course."
        )
        third = (
            "A validation set is held out of the training data; test images are used once. The "
            "course chose its epoch on the test set."
        )
        return (first, second, third)


Cells = Mapping[tuple[bool, int], Sequence[Result | None]]
"""Results over seeds by (skip, depth); None where a trial failed."""


def _at(depth: int) -> str:
    return f"[{depth},{depth}]"


def name(skip: bool, depth: int) -> str:
    """Return what a cell is called: "skip [7,7]"."""
    return f"{KIND[skip]} {_at(depth)}"


def _kept(results: Sequence[Result | None]) -> list[Result]:
    return [r for r in results if r is not None and not r.metrics["collapsed"]]


def _mean(results: Sequence[Result | None], metric: str) -> stats.Estimate:
    kept = _kept(results)
    floor = None
    if kept and metric.endswith("_accuracy"):
        floor = _variance(kept, metric)
    found = stats.mean_interval([r.metrics[metric] for r in kept], "seeds", floor_variance=floor)
    if not metric.endswith("_accuracy"):
        return found
    return replace(found, low=max(0.0, found.low), high=min(1.0, found.high))


def _variance(results: Sequence[Result], metric: str) -> float:
    """Return the binomial variance of an accuracy: seeds cannot agree better than images allow."""
    n = int(results[0].metrics["n_" + metric.removesuffix("_accuracy")])
    return stats.binomial_variance(float(np.mean([r.metrics[metric] for r in results])), n)


def _floor(pairs: Sequence[tuple[Result, Result]], metric: str) -> float:
    return sum(_variance([pair[i] for pair in pairs], metric) for i in (0, 1))


def _band(
    label: str, curves: Sequence[np.ndarray[Any, Any]], start: int, style: Mapping[str, int]
) -> figures.Series:
    """Return the mean of curves over seeds with their range; a curve that ended early is held."""
    length = max(len(curve) for curve in curves)
    held = np.array([np.pad(c, (0, length - len(c)), mode="edge") for c in curves])
    x = list(range(start, start + length))
    mean, low, high = held.mean(0), held.min(0), held.max(0)
    return figures.Series(label, x, list(mean), list(low), list(high), **style)
