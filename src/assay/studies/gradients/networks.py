"""The MLPs that the study of gradients compares, and what is measured of each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from assay.models import MLP
from assay.models.mlp import Activation, parse_widths
from assay.runs.entry import Result

Floats = NDArray[np.float64]

COURSE = {
    "shallow": (256, 128),
    "medium": (512, 256, 128, 64),
    "course": (256, 256, 128, 128, 64, 64, 32, 32, 16, 16),
}
"""The course's shapes by name; "course" is its deep one."""

Variant = Literal["default", "proper", "batch norm", "residual"]
VARIANTS: tuple[Variant, ...] = ("default", "proper", "batch norm", "residual")
"""What is changed of the default, one thing at a time: the initialisation, a norm after each
activation, or connections around each layer whose widths agree."""

PROPER: dict[str, Literal["xavier", "he"]] = {"sigmoid": "xavier", "tanh": "xavier"}
"""The initialisation made for an activation: Glorot & Bengio's for those that saturate on both
sides, otherwise He et al.'s, made for ReLU and used for its kin."""

SMALLEST = 1e-45
"""Stands for a gradient that is zero in float32."""
UNMOVED = 1e-9
"""Stands for a weight that did not move in float32: a hundredth of its resolution."""


@dataclass(frozen=True)
class Net:
    """One of the networks that are compared."""

    activation: Activation
    shape: str
    variant: Variant

    @property
    def name(self) -> str:
        """What its cell is called: "sigmoid 20x64 batch norm"."""
        return f"{self.activation} {self.shape} {self.variant}"

    @property
    def widths(self) -> tuple[int, ...]:
        """The units of its hidden layers."""
        return widths_of(self.shape)

    def config(self) -> MLP:
        """Return the network."""
        proper = PROPER.get(self.activation, "he")
        return MLP(
            widths=self.widths,
            activation=self.activation,
            norm="batch" if self.variant == "batch norm" else "none",
            residual=self.variant == "residual",
            init=proper if self.variant == "proper" else "default",
        )

    def gain(self, result: Result) -> float:
        """Return the gain per layer of a run's first gradient; see `gain_per_layer`."""
        return gain_per_layer(rms_gradients(result, self.widths)[0])


def widths_of(shape: str) -> tuple[int, ...]:
    """Return the units of each hidden layer of a shape: a name of `COURSE`, or "20x64".

    Raises:
        ValueError: for what is neither.
    """
    if shape in COURSE:
        return COURSE[shape]
    if "x" not in shape:
        raise ValueError(f"{shape!r} is neither depth x width, such as 20x64, nor {_or(COURSE)}")
    return tuple(parse_widths(shape))


def deepest(shapes: Sequence[str]) -> str:
    """Return the shape with the most layers; the first, of several."""
    return max(shapes, key=lambda shape: len(widths_of(shape)))


def rms_gradients(result: Result, widths: Sequence[int]) -> Floats:
    """Return the gradient of each hidden-to-hidden layer at each measurement,
    (measurements, len(widths) - 1).

    It is the root mean square over a layer's weights, so that layers of unequal size compare. The
    first layer, whose fan-in is the image, and the last are left out.
    """
    sizes = np.multiply(widths[:-1], widths[1:])
    inner: Floats = result.arrays["look_gradient_norms"][:, 1:-1]
    return inner / np.sqrt(sizes)


def gain_per_layer(gradients: Floats) -> float:
    """Return by how much the logarithm of the gradient grows per layer towards the output, in nats.

    It is the least-squares slope of ln(gradient) against the number of the layer; positive: the
    gradient vanishes towards the input. NaN for less than two layers.
    """
    if len(gradients) < 2:
        return math.nan
    logs = np.log(np.maximum(gradients, SMALLEST))
    return float(np.polyfit(np.arange(len(logs)), logs, 1)[0])


def lag(result: Result) -> float:
    """Return how many decades less the first third of the layers moved than the last third.

    What a layer moved is its weights' distance from their start, over their norm then, at the last
    measurement; of a third its mean.
    """
    change = result.arrays["look_weight_change"][-1]
    third = max(1, len(change) // 3)
    first, last = (max(float(part.mean()), UNMOVED) for part in (change[:third], change[-third:]))
    return math.log10(last / first)


def _or(names: Mapping[str, Any]) -> str:
    *others, last = names
    return f"{', '.join(others)} or {last}"
