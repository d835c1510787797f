"""The base of every config: a frozen pydantic model that is the object, the YAML and the flags.

A choice among configs is a tagged union on the field `name`:

    Model = Annotated[MLP | CNN, Field(discriminator="name")]

`Number` is a float that also understands `8/255`, the way budgets are written in papers.
"""

from __future__ import annotations

import hashlib
import json
from fractions import Fraction
from typing import Annotated, Any, ClassVar, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from assay.errors import AssayError, nearest


def parse_number(value: Any) -> Any:
    """Turn `"8/255"` into a float; anything else is left to pydantic."""
    if isinstance(value, str) and "/" in value:
        try:
            return float(Fraction(value.replace(" ", "")))
        except (ValueError, ZeroDivisionError) as error:
            raise ValueError(f"{value!r} is not a number or a fraction such as 8/255") from error
    return value


Number = Annotated[float, BeforeValidator(parse_number)]


class Config(BaseModel):
    """A frozen record of settings; two configs are equal if and only if their fields are."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        validate_default=True,
        use_attribute_docstrings=True,
    )

    VERSION: ClassVar[int] = 1
    """Raised when the code behind the config changes what it computes; part of a trial's address."""

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
        try:
            data = yaml.safe_load(text)
        except yaml.YAMLError as error:
            line = " ".join(str(error).split())
            raise AssayError(f"{where} is not valid YAML: {line}") from error
        return cls.parse(data if data is not None else {}, where=where)


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
    first = error.errors(include_url=False)[0]
    path = ".".join(str(part) for part in first["loc"])
    key = str(first["loc"][-1]) if first["loc"] else ""
    if first["type"] == "extra_forbidden":
        names = _fields_at(model, first["loc"][:-1])
        guess = nearest(key, names)
        hint = f"did you mean {guess!r}?" if guess else f"known: {', '.join(sorted(names))}"
        return f"{where}: unknown key {path!r}; {hint}"
    seen = repr(first.get("input"))
    seen = seen if len(seen) <= 80 else seen[:77] + "..."
    message = first["msg"].removeprefix("Value error, ")
    more = error.error_count() - 1
    rest = f" (and {more} more)" if more else ""
    return f"{where}: {path or 'value'}: {message}; seen {seen}{rest}"


def _fields_at(model: type[BaseModel], path: tuple[int | str, ...]) -> set[str]:
    """Return the field names of the model that sits at `path` inside `model`."""
    found: list[type[BaseModel]] = [model]
    for part in path:
        inside: list[type[BaseModel]] = []
        for candidate in found:
            field = candidate.model_fields.get(str(part))
            if field is not None:
                inside += _models_in(field.annotation)
        tagged = [m for m in found if _tag(m) == part]
        found = inside or tagged or found
    return {name for m in found for name in m.model_fields}


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    arguments = getattr(annotation, "__args__", ())
    return [model for argument in arguments for model in _models_in(argument)]


def _tag(model: type[BaseModel]) -> Any:
    field = model.model_fields.get("name")
    return field.default if field is not None else None
