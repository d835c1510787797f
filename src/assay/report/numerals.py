"""How numbers are written: with their interval and their n, always."""

from __future__ import annotations

import math
from typing import Protocol

from assay.report.record import Unit

MISSING = "–"


class Doubtful(Protocol):
    """A number with its interval: `stats.Estimate` or `record.EstimateModel`."""

    @property
    def value(self) -> float | None: ...
    @property
    def low(self) -> float | None: ...
    @property
    def high(self) -> float | None: ...
    @property
    def n(self) -> int: ...


def bare(value: float | None, unit: Unit, digits: int = 1) -> str:
    """Return the number without its unit: 91.2 for a fraction of 0.912; `–` where there is none.

    Differences ("points") always carry their sign. A true minus replaces the hyphen. What shrinks
    ("factor", "decades") is written as the factor that it shrinks by, with three digits.

    Args:
        digits: after the point, of percent and points.
    """
    if value is None or value != value:
        return MISSING
    if unit in ("factor", "decades"):
        return _three_digits(as_factor(value, unit))
    if unit == "fraction":
        text = f"{100 * value:.{digits}f}"
    elif unit == "points":
        text = f"{100 * value:+.{digits}f}"
    else:
        text = f"{value:.3f}" if abs(value) < 100 else f"{value:,.0f}"
    if float(text.replace(",", "")) == 0:
        text = text.lstrip("+-")
    return text.replace("-", "−")


def as_factor(value: float, unit: Unit) -> float:
    """Return the factor whose logarithm is minus `value`: to base 10 for decades, or e."""
    exponent = -value * (math.log(10) if unit == "decades" else 1)
    return math.exp(exponent) if exponent < 700 else math.inf


def scientific(value: float, digits: int = 2) -> str:
    """Return a positive number by its power of ten: 9.0 × 10⁻¹²."""
    mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
    return f"{mantissa} × {_raised(int(exponent))}"


def power_of_ten(value: float) -> str:
    """Return 10⁻⁷ for a power of ten far from 1, otherwise the positive number as it is."""
    exponent = round(math.log10(value))
    if abs(exponent) < 3 or abs(value / 10.0**exponent - 1) > 1e-6:
        return f"{value:g}"
    return _raised(exponent)


def _raised(exponent: int) -> str:
    return "10" + str(exponent).translate(_RAISED)


_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def _three_digits(value: float) -> str:
    if not math.isfinite(value):
        return "∞"
    if value == 0 or 0.001 <= value < 999.5:
        return f"{value:#.3g}".rstrip(".")
    return scientific(value)


def with_unit(value: float | None, unit: Unit, digits: int = 1) -> str:
    """Return the number with its unit: 91.2 %, +3.4 points, ×0.141, 0.812."""
    text = bare(value, unit, digits)
    if text == MISSING or unit == "number":
        return text
    if unit in ("factor", "decades"):
        return f"×{text}" if "×" not in text else text
    return f"{text} {'%' if unit == 'fraction' else 'points'}"


def asked(direction: str, threshold: float | None, unit: Unit) -> str:
    """Return what a check asks for: at least 90.0 %, at most 10.0 points (a limit has no sign)."""
    return f"{direction} {with_unit(threshold, unit).removeprefix('+')}"


def interval(estimate: Doubtful, unit: Unit = "fraction", digits: int = 1) -> str:
    """Return the ends of the interval, the lesser as it is written first: 89.3 to 92.8."""
    low, high = (bare(end, unit, digits) for end in (estimate.low, estimate.high))
    return f"{high} to {low}" if unit in ("factor", "decades") else f"{low} to {high}"


def full(estimate: Doubtful, unit: Unit = "fraction") -> str:
    """Return value, interval and n: 91.2 % (89.3 to 92.8, n = 1,000)."""
    value = with_unit(estimate.value, unit)
    if value == MISSING:
        return f"{MISSING} (n = {estimate.n:,})"
    return f"{value} ({interval(estimate, unit)}, n = {estimate.n:,})"


def metric(value: float | None, name: str) -> str:
    """Return a metric of a trial: 71.3 % for what is called an accuracy or a share, else four
    digits."""
    if value is None or value != value:
        return MISSING
    if name.endswith(("accuracy", "share")):
        return with_unit(value, "fraction")
    if value and not 1e-4 <= abs(value) < 9999.5:
        return ("−" if value < 0 else "") + scientific(abs(value), 3)
    return f"{value:.4g}".replace("-", "−")


def budget(eps: float, norm: str) -> str:
    """Return a budget as papers write it: 8/255 for grey levels, `3 pixels` for l0."""
    if norm == "l0":
        return f"{eps:g} pixel{'' if eps == 1 else 's'}"
    levels = eps * 255
    if abs(eps - round(eps, 3)) < 1e-9:  # 0.1 is 25.5/255, and 0.2 is 51/255, but nobody says so
        return f"{eps:g}"
    if norm == "linf" and 0.05 < levels <= 255 and abs(levels - round(levels, 1)) < 1e-6:
        return f"{round(levels, 1):g}/255"
    return f"{eps:g}"


def norm_name(norm: str) -> str:
    """Return the norm as papers write it: L∞, L2, L1, L0."""
    return {"linf": "L∞"}.get(norm, norm.upper())


WRITTEN = {
    "auto": "auto",
    "mifgsm": "MI-FGSM",
    "apgdt": "APGD-T",
    "deepfool": "DeepFool",
    "carlini-wagner": "Carlini–Wagner",
    "hopskipjump": "HopSkipJump",
}
"""Attacks whose names are written in a way of their own."""


def attack_name(name: str) -> str:
    """Return an attack's name as papers write it, from that in configs.

    >>> attack_name("pgd"), attack_name("square"), attack_name("hopskipjump")
    ('PGD', 'Square', 'HopSkipJump')
    """
    if name in ("fgsm", "pgd", "apgd", "fab"):
        return name.upper()
    return WRITTEN.get(name, name[:1].upper() + name[1:])


def duration(seconds: float | None) -> str:
    """Return a time in the unit that suits it: 12 ms, 0.4 s, 12 s, 3 min 20 s, 2 h 5 min."""
    if seconds is None:
        return MISSING
    if seconds < 0.095:
        return f"{1000 * seconds:.2g} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60} min"
