"""Nested data as leaves by dotted path, and how a leaf is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from assay.config import canonical_json
from assay.report.numerals import MISSING


def text_of(value: Any) -> str:
    """Return a value in a few characters: numbers to 4 digits, an estimate with its interval.

    >>> text_of({"value": 0.91234, "low": 0.9, "high": 0.92, "n": 100})
    '0.9123 [0.9, 0.92] n=100'
    """
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if is_estimate(value):
        number, low, high = (text_of(value[key]) for key in ("value", "low", "high"))
        return f"{number} [{low}, {high}] n={value['n']}"
    if isinstance(value, list):
        if len(value) > 8:
            return f"{len(value)} values, last {text_of(value[-1])}"
        return "[" + ", ".join(map(text_of, value)) + "]"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {text_of(item)}" for key, item in value.items()) or "none"
    return str(value)


def is_estimate(value: Any) -> bool:
    """Return whether a value is a `stats.Estimate` as JSON."""
    return isinstance(value, dict) and {"value", "low", "high", "n"} <= value.keys()


def flatten(value: Any, path: str = "") -> dict[str, Any]:
    """Return the leaves of nested data by dotted path; estimates and flat lists are leaves."""
    if isinstance(value, dict) and value and not is_estimate(value):
        found: dict[str, Any] = {}
        for key, item in value.items():
            found |= flatten(item, f"{path}.{key}" if path else str(key))
        return found
    if isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        found = {}
        for index, item in enumerate(value):
            found |= flatten(item, f"{path}[{index}]")
        return found
    return {path: value}


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return the leaves that differ: (path, in the first, in the second); None where it is not."""
    paths = [*one, *(path for path in other if path not in one)]
    return [
        (path, one.get(path), other.get(path))
        for path in paths
        if canonical_json(one.get(path)) != canonical_json(other.get(path))  # 1 and 1.0 are two
        or (path in one) != (path in other)
    ]
