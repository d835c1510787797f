"""Outliers: images that belong to no class of the model under test."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from assay.core.random import Stream
from assay.data.dataset import Dataset, in_memory, to_float
from assay.data.load import BUNDLED, image_set, load_data
from assay.data.opened import Asked
from assay.errors import AssayError

NoiseKind = Literal["uniform", "gaussian"]
NOISE: dict[str, NoiseKind] = {"uniform-noise": "uniform", "gaussian-noise": "gaussian"}

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, what Pillow makes grey with


def noise(kind: NoiseKind, shape: tuple[int, int, int], n: int = 1000, *, seed: int = 0) -> Dataset:
    """Return `n` images of noise of `shape` (C, H, W), labels -1: the easiest outliers there are.

    `uniform`: every value uniform in [0, 1]. `gaussian`: normal with mean 0.5 and standard
    deviation 0.25, clipped to [0, 1]. Values are rounded to the 256 grey levels, as those of any
    image are. Each image depends on its own index and the seed alone: fewer are the beginning of
    more.
    """
    if kind not in ("uniform", "gaussian"):
        raise AssayError(f"noise is 'uniform' or 'gaussian', not {kind!r}")
    stream = Stream(seed).child("noise", kind)
    images = torch.empty(n, *shape, dtype=torch.uint8)
    for ids in torch.split(torch.arange(n), 256):
        rng = stream.rows(ids)
        x = rng.uniform(shape) if kind == "uniform" else 0.5 + 0.25 * rng.normal(shape)
        images[ids] = _to_levels(x)
    return in_memory(f"{kind}-noise", "test", (), images, torch.full((n,), -1))


def outliers(
    name: str,
    shape: tuple[int, int, int],
    n: int = 1000,
    *,
    split: str = "test",
    size: int | None = None,
    seed: int = 0,
    cache: str | Path | None = None,
) -> Dataset:
    """Return outliers by name, brought to `shape` (C, H, W), labels -1.

    Args:
        name: `uniform-noise`, `gaussian-noise`, or the name of an image set, of which `n` images
            are taken as `Dataset.take` does.
        shape: what the model under test reads. Images are scaled (bilinear, antialiased); grey is
            repeated over the channels, colour becomes its luma.
        split, size, cache: for image sets, as for `load_data`; they need no labels.

    Raises:
        AssayError: as `load_data` does.
    """
    if name in NOISE:
        return noise(NOISE[name], shape, n, seed=seed)
    if name in BUNDLED:
        found = load_data(name, split=split, seed=seed)
    else:
        found = image_set(name, split, Asked(size=size, labelled=False), cache)
    found = found.sample(n, seed)
    images = fitted(found.images, shape)
    return in_memory(found.name, split, (), images, torch.full((len(found),), -1))


def fitted(images: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Return uint8 images (N, C, H, W) brought to `shape` (C', H', W'), C and C' 1 or 3."""
    channels, height, width = shape
    if tuple(images.shape[1:]) == shape:
        return images
    x = to_float(images)
    if channels == 1 and x.shape[1] == 3:
        x = (x * torch.tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
    if x.shape[2:] != (height, width):
        x = F.interpolate(x, (height, width), mode="bilinear", antialias=True)
    return _to_levels(x).expand(-1, channels, -1, -1).contiguous()


def _to_levels(x: Tensor) -> Tensor:
    return x.clamp(0, 1).mul_(255).round_().to(torch.uint8)
