"""Outliers: images that belong to no class of the model under test."""

from __future__ import annotations

from typing import Literal

import torch

from assay.core.random import Stream
from assay.data.dataset import Dataset, in_memory

NoiseKind = Literal["uniform", "gaussian"]


def noise(kind: NoiseKind, shape: tuple[int, int, int], n: int = 1000, *, seed: int = 0) -> Dataset:
    """Return `n` images of noise of `shape` (C, H, W), labels -1: the easiest outliers there are.

    `uniform`: every value uniform in [0, 1]. `gaussian`: normal with mean 0.5 and standard
    deviation 0.25, clipped to [0, 1]. Values are rounded to the 256 grey levels, as those of any
    image are. Each image depends on its own index and the seed alone: fewer are the beginning of
    more.
    """
    stream = Stream(seed).child("noise", kind)
    images = torch.empty(n, *shape, dtype=torch.uint8)
    for ids in torch.split(torch.arange(n), 256):
        rng = stream.rows(ids)
        x = rng.uniform(shape) if kind == "uniform" else 0.5 + 0.25 * rng.normal(shape)
        images[ids] = x.clamp_(0, 1).mul_(255).round_().to(torch.uint8)
    return in_memory(f"{kind}-noise", "test", (), images, torch.full((n,), -1))
