"""Autoencoders: an encoder into a few numbers, and a decoder back to an image."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import BeforeValidator, Field, field_validator
from torch import Tensor, nn
from torch.nn import functional as F

from assay.config import Config
from assay.core.random import Rows, Stream
from assay.errors import AssayError
from assay.models.mlp import parse_widths
from assay.models.saved import save_model, saved
from assay.models.weights import load_weights, read_weights


class Autoencoder(nn.Module):
    """An encoder and a decoder.

    `encode` takes images (N, C, H, W) in [0, 1] to codes (N, D); `decode` takes codes to images.
    `loss` is what training makes small: here the mean squared error per pixel.
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

    def loss(self, x: Tensor, rng: Rows) -> Tensor:
        del rng
        return F.mse_loss(self(x), x)


class Variational(Autoencoder):
    """A variational autoencoder (Kingma & Welling 2014): the encoder gives a normal distribution
    over codes, the decoder the means of normal distributions over values of pixels, which share one
    learned standard deviation (Rybkin et al. 2021, "Simple and effective VAE training with
    calibrated decoders").

    `encode` gives the mean code, `loss` the negative evidence bound in nats per value.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__(encoder, decoder)
        self.log_sigma = nn.Parameter(torch.zeros(()))

    def encode(self, x: Tensor) -> Tensor:
        return self.encoder(x).chunk(2, dim=1)[0]  # type: ignore[no-any-return]

    def loss(self, x: Tensor, rng: Rows) -> Tensor:
        return -self.evidence_bound(x, rng).mean() / x[0].numel()

    def evidence_bound(self, x: Tensor, rng: Rows | None = None) -> Tensor:
        """Return a lower bound on log p(x) in nats, float32 (N,): E_q log p(x | c) - KL(q ‖ prior).

        Args:
            x: images (N, C, H, W) in [0, 1].
            rng: draws the one code that the expectation is taken by; None: the mean code, so that
                an image has one bound (with the variance of q neglected in the first term).
        """
        mean, log_var = self.encoder(x).chunk(2, dim=1)
        code = mean if rng is None else mean + (log_var / 2).exp() * rng.normal(mean.shape[1:])
        errors = (self.decode(code) - x).square().flatten(1).sum(1)
        values = x[0].numel()
        likelihood = -errors / (2 * (2 * self.log_sigma).exp()) - values * (
            self.log_sigma + math.log(2 * math.pi) / 2
        )
        divergence = (mean.square() + log_var.exp() - log_var - 1).sum(1) / 2
        bound: Tensor = likelihood - divergence
        return bound


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


class ConvAutoencoder(Config):
    """4 × 4 convolutions of stride 2 with ReLU, mirrored by transposed ones, and a sigmoid at the
    end. On 3 × 32 × 32 pixels the code is 48 × 4 × 4, a quarter of the numbers of an image."""

    name: Literal["conv"] = "conv"
    """The kind of autoencoder."""
    widths: Annotated[tuple[int, ...], BeforeValidator(parse_widths)] = Field(
        default=(12, 24, 48), min_length=1
    )
    """Channels after each convolution of the encoder."""

    def build(self, in_shape: tuple[int, int, int], stream: Stream) -> Autoencoder:
        """Return the autoencoder, float32, of images (N, C, H, W) in [0, 1].

        Raises:
            AssayError: for images that are smaller than what the convolutions halve.
        """
        with stream.seeding():
            down, up, smallest = _convolutions(in_shape, self.widths)
            return Autoencoder(
                nn.Sequential(*down, nn.Flatten()),
                nn.Sequential(nn.Unflatten(1, smallest), *up, nn.Sigmoid()),
            )


class VariationalAutoencoder(Config):
    """The same convolutions, with a normal distribution over few numbers between them."""

    name: Literal["variational"] = "variational"
    """The kind of autoencoder."""
    widths: Annotated[tuple[int, ...], BeforeValidator(parse_widths)] = Field(
        default=(12, 24, 48), min_length=1
    )
    """Channels after each convolution of the encoder."""
    code: int = Field(default=128, ge=1)
    """Numbers that an image is encoded in."""

    def build(self, in_shape: tuple[int, int, int], stream: Stream) -> Variational:
        """Return the autoencoder, float32, of images (N, C, H, W) in [0, 1].

        Raises:
            AssayError: for images that are smaller than what the convolutions halve.
        """
        with stream.seeding():
            down, up, smallest = _convolutions(in_shape, self.widths)
            size = math.prod(smallest)
            return Variational(
                nn.Sequential(*down, nn.Flatten(), nn.Linear(size, 2 * self.code)),
                nn.Sequential(
                    nn.Linear(self.code, size),
                    nn.ReLU(),
                    nn.Unflatten(1, smallest),
                    *up,
                    nn.Sigmoid(),
                ),
            )


AnyAutoencoder = Annotated[
    MLPAutoencoder | ConvAutoencoder | VariationalAutoencoder, Field(discriminator="name")
]


class _Saved(Config):
    network: AnyAutoencoder


def _convolutions(
    in_shape: tuple[int, int, int], widths: tuple[int, ...]
) -> tuple[list[nn.Module], list[nn.Module], tuple[int, int, int]]:
    """Return the convolutions down and back up, and the shape that is between them."""
    channels = (in_shape[0], *widths)
    sizes = [in_shape[1:]]
    for _ in widths:
        height, width = sizes[-1]
        sizes.append((height // 2, width // 2))
    if min(sizes[-1]) < 1:
        raise AssayError(
            f"images of {in_shape[1]} × {in_shape[2]} pixels are too small to be halved "
            f"{len(widths)} times; give fewer widths"
        )
    down: list[nn.Module] = []
    up: list[nn.Module] = []
    for before, after in pairwise(channels):
        down += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.ReLU()]
    for level in range(len(widths), 0, -1):
        larger, smaller = sizes[level - 1], sizes[level]
        odd = (larger[0] - 2 * smaller[0], larger[1] - 2 * smaller[1])
        up += [
            nn.ConvTranspose2d(
                channels[level], channels[level - 1], 4, stride=2, padding=1, output_padding=odd
            ),
            nn.ReLU(),
        ]
    return down, up[:-1], (channels[-1], *sizes[-1])


def _layers(sizes: tuple[int, ...]) -> list[nn.Module]:
    """Return linear layers from size to size with a ReLU between them."""
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return layers[:-1]


def save_autoencoder(
    path: Path, model: Autoencoder, config: AnyAutoencoder, in_shape: tuple[int, int, int]
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
    config = _Saved.parse({"network": about.config}, where=str(path)).network
    model = config.build(about.in_shape, Stream(0))
    load_weights(model, read_weights(path), path)
    return model.eval()
