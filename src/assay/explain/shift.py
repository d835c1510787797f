"""How far attention moved between two explanations of the same images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from assay.core.attribution import Attribution
from assay.errors import AssayError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class AttentionShift:
    """Per image, how far a map moved; NaN where one of the two maps explains nothing.

    Attributes:
        overlap: float64 (N,), intersection over union of the top 20 % of pixels; 1 when unmoved.
        correlation: float64 (N,), Spearman's rank correlation of the pixels; 1 when unmoved.
        distance: float64 (N,), how far the centre of mass moved, in pixels; 0 when unmoved.
        empty: bool (N,), images where one of the two maps explains nothing.
    """

    overlap: Array
    correlation: Array
    distance: Array
    empty: NDArray[np.bool_]

    def to_dict(self) -> dict[str, Any]:
        """Return the medians over the images with two maps, and how many these are."""
        n = int((~self.empty).sum())
        return {
            "n": n,
            "empty": int(self.empty.sum()),
            **{
                name: float(np.nanmedian(getattr(self, name))) if n else None
                for name in ("overlap", "correlation", "distance")
            },
        }


def attention_shift(
    before: Attribution | NDArray[Any], after: Attribution | NDArray[Any], top: float = 0.2
) -> AttentionShift:
    """Compare two explanations (N, H, W) of the same images, image by image.

    Args:
        before, after: maps in [0, 1]; a row of zeros counts as one that explains nothing.
        top: the fraction of pixels that `overlap` compares, in (0, 1].
    """
    a, b = (np.asarray(maps, dtype=np.float64) for maps in (before, after))
    if a.ndim != 3 or a.shape != b.shape:
        raise AssayError(f"two sets of maps (N, H, W) of one shape: got {a.shape} and {b.shape}")
    empty = np.asarray((a <= 0).all((1, 2)) | (b <= 0).all((1, 2)), dtype=np.bool_)
    return AttentionShift(
        overlap=np.where(empty, np.nan, overlap(a, b, top)),
        correlation=np.where(empty, np.nan, rank_correlation(a, b)),
        distance=np.where(empty, np.nan, centre_distance(a, b)),
        empty=empty,
    )


def overlap(a: Array, b: Array, top: float = 0.2) -> Array:
    """Return the intersection over union of the `top` fraction of pixels: (N,) from (N, H, W).

    Pixels that tie with the last one are in; pixels that are 0 never are. NaN for two maps of
    zeros.
    """
    if not 0 < top <= 1:
        raise AssayError(f"top is a fraction of the pixels in (0, 1], got {top}")
    first, second = _brightest(a, top), _brightest(b, top)
    return _ratio((first & second).sum(1), (first | second).sum(1))


def _brightest(maps: Array, top: float) -> NDArray[np.bool_]:
    flat = maps.reshape(len(maps), -1)
    count = math.ceil(round(top * flat.shape[1], 9))
    least = np.partition(flat, -count, axis=1)[:, [-count]]
    return np.asarray((flat >= least) & (flat > 0), dtype=np.bool_)


def rank_correlation(a: Array, b: Array) -> Array:
    """Return Spearman's rank correlation of the pixels, ties sharing their mean rank: (N,).

    NaN where a map is the same everywhere.
    """
    ranks = (rankdata(maps.reshape(len(maps), -1), axis=1) for maps in (a, b))
    first, second = (rank - rank.mean(1, keepdims=True) for rank in ranks)
    scale = np.sqrt((first**2).sum(1) * (second**2).sum(1))
    return _ratio((first * second).sum(1), scale)


def centre_distance(a: Array, b: Array) -> Array:
    """Return how far the centre of mass moved, in pixels: (N,). NaN where a map is all zeros."""
    return np.asarray(np.hypot(*(_centre(a) - _centre(b)).T), dtype=np.float64)


def _centre(maps: Array) -> Array:
    """Return the centre of mass as (row, column): (N, 2)."""
    rows, columns = np.arange(maps.shape[1]), np.arange(maps.shape[2])
    mass = np.stack([maps.sum(2) @ rows, maps.sum(1) @ columns], axis=1)
    return _ratio(mass, maps.sum((1, 2))[:, None])


def _ratio(part: NDArray[Any], whole: NDArray[Any]) -> Array:
    """Return part / whole, NaN where the whole is 0."""
    return np.asarray(part / np.where(whole == 0, np.nan, whole), dtype=np.float64)
