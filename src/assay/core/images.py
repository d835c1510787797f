"""What images must be: float (N, C, H, W) in [0, 1]; and how many are evaluated at a time."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from assay.core.misfits import of_channels
from assay.errors import AssayError

RANGE_TOLERANCE = 1e-6


def check_images(x: Tensor | NDArray[Any]) -> Tensor:
    """Return `x` clamped to [0, 1], if it is float images (N, C, H, W) within 1e-6 of that range:
    a tensor, or a numpy array, which becomes one.

    Raises:
        AssayError: names the shape, the dtype, or the least and greatest value seen.
    """
    if isinstance(x, np.ndarray):
        x = torch.from_numpy(x.copy())  # it may be read-only, or have negative strides
    if not isinstance(x, Tensor):
        raise AssayError(
            f"images must be a tensor or an array (N, C, H, W), not {type(x).__name__}"
        )
    if x.ndim != 4:
        raise AssayError(f"images must have shape (N, C, H, W), got {tuple(x.shape)}")
    if not x.is_floating_point():
        raise AssayError(f"images must be float in [0, 1], got {x.dtype}; divide by 255 first")
    if len(x) == 0:
        return x
    low, high = (float(v) for v in torch.aminmax(x.detach()))
    if not (low >= -RANGE_TOLERANCE and high <= 1 + RANGE_TOLERANCE):
        raise AssayError(
            f"images must lie in [0, 1], but the values seen go from {low:.6g} to {high:.6g}; "
            "pass raw pixels and give the normalisation to Classifier(mean=, std=)"
        )
    return x.clamp(0, 1) if low < 0 or high > 1 else x


def check_channels(x: Tensor, *statistics: Tensor | None) -> None:
    """Refuse a mean or std that broadcasting would fit to `x` (N, C, H, W) by adding channels."""
    for values in statistics:
        if values is not None and values.numel() not in (1, x.shape[1]):
            known = {values.numel(), x.shape[1]} == {1, 3}
            own = f", or if {of_channels(values.numel(), x.shape[1])}" if known else ""
            raise AssayError(
                f"mean and std have {values.numel()} values, but the images have "
                f"{x.shape[1]} channels; give one value per channel{own}"
            )


def rows_that_fit(x: Tensor) -> int:
    """Return a batch size that keeps activations in cache on a CPU: 256 of CIFAR, 1 of 1024²."""
    size = max(1, x[0].numel()) if len(x) else 1
    return max(1, min(512, 786_432 // size))


def digests(x: Tensor) -> list[bytes]:
    """Return a digest of each image (N, ...): two that are the same, to the last bit, share it."""
    images = x.detach().cpu().contiguous().numpy()
    return [hashlib.blake2b(image, digest_size=16).digest() for image in images]
