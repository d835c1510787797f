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
from assay.report import figures
from assay.report.result import Cell, Drawing, Table
from assay.runs.engine import Results
from assay.runs.entry import Result
from assay.runs.trial import Trial
from assay.studies.base import Cost, Findings
from assay.studies.cell_study import CellStudy
from assay.studies.cells import Cells, Column
from assay.studies.rates import rates_table
from assay.tasks.loss_surface import TASK as SURFACE
from assay.tasks.loss_surface import SurfaceOf
from assay.tasks.train import TrainNetwork, expected_seconds, settings
from assay.train import SGD, Adam, OneCycle, Recipe, Watch
from assay.train.recipe import Optimizer

COURSE = {
    "plain [2,2]": 0.68,
    "plain [5,5]": 0.77,
    "plain [7,7]": 0.75,
    "skip [2,2]": 0.63,
    "skip [5,5]": 0.79,
    "skip [7,7]": 0.82,
}
"""The course's test accuracies: one seed, early stopping on the test set."""

BARE, HE_ONLY, NORM_ONLY = "bare", "He only", "batch norm only"
"""What the cells beside the main ones lack; `bare` is neither normalised nor well initialised."""


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
    """How often every training is looked at."""
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
        tables = [self._six(cells)]
        if self.bare or self.cures:
            tables.append(self._cures(cells))
        if self.rates is not None:
            tables.append(rates_table(self.rates, cells.chosen_by, done))
        return Findings(
            effects=self._effects(cells),
            tables=tables,
            figures=self._figures(cells, done),
            summary=self._summary(cells),
            notes=self._notes(),
        )

    # -- claims --------------------------------------------------------------------------------

    def _effects(self, cells: Cells) -> tuple[stats.Effect, ...]:
        low, high = min(self.depths), max(self.depths)
        middle = sorted(self.depths)[-2]
        return (
            cells.difference(
                "skip.degrades",
                f"Plain networks degrade: from {_at(middle)} to {_at(high)} their training "
                "accuracy falls.",
                name(False, middle),
                name(False, high),
                "train_accuracy",
                delta=self.delta,
            ),
            cells.difference(
                "skip.gains",
                f"Networks with skip connections gain test accuracy from {_at(low)} to "
                f"{_at(high)}.",
                name(True, high),
                name(True, low),
                "test_accuracy",
                delta=self.delta,
            ),
            cells.difference(
                "skip.wins",
                f"At {_at(high)} a network with skip connections has a higher test accuracy than "
                "the plain one.",
                name(True, high),
                name(False, high),
                "test_accuracy",
                delta=self.delta,
            ),
        )

    # -- what the page shows -------------------------------------------------------------------

    def _six(self, cells: Cells) -> Table:
        main = self.main()
        course = self.data == "cifar10" and any(cell in COURSE for cell in main)
        return cells.table(
            "The six cells" if len(main) == 6 else "The cells",
            (
                Column("test accuracy", "test_accuracy", best="highest"),
                Column("training accuracy", "train_accuracy", best="highest"),
                Column("training loss", "train_loss", "number", best="lowest"),
            ),
            cells=main,
            caption="Training accuracy and loss are those of the final network in eval mode."
            + (" The course's figures are from one seed, chosen on the test set." * course),
            more={"course": _course} if course else None,
        )

    def _cures(self, cells: Cells) -> Table:
        """Return the cells without one cure or both, each beside the one that has both."""
        deep = max(self.depths)
        rows = [name(skip, depth, BARE) for skip in (False, True) for depth in sorted(self.bare)]
        if self.cures:
            rows += [name(False, deep, HE_ONLY), name(False, deep, NORM_ONLY)]
        rows += [name(skip, deep) for skip in (False, True)]
        return Table(
            title="What batch norm and He initialisation do",
            columns=(
                "network",
                "test accuracy",
                "training loss",
                "gradient of the first layer over the last, at the start",
                "stayed at chance",
            ),
            rows=tuple(
                (
                    Cell(text=cell),
                    Cell(estimate=cells.mean(cell, "test_accuracy", all_runs=True)),
                    Cell(estimate=cells.mean(cell, "train_loss", all_runs=True), unit="number"),
                    Cell(text=self._reach(cells, cell)),
                    Cell(text=f"{cells.collapsed(cell)} of {len(cells.finished(cell))}"),
                )
                for cell in rows
            ),
            caption="Bare: neither batch norm nor He initialisation, as in the course. Cells "
            f"without batch norm are trained with {self.bare_optimizer.name} at a learning rate "
            f"of {self.bare_optimizer.lr:g}, as in the course, on the schedule of all others: what "
            "lacks batch norm differs in its optimizer too. Means over all seeds, those that "
            "stayed at chance included, with 95 % intervals. A network whose gradient does not "
            "reach its first layers does not show degradation, but a gradient that vanished.",
        )

    def _reach(self, cells: Cells, cell: str) -> str:
        norms = [run.arrays["look_gradient_norms"][0] for run in cells.finished(cell)]
        if not norms:
            return "no result"
        return f"{sum(n[0] / max(n[-1], 1e-300) for n in norms) / len(norms):.1e}"

    def _figures(self, cells: Cells, done: Results) -> tuple[Drawing, ...]:
        names = [cell for cell in self.grid() if cells.finished(cell)]
        return (
            Drawing(
                title="Validation accuracy while training",
                caption="Mean over seeds, with the range from the least to the greatest seed, on "
                f"{self.watch.images:,} validation images. Solid: skip connections. Dashed: plain.",
                svg=_svg(
                    figures.learning_curves(
                        self._bands(cells, self.main(), "look_val_accuracy"),
                        x_label="optimizer step",
                    )
                ),
            ),
            Drawing(
                title="Training loss",
                caption="Degradation is about this: a deeper plain network that does not even fit "
                "its training data (He et al. 2015). Mean of the loss since the look before.",
                svg=_svg(
                    figures.learning_curves(
                        self._bands(cells, self.main(), "look_loss"),
                        x_label="optimizer step",
                        y_label="training loss",
                        fraction=False,
                    )
                ),
            ),
            Drawing(
                title="Gradient norm from layer to layer",
                caption="From the first convolution (left) to the linear layer (right), two "
                "convolutions to a block; before the first step, halfway and at the end. A line "
                "that falls to the left is a gradient that vanishes: where it does not, and the "
                "deeper network still has the higher training loss, that is degradation.",
                svg=_svg(
                    figures.panels(
                        [
                            [
                                figures.Panel(
                                    title,
                                    [
                                        band
                                        for cell in names
                                        if (band := self._norms(cells, cell, when))
                                    ],
                                )
                                for title, when in WHEN.items()
                            ]
                        ],
                        x_label="layer, from input to output",
                        y_label="gradient norm",
                        log_y=True,
                    )
                ),
            ),
            *self._surfaces(cells, done),
        )

    def _bands(self, cells: Cells, names: Sequence[str], array: str) -> list[figures.Series]:
        found = []
        for cell in names:
            colour, dash = self._style(cell)
            band = cells.band(cell, array, x="look_steps", colour=colour, dash=dash)
            found += [band] if band else []
        return found

    def _norms(self, cells: Cells, cell: str, when: float) -> figures.Series | None:
        """Return the gradient norm of each layer at one of the looks."""

        def at(run: Result) -> Any:
            norms = run.arrays["look_gradient_norms"]
            return norms[round(when * (len(norms) - 1))]

        colour, dash = self._style(cell)
        return cells.band(cell, at, colour=colour, dash=dash)

    def _style(self, cell: str) -> tuple[int, int]:
        """Return a colour for each depth, and others for what lacks a cure; plain is dashed."""
        kinds = [*(_at(depth) for depth in sorted(self.depths)), BARE, HE_ONLY, NORM_ONLY]
        colour = next(i for i, kind in enumerate(kinds) if cell.endswith(kind))
        return colour, int(cell.startswith("plain"))

    def _surfaces(self, cells: Cells, done: Results) -> list[Drawing]:
        trials = self.surfaces(cells.trials)
        taken = {cell: done[trial] for cell, trial in trials.items() if trial in done}
        if not taken:
            return []
        said = "; ".join(_of_surface(cell, result) for cell, result in taken.items())
        return [
            Drawing(
                title="The loss surface around the deepest networks",
                caption="Training loss on the plane of two random filter-normalised directions "
                f"around the trained weights (Li et al. 2018), of the first seed: {said}. One "
                "plane of one seed: a picture, not evidence for a claim.",
                svg=_svg(
                    figures.surfaces(
                        list(taken),
                        [result.arrays["loss"] for result in taken.values()],
                        list(next(iter(taken.values())).arrays["alphas"]),
                    )
                ),
            )
        ]

    def _summary(self, cells: Cells) -> str:
        high = max(self.depths)
        said = [
            f"{cell} reaches {cells.mean(cell, 'test_accuracy').percent()}"
            if cells.kept(cell)
            else f"{cell} has no run that trained"
            for cell in (name(False, high), name(True, high))
        ]
        return "; ".join(said) + " test accuracy."

    def _notes(self) -> tuple[str, ...]:
        fair = self.norm == "batch" and self.init == "he"
        first = (
            "Batch norm (Ioffe & Szegedy 2015) and He initialisation (He et al. 2015, fan out) "
            "keep gradients healthy, so a difference between plain and skip is not a vanished "
            "gradient: these are the fair cells. The course had neither."
            if fair
            else "As the course did it: without batch norm and with PyTorch's initialisation, a "
            "deep plain network fails mostly because its gradient vanishes, which is not what He "
            "et al. 2015 call degradation. Preset quick tells the two apart."
        )
        second = (
            f"The first convolution has stride {self.stem_stride} and the second stage begins with "
            f"stride {self.stage_stride}, so that every cell trains in minutes: less accurate than "
            "at full size, where the course worked."
            if self.stem_stride * self.stage_stride > 1
            else "The stages see images at full size, as in the course."
        )
        recipe = self.recipe
        rate = "chosen for each cell" if self.rates else f"of {recipe.optimizer.lr:g}"
        third = (
            f"Every cell is trained for {recipe.epochs} epochs with {recipe.optimizer.name} at a "
            f"learning rate {rate} ({recipe.schedule.name.replace('_', '-')} "
            f"schedule) in batches of {recipe.batch_size}; the course: Adam, constant 0.001, "
            "batches of 64, up to 100 epochs."
        )
        fourth = (
            "A validation set is held out of the training data; test images are used once. The "
            "course chose its epoch on the test set."
        )
        return (first, second, third, fourth, *self._cost_of_paper())

    def _cost_of_paper(self) -> tuple[str, ...]:
        if self.preset == "paper" or self.data != "cifar10":
            return ()
        paper = type(self).parse(self.preset_values("paper"))
        costs = [
            expected_seconds(cell, self.device, probe_steps=2) for cell in paper.grid().values()
        ]
        hours = sum(costs) / 3600
        return (
            f"The course's own protocol at full size (--preset paper, one seed) would take about "
            f"{hours:.0f} hours of one core here, less where patience ends a training early.",
        )


WHEN = {"before the first step": 0.0, "halfway": 0.5, "at the end": 1.0}
"""The looks at which gradients are shown, as a share of all looks."""


def _course(cell: str) -> str:
    return f"{100 * COURSE[cell]:.0f} %" if cell in COURSE else ""


def _of_surface(cell: str, result: Result) -> str:
    loss = result.metrics["loss"]
    rise = result.metrics["sharpness"] * (1 + loss)
    return f"around {cell} it is {loss:.2f} and rises by up to {rise:.2f} within half their norm"


def _svg(picture: figures.Picture) -> str:
    return figures.inline_svg(picture)


def _at(depth: int) -> str:
    return f"[{depth},{depth}]"


def name(skip: bool, depth: int, lacks: str = "") -> str:
    """Return what a cell is called: "skip [7,7]", "plain [7,7] bare"."""
    return " ".join(part for part in ("skip" if skip else "plain", _at(depth), lacks) if part)
