"""Do gradients vanish in deep MLPs, with which activations, and what brings them back?

On its way back a layer multiplies the gradient by the root mean square of its activation's slope,
times the square root of fan × Var(weight) (Glorot & Bengio 2010, equations 5 to 7; He et al. 2015,
equation 14). Near zero the slope of sigmoid is 1/4, of tanh 1, of ReLU 1 for half of the units.
Xavier makes fan × Var(weight) 1 and He 2; PyTorch's default makes it 1/3, so that even ReLU loses
gradient with depth. No initialisation of either paper undoes sigmoid's 1/4.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field, field_validator, model_validator

from assay import stats
from assay.config import Number, Repeats
from assay.models.mlp import Activation
from assay.report.result import Drawing, StudyResult
from assay.runs.results import Results
from assay.studies.base import Findings
from assay.studies.cell_study import CellStudy
from assay.studies.cells import Cells
from assay.studies.gradients import drawings, page, words
from assay.studies.gradients.networks import VARIANTS, Net, Variant, deepest, lag, widths_of
from assay.studies.on_images import per_image
from assay.tasks.train import TrainNetwork
from assay.train import Adam, Constant, Recipe, Watch


class Gradients(CellStudy):
    """MLPs over depth and activation: as they are, properly initialised, and cured."""

    NAME: ClassVar[str] = "gradients"
    QUESTION: ClassVar[str] = "Do gradients vanish in deep MLPs, and with which activations?"
    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {
            "data": "digits",
            "seeds": 2,
            "shapes": ("2x32", "5x32"),
            "activations": ("sigmoid", "relu"),
            "cures_from": 5,
            "train_images": 960,
            "test_images": 300,
            "recipe": {
                "epochs": 3,
                "batch_size": 32,
                "optimizer": {"name": "adam", "lr": 3e-3},
                "schedule": {"name": "constant"},
            },
            "watch": {"every": 15, "images": 200},
        },
        "quick": {},
        "paper": {
            "seeds": 1,
            "shapes": ("shallow", "medium", "course"),
            "activations": ("sigmoid", "tanh", "relu", "leaky_relu"),
            "train_images": None,
            "test_images": None,
            "recipe": {
                "epochs": 50,
                "batch_size": 64,
                "optimizer": {"name": "adam", "lr": 1e-3},
                "schedule": {"name": "constant"},
                "patience": 15,
            },
            "watch": {"every": 800, "images": 500},
        },
    }

    data: str = "mnist"
    """Data set: a bundled name, a hub id or a folder."""
    seeds: Repeats = 10
    """How many seeds every cell is run with."""
    shapes: tuple[str, ...] = ("2x64", "5x64", "10x64", "20x64", "course")
    """Hidden layers: depth x width, or one of the course's: shallow, medium, course (its deep one,
    10 layers from 256 units to 16)."""
    activations: tuple[Activation, ...] = ("sigmoid", "tanh", "relu", "leaky_relu", "gelu")
    """The non-linearities; sigmoid and relu are among them."""
    cures_from: int = Field(default=10, ge=1)
    """Hidden layers from which on batch norm and residual connections are tried too."""
    recipe: Recipe = Recipe(epochs=1, batch_size=64, optimizer=Adam(lr=1e-3), schedule=Constant())
    """How every cell is trained: nothing in it regularizes."""
    train_images: int | None = Field(default=44_800, ge=10)
    """How many training images are used; none: all."""
    test_images: int | None = Field(default=2000, ge=10)
    """How many test images are used; none: all."""
    watch: Watch = Watch(every=56, images=500)
    """When the networks are measured while they train."""
    delta_gain: Number = Field(default=0.2, ge=0)
    """Smallest gain per layer, or difference of two, that matters, in nats: 0.2 is a factor of 45
    over 20 layers."""
    delta_lag: Number = Field(default=1.0, ge=0)
    """By how much less the first layers must move than the last to count as not learning, in
    decades."""
    delta_accuracy: Number = Field(default=0.2, ge=0)
    """Smallest gain of test accuracy for which a net that did not learn counts as cured, as a
    fraction."""

    @field_validator("shapes")
    @classmethod
    def _known(cls, shapes: tuple[str, ...]) -> tuple[str, ...]:
        if not shapes or len({widths_of(shape) for shape in shapes}) < len(shapes):
            raise ValueError("there must be a shape, and each one once")
        return shapes

    @field_validator("activations")
    @classmethod
    def _compared(cls, activations: tuple[Activation, ...]) -> tuple[Activation, ...]:
        if len(set(activations)) < len(activations) or not {"sigmoid", "relu"} <= {*activations}:
            raise ValueError(
                "sigmoid and relu must be there, and each one once: claims are on them"
            )
        return activations

    @model_validator(mode="after")
    def _deep_enough(self) -> Gradients:
        layers = len(widths_of(deepest(self.shapes)))
        if layers < max(3, self.cures_from):
            raise ValueError(
                f"the deepest shape is {deepest(self.shapes)}; claims need one of at least "
                f"{max(3, self.cures_from)} hidden layers, 3 or more, and from cures_from on"
            )
        return self

    @property
    def deep(self) -> list[str]:
        """The shapes that the cures are tried on."""
        return [shape for shape in self.shapes if len(widths_of(shape)) >= self.cures_from]

    def nets(self) -> list[Net]:
        """Return all networks, by shape, activation and variant."""
        return [
            Net(activation, shape, variant)
            for shape in self.shapes
            for activation in self.activations
            for variant in (VARIANTS if shape in self.deep else VARIANTS[:2])
        ]

    def grid(self) -> Mapping[str, TrainNetwork]:
        longest_first = sorted(self.nets(), key=lambda net: -len(net.widths))
        recipe = self.recipe.model_copy(update={"threads": self.threads})
        return {
            net.name: TrainNetwork(
                data=self.data,
                network=net.config(),
                recipe=recipe,
                train_images=self.train_images,
                test_images=self.test_images,
                watch=self.watch,
            )
            for net in longest_first
        }

    def findings(self, done: Results) -> Findings:
        cells = self.cells(done)
        shown = page.Page(cells, self.nets())
        return Findings(
            effects=self.effects(cells),
            tables=(shown.gains(), shown.accuracies()),
            figures=drawings.drawings(shown),
            summary=words.summary(self, cells),
            notes=words.notes(self),
        )

    def answer(self, claims: Sequence[stats.Claim]) -> str:
        return words.answer(self, claims)

    def figures_of(self, result: StudyResult) -> Sequence[Drawing]:
        return page.figures_of(self, result)

    def effects(self, cells: Cells) -> tuple[stats.Effect, ...]:
        """Return what each claim rests on; runs that collapsed count, since they are the point."""
        layers = len(widths_of(deepest(self.shapes)))

        def net(activation: Activation, variant: Variant = "default") -> Net:
            return Net(activation, deepest(self.shapes), variant)

        over = f"over {layers} layers"
        left = f"{100 * math.exp(-self.delta_gain * (layers - 1)):.2g} %"
        weak = (
            f"at this factor {left} of the gradient is left {over}, which Adam still makes up for"
        )
        times = f"{math.exp(self.delta_gain * (layers - 1)):.2g}"
        choice = f"a ratio nearer to 1 leaves gradients within {times} times each other {over}: "

        def falls(code: str, text: str, net: Net) -> stats.Effect:
            return cells.effect(
                f"gradients.{code}",
                text,
                delta=self.delta_gain,
                of=[net.name],
                value=net.gain,
                all_runs=True,
                note="The factor from one layer to the next nearer to the input, before the first "
                "step.",
                unit="factor",
                per="layer",
                why_delta=f"{weak}; a depth at which less is lost needs no cure.",
            )

        def falls_faster(code: str, text: str, more: Net, less: Net, choose: str) -> stats.Effect:
            return cells.effect(
                f"gradients.{code}",
                text,
                delta=self.delta_gain,
                of=[more.name, less.name],
                value=lambda a, b: more.gain(a) - less.gain(b),
                all_runs=True,
                note="The ratio of two such factors per layer, before the first step, paired by "
                "seed.",
                unit="factor",
                per="layer",
                why_delta=f"{choice}nobody would choose another {choose} for it.",
            )

        def cures(variant: Variant, what: str) -> stats.Effect:
            return cells.effect(
                f"gradients.{variant.replace(' ', '_')}",
                f"{what} the {layers}-layer sigmoid net learn: test accuracy rises.",
                delta=self.delta_accuracy,
                of=[net("sigmoid", variant).name, net("sigmoid").name],
                value=lambda cured, bare: (
                    cured.metrics["test_accuracy"] - bare.metrics["test_accuracy"]
                ),
                images=lambda rows: per_image(rows, (1.0, -1.0), "test_accuracy"),
                floor="test_accuracy",
                all_runs=True,
                why_delta="a net that rises so far above chance has begun to learn; less can come "
                "from the last layers alone, on features that are still random.",
            )

        sigmoid, relu = net("sigmoid"), net("relu")
        found = [
            falls(
                "sigmoid_vanishes",
                f"In a {layers}-layer sigmoid net the gradient falls exponentially towards the "
                "input.",
                sigmoid,
            ),
            falls_faster(
                "sigmoid_steeper",
                "It falls faster with sigmoid than with ReLU.",
                sigmoid,
                relu,
                "activation",
            ),
        ]
        if "tanh" in self.activations:
            found.append(
                falls_faster(
                    "tanh_steeper",
                    "It falls faster with tanh, which saturates too, than with ReLU.",
                    net("tanh"),
                    relu,
                    "activation",
                )
            )
        learns = cells.effect(
            "gradients.first_layers",
            f"The first layers of a {layers}-layer sigmoid net do not learn: the first third moves "
            "less than a tenth as far as the last third.",
            delta=self.delta_lag,
            of=[sigmoid.name],
            value=lag,
            all_runs=True,
            note="The ratio of how far they moved: the weights' distance from their start over "
            "their norm then.",
            unit="decades",
            why_delta="layers that move a tenth as far still learn, in ten times the steps; "
            "further behind they stay as they were drawn.",
        )
        return (
            *found,
            learns,
            falls_faster(
                "he_keeps",
                "He initialisation keeps the gradient of the ReLU net: with PyTorch's default it "
                "falls faster.",
                relu,
                net("relu", "proper"),
                "initialisation",
            ),
            cures("proper", "Xavier initialisation makes"),
            cures("batch norm", "Batch norm makes"),
            cures("residual", "Residual connections make"),
        )
