"""Multi-layer perceptrons. The config is torch-free until it builds."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator

from assay.models.base import Architecture

if TYPE_CHECKING:
    from torch import nn

    from assay.core.random import Stream

Activation = Literal["sigmoid", "tanh", "relu", "leaky_relu", "gelu"]


def parse_widths(value: Any) -> Any:
    """Turn `"8x64"`, eight layers of 64, into widths; anything else is left to pydantic."""
    if isinstance(value, list | tuple) and len(value) == 1 and isinstance(value[0], str):
        value = value[0] if "x" in value[0] else value
    if isinstance(value, str):
        shape = re.fullmatch(r"\s*(\d+)\s*x\s*(\d+)\s*", value)
        if shape is None:
            raise ValueError(f"{value!r} is not depth x width, such as 8x64")
        return (int(shape[2]),) * int(shape[1])
    return value


class MLP(Architecture):
    """Linear layers with a non-linearity between them, on flattened images.

    A hidden layer is linear, activation, norm, dropout, in this order: the course puts batch norm
    after the activation.

    >>> assay.models.MLP(widths="3x16", activation="gelu").widths
    (16, 16, 16)
    """

    name: Literal["mlp"] = "mlp"
    """The kind of network."""
    widths: Annotated[tuple[int, ...], BeforeValidator(parse_widths)] = (256, 128)
    """Units of each hidden layer, from the input on; "8x64" means eight layers of 64."""
    activation: Activation = "relu"
    """The non-linearity: sigmoid, tanh, relu, leaky_relu (slope 0.01) or gelu."""
    norm: Literal["none", "batch", "layer"] = "none"
    """Normalisation after each activation."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Probability of zeroing a hidden unit in training."""
    residual: bool = False
    """Add a hidden layer's input to its output where their widths agree."""
    init: Literal["default", "he", "xavier"] = "default"
    """Initial weights: PyTorch's own (uniform, ±1/sqrt(fan in)), He et al. 2015 or Glorot 2010."""

    @field_validator("widths")
    @classmethod
    def _positive(cls, widths: tuple[int, ...]) -> tuple[int, ...]:
        if any(width < 1 for width in widths):
            raise ValueError("every width must be at least 1")
        return widths

    def build(self, in_shape: tuple[int, int, int], classes: int, stream: Stream) -> nn.Module:
        """Return the network, float32, from (N, C, H, W) to logits (N, classes).

        The initial weights depend on `stream` alone; torch's own generator is left as it was.
        """
        from assay.models.blocks import mlp

        with stream.seeding():
            return mlp(self, in_shape, classes)
