"""The pointing game (Zhang et al. 2016, "Top-down neural attention by excitation backprop")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

from assay import stats
from assay.core.attribution import Attribution
from assay.errors import AssayError

Masks = NDArray[np.bool_]

TOLERANCE = 0.03
"""How far beside an object the paper still counts a hit: 15 pixels of VOC's 500."""


@dataclass(frozen=True, eq=False)
class PointingGame:
    """How often the largest value of a map lies on the object.

    Attributes:
        hit: bool (N,), image by image; never for an empty map.
        chance: what a point at random hits: the mean share of the image that counts as a hit.
        tolerance: how far beside the object still counts, in pixels.
        empty: how many maps point nowhere.
    """

    hit: Masks
    chance: float
    tolerance: int
    empty: int

    @property
    def rate(self) -> stats.Estimate:
        """The share of hits; empty maps count as misses."""
        return stats.proportion(int(self.hit.sum()), len(self.hit), "images with an object")

    def to_dict(self) -> dict[str, Any]:
        return {
            "rate": self.rate.to_dict(),
            "chance": self.chance,
            "tolerance": self.tolerance,
            "empty": self.empty,
        }


def pointing_game(
    maps: Attribution | NDArray[Any], masks: NDArray[Any], tolerance: int | None = None
) -> PointingGame:
    """Return how often the largest value of a map lies on the object; of several, the first.

    The paper plays it on bounding boxes (VOC; `boxes` makes them) and on masks (COCO), and counts
    a point up to 15 pixels beside the object as a hit.

    Args:
        maps: (N, H, W) in [0, 1]; one that is 0 everywhere is empty.
        masks: bool (N, H, W), true on the object.
        tolerance: pixels in each direction; None: the paper's share of the image's longer side.

    Raises:
        AssayError: for masks that do not fit the maps, or an image without an object.

    >>> maps, masks = np.zeros((2, 8, 8)), np.zeros((2, 8, 8), dtype=bool)
    >>> maps[:, 2, 2], masks[0, 2, 2], masks[1, 5, 5] = 1.0, True, True
    >>> assay.explain.pointing_game(maps, masks).hit.tolist()
    [True, False]
    """
    values, there = np.asarray(maps, dtype=np.float64), np.asarray(masks, dtype=bool)
    if values.ndim != 3 or values.shape != there.shape:
        raise AssayError(
            f"the pointing game needs maps and masks (N, H, W) of one shape, got {values.shape} "
            f"and {there.shape}"
        )
    if not bool(there.any((1, 2)).all()):
        raise AssayError(
            f"{int((~there.any((1, 2))).sum())} of {len(there)} masks are empty: the pointing game "
            "needs an object in every image"
        )
    reach = round(TOLERANCE * max(there.shape[1:])) if tolerance is None else tolerance
    square = np.ones((1, 2 * reach + 1, 2 * reach + 1), dtype=bool)
    near = np.asarray(binary_dilation(there, square), dtype=np.bool_).reshape(len(there), -1)
    flat = values.reshape(len(values), -1)
    empty = flat.max(1) <= 0
    hit = near[np.arange(len(flat)), flat.argmax(1)] & ~empty
    return PointingGame(hit, float(near.mean()), reach, int(empty.sum()))


def boxes(masks: NDArray[Any]) -> Masks:
    """Return the bounding box of each mask, as a mask: bool (N, H, W)."""
    there = np.asarray(masks, dtype=bool)
    sides = []
    for away in (2, 1):
        some = np.asarray(there.any(away))
        before = np.logical_or.accumulate(some, axis=1)
        after = np.logical_or.accumulate(some[:, ::-1], axis=1)[:, ::-1]
        sides.append(before & after)
    return np.asarray(sides[0][:, :, None] & sides[1][:, None, :], dtype=np.bool_)
