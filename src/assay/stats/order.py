"""Do rows come in an order that goes by their class? Then the first of them stand for no others."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

SURE = 5.0
"""Standard deviations from what a random order gives: one in a million of those is further off."""
FEWEST = 6
"""Runs that must be missing in any case."""


def by_class(labels: ArrayLike) -> bool:
    """Return whether rows come sorted or in blocks by class, and not in a random order.

    They do where neighbours share a class so often that there are fewer than half as many runs as
    in a random order (whose moments are those of Barton & David 1957, "Multiple runs"), or where
    class numbers rise or fall with the place (Spearman's correlation). Classes that take turns
    (0, 1, 2, 0, 1, 2, …) do not: the first rows have as much of each as the rest.

    Args:
        labels: class numbers (N,).

    >>> import numpy as np
    >>> by_class(np.repeat([0, 1, 2], 30)), by_class(np.tile([0, 1, 2], 30))
    (True, False)
    """
    y = np.asarray(labels)
    n = len(y)
    _, places, counts = np.unique(y, return_inverse=True, return_counts=True)
    if n < 3 or len(counts) < 2:
        return False
    squares, cubes = (float((counts.astype(float) ** power).sum()) for power in (2, 3))
    runs = 1 + int((y[1:] != y[:-1]).sum())
    mean = n + 1 - squares / n
    variance = (squares * (squares + n * (n + 1)) - 2 * n * cubes - n**3) / (n**2 * (n - 1))
    # runs of a rare class are no normal variable: enough of them must be missing, too
    missing = max(SURE * max(variance, 0.0) ** 0.5, mean / 2, FEWEST)
    if mean - runs > missing:
        return True
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]  # those of ties are their mean
    place = np.arange(n)
    correlation = float(np.corrcoef(place, ranks)[0, 1])
    return bool(abs(correlation) * (n - 1) ** 0.5 > SURE)
