"""What regularizes an over-sized MLP best?

One network that is far too large for its few training images, so that it overfits, and one change
at a time: to the architecture, to the loss, to the images. The course's second experiment; it cites
augmentation in feature space (DeVries & Taylor 2017), but applied it in input space alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from pydantic import Field, field_validator

from assay import stats
from assay.config import Number
from assay.core.random import Stream
from assay.data import Heavy, Simple
from assay.data.dataset import to_float
from assay.models import MLP
from assay.models.autoencoder import load_autoencoder
from assay.report import figures
from assay.report.record import Unit
from assay.report.result import Drawing, Table
from assay.runs.engine import Results
from assay.runs.entry import Result
from assay.runs.trial import Trial
from assay.studies.base import Findings
from assay.studies.cell_study import CellStudy
from assay.studies.cells import Cells, Column
from assay.tasks.feature_space import FeatureSpace
from assay.tasks.train import TrainNetwork, split
from assay.train import AdamW, Cosine, Recipe

NONE = "none"
ARCHITECTURE = ("dropout", "norm")
COLOURS = {
    NONE: 6,
    "dropout": 0,
    "norm": 0,
    "weight decay": 2,
    "label smoothing": 2,
    "mixup": 2,
    "input space": 1,
    "feature space": 3,
    "two": 4,
}
"""Of each kind of change, into the palette."""


@dataclass(frozen=True)
class Variant:
    """One change to the training without regularization.

    Attributes:
        name: what its cell is called.
        kind: what it changes; two of one kind cannot be combined.
        network, recipe, training: settings of the MLP, the recipe and the training that differ.
    """

    name: str
    kind: str
    network: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)

    def of(self, plain: TrainNetwork) -> TrainNetwork:
        """Return the training with this change."""
        return plain.model_copy(
            update={
                "network": plain.network.model_copy(update=self.network),
                "recipe": plain.recipe.model_copy(update=self.recipe),
                **self.training,
            }
        )


class Regularization(CellStudy):
    """One MLP that overfits, with one regularization at a time and the best two, over seeds."""

    NAME: ClassVar[str] = "regularization"
    QUESTION: ClassVar[str] = "What regularizes an over-sized MLP best?"
    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {
            "data": "digits",
            "seeds": 2,
            "network": {"widths": (64, 64)},
            "train_images": 200,
            "test_images": 300,
            "features": {
                "learning": {"network": {"widths": (64,), "code": 16}, "epochs": 30, "lr": 5e-3}
            },
            "recipe": {
                "epochs": 15,
                "batch_size": 20,
                "optimizer": {"name": "adamw", "lr": 3e-3, "weight_decay": 0},
            },
        },
        "quick": {},
        "paper": {
            "seeds": 1,
            "network": {"widths": (512, 256, 128, 64)},
            "train_images": None,
            "weight_decay": 1e-4,
            "features": {"learning": {"epochs": 10}},
            "recipe": {
                "epochs": 50,
                "batch_size": 64,
                "optimizer": {"name": "adam", "lr": 1e-3},
                "schedule": {"name": "constant"},
                "patience": 15,
            },
        },
    }

    data: str = "mnist"
    """Data set: a bundled name, a hub id or a folder."""
    seeds: int = Field(default=10, ge=1)
    """How many seeds every cell is run with."""
    network: MLP = MLP(widths=(512, 512, 512))
    """The network that every variant changes; itself without dropout and norm."""
    train_images: int | None = Field(default=1000, ge=10)
    """How many training images are used; few, so that the network overfits; none: all."""
    recipe: Recipe = Recipe(
        epochs=40, batch_size=25, optimizer=AdamW(lr=1e-3, weight_decay=0), schedule=Cosine()
    )
    """How every variant is trained: as many optimizer steps for each."""
    dropout: tuple[float, ...] = Field(default=(0.2, 0.5, 0.8), min_length=2)
    """Probabilities of zeroing a hidden unit, after every activation; rising, the last aggressive
    (Srivastava et al. 2014)."""
    weight_decay: Number = Field(default=1.0, gt=0)
    """Strength of the weight decay, as the optimizer has it."""
    label_smoothing: Number = Field(default=0.1, gt=0, lt=1)
    """Share of each label that is spread over all classes (Szegedy et al. 2016)."""
    mixup: Number = Field(default=0.2, gt=0)
    """α of mixup (Zhang et al. 2018)."""
    simple: Simple = Simple()
    """The slight augmentation in input space."""
    heavy: Heavy = Heavy()
    """The strong augmentation in input space."""
    features: FeatureSpace = FeatureSpace()
    """The augmentation in feature space; each of its methods is a cell."""
    delta: Number = Field(default=0.01, ge=0)
    """Smallest difference of accuracy that matters, as a fraction."""

    @field_validator("dropout")
    @classmethod
    def _rising(cls, dropout: tuple[float, ...]) -> tuple[float, ...]:
        if list(dropout) != sorted(set(dropout)) or not 0 < dropout[0] <= dropout[-1] < 1:
            raise ValueError("probabilities of dropout lie between 0 and 1 and rise")
        return dropout

    @field_validator("network")
    @classmethod
    def _bare(cls, network: MLP) -> MLP:
        if network.dropout or network.norm != "none":
            raise ValueError("the network that is to be regularized has no dropout and no norm")
        return network

    @field_validator("features")
    @classmethod
    def _for_every_method(cls, features: FeatureSpace) -> FeatureSpace:
        if features.strength > 1:
            raise ValueError(
                "every method is tried at this strength, and interpolate ends at the neighbour: "
                f"strength 1, not {features.strength:g}"
            )
        return features

    def variants(self) -> tuple[Variant, ...]:
        """Return the single changes, none of them first."""
        decaying = self.recipe.optimizer.model_copy(update={"weight_decay": self.weight_decay})
        methods = ("extrapolate", "interpolate", "noise")
        spaces = {m: self.features.model_copy(update={"method": m}) for m in methods}
        return (
            Variant(NONE, NONE),
            *(Variant(_dropout(p), "dropout", network={"dropout": p}) for p in self.dropout),
            Variant("batch norm", "norm", network={"norm": "batch"}),
            Variant("layer norm", "norm", network={"norm": "layer"}),
            Variant("weight decay", "weight decay", recipe={"optimizer": decaying}),
            Variant(
                "label smoothing",
                "label smoothing",
                recipe={"label_smoothing": self.label_smoothing},
            ),
            Variant("mixup", "mixup", recipe={"mixup": self.mixup}),
            Variant("simple augmentation", "input space", training={"augmentation": self.simple}),
            Variant("heavy augmentation", "input space", training={"augmentation": self.heavy}),
            *(
                Variant(f"feature space: {m}", "feature space", training={"features": space})
                for m, space in spaces.items()
            ),
        )

    def plain(self) -> TrainNetwork:
        """Return the training without regularization."""
        return TrainNetwork(
            data=self.data,
            network=self.network,
            recipe=self.recipe.model_copy(update={"threads": self.threads}),
            train_images=self.train_images,
            test_images=self.test_images,
        )

    def grid(self) -> Mapping[str, TrainNetwork]:
        return {variant.name: variant.of(self.plain()) for variant in self.variants()}

    def judged(self, done: Results) -> Sequence[Trial]:
        rows = zip(*self.cells(done).trials.values(), strict=True)
        return [trial for seed in rows for trial in seed]

    def cells(self, done: Results) -> Cells:
        """Return the results so far; once every single change has ended, also the best two."""
        singles = super().cells(done)
        pair = self.best_two(singles)
        if pair is None:
            return singles
        both = pair[1].of(pair[0].of(self.plain()))
        trials = both.trials(range(self.seeds), self.device, _together(pair))
        return Cells({**singles.trials, _together(pair): trials}, done, singles.chosen_by)

    def best_two(self, cells: Cells) -> tuple[Variant, Variant] | None:
        """Return the two changes with the highest validation accuracies that are of two kinds.

        None while a trial is missing that may still come, or where fewer than two have results.
        """
        names = [variant.name for variant in self.variants()]
        if any(len(cells.finished(n)) + cells.failed(n) < self.seeds for n in names):
            return None
        changes = [v for v in self.variants() if v.kind != NONE and cells.kept(v.name)]
        ranked = sorted(
            changes, key=lambda v: cells.mean(v.name, validation_accuracy).value, reverse=True
        )
        best = ranked[:1]
        best += [variant for variant in ranked if variant.kind != best[0].kind][:1]
        return (best[0], best[1]) if len(best) == 2 else None

    def findings(self, done: Results) -> Findings:
        cells = self.cells(done)
        return Findings(
            effects=self._effects(cells),
            tables=(self._table(cells),),
            figures=(*self._figures(cells), *self._examples(cells)),
            summary=self._summary(cells),
            notes=self._notes(),
        )

    # -- claims --------------------------------------------------------------------------------

    def _effects(self, cells: Cells) -> tuple[stats.Effect, ...]:
        low, aggressive = _dropout(self.dropout[0]), _dropout(self.dropout[-1])
        architecture = self._best(cells, *ARCHITECTURE)
        pair = self.best_two(cells)
        singles = [variant.name for variant in self.variants()]

        def over(code: str, text: str, a: str, b: str, among: Sequence[str]) -> stats.Effect:
            note = f"{_upper(a)} against {b}, chosen by validation accuracy."
            return cells.difference(
                code, text, a, b, "test_accuracy", delta=self.delta, note=note, among=among
            )

        return (
            over(
                "regularization.augments",
                "Augmentation in input space regularizes better than changing the architecture.",
                self._best(cells, "input space"),
                architecture,
                self._of_kinds("input space", *ARCHITECTURE),
            ),
            over(
                "regularization.features",
                "Augmentation in feature space regularizes better than changing the architecture.",
                self._best(cells, "feature space"),
                architecture,
                self._of_kinds("feature space", *ARCHITECTURE),
            ),
            cells.difference(
                "regularization.underfits",
                "Aggressive dropout underfits: it lowers the training accuracy.",
                NONE,
                aggressive,
                "train_accuracy",
                delta=self.delta,
                note=f"{_upper(aggressive)} against none, both tested without dropout.",
            ),
            cells.difference(
                "regularization.overdoes",
                "Aggressive dropout generalises worse than low dropout.",
                low,
                aggressive,
                "test_accuracy",
                delta=self.delta,
            ),
            over(
                "regularization.adds",
                "The best two together are better than the best one.",
                _together(pair),
                pair[0].name,
                singles,
            )
            if pair is not None and _together(pair) in cells.names
            else stats.Effect(
                "regularization.adds",
                "The best two together are better than the best one.",
                self.delta,
                (),
                rests_on=cells.addresses(*singles),
            ),
        )

    def _best(self, cells: Cells, *kinds: str) -> str:
        """Return the cell of these kinds with the highest validation accuracy."""
        names = self._of_kinds(*kinds)
        return cells.best(validation_accuracy, "highest", names) or names[0]

    def _of_kinds(self, *kinds: str) -> list[str]:
        return [variant.name for variant in self.variants() if variant.kind in kinds]

    # -- what the page shows -------------------------------------------------------------------

    def _table(self, cells: Cells) -> Table:
        return cells.table(
            "Every variant",
            (
                Column("test accuracy", "test_accuracy", best="highest"),
                Column("training accuracy", "train_accuracy"),
                Column("generalisation gap", gap, "points"),
                Column("test loss", "test_loss", "number", best="lowest"),
                Column("calibration error", calibration_error, best="lowest"),
                Column("validation accuracy", validation_accuracy),
            ),
            heading="variant",
            caption="The gap is training less test accuracy, both of the final network in eval "
            "mode, on images as they are. The calibration error is the ECE of 15 bins on the test "
            "images (Guo et al. 2017). The best two were chosen by validation accuracy.",
        )

    def _figures(self, cells: Cells) -> tuple[Drawing, ...]:
        shown = [name for name in cells.names if cells.finished(name)]
        kept = [name for name in shown if cells.kept(name)]
        gains = {name: _gain(cells, name) for name in kept if name != NONE}
        return (
            Drawing(
                title="Validation loss while training",
                caption="Mean over seeds, with the range from the least to the greatest seed. Grey "
                "in every panel: without regularization. A line that turns upwards overfits.",
                svg=_svg(self._losses(cells, [name for name in shown if name != NONE])),
            ),
            Drawing(
                title="What each variant gains",
                caption="Test accuracy less that without regularization, paired by seed, with its "
                "95 % interval. Blue: changes to the architecture; green: to the weights, the "
                "labels or both; orange: images in input space; violet: in feature space; yellow: "
                "the best two.",
                svg=_svg(self._forest(gains, "gain of test accuracy", "points", 0.0)),
            ),
            Drawing(
                title="Generalisation gap",
                caption="How much more accurate the final network is on its training images than "
                "on test images. A small gap alone is no merit: a network that learnt nothing has "
                "none.",
                svg=_svg(
                    self._forest(
                        {name: cells.mean(name, gap) for name in kept},
                        "training less test accuracy",
                        "points",
                    )
                ),
            ),
            Drawing(
                title="Calibration",
                caption="By how much confidence and accuracy differ on test images (ECE, 15 bins).",
                svg=_svg(
                    self._forest(
                        {name: cells.mean(name, calibration_error) for name in kept},
                        "expected calibration error",
                        "fraction",
                    )
                ),
            ),
        )

    def _forest(
        self,
        estimates: Mapping[str, stats.Estimate],
        label: str,
        unit: Unit,
        reference: float | None = None,
    ) -> figures.Picture:
        """Return the estimates as a forest plot, the highest on top."""
        colours = {variant.name: COLOURS[variant.kind] for variant in self.variants()}
        rows = [
            (name, estimate, colours.get(name, COLOURS["two"]))
            for name, estimate in estimates.items()
        ]
        rows.sort(key=lambda row: row[1].value, reverse=True)
        return figures.intervals(rows, label, reference, unit=unit)

    def _losses(self, cells: Cells, names: Sequence[str]) -> figures.Picture:
        plain = cells.band(NONE, "val_loss", label="none", colour=COLOURS[NONE], dash=1)
        panels = []
        for name in names:
            band = cells.band(name, "val_loss", label="the variant", colour=0)
            title = name if name in self.grid() else "the best two"
            panels.append(figures.Panel(title, [b for b in (plain, band) if b is not None]))
        grid = [panels[start : start + 4] for start in range(0, len(panels), 4)]
        return figures.panels(grid, x_label="epoch", y_label="validation loss", log_y=True)

    def _examples(self, cells: Cells) -> list[Drawing]:
        """Return a picture of what the augmentations make of an image of each class."""
        settings = {v.name: v for v in self.variants()}
        spaces = {
            name.removeprefix("feature space: "): variant.training["features"]
            for name, variant in settings.items()
            if variant.kind == "feature space" and cells.finished(name)
        }
        first = cells.trials[next(n for n, v in settings.items() if v.kind == "feature space")][0]
        learnt = cells.done.get(first.needs[0]) if first.needs else None
        if learnt is None:
            return []
        data = split(self.plain(), "train")
        labels = data.labels.tolist()
        some = data.subset([labels.index(label) for label in sorted(set(labels))[:10]])
        x = to_float(some.images)
        rng = Stream(0).child("examples")
        model = load_autoencoder(learnt.path("model.safetensors"))
        with torch.no_grad():
            rows = {"image": x, "decoded": model(x)}
        for name, space in spaces.items():
            rows[name] = space.fitted(model, data).draw(rng.child(name).rows(some.ids))
        for name, augment in (("simple", self.simple), ("heavy", self.heavy)):
            rows[name] = augment(x, rng.child(name).rows(some.ids))
        errors = learnt.metrics
        return [
            Drawing(
                title="What a network is trained on",
                caption="An image of each class, as its code is decoded, and one draw of each "
                f"augmentation. The autoencoder learnt from the same {len(data):,} images, without "
                f"labels; its mean squared error is {errors['train_error']:.4f} on them and "
                f"{errors['validation_error']:.4f} on validation images, where the mean image has "
                f"{errors['mean_image_error']:.4f}.",
                svg=_svg(figures.rows({name: row.numpy() for name, row in rows.items()})),
            )
        ]

    def _summary(self, cells: Cells) -> str:
        best = cells.best(validation_accuracy, "highest")
        if best is None or not cells.kept(NONE):
            return "No network was trained."
        return (
            f"Without regularization {cells.mean(NONE, 'test_accuracy').percent()} test accuracy; "
            f"best by validation is {best} with {cells.mean(best, 'test_accuracy').percent()}."
        )

    def _notes(self) -> tuple[str, ...]:
        recipe = self.recipe
        images = "all" if self.train_images is None else f"{self.train_images:,}"
        steps = (
            f"Every variant takes the same optimizer steps ({recipe.epochs} epochs over {images} "
            f"training images in batches of {recipe.batch_size}), and its last weights are tested: "
            "stopping early would itself regularize."
            if not recipe.patience
            else f"Training stops after {recipe.patience} epochs without a lower validation loss, "
            "and the best weights are tested, as in the course: stopping early itself regularizes, "
            "which makes the variants more alike than they are."
        )
        return (
            steps,
            "Each method has one customary strength: a verdict is about these strengths. Those of "
            "weight decay (of 0.1 and 1) and mixup (of 0.2 and 1) were chosen by the validation "
            "accuracy of one seed of the quick preset, which is among its seeds, and the smallest "
            "effect that matters was set after that. Only dropout is judged at several strengths.",
            "The course cites augmentation in feature space (DeVries & Taylor 2017), but applied "
            "it in input space alone. Here new codes are decoded to images, so that every variant "
            "trains the same network; the paper also classifies codes themselves. The autoencoder "
            "sees no image that the classifier does not.",
            "What is compared is chosen by validation accuracy, of the same seeds, and judged by "
            "test accuracy. The course chose its epoch on the test set, with one seed, and read "
            "differences of two points as effects.",
            "Batch norm stands after the activation, as in the course.",
        )


# -- metrics -----------------------------------------------------------------------------------


def validation_accuracy(run: Result) -> float:
    """Return the validation accuracy of the weights that were tested."""
    history = run.metrics["history"]
    epoch = history["best_epoch"] if history["restored"] else len(history["val_accuracy"])
    return float(history["val_accuracy"][epoch - 1])


def gap(run: Result) -> float:
    """Return the training accuracy less the test accuracy."""
    return float(run.metrics["train_accuracy"] - run.metrics["test_accuracy"])


def calibration_error(run: Result) -> float:
    """Return the expected calibration error on the test images."""
    return stats.calibration_error(run.arrays["test_confidence"], run.arrays["test_correct"])


def _gain(cells: Cells, name: str) -> stats.Estimate:
    effect = cells.difference("", "", name, NONE, "test_accuracy", delta=0.0)
    return stats.mean_interval(effect.values, floor_variance=effect.floor_variance)


def _dropout(p: float) -> str:
    return f"dropout {p:g}"


def _together(pair: tuple[Variant, Variant]) -> str:
    return f"{pair[0].name} + {pair[1].name}"


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def _svg(picture: figures.Picture) -> str:
    return figures.inline_svg(picture)
