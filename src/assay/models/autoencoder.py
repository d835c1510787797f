"""Autoencoders: an encoder into a few numbers, and a decoder back to an image."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator
from torch import Tensor, nn

from assay.config import Config
from assay.core.random import Stream
from assay.models.loading import save_model, saved
from assay.models.mlp import parse_widths
from assay.models.weights import load_weights, read_weights


class Autoencoder(nn.Module):
    """An encoder and a decoder.

    `encode` takes images (N, C, H, W) in [0, 1] to codes (N, D); `decode` takes codes to images.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def encode(self, x: Tensor) -> Tensor:
        return self.encoder(x)  # type: ignore[no-any-return]

    def decode(self, code: Tensor) -> Tensor:
        return self.decoder(code)  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))


class MLPAutoencoder(Config):
    """Linear layers with ReLU down to a linear code, mirrored back up, and a sigmoid at the end."""

    name: Literal["mlp"] = "mlp"
    """The kind of autoencoder."""
    widths: Annotated[tuple[int, ...], BeforeValidator(parse_widths)] = (256,)
    """Units of each hidden layer of the encoder, from the image on; the decoder mirrors them."""
    code: int = Field(default=32, ge=1)
    """Numbers that an image is encoded in."""

    @field_validator("widths")
    @classmethod
    def _positive(cls, widths: tuple[int, ...]) -> tuple[int, ...]:
        if any(width < 1 for width in widths):
            raise ValueError("every width must be at least 1")
        return widths

    def build(self, in_shape: tuple[int, int, int], stream: Stream) -> Autoencoder:
        """Return the autoencoder, float32, of images (N, C, H, W) in [0, 1].

        The initial weights depend on `stream` alone; torch's own generator is left as it was.
        """
        sizes = (math.prod(in_shape), *self.widths, self.code)
        with stream.seeding():
            return Autoencoder(
                nn.Sequential(nn.Flatten(), *_layers(sizes)),
                nn.Sequential(*_layers(sizes[::-1]), nn.Sigmoid(), nn.Unflatten(1, in_shape)),
            )


def _layers(sizes: tuple[int, ...]) -> list[nn.Module]:
    """Return linear layers from size to size with a ReLU between them."""
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return layers[:-1]


def save_autoencoder(
    path: Path, model: Autoencoder, config: MLPAutoencoder, in_shape: tuple[int, int, int]
) -> None:
    """Write the weights and all that is needed to use them; equal contents give equal bytes.

    Raises:
        AssayError: where it cannot be written.
    """
    save_model(path, model, config, in_shape=in_shape, classes=())


def load_autoencoder(path: Path) -> Autoencoder:
    """Return what `save_autoencoder` wrote, on the CPU, in eval mode.

    Raises:
        AssayError: for a file that is missing, corrupt, or holds no autoencoder.
    """
    about = saved(path)
    config = MLPAutoencoder.parse(about.config, where=str(path))
    model = config.build(about.in_shape, Stream(0))
    load_weights(model, read_weights(path), path)
    return model.eval()
