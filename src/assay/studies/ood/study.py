"""Does a classifier know what it does not know? The field's detectors on outliers near and far.

Each network is trained on all classes but two, which are its near outliers; far ones are made or
read. Over five seeds each of ten classes is held out once. Detectors have the settings of their
papers, and are fitted on training images alone: no outlier is seen before it is scored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar, Self

from pydantic import Field, field_validator, model_validator

from assay import stats
from assay.config import Number
from assay.data import load_data
from assay.errors import repeated
from assay.models.autoencoder import ConvAutoencoder, VariationalAutoencoder
from assay.ood import AnyDetector, detectors
from assay.report.result import Drawing, StudyResult
from assay.runs.results import Results
from assay.runs.trial import Cost, Trial
from assay.studies.base import Findings, Study
from assay.studies.cell_study import check_data
from assay.studies.cells import Cells
from assay.studies.ood import claims, figures, page, tables
from assay.studies.ood.presets import (
    DETECTORS,
    KINDS,
    LOGIT_NORM,
    NATURAL,
    PRESETS,
    autoencoders,
    trained,
)
from assay.tasks.autoencode import Autoencoding, TrainAutoencoder
from assay.tasks.detect import ScoreOutliers, uncorrupted
from assay.tasks.evade import EvadeDetectors
from assay.tasks.images import apart, how_many
from assay.tasks.outside import HELD_OUT
from assay.tasks.train import TASK, TrainNetwork
from assay.tasks.train_time import expected_seconds
from assay.train import LogitNorm


@lru_cache(maxsize=4)
def _seconds(network: str, device: str) -> float:
    return expected_seconds(TrainNetwork.parse(json.loads(network)), device)


class OOD(Study):
    """Detectors against outliers near and far, over networks."""

    NAME: ClassVar[str] = "ood"
    QUESTION: ClassVar[str] = "Does a classifier know what it does not know?"
    METRICS: ClassVar[Sequence[str]] = ("test_accuracy", "accuracy", "validation_error")
    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = PRESETS

    seeds: int = Field(default=5, ge=1, le=100_000)
    """How many networks of each kind: the unit of every claim."""
    network: TrainNetwork = TrainNetwork.parse(trained())
    """What is trained; its data are the study's, and its classes all but those held out."""
    held_out: bool = True
    """Leave two classes out of each training, others for every seed: the near outliers."""
    logit_norm: bool = True
    """Also train each network by LogitNorm."""
    autoencoder: Autoencoding = Autoencoding.parse(autoencoders(10))
    """How autoencoders are trained; their networks are convolutional and variational."""
    widths: tuple[int, ...] = (12, 24, 48)
    """Channels of the autoencoders' convolutions, the course's."""
    autoencoder_images: int | None = Field(default=8000, ge=10)
    """How many training images autoencoders learn from; none: all."""
    detectors: tuple[AnyDetector, ...] = Field(
        default=tuple(detectors()[one["name"]].parse(one) for one in DETECTORS), min_length=1
    )
    """The detectors; those by reconstruction are run with each autoencoder."""
    outliers: tuple[str, ...] = Field(default=KINDS, min_length=1)
    """Kinds of outliers; `held-out` are the classes left out, other names known or image sets."""
    raw: tuple[str, ...] = ("shapes", "letters", "gradient", "flat")
    """Generated kinds that are also scored without the codec that the set went through."""
    quality: int | None = 75
    """Quality of the JPEG that generated outliers pass through; none: they do not."""
    fitted_on: int = Field(default=4000, ge=50)
    """How many training images detectors learn from."""
    calibrated_on: int = Field(default=1000, ge=20)
    """How many validation images thresholds are set by."""
    inside: int = Field(default=1500, ge=20)
    """How many test images each network scores."""
    outside: int = Field(default=500, ge=20)
    """How many outliers of each kind each network scores."""
    attacked: tuple[str, ...] = ("max-softmax", "gen", "knn", "relative-mahalanobis")
    """Names of the detectors that are attacked by somebody who knows them."""
    eps: Number = Field(default=8 / 255, gt=0)
    """How far attacked pixels may be moved, in pixel units of [0, 1]."""
    attacked_images: int = Field(default=100, ge=20)
    """How many outliers, and how many test images, are attacked."""
    attack_steps: int = Field(default=20, ge=1)
    """Steps of that attack."""
    delta: Number = Field(default=0.01, ge=0, lt=1)
    """Smallest difference of AUROC between detectors that matters."""

    @field_validator("outliers", "raw", "attacked")
    @classmethod
    def _each_once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if twice := repeated(names):
            raise ValueError(f"each is there once; {twice} is not")
        return names

    @field_validator("outliers")
    @classmethod
    def _not_corruptions_alone(cls, kinds: tuple[str, ...]) -> tuple[str, ...]:
        uncorrupted(kinds)
        return kinds

    @model_validator(mode="after")
    def _attacked_are_there(self) -> Self:
        names = [detector.name for detector in self.detectors]
        absent = [name for name in self.attacked if name not in names]
        if absent:
            raise ValueError(f"attacked: {absent[0]} is not one of the detectors")
        if HELD_OUT in self.outliers and not self.held_out:
            raise ValueError("outliers: held-out needs held_out=true")
        if self.raw and any(name not in self.outliers for name in self.raw):
            raise ValueError("raw: every kind there is one of the outliers too")
        return self

    # -- trials --------------------------------------------------------------------------------

    def without(self, seed: int) -> tuple[int, ...] | None:
        """Return the two classes that the network of a seed never hears of: over K/2 seeds each of
        K classes once."""
        if not self.held_out:
            return None
        half = len(load_data(self.data, size=self.network.size).classes) // 2
        return (seed % half, seed % half + half)

    def networks(self) -> dict[str, list[Trial]]:
        """Return the trials that train the networks, by loss, one per seed."""
        recipe = self.network.recipe.model_copy(update={"threads": self.threads})
        losses = {NATURAL: recipe}
        if self.logit_norm:
            losses[LOGIT_NORM] = recipe.model_copy(update={"loss": LogitNorm()})
        return {
            name: [
                self.network.model_copy(
                    update={"data": self.data, "recipe": own, "without": self.without(seed)}
                ).trial(seed, self.device, name)
                for seed in range(self.seeds)
            ]
            for name, own in losses.items()
        }

    def reconstructing(self) -> dict[str, list[Trial]]:
        """Return the trials that train autoencoders: the course's, a variational one, and the
        course's as it fed it; none where no detector reads one."""
        if not any("autoencoder" in detector.reads() for detector in self.detectors):
            return {}
        conv, variational = (
            ConvAutoencoder(widths=self.widths),
            VariationalAutoencoder(widths=self.widths),
        )
        learnt: dict[str, dict[str, Any]] = {
            "conv": {"network": conv},
            "variational": {"network": variational},
            "signed": {"network": conv, "signed": True},
        }
        return {
            name: [
                TrainAutoencoder(
                    data=self.data,
                    learning=self.autoencoder.model_copy(update=own),
                    train_images=self.autoencoder_images,
                    images_by_seed=True if self.autoencoder_images else None,
                    without=self.without(seed),
                )
                .trial(seed, self.device, self.threads)
                .model_copy(update={"label": f"autoencoder, {name}"})
                for seed in range(self.seeds)
            ]
            for name, own in learnt.items()
        }

    def scored(self) -> dict[str, list[Trial]]:
        """Return the trials that score outliers, by loss."""
        config = ScoreOutliers(
            detectors=self.detectors,
            outliers=self.outliers,
            raw=self.raw,
            quality=self.quality,
            fitted_on=self.fitted_on,
            calibrated_on=self.calibrated_on,
            inside=self.inside,
            outside=self.outside,
        )
        others = list(zip(*self.reconstructing().values(), strict=True)) or [()] * self.seeds
        channels, size, _ = load_data(self.data, size=self.network.size).shape
        return {
            name: config.trials(
                [(one, *own) for one, own in zip(trials, others, strict=True)],
                f"{name}, detectors",
                size,
                channels,
            )
            for name, trials in self.networks().items()
        }

    def evaded(self) -> list[Trial]:
        """Return the trials that attack detectors of the networks of cross-entropy."""
        if not self.attacked:
            return []
        config = EvadeDetectors(
            detectors=tuple(d for d in self.detectors if d.name in self.attacked),
            outliers=(HELD_OUT,) if HELD_OUT in self.outliers else self.outliers[:1],
            eps=self.eps,
            steps=self.attack_steps,
            images=self.attacked_images,
            inside=self.inside,
            fitted_on=self.fitted_on,
            calibrated_on=self.calibrated_on,
            quality=self.quality,
        )
        return config.trials(self.networks()[NATURAL], "attack on detectors")

    def plan(self, done: Results) -> Sequence[Trial]:
        del done
        columns = [*self.networks().values(), *self.reconstructing().values()]
        columns += [*self.scored().values(), *([self.evaded()] if self.attacked else [])]
        return [trial for seed in zip(*columns, strict=True) for trial in seed]

    def resolved(self) -> Self:
        made = super().resolved()
        network = made.network.model_copy(update={"data": made.data, "without": made.without(0)})
        check_data(network)
        recipe = network.settled(made.device)
        own = made.network.model_copy(update={"data": made.data, "recipe": recipe})
        return made.model_copy(update={"network": own})

    def cost(self, trial: Trial) -> Cost | None:
        if trial.task != TASK:
            return None
        # networks differ in loss and classes alone, which costs nothing: one is measured for all
        return Cost(_seconds(self.network.canonical(), trial.device), 2_000_000)

    # -- findings ------------------------------------------------------------------------------

    def cells(self, done: Results) -> Cells:
        trials = {f"{name} network": own for name, own in self.networks().items()}
        if self.attacked:
            trials["attack"] = self.evaded()
        size, left_out = self.network.size, self.without(0) or ()
        there_are = how_many(self.data, "test", size=size, without=left_out)
        drawn = apart(self.inside, self.seeds, there_are)
        return Cells({**self.scored(), **trials}, done, images_drawn=drawn)

    def findings(self, done: Results) -> Findings:
        cells = self.cells(done)
        return Findings(
            effects=claims.effects(self, cells),
            tables=tables.tables(self, cells),
            figures=figures.figures(self, cells),
            notes=page.notes(self, cells),
        )

    def figures_of(self, result: StudyResult) -> Sequence[Drawing]:
        return figures.figures_of(self, result)

    def answer(self, claims: Sequence[stats.Claim]) -> str:
        return page.answer(self, claims)

    @property
    def near(self) -> str:
        """The nearest kind of outlier."""
        return HELD_OUT if HELD_OUT in self.outliers else self.outliers[0]

    @property
    def uncorrupted(self) -> list[str]:
        """The kinds of which the label does not hold any more."""
        return uncorrupted(self.outliers)
