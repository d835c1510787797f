"""Do skip connections undo the degradation of deep plain CNNs? (He et al. 2015, 2016)

He et al. call it degradation when a deeper network has a higher *training* error although its
gradients are healthy. The course's plain networks have neither normalisation nor a fitting
initialisation: what they show at [7,7] is mostly a gradient that vanished. The cells of `quick`
therefore have batch norm and He initialisation; `full` adds the bare ones, and what each of the two
cures does alone; `course` trains at the course's resolution, each cell at its own rate; `paper`
repeats the course.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from assay import stats
from assay.config import Number
from assay.data.augment import Augmentation, NoAugmentation
from assay.models import CNN
from assay.report.result import Drawing, StudyResult
from assay.runs.results import Results
from assay.runs.trial import Cost, Trial
from assay.studies.base import Findings
from assay.studies.cell_study import CellStudy
from assay.studies.cells import Cells
from assay.studies.skip import page
from assay.studies.skip.networks import BARE, HE_ONLY, NORM_ONLY, at, name
from assay.tasks.loss_surface import TASK as SURFACE
from assay.tasks.loss_surface import SurfaceOf
from assay.tasks.train import TrainNetwork, settings
from assay.tasks.train_time import expected_seconds
from assay.train import SGD, Adam, OneCycle, Recipe, Watch
from assay.train.recipe import Optimizer


class Skip(CellStudy):
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
            "watch": {"every": 12, "images": 200},
            "surface": {"images": 100, "size": 5},
            "recipe": {
                "epochs": 3,
                "batch_size": 50,
                "optimizer": {"name": "adamw", "lr": 1e-2},
                "schedule": {"name": "one_cycle"},
            },
        },
        "quick": {},
        "full": {"bare": (2, 5, 7), "cures": True},
        "course": {
            "seeds": 5,
            "stem_stride": 1,
            "augmentation": {"name": "crop-flip"},
            "rates": {"rates": (0.05, 0.15, 0.45), "epochs": 3},
            "watch": {"every": 175, "images": 1000},
            "recipe": {
                "epochs": 10,
                "batch_size": 128,
                "optimizer": {
                    "name": "sgd",
                    "lr": 0.15,
                    "momentum": 0.9,
                    "nesterov": True,
                    "weight_decay": 5e-4,
                },
                "schedule": {"name": "one_cycle"},
                "precision": "bfloat16",
            },
        },
        "paper": {
            "norm": "none",
            "init": "default",
            "stem_stride": 1,
            "stage_stride": 1,
            "seeds": 1,
            "augmentation": {"name": "simple"},
            "watch": {"every": 700},
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
    bare: tuple[int, ...] = ()
    """Depths that are also trained as the course did: no batch norm, PyTorch's initialisation."""
    bare_optimizer: Optimizer = Adam(lr=1e-3)
    """What trains the cells without batch norm, with the same schedule; the course's."""
    cures: bool = False
    """Also train the deepest plain network with batch norm alone, and with He's weights alone."""
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
    watch: Watch = Watch(every=50, images=1000)
    """How often every training is measured."""
    surface: SurfaceOf | None = SurfaceOf()
    """How the loss surfaces of the deepest networks (of the first seed) are taken; none: not."""
    delta: Number = Field(default=0.02, ge=0)
    """Smallest difference of accuracy that matters, as a fraction."""

    @field_validator("depths", "bare")
    @classmethod
    def _distinct(cls, depths: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(depths)) < len(depths):
            raise ValueError("every depth must be there once")
        return depths

    def cell(self, depth: int, skip: bool, norm: str, init: str) -> TrainNetwork:
        """Return the training of one cell."""
        return TrainNetwork(
            data=self.data,
            network=CNN.parse(
                {
                    "depths": (depth, depth),
                    "widths": self.widths,
                    "skip": skip,
                    "norm": norm,
                    "init": init,
                    "stem_stride": self.stem_stride,
                    "stage_stride": self.stage_stride,
                    "dropout": self.dropout,
                }
            ),
            recipe=self._recipe(norm),
            augmentation=self.augmentation,
            train_images=self.train_images,
            test_images=self.test_images,
            watch=self.watch,
        )

    def _recipe(self, norm: str) -> Recipe:
        """Return how a cell is trained: what lacks the batch norm of others has its optimizer."""
        lacking = norm == "none" and self.norm == "batch"
        chosen = {"optimizer": self.bare_optimizer} if lacking else {}
        return self.recipe.model_copy(update={"threads": self.threads, **chosen})

    def grid(self) -> Mapping[str, TrainNetwork]:
        cells = {
            name(skip, depth): self.cell(depth, skip, self.norm, self.init)
            for depth in sorted(self.depths, reverse=True)
            for skip in (False, True)
        }
        for depth in sorted(self.bare, reverse=True):
            for skip in (False, True):
                cells[name(skip, depth, BARE)] = self.cell(depth, skip, "none", "default")
        if self.cures:
            deep = max(self.depths)
            cells[name(False, deep, HE_ONLY)] = self.cell(deep, False, "none", "he")
            cells[name(False, deep, NORM_ONLY)] = self.cell(deep, False, "batch", "default")
        return cells

    def main(self) -> list[str]:
        """Return the names of the cells that the claims are about, from shallow to deep."""
        return [name(skip, depth) for skip in (False, True) for depth in sorted(self.depths)]

    def surfaces(self, trials: Mapping[str, Sequence[Trial]]) -> dict[str, Trial]:
        """Return the trials that take the loss surfaces of the deepest networks, by cell."""
        if self.surface is None:
            return {}
        deepest = [name(skip, max(self.depths)) for skip in (False, True)]
        return {
            cell: self.surface.trial(trials[cell][0], 0, self.device, f"loss surface of {cell}")
            for cell in deepest
        }

    def judged(self, done: Results) -> Sequence[Trial]:
        return [*super().judged(done), *self.surfaces(self.trials(done)).values()]

    def cost(self, trial: Trial) -> Cost | None:
        if trial.task == SURFACE and self.surface is not None:
            one = expected_seconds(settings(trial.needs[0]), trial.device)
            recipe, n = self.recipe, self.surface.images * self.surface.size**2
            trained = recipe.epochs * settings(trial.needs[0]).rows() * 3  # a step is 3 forwards
            return Cost(one * n / trained, 20_000)
        return super().cost(trial)

    def findings(self, done: Results) -> Findings:
        cells = self.cells(done)
        return Findings(
            effects=self.effects(cells),
            tables=page.tables(self, cells, done),
            figures=page.figures(self, cells, done),
            summary=page.summary(self, cells),
            notes=page.notes(self, cells),
        )

    def answer(self, claims: Sequence[stats.Claim]) -> str:
        return page.answer(self, claims)

    def figures_of(self, result: StudyResult) -> Sequence[Drawing]:
        return page.figures_of(self, result)

    def effects(self, cells: Cells) -> tuple[stats.Effect, ...]:
        """Return what each claim rests on."""
        matters = f"{100 * self.delta:g} points"
        built = f"for less than {matters} of accuracy nobody would build another network"
        low, high = min(self.depths), max(self.depths)
        middle, high_over_low = sorted(self.depths)[-2], high / low
        return (
            cells.difference(
                "skip.degrades",
                f"Plain networks degrade: from {at(middle)} to {at(high)} their training "
                "accuracy falls.",
                name(False, middle),
                name(False, high),
                "train_accuracy",
                delta=self.delta,
                why_delta=f"a network that fits its training data worse by less than {matters} "
                "needs a longer training, not another architecture.",
            ),
            cells.difference(
                "skip.gains",
                f"Networks with skip connections gain test accuracy from {at(low)} to {at(high)}.",
                name(True, high),
                name(True, low),
                "test_accuracy",
                delta=self.delta,
                why_delta=f"the deeper network costs {high_over_low:.2g} times the time, which "
                f"nobody would spend on less than {matters}.",
            ),
            cells.difference(
                "skip.wins",
                f"At {at(high)} a network with skip connections has a higher test accuracy than "
                "the plain one.",
                name(True, high),
                name(False, high),
                "test_accuracy",
                delta=self.delta,
                why_delta=f"{built}.",
            ),
            cells.contrast(
                "skip.undoes",
                f"Skip connections change what depth does: from {at(low)} to {at(high)} test "
                "accuracy rises more, or falls less, with them than without.",
                {
                    name(True, high): 1.0,
                    name(True, low): -1.0,
                    name(False, high): -1.0,
                    name(False, low): 1.0,
                },
                "test_accuracy",
                delta=self.delta,
                why_delta=f"{built}, however deep.",
            ),
            cells.contrast(
                "skip.shallow",
                f"At {at(low)} skip connections change nothing: test accuracy is the same with "
                "and without.",
                {name(True, low): 1.0, name(False, low): -1.0},
                "test_accuracy",
                delta=self.delta,
                asks="equivalent",
                why_delta=f"{built}: within ± {matters} shallow networks can do without, or with.",
            ),
        )
