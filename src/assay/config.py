"""The base of every config: a frozen pydantic model that is the object, the YAML and the flags.

A choice among configs is a tagged union on the field `name`:

    Model = Annotated[MLP | CNN, Field(discriminator="name")]

Its name alone is a choice without settings: `model: cnn`, `attacks: [pgd, square]`.

`Number` is a float that also understands `8/255`, the way budgets are written in papers.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from typing import Annotated, Any, ClassVar, Literal, Self, get_origin

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from assay.errors import AssayError, nearest, one_line


def parse_number(value: Any) -> Any:
    """Turn `"8/255"` into a float; anything else is left to pydantic."""
    if isinstance(value, str) and "/" in value:
        try:
            return float(Fraction(value.replace(" ", "")))
        except (ValueError, ZeroDivisionError) as error:
            raise ValueError(f"{value!r} is not a number or a fraction such as 8/255") from error
    return value


Number = Annotated[float, BeforeValidator(parse_number)]


def check_pixels(value: float, *, name: str = "eps") -> float:
    """Return a distance in L∞, if there are images in [0, 1] that are as far apart."""
    if value > 1:
        raise ValueError(
            f"{name} = {value:g} is outside [0, 1]: {name} is in pixel units of [0, 1], so write "
            f"{value:g}/255 if you meant grey levels"
        )
    return value


Pixels = Annotated[Number, AfterValidator(check_pixels)]
"""A budget in L∞, in pixel units of [0, 1]."""
UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600}
"""Seconds in what a time may be given in."""


def parse_seconds(text: str) -> float:
    """Return how many seconds a text means.

    Raises:
        AssayError: it is no time, or none at all.

    >>> parse_seconds("90"), parse_seconds("60s"), parse_seconds("5m"), parse_seconds("1.5 h")
    (90.0, 60.0, 300.0, 5400.0)
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?|\.\d+)\s*(s|m|min|h)?\s*", text)
    seconds = float(found[1]) * UNITS[found[2] or "s"] if found else 0.0
    if not 0 < seconds < math.inf:
        raise AssayError(f"{text!r} is no time: write 60s, 5m or 1h")
    return seconds


Threads = Annotated[int, Field(ge=1, le=1024)]
"""More would not be had, or would be refused by the system in words that say nothing."""
Repeats = Annotated[int, Field(ge=1, le=100_000)]
"""How many seeds, or restarts: of more the plan alone fills the memory."""


def as_written(value: float) -> str:
    """Return a number as papers write it.

    >>> as_written(8 / 255), as_written(0.1), as_written(1e-4)
    ('8/255', '0.1', '0.0001')
    """
    short, levels = f"{value:.6g}", round(255 * value)
    return f"{levels}/255" if float(short) != value and levels / 255 == value else short


class _Written:
    """A type or a default as it is written in the source."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


class _Signature:
    """A config's signature as one would write it: pydantic's shows its validators."""

    def __get__(self, _: object, kind: type[BaseModel]) -> inspect.Signature:
        written: dict[str, Any] = {}
        for parent in reversed(kind.__mro__):
            written |= inspect.get_annotations(parent)
        return inspect.Signature(
            [
                inspect.Parameter(
                    name,
                    inspect.Parameter.KEYWORD_ONLY,
                    annotation=_Written(str(written.get(name, "Any"))),
                    default=inspect.Parameter.empty
                    if field.is_required()
                    else _Written(_default(field.get_default(call_default_factory=True))),
                )
                for name, field in kind.model_fields.items()
            ]
        )


def _default(value: Any) -> str:
    """Return a default as it is written; of a config, what of it is not its own default."""
    if isinstance(value, float):
        return as_written(value)
    if isinstance(value, tuple) and value:
        return f"({', '.join(map(_default, value))}{',' * (len(value) == 1)})"
    if isinstance(value, BaseModel):
        usual = type(value).model_fields
        given = [
            f"{name}={_default(seen)}"
            for name, seen in value
            if usual[name].is_required()
            or seen != usual[name].get_default(call_default_factory=True)
        ]
        return f"{type(value).__name__}({', '.join(given)})"
    return repr(value)


class Config(BaseModel):
    """A frozen record of settings; two configs are equal if and only if their fields are."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        validate_default=True,
    )

    VERSION: ClassVar[int] = 1
    """Raised when the code behind the config computes something else; part of an address."""

    @classmethod
    def __pydantic_init_subclass__(cls, **settings: Any) -> None:
        super().__pydantic_init_subclass__(**settings)
        cls.__signature__ = _Signature()  # type: ignore[assignment]

    def __init__(self, **settings: Any) -> None:
        try:
            super().__init__(**settings)
        except ValidationError as error:
            name = type(self).__name__
            raise AssayError(explain(error, type(self), name)) from error

    # Nested configs are still made by pydantic itself, which knows their place in the whole.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @model_validator(mode="before")
    @classmethod
    def _read_as_meant(cls, data: Any) -> Any:
        """Take `pgd` for `{name: pgd}` wherever there is a choice, or a list of choices; and a
        switch for no number: YAML reads `yes` as true, which Python would take for 1."""
        if not isinstance(data, Mapping):
            return data
        fields = cls.model_fields
        for key, value in data.items():
            some = value if isinstance(value, list | tuple) else [value]
            if key in fields and any(isinstance(one, bool) for one in some):
                kinds = set(_types_in(fields[key].annotation))
                if kinds & {int, float} and bool not in kinds:
                    raise ValueError(f"{key}: a number is needed, not yes or no; seen {value!r}")
        return {
            key: chosen(fields[key].annotation, value) if key in fields else value
            for key, value in data.items()
        }

    @classmethod
    def parse(cls, data: Any, *, where: str = "config") -> Self:
        """Validate `data`, and say in one line what is wrong with it.

        Raises:
            AssayError: names the key, the value seen and, for an unknown key, the nearest one.
        """
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise AssayError(explain(error, cls, where)) from error

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy with other settings, for which nothing is validated.

        What was computed of the first and kept, such as the address of a trial, stays behind: the
        copy computes its own.
        """
        copy = super().model_copy(update=update, deep=deep)
        for name in vars(copy).keys() - type(self).model_fields.keys():
            del vars(copy)[name]
        return copy

    def canonical(self) -> str:
        """Return the one JSON text of this config: every default written, keys sorted."""
        return canonical_json(self.model_dump(mode="json"))

    def to_yaml(self) -> str:
        """Return YAML that `from_yaml` reads back to an equal config."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)

    @classmethod
    def from_yaml(cls, text: str, *, where: str = "config") -> Self:
        """Read what `to_yaml` wrote, or what a user wrote by hand.

        Raises:
            AssayError: for text that is not YAML, or that does not fit the config.
        """
        data = read_yaml(text, where=where)
        return cls.parse(data if data is not None else {}, where=where)


MOST_VALUES = 100_000
"""More values than any config has, each counted as often as it is referred to."""


class _OneOfEachKey(yaml.SafeLoader):
    """Reads YAML, and no key that stands twice: the first one would be lost without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if len(set(keys)) < len(keys):
            twice = next(key for key, count in Counter(keys).items() if count > 1)
            raise yaml.MarkedYAMLError(problem=f"the key {twice[:40]!r} stands there twice")
        return super().construct_mapping(node, deep=deep)


def read_yaml(text: str, *, where: str) -> Any:
    """Return the plain values in a YAML text.

    Raises:
        AssayError: it is not YAML, a key stands twice, or it is nested deeper or holds more than
            any config; names `where`.
    """
    try:
        data = yaml.load(text, _OneOfEachKey)
        left = [data]
        for _ in range(MOST_VALUES + 1):
            if not left:
                return data
            one = left.pop()
            left += one.values() if isinstance(one, dict) else one if isinstance(one, list) else ()
        raise AssayError(f"{where} holds more than {MOST_VALUES:,} values")
    except (yaml.YAMLError, ValueError) as error:
        raise AssayError(f"{where} is not valid YAML: {one_line(str(error))}") from error
    except RecursionError as error:
        raise AssayError(f"{where} is nested too deep for a config") from error


def _types_in(annotation: Any) -> Iterator[Any]:
    yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _types_in(argument)


def chosen(annotation: Any, value: Any) -> Any:
    """Return what a field is given, with names of choices as the choices themselves."""
    if not tags_in(annotation):
        return value
    if takes_many(annotation):
        some = [value] if isinstance(value, str) else value
        many = isinstance(some, list | tuple)
        return [_named(one) for one in some] if many else some
    return _named(value)


def _named(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


def takes_many(annotation: Any) -> bool:
    """Return whether a field takes several values."""
    return get_origin(annotation) in (tuple, list)


def tags_in(annotation: Any) -> tuple[str, ...]:
    """Return the names that a field chooses among; none where it is no choice."""
    tags = [_tag(model) for model in models_in(annotation)]
    return tuple(tags) if all(isinstance(tag, str) for tag in tags) else ()


def canonical_json(data: Any) -> str:
    """Return JSON with sorted keys, no spaces and no NaN: equal data gives equal text."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(data: Any) -> str:
    """Return the SHA-256 of the canonical JSON of `data`, as 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(data).encode()).hexdigest()


def explain(error: ValidationError, model: type[BaseModel], where: str) -> str:
    """Return the first thing that is wrong in a validation error as one line.

    `where` names what was read ("skip.yaml", "command line").
    """
    found = error.errors(include_url=False)
    # a key that is misspelt is why another is missing
    first = min(found, key=lambda one: one["type"] != "extra_forbidden")
    context = first.get("ctx", {})
    names, shown, below = _walk(model, first["loc"])
    path = ".".join(shown)
    if first["type"] == "extra_forbidden":
        return f"{where}: unknown key {path!r}; {_hint(shown[-1], names)}"
    if first["type"] == "union_tag_invalid":
        known = re.findall(r"'([^']*)'", str(context["expected_tags"]))
        of_many = isinstance(first["loc"][-1], int)
        what = f"{'.'.join(shown[:-1])}: unknown name" if of_many else f"unknown {path}.name"
        return f"{where}: {what} {context['tag']!r}; {_hint(context['tag'], known)}"
    if first["type"] == "union_tag_not_found":
        tags = ", ".join(str(_tag(choice)) for choice in below)
        return f"{where}: {path} needs a name, one of: {tags}"
    if first["type"] == "missing":
        return f"{where}: {path} is required"
    message = _in_our_words(first) or first["msg"].removeprefix("Value error, ")
    more = error.error_count() - 1
    rest = f" (and {more} more)" if more else ""
    if not path and first["type"] == "value_error":  # what is wrong between keys says it itself
        return f"{where}: {message}{rest}"
    seen = repr(first.get("input"))
    seen = seen if len(seen) <= 80 else seen[:77] + "..."
    return f"{where}: {f'{path}: ' if path else ''}{message}; seen {seen}{rest}"


def _in_our_words(found: Mapping[str, Any]) -> str:
    """Return what should stand in a place instead, where pydantic says it in terms of Python; ""
    where it does not."""
    kind, seen = found["type"], found.get("input")
    if kind in ("dict_type", "model_type"):
        return "should be settings with their names (name: value), or {} for none"
    if kind.startswith("date_"):
        return "should be a day, such as 2027-06-30"
    if kind == "float_parsing" and isinstance(found["loc"][-1], int) and "," in str(seen):
        return "should be one number; between several are spaces, not commas"
    return ""


def _hint(seen: str, names: Iterable[str]) -> str:
    guess = nearest(seen, names)
    return f"did you mean {guess!r}?" if guess else f"known: {', '.join(sorted(names))}"


def _walk(
    model: type[BaseModel], path: tuple[int | str, ...]
) -> tuple[set[str], list[str], list[type[BaseModel]]]:
    """Follow an error's path into the models.

    Returns the field names of the model that holds its end; the path as the user wrote it, since
    pydantic's also names the member of each union on the way; and the models at its end.
    """
    found: list[type[BaseModel]] = [model]
    shown: list[str] = []
    names: set[str] = set()
    for part in path:
        names = {name for candidate in found for name in candidate.model_fields}
        tagged = [candidate for candidate in found if _tag(candidate) == part]
        if len(found) > 1 and tagged:
            found = tagged
            continue
        shown.append(str(part))
        fields = [c.model_fields[str(part)] for c in found if str(part) in c.model_fields]
        if fields:
            found = [inside for field in fields for inside in models_in(field.annotation)]
    return names, shown, found


def models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    arguments = getattr(annotation, "__args__", ())
    return [model for argument in arguments for model in models_in(argument)]


def _tag(model: type[BaseModel]) -> Any:
    field = model.model_fields.get("name")
    return field.default if field is not None and _literal(field.annotation) else None


def _literal(annotation: Any) -> bool:
    return get_origin(annotation) is Literal
