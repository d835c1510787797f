"""Beforehand: how many observations a threshold on a share needs, to be kept or missed for sure."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from scipy import special

from assay.errors import AssayError
from assay.stats.estimates import proportion


@dataclass(frozen=True)
class Reach:
    """What n observations can say of a share and a threshold.

    Attributes:
        n: how many.
        passes: the share nearest to the threshold whose whole interval keeps it; None: none does.
        fails: the one nearest to it on the other side whose whole interval misses it; None: none.
    """

    n: int
    passes: float | None
    fails: float | None


def reach(
    n: int, threshold: float, direction: Literal["at least", "at most"], level: float = 0.95
) -> Reach:
    """Return from which share on `n` observations decide, by Wilson's interval.

    Args:
        n: observations, at least 1.
        threshold: of the share, in [0, 1].
        direction: the side that passes.
        level: of the interval.

    >>> found = reach(100, 0.5, "at least")
    >>> found.passes, found.fails
    (0.6, 0.4)
    """
    if n < 1:
        raise AssayError(f"a plan is for at least 1 observation, not {n}")
    if direction == "at most":
        mirrored = reach(n, 1 - threshold, "at least", level)
        back = [None if share is None else 1 - share for share in (mirrored.passes, mirrored.fails)]
        return Reach(n, *back)
    above = _first(n, lambda k: proportion(k, n, "", level).low >= threshold)
    below = _first(n, lambda k: proportion(n - k, n, "", level).high < threshold)
    return Reach(n, None if above is None else above / n, None if below is None else 1 - below / n)


def needed(
    threshold: float,
    margin: float,
    direction: Literal["at least", "at most"] = "at least",
    level: float = 0.95,
) -> int | None:
    """Return how many observations decide about a share that lies `margin` beyond its threshold, or
    as far as a share can; None: no number does.

    Wilson's interval inverts the score test, so its end is at the threshold t where n (p - t)² =
    z² t (1 - t).

    >>> needed(0.5, 0.05), needed(0.99, 0.05)
    (385, 381)
    """
    edge = threshold if direction == "at least" else 1 - threshold
    gap = min(margin, 1 - edge)
    if gap <= 0:
        return None
    z = float(special.ndtri((1 + level) / 2))
    return max(1, math.ceil(z**2 * edge * (1 - edge) / gap**2 - 1e-9))


def _first(n: int, holds: Callable[[int], bool]) -> int | None:
    """Return the least k in 0 ... n that a rising condition holds for, or None."""
    if not holds(n):
        return None
    low, high = -1, n
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
