"""Intervals, paired comparisons, verdicts. numpy and scipy only."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Estimate:
    """A number with its doubt.

    Attributes:
        value: the estimate; NaN where n is 0.
        low, high: the ends of its interval.
        n: how many observations it rests on.
        of: what they are: the denominator in words ("correctly classified images", "seeds").
        level: the confidence level of the interval.
    """

    value: float
    low: float
    high: float
    n: int
    of: str
    level: float = 0.95

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)
