"""Nested data as leaves by dotted path, and how a leaf is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from assay.config import canonical_json
from assay.report.numerals import MISSING, budget

LEVELS = frozenset({"eps", "budgets", "budget", "at", "step_size"})
"""Settings that are of pixels in [0, 1]: radii of attacks, and steps within them."""


def text_of(value: Any, path: str = "") -> str:
    """Return a value in a few characters: numbers to 4 digits, a budget of pixels in grey levels as
    papers write it, an estimate with its interval.

    Args:
        value: a leaf.
        path: where it stands; its last name tells a budget of pixels from another number that is a
            255th by chance.

    >>> text_of({"value": 0.91234, "low": 0.9, "high": 0.92, "n": 100})
    '0.9123 [0.9, 0.92] n=100'
    >>> text_of([0.01, 2 / 255, 0.0314], "attack.budgets"), text_of(51 / 255 / 10, "accuracy")
    ('[0.01, 2/255, 0.0314]', '0.02')
    """
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        name = path.rpartition(".")[2].partition("[")[0]
        levels = budget(value, "linf") if name in LEVELS else ""
        return levels if levels.endswith("/255") else f"{value:.4g}"
    if is_estimate(value):
        number, low, high = (text_of(value[key]) for key in ("value", "low", "high"))
        return f"{number} [{low}, {high}] n={value['n']}"
    if isinstance(value, list):
        if len(value) > 8:
            return f"{len(value)} values, last {text_of(value[-1], path)}"
        return "[" + ", ".join(text_of(item, path) for item in value) + "]"
    if isinstance(value, dict):
        return (
            ", ".join(f"{key}: {text_of(item, str(key))}" for key, item in value.items()) or "none"
        )
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


def settings_differing(one: Any, other: Any) -> list[tuple[str, Any, Any]]:
    """Return the settings that differ, as `differing` does, without those that are none in one and
    not there in the other: of another choice (`name`), which has no such setting.

    In a list of choices (the sections of an audit, its attacks) those of one name are compared; of
    one that stands in a single list it is said that it is there, and not how it is set.

    >>> settings_differing({"name": "sgd", "bias": None}, {"name": "adamw"})
    [('name', 'sgd', 'adamw')]
    >>> settings_differing({"parts": [{"name": "a", "n": 1}, {"name": "b"}]}, {"parts": []})
    [('parts.a', 'only here', None), ('parts.b', 'only here', None)]
    """
    alone: list[tuple[str, Any, Any]] = []
    found = differing(*map(flatten, _by_name(one, other, "", alone)))
    return [*alone, *((path, a, b) for path, a, b in found if a is not None or b is not None)]


def _by_name(one: Any, other: Any, path: str, alone: list[tuple[str, Any, Any]]) -> tuple[Any, Any]:
    """Return both with the choices of a list by name, of those that both have; what only one has,
    and another order, is added to `alone`."""
    if isinstance(one, dict) and isinstance(other, dict):
        ours, theirs = dict(one), dict(other)
        pairs = [(key, f"{path}.{key}" if path else str(key)) for key in one if key in other]
    elif (_are_choices(one) and _are_choices(other)) and (one or other):
        ours, theirs = ({item["name"]: item for item in items} for items in (one, other))
        alone += [(f"{path}.{name}", "only here", None) for name in ours if name not in theirs]
        alone += [(f"{path}.{name}", None, "only here") for name in theirs if name not in ours]
        orders = [n for n in ours if n in theirs], [n for n in theirs if n in ours]
        if orders[0] != orders[1]:
            alone.append((path, *orders))
        ours, theirs = ({name: items[name] for name in orders[0]} for items in (ours, theirs))
        pairs = [(name, f"{path}.{name}") for name in orders[0]]
    else:
        return one, other
    for key, where in pairs:
        ours[key], theirs[key] = _by_name(ours[key], theirs[key], where, alone)
    return ours, theirs


def _are_choices(value: Any) -> bool:
    """Return whether a value is a list of choices, each of a name of its own."""
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        return False
    names = [item.get("name") for item in value]
    return None not in names and len(set(names)) == len(names)
