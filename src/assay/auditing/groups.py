"""Kinds of examples by what is known of each: a kind for every value of a column of metadata, and
for every quarter of the values of one that holds many numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

FEW = 12
"""Values of a column of numbers, up to which each makes a kind of its own; above, quarters do."""
MOST = 50
"""Values of any other column, above which it names examples rather than kinds of them."""

Rows = NDArray[np.bool_]


def kinds_by(metadata: Mapping[str, Sequence[Any]]) -> tuple[dict[str, Rows], list[str]]:
    """Return rows bool (N,) for each kind, by what they have in common; and the columns that make
    none, since nearly every example has a value of its own.

    Numbers are parted at the quartiles of all values, which know nothing of right and wrong; where
    many are alike there are fewer than four parts.

    >>> kinds, left_out = kinds_by({"site": ["a", "b", "a", ""], "age": [3, 4, None, 3]})
    >>> {name: rows.tolist() for name, rows in kinds.items()}["age = 3"]
    [True, False, False, True]
    """
    found: dict[str, Rows] = {}
    left_out = []
    for name, values in metadata.items():
        numbers = as_numbers(values)
        different = {v for v in map(_shown, values) if v}
        if numbers is not None and len(different) > FEW:
            found |= _quarters(name, numbers)
        elif len(different) > MOST:
            left_out.append(name)
            continue
        elif len(different) > 1:
            shown = np.array([_shown(value) for value in values])
            found |= {f"{name} = {value}": shown == value for value in sorted(different)}
        missing = np.array([not _shown(value) for value in values])
        if missing.any():
            found[f"{name} is missing"] = missing
    return found, left_out


def as_numbers(values: Sequence[Any]) -> NDArray[np.float64] | None:
    """Return a column as float64 (N,), NaN where there is nothing; None where it holds text."""
    try:
        found = [float(v) if _shown(v) else np.nan for v in values]
    except (TypeError, ValueError):
        return None
    numbers = np.array(found, dtype=np.float64)
    there = numbers[~np.isnan(numbers)]
    return numbers if len(there) and np.isfinite(there).all() else None


def _quarters(name: str, numbers: NDArray[np.float64]) -> dict[str, Rows]:
    there = numbers[~np.isnan(numbers)]
    cuts = np.unique(np.quantile(there, (0.25, 0.5, 0.75), method="lower"))
    cuts = cuts[cuts < there.max()]
    if not len(cuts):
        return {}
    shown = [f"{cut:.4g}" for cut in cuts]
    found = {f"{name} ≤ {shown[0]}": numbers <= cuts[0]}
    for (low, high), (left, right) in zip(pairwise(cuts), pairwise(shown), strict=True):
        found[f"{left} < {name} ≤ {right}"] = (numbers > low) & (numbers <= high)
    found[f"{name} > {shown[-1]}"] = numbers > cuts[-1]
    return found


def _shown(value: Any) -> str:
    return "" if value is None or value != value else str(value).strip()
