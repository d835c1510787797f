"""The claims of a study as forest plots: those of one unit share an axis, shares and differences
do not. Places are percent of the axis, so that a page draws them without a picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from assay.report.numerals import as_factor, bare
from assay.report.record import Unit
from assay.report.result import Claim

TITLES: dict[Unit, str] = {
    "points": "Differences, in points",
    "fraction": "Shares",
    "factor": "Factors",
    "decades": "Factors, over powers of ten",
    "number": "Numbers",
}
"""What stands over each plot where there are several."""

TICKS = 5
"""Steps of an axis, about."""


@dataclass(frozen=True)
class Mark:
    """A place on the axis, and what is written there."""

    at: float
    text: str = ""


@dataclass(frozen=True)
class Row:
    """A claim, and where its parts lie on the axis, from 0 to 100.

    Attributes:
        claim: the claim.
        value, low, high: of its estimate; None where there is none.
        open_low, open_high: whether the interval goes on beyond the axis.
        margins: where δ lies; of an equivalence both -δ and δ.
    """

    claim: Claim
    value: float | None = None
    low: float = 0.0
    high: float = 0.0
    open_low: bool = False
    open_high: bool = False
    margins: tuple[float, ...] = ()


@dataclass(frozen=True)
class Forest:
    """The claims of one unit.

    Attributes:
        unit: of all of them.
        title: what they are.
        rows: a claim each, in the order of the study.
        ticks: numbers on the axis.
        none: where there is no effect: 0, or a factor of 1; None: not on the axis, or of shares,
            where 0 is nothing special.
    """

    unit: Unit
    title: str
    rows: tuple[Row, ...]
    ticks: tuple[Mark, ...] = ()
    none: float | None = None


def forests(claims: Sequence[Claim]) -> tuple[Forest, ...]:
    """Return a plot for each unit, in the order in which claims have them."""
    units = dict.fromkeys(claim.unit for claim in claims)
    return tuple(_forest(unit, [c for c in claims if c.unit == unit]) for unit in units)


def _forest(unit: Unit, claims: Sequence[Claim]) -> Forest:
    known = sorted(end for claim in claims for end in _shown(claim, unit))
    if not known:
        return Forest(unit, TITLES[unit], tuple(map(Row, claims)))
    low, high = known[0], known[-1]
    if unit == "fraction":
        low, high = (0.0, 1.0) if high > 0.5 else (0.0, 1.1 * high)
    else:
        low, high = min(low, 0.0), max(high, 0.0)
        room = 0.06 * ((high - low) or 1.0)
        low, high = low - room * (low < 0), high + room * (high > 0)
    span = (high - low) or 1.0

    def place(axis: float) -> float:
        return round(100 * min(max((axis - low) / span, 0.0), 1.0), 2)

    rows = tuple(_row(claim, unit, place(low), place(high), place) for claim in claims)
    marks = tuple(
        Mark(place(tick), _tick(tick, unit)) for tick in _ticks(low, high, _logarithmic(unit))
    )
    none = place(0.0) if unit != "fraction" and low <= 0 <= high else None
    return Forest(unit, TITLES[unit], rows, marks, none)


def _row(
    claim: Claim, unit: Unit, start: float, end: float, place: Callable[[float], float]
) -> Row:
    margins = tuple(place(_axis(delta, unit)) for delta in _deltas(claim))
    found = claim.estimate
    if found is None or found.value is None:
        return Row(claim, margins=margins)
    ends = [None if one is None else place(_axis(one, unit)) for one in (found.low, found.high)]
    low, high = reversed(ends) if _logarithmic(unit) else ends
    row = Row(claim, place(_axis(found.value, unit)), margins=margins)
    return replace(
        row,
        low=start if low is None else low,
        high=end if high is None else high,
        open_low=low is None,
        open_high=high is None,
    )


def _shown(claim: Claim, unit: Unit) -> Iterator[float]:
    """Yield what must have room on the axis."""
    found = claim.estimate
    values = [] if found is None else [found.value, found.low, found.high]
    for value in (*values, *_deltas(claim)):
        if value is not None:
            yield _axis(value, unit)


def _deltas(claim: Claim) -> tuple[float, ...]:
    if claim.delta is None:
        return ()
    return (-claim.delta, claim.delta) if claim.asks == "equivalent" else (claim.delta,)


def _logarithmic(unit: Unit) -> bool:
    return unit in ("factor", "decades")


def _axis(value: float, unit: Unit) -> float:
    """Return where a value lies on its axis: factors by their decimal logarithm."""
    if not _logarithmic(unit):
        return value
    return -value / (math.log(10) if unit == "factor" else 1.0)


def _ticks(low: float, high: float, log: bool) -> list[float]:
    """Return round numbers between the ends; of factors, logarithms of round factors."""
    if log and high - low < 2.5:
        powers = range(math.floor(low), math.ceil(high) + 1)
        ticks = [power + math.log10(part) for power in powers for part in (1, 2, 5)]
        return [tick for tick in ticks if low <= tick <= high]
    rough = (high - low) / TICKS
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(part * unit for part in (1, 2, 5, 10) if part * unit >= rough * (1 - 1e-9))
    step = max(step, 1.0) if log else step
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(count * step, 12) for count in range(first, last + 1)]


def _tick(axis: float, unit: Unit) -> str:
    if _logarithmic(unit):
        factor = as_factor(-axis, "decades")
        return f"×{factor:g}" if axis > -3 else bare(-axis, "decades").replace("1.0 × ", "")
    if unit == "number":
        return f"{axis:g}".replace("-", "−")
    sign = "+" if unit == "points" and axis > 0 else ""
    return f"{sign}{100 * axis:g}{' %' if unit == 'fraction' else ''}".replace("-", "−")
