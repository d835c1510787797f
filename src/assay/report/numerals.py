"""How numbers are written: with their interval and their n, always."""

from __future__ import annotations

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


def bare(value: float | None, unit: Unit) -> str:
    """Return the number without its unit: 91.2 for a fraction of 0.912; `–` where there is none.

    Differences ("points") always carry their sign. A true minus replaces the hyphen.
    """
    if value is None or value != value:
        return MISSING
    if unit == "fraction":
        text = f"{100 * value:.1f}"
    elif unit == "points":
        text = f"{100 * value:+.1f}"
    else:
        text = f"{value:.3f}" if abs(value) < 100 else f"{value:,.0f}"
    if float(text.replace(",", "")) == 0:
        text = text.lstrip("+-")
    return text.replace("-", "−")


def with_unit(value: float | None, unit: Unit) -> str:
    """Return the number with its unit: 91.2 %, +3.4 points, 0.812."""
    text = bare(value, unit)
    if text == MISSING or unit == "number":
        return text
    return f"{text} {'%' if unit == 'fraction' else 'points'}"


def interval(estimate: Doubtful, unit: Unit = "fraction") -> str:
    """Return the ends of the interval: 89.3 to 92.8."""
    return f"{bare(estimate.low, unit)} to {bare(estimate.high, unit)}"


def full(estimate: Doubtful, unit: Unit = "fraction") -> str:
    """Return value, interval and n: 91.2 % (89.3 to 92.8, n = 1,000)."""
    value = with_unit(estimate.value, unit)
    if value == MISSING:
        return f"{MISSING} (n = {estimate.n:,})"
    return f"{value} ({interval(estimate, unit)}, n = {estimate.n:,})"


def metric(value: float | None, name: str) -> str:
    """Return a metric of a trial: 71.3 % for what is called an accuracy or a share, else four
    digits."""
    if value is None:
        return MISSING
    if name.endswith(("accuracy", "share")):
        return with_unit(value, "fraction")
    return f"{value:.4g}".replace("-", "−")


def budget(eps: float, norm: str) -> str:
    """Return a budget as papers write it: 8/255 for grey levels, `3 pixels` for l0."""
    if norm == "l0":
        return f"{eps:g} pixel{'' if eps == 1 else 's'}"
    levels = eps * 255
    if abs(eps - round(eps, 3)) < 1e-9:  # 0.1 is 25.5/255, and 0.2 is 51/255, but nobody says so
        return f"{eps:g}"
    if norm == "linf" and eps > 0 and abs(levels - round(levels, 1)) < 1e-6:
        return f"{round(levels, 1):g}/255"
    return f"{eps:g}"


def norm_name(norm: str) -> str:
    """Return the norm as papers write it: L∞, L2, L1, L0."""
    return {"linf": "L∞"}.get(norm, norm.upper())


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
