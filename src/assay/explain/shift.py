"""How far saliency moved between two explanations of the same images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy

from assay.core.attribution import Attribution
from assay.errors import AssayError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class SaliencyShift:
    """Per image, how far a map moved; NaN where one of the two maps explains nothing.

    Attributes:
        overlap: float64 (N,), intersection over union of the top 20 % of pixels; 1 when unmoved.
        correlation: float64 (N,), Spearman's rank correlation of the pixels; 1 when unmoved.
        distance: float64 (N,), how far the centre of mass moved, in pixels; 0 when unmoved.
        entropy: float64 (N,), by how much the map's entropy rose, as a share of the greatest there
            is (that of an even map): above 0 it scatters, below 0 it concentrates.
        gini: float64 (N,), by how much its Gini coefficient rose: above 0 it concentrates.
        clinging: float64 (N,), by how much more of the perturbation's energy lies under the map
            (see `energy_under`): above 0 it goes where the perturbation is. NaN without one.
        inside: float64 (N,), by how much the share of the map inside the object rose; NaN without
            masks.
        empty: bool (N,), images where one of the two maps explains nothing.

    >>> explainer, moved = assay.explain.HiResCAM(), x.roll(1, 3)
    >>> shift = assay.explain.saliency_shift(explainer(clf, x, y), explainer(clf, moved, y))
    >>> sorted(shift.to_dict())[:4]
    ['clinging', 'correlation', 'distance', 'empty']
    """

    overlap: Array
    correlation: Array
    distance: Array
    entropy: Array
    gini: Array
    clinging: Array
    inside: Array
    empty: NDArray[np.bool_]

    def to_dict(self) -> dict[str, Any]:
        """Return the medians over the images with two maps, and how many these are."""
        found: dict[str, Any] = {
            "n": int((~self.empty).sum()),
            "empty": int(self.empty.sum()),
        }
        for name in MEASURES:
            values = getattr(self, name)
            known = values[np.isfinite(values)]
            found[name] = float(np.median(known)) if len(known) else None
        return found


MEASURES = ("overlap", "correlation", "distance", "entropy", "gini", "clinging", "inside")
"""The measures of a shift, by the names of their fields."""
MOST_ROWS = 10
"""Rows that an error names."""

HARDLY = 0.75
"""The overlap from which on saliency has hardly moved."""


def saliency_shift(
    before: Attribution | NDArray[Any],
    after: Attribution | NDArray[Any],
    top: float = 0.2,
    *,
    perturbation: NDArray[Any] | None = None,
    masks: NDArray[Any] | None = None,
) -> SaliencyShift:
    """Compare two explanations (N, H, W) of the same images, image by image.

    Both must explain the same classes, as a rule the true ones: a successful attack changes what is
    predicted, and a map of another class has moved by that alone.

    Args:
        before, after: maps in [0, 1]; a row of zeros counts as one that explains nothing.
        top: the fraction of pixels that `overlap` compares, in (0, 1].
        perturbation: attacked images less the images, (N, C, H, W).
        masks: bool (N, H, W), true on the object.

    Raises:
        AssayError: for maps, perturbations or masks that are not of one size, or maps that are not
            finite.

    >>> maps = np.zeros((1, 8, 8))
    >>> maps[:, 2, 2] = 1.0
    >>> assay.explain.saliency_shift(maps, np.roll(maps, 3, axis=2)).distance.tolist()
    [3.0]
    """
    a, b = (np.asarray(maps, dtype=np.float64) for maps in (before, after))
    if a.ndim != 3 or a.shape != b.shape:
        raise AssayError(f"two sets of maps (N, H, W) of one shape: got {a.shape} and {b.shape}")
    bad = np.flatnonzero(~(np.isfinite(a) & np.isfinite(b)).all((1, 2)))
    if len(bad):
        some = ", ".join(map(str, bad[:MOST_ROWS])) + (", …" if len(bad) > MOST_ROWS else "")
        raise AssayError(
            f"{len(bad)} of {len(a)} pairs of maps hold NaN or infinity, which moved nowhere: rows "
            f"{some}; leave them out, or give zeros where a map explains nothing"
        )
    empty = np.asarray((a <= 0).all((1, 2)) | (b <= 0).all((1, 2)), dtype=np.bool_)
    for name, given, axes in (("perturbation", perturbation, 4), ("masks", masks, 3)):
        if given is None:
            continue
        size = np.shape(given)
        if len(size) != axes or (size[0], *size[-2:]) != a.shape:
            raise AssayError(f"{name} of shape {size} do not fit maps of shape {a.shape}")
    unknown = np.full(len(a), np.nan)
    energy = None if perturbation is None else np.square(perturbation, dtype=np.float64).sum(1)
    measured = {
        "overlap": overlap(a, b, top),
        "correlation": rank_correlation(a, b),
        "distance": centre_distance(a, b),
        "entropy": entropy(b) - entropy(a),
        "gini": gini(b) - gini(a),
        "clinging": unknown
        if energy is None
        else energy_under(b, energy) - energy_under(a, energy),
        "inside": unknown if masks is None else inside(b, masks) - inside(a, masks),
    }
    known = {name: np.where(empty, np.nan, values) for name, values in measured.items()}
    return SaliencyShift(empty=empty, **known)


def of_mates(maps: Attribution | NDArray[Any], labels: NDArray[Any]) -> NDArray[np.float32]:
    """Return for every image the map (N, H, W) of the next one of its class, of the last one that
    of the first; an empty one where an image is alone in its class."""
    values = np.asarray(maps, dtype=np.float32)
    found = np.zeros_like(values)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) > 1:
            found[members] = values[np.roll(members, -1)]
    return found


def most_and_least(
    overlaps: Array, fooled: NDArray[np.bool_], count: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the images whose saliency moved most, and those that were fooled although it hardly
    moved: at most `count` each, the furthest end first; images without two maps are left out."""
    order = np.argsort(overlaps, kind="stable")
    order = order[np.isfinite(overlaps[order])]
    return order[:count], order[fooled[order]][::-1][:count]


def entropy(maps: Array) -> Array:
    """Return the entropy of each map as a share of an even map's, in [0, 1]: (N,) from (N, H, W).

    The map's values, divided by their sum, are read as a distribution over pixels. NaN where a map
    is all zeros.
    """
    flat = maps.reshape(len(maps), -1)
    share = _ratio(flat, flat.sum(1, keepdims=True))
    return np.asarray(-xlogy(share, share).sum(1) / np.log(flat.shape[1]), dtype=np.float64)


def gini(maps: Array) -> Array:
    """Return the Gini coefficient of each map's values, 0 (even) to 1 (one pixel): (N,).

    NaN where a map is all zeros (Hurley & Rickard 2009, "Comparing measures of sparsity").
    """
    flat = np.sort(maps.reshape(len(maps), -1), axis=1)
    n = flat.shape[1]
    weight = (2 * np.arange(1, n + 1) - n - 1) / n
    return _ratio((flat * weight).sum(1), flat.sum(1))


def energy_under(maps: Array, energy: Array) -> Array:
    """Return the mean energy of a perturbation where the map is, over its mean everywhere: (N,).

    Pixels are weighted by the map. 1 is what a map gets that knows nothing of the perturbation, or
    a perturbation that is the same everywhere. NaN where either is all zeros.

    Args:
        maps: (N, H, W), not negative.
        energy: (N, H, W): the squares of the perturbation, summed over channels.
    """
    weighted = _ratio((maps * energy).sum((1, 2)), maps.sum((1, 2)))
    return _ratio(weighted, energy.mean((1, 2)))


def inside(maps: Array, masks: NDArray[Any]) -> Array:
    """Return the share of each map's sum that lies inside the object, in [0, 1]: (N,).

    NaN where a map is all zeros, or where there is no object.
    """
    there = np.asarray(masks, dtype=bool)
    share = _ratio((maps * there).sum((1, 2)), maps.sum((1, 2)))
    return np.where(there.any((1, 2)), share, np.nan)


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
    from scipy.stats import rankdata  # which takes a third as long to load as torch

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
