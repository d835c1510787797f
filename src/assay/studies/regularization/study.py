"""What regularizes an over-sized MLP best?

One network that is far too large for its few training images, so that it overfits, and one change
at a time: to the architecture, to the loss, to the images. The course's second experiment; it cites
augmentation in feature space (DeVries & Taylor 2017), but applied it in input space alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from pydantic import Field, field_validator

from assay import stats
from assay.config import Number, Repeats
from assay.data import Heavy, Simple
from assay.models import MLP
from assay.report.result import Drawing, StudyResult
from assay.runs.results import Results
from assay.runs.trial import Trial
from assay.studies.base import Findings
from assay.studies.cell_study import CellStudy
from assay.studies.cells import Cells
from assay.studies.measures import validation_accuracy
from assay.studies.rates import at_rate
from assay.studies.regularization import page
from assay.studies.regularization.variants import (
    ARCHITECTURE,
    NONE,
    Variant,
    dropout_name,
    together,
)
from assay.tasks.feature_space import FeatureSpace
from assay.tasks.train import TrainNetwork
from assay.train import AdamW, Cosine, Recipe


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
                "learning": {
                    "network": {"name": "mlp", "widths": (64,), "code": 16},
                    "epochs": 30,
                    "lr": 5e-3,
                }
            },
            "recipe": {
                "epochs": 15,
                "batch_size": 20,
                "optimizer": {"name": "adamw", "lr": 3e-3, "weight_decay": 0},
            },
        },
        "quick": {},
        "whole": {
            "seeds": 5,
            "train_images": None,
            "features": {"learning": {"epochs": 5, "batch_size": 128}},
            "recipe": {
                "epochs": 10,
                "batch_size": 128,
                "optimizer": {"name": "adamw", "lr": 1e-3, "weight_decay": 0},
            },
        },
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
    seeds: Repeats = 10
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
            *(Variant(dropout_name(p), "dropout", network={"dropout": p}) for p in self.dropout),
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
        """Return the results so far; once every single change has ended, also the best two, at the
        learning rate that was chosen for the best one."""
        singles = super().cells(done)
        pair = self.best_two(singles)
        if pair is None:
            return singles
        both = self.drawn(pair[1].of(pair[0].of(self.plain())))
        searched = self.searches().get(pair[0].name, ())
        chosen = self.chosen_rate(searched, done)
        both = both if chosen is None else at_rate(both, chosen)
        trials = both.trials(range(self.seeds), self.device, together(pair))
        return singles.with_cell(together(pair), trials)

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
            effects=self.effects(cells),
            tables=page.tables(cells),
            figures=page.figures(self, cells),
            summary=page.summary(cells),
            notes=page.notes(self),
        )

    def answer(self, claims: Sequence[stats.Claim]) -> str:
        return page.answer(claims)

    def figures_of(self, result: StudyResult) -> Sequence[Drawing]:
        return page.figures_of(result)

    def effects(self, cells: Cells) -> tuple[stats.Effect, ...]:
        """Return what each claim rests on."""
        low, aggressive = dropout_name(self.dropout[0]), dropout_name(self.dropout[-1])
        architecture = self._best(cells, *ARCHITECTURE)
        pair = self.best_two(cells)
        singles = [variant.name for variant in self.variants()]

        matters = f"{100 * self.delta:g} point{'s' * (self.delta != 0.01)}"
        choose = f"whoever has few images would take another method for {matters} of test accuracy"

        def over(
            code: str,
            text: str,
            a: str,
            b: str,
            among: Sequence[str],
            pairs: int,
            why_delta: str = f"{choose}, and for less the simpler one.",
        ) -> stats.Effect:
            note = (
                f"{_upper(a)} against {b}, chosen by validation accuracy on the same seeds among "
                f"{pairs} pairs, which its interval holds for."
            )
            effect = cells.difference(
                code,
                text,
                a,
                b,
                "test_accuracy",
                delta=self.delta,
                note=note,
                among=among,
                why_delta=why_delta,
            )
            return replace(effect, chosen_among=pairs)

        both = f"two methods are two settings to tune, which less than {matters} does not repay."
        kinds = Counter(variant.kind for variant in self.variants() if variant.kind != NONE)
        of_architecture = sum(kinds[kind] for kind in ARCHITECTURE)
        of_two_kinds = sum(kinds.values()) ** 2 - sum(n**2 for n in kinds.values())

        return (
            over(
                "regularization.augments",
                "Augmentation in input space regularizes better than changing the architecture.",
                self._best(cells, "input space"),
                architecture,
                self._of_kinds("input space", *ARCHITECTURE),
                kinds["input space"] * of_architecture,
            ),
            over(
                "regularization.features",
                "Augmentation in feature space regularizes better than changing the architecture.",
                self._best(cells, "feature space"),
                architecture,
                self._of_kinds("feature space", *ARCHITECTURE),
                kinds["feature space"] * of_architecture,
            ),
            cells.difference(
                "regularization.underfits",
                "Aggressive dropout underfits: it lowers the training accuracy.",
                NONE,
                aggressive,
                "train_accuracy",
                delta=self.delta,
                note=f"{_upper(aggressive)} against none, both tested without dropout.",
                why_delta=f"a network that misses {matters} more of the images that it was trained "
                "on no longer fits them; less is what the last steps leave to chance.",
            ),
            cells.difference(
                "regularization.overdoes",
                "Aggressive dropout generalises worse than low dropout.",
                low,
                aggressive,
                "test_accuracy",
                delta=self.delta,
                why_delta=f"for {matters} of test accuracy one would turn dropout down.",
            ),
            over(
                "regularization.adds",
                "The best two together are better than the best one.",
                together(pair),
                pair[0].name,
                singles,
                of_two_kinds,
                both,
            )
            if pair is not None and together(pair) in cells.names
            else stats.Effect(
                "regularization.adds",
                "The best two together are better than the best one.",
                self.delta,
                (),
                rests_on=cells.addresses(*singles),
                by_image=True,
                why_delta=both,
            ),
        )

    def _best(self, cells: Cells, *kinds: str) -> str:
        """Return the cell of these kinds with the highest validation accuracy."""
        names = self._of_kinds(*kinds)
        return cells.best(validation_accuracy, "highest", names) or names[0]

    def _of_kinds(self, *kinds: str) -> list[str]:
        return [variant.name for variant in self.variants() if variant.kind in kinds]


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
