"""Settings that a sweep tries: ranges by the dotted names of a study's settings, and the study at a
point of them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from assay.config import as_written
from assay.errors import AssayError, nearest
from assay.studies.cell_study import CellStudy

Value = float | int | str
RANGE = re.compile(r"(?P<low>[^.,]*(?:\.\d[^.,]*)?)\.\.(?P<high>[^,]+)")
RUN = (
    *("seeds", "preset", "judged_before", "device", "threads", "rates"),
    *("data", "test_images", "images_by_seed"),
)
"""What says how a study is run, or what it is judged on: none of it is a setting to win by."""
DECADE = 10.0
"""From this ratio of its ends on, a range above 0 is searched by its logarithm."""


@dataclass(frozen=True)
class Param:
    """A setting that is varied.

    Attributes:
        path: its dotted name, as the study has it.
        low, high: the ends of its range, both included; None where there are `choices`.
        whole: whether it is a whole number.
        log: whether it is searched by its logarithm.
        choices: the values tried, where it is no range.
    """

    path: str
    low: float | None = None
    high: float | None = None
    whole: bool = False
    log: bool = False
    choices: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The last part of its path: what it is called in figures and labels."""
        return self.path.rpartition(".")[2]

    def value(self, found: Value) -> Value:
        """Return a value as it is tried: a fraction to four digits, so that it can be typed."""
        if self.choices or self.whole:
            return found
        return min(max(float(f"{found:.4g}"), self.low or 0.0), self.high or math.inf)

    def at_an_end(self, value: Value) -> bool:
        """Return whether a value lies within a twentieth of an end of the range."""
        if self.low is None or self.high is None or isinstance(value, str):
            return False
        ends = (self.low, self.high, float(value))
        low, high, at = map(math.log, ends) if self.log else ends
        return not low + 0.05 * (high - low) <= at <= high - 0.05 * (high - low)

    def described(self) -> str:
        """Return what is tried: 0.0001 to 0.1, by the logarithm."""
        if self.choices:
            return ", ".join(self.choices)
        return f"{self.low:g} to {self.high:g}{', by the logarithm' if self.log else ''}"


def read_param(text: str, study: CellStudy) -> Param:
    """Return the parameter that `recipe.lr=1e-4..1e-1` or `recipe.optimizer.name=sgd,adamw` means.

    A part of a name may be left out where only one setting is meant: `recipe.lr` is the
    `recipe.optimizer.lr` of a study.

    Raises:
        AssayError: for a setting that the study does not have, or values that are no range.
    """
    name, equals, values = text.partition("=")
    if not equals or not name or not values:
        raise AssayError(f"--param is NAME=LOW..HIGH or NAME=A,B,C, not {text!r}")
    path = _path(name.replace("-", "_"), study)
    first = path.split(".")[0]
    if first in RUN or first.startswith("delta"):
        raise AssayError(
            f"--param {name}: {path} says how the study is run or judged; sweep how it trains"
        )
    match = RANGE.fullmatch(values)
    if match is None:
        choices = _apart(study, path, [one for one in values.split(",") if one])
        if len(choices) < 2:
            raise AssayError(
                f"--param {text}: {values!r} is one value; give a range LOW..HIGH, or several, A,B"
            )
        return Param(path, choices=choices)
    try:
        low, high = float(match["low"]), float(match["high"])
    except ValueError as error:
        raise AssayError(f"--param {text}: the ends of a range are numbers") from error
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise AssayError(f"--param {text}: a range goes from less to more")
    own = own_value(study, path)
    whole = isinstance(own, int) and low.is_integer() and high.is_integer()
    return Param(path, low, high, whole, low > 0 and high / low >= DECADE)


def _apart(study: CellStudy, path: str, choices: Sequence[str]) -> tuple[str, ...]:
    """Return the values that differ, the study's own spelled as the study has it: 0 is its 0.0.

    Raises:
        AssayError: the study refuses one.
    """
    own, found = own_value(study, path), dict[str, str]()
    for choice in choices:
        meant = own_value(at(study, {path: choice}), path)
        found.setdefault(
            repr(meant), str(own) if meant == own and isinstance(own, float) else choice
        )
    return tuple(found.values())


def _path(name: str, study: CellStudy) -> str:
    known = _flat(study.model_dump(mode="json"))
    if name in known:
        return name
    first, _, last = name.rpartition(".")
    fits = [
        path
        for path in known
        if path.rpartition(".")[2] == last and path.startswith(f"{first}." if first else "")
    ]
    if len(fits) == 1:
        return fits[0]
    if fits:
        raise AssayError(f"--param {name} could be {', '.join(fits)}: give more of the name")
    if f"{name}.name" in known:
        raise AssayError(
            f"--param {name} is a choice with settings of its own: give {name}.name=A,B"
        )
    below = [path for path in known if path.startswith(f"{first}.")] or known
    by_last = {path.rpartition(".")[2]: path for path in below}
    guess = nearest(last, by_last)
    hint = f"; did you mean {by_last[guess]}?" if guess else ""
    raise AssayError(f"--param {name}: {study.NAME} has no such setting{hint}")


def _flat(tree: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tree.items():
        inside = isinstance(value, Mapping)
        found |= _flat(value, f"{path}{key}.") if inside else {f"{path}{key}": value}
    return found


def own_value(study: CellStudy, path: str) -> Any:
    """Return what the study itself has for a setting."""
    return _flat(study.model_dump(mode="json"))[path]


def at(study: CellStudy, values: Mapping[str, Value]) -> CellStudy:
    """Return the study with other values, by the paths of their settings.

    Raises:
        AssayError: for values that it refuses; says why.
    """
    tree = study.model_dump(mode="json")
    names_first = sorted(values, key=lambda path: (not path.endswith(".name"), path.count(".")))
    for path in names_first:  # what another choice clears must not be what was just set
        below, value = tree, values[path]
        *parts, last = path.split(".")
        for part in parts:
            below = below.setdefault(part, {})
        if last == "name" and below.get("name") != value:  # another choice: its own defaults
            below.clear()
        below[last] = value
    said = ", ".join(f"{path}={value}" for path, value in values.items())
    return type(study).parse(tree, where=f"--param {said}").model_copy(update={"rates": None})


def written(values: Mapping[str, Value], params: Sequence[Param]) -> str:
    """Return a setting as people read it: lr 0.003, epochs 4; of two names alike, with what they
    are names of: optimizer.name sgd, schedule.name cosine."""
    shown = [
        f"{_short(param, params)} {as_written(v) if isinstance(v, float) else v}"
        for param, v in ((param, values[param.path]) for param in params)
    ]
    return ", ".join(shown)


def _short(param: Param, params: Sequence[Param]) -> str:
    """Return the shortest end of a parameter's path that no other one has."""
    parts = param.path.split(".")
    ends = [".".join(parts[-k:]) for k in range(1, len(parts) + 1)]
    others = [f".{other.path}" for other in params if other.path != param.path]
    return next(end for end in ends if not any(one.endswith(f".{end}") for one in others))
