"""From flags to a config: preset, then YAML, then every flag by its dotted name."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import yaml
from cyclopts import Parameter
from pydantic import BaseModel

from assay.config import Config, models_in, tags_in, takes_many
from assay.errors import AssayError

C = TypeVar("C", bound=Config)


@dataclass
class Flag:
    """One setting of a config, by its dotted name.

    Attributes:
        path: the keys that lead to it.
        many: whether it takes several values.
        switch: whether it is on or off.
        texts: its description, by the members of a choice that have it ("" where there is none).
        choices: what it may be, where that is a fixed set.
        without: whether all it says is `none`: that there are to be no settings below it.
    """

    path: tuple[str, ...]
    many: bool
    switch: bool
    texts: dict[str, str]
    choices: tuple[str, ...] = ()
    without: bool = False

    @property
    def name(self) -> str:
        return "--" + ".".join(self.path).replace("_", "-")

    @property
    def help(self) -> str:
        """Its description; where it belongs to some of several choices, their names come first."""
        same: dict[str, list[str]] = {}
        for tag, text in self.texts.items():
            same.setdefault(text, []).append(tag)
        if self.path[-1] == "name" or self.texts.keys() == {""}:
            about = next(iter(same))
        else:
            about = " ".join(f"{', '.join(tags)}: {text}" for text, tags in same.items())
        return about + (f" [{', '.join(self.choices)}]" if self.choices else "")

    def shown(self, defaults: Mapping[str, Any]) -> str | None:
        """Return its default as it would be given; None where the default choice has none."""
        value: Any = defaults
        for part in self.path:
            if not isinstance(value, Mapping) or part not in value:
                return None
            value = value[part]
        return " ".join(map(_short, value)) if isinstance(value, list) else _short(value)

    def parameter(self, defaults: Mapping[str, Any]) -> inspect.Parameter:
        """Return it as a parameter that cyclopts makes a flag of; pydantic judges the value."""
        kind: Any = bool if self.switch else list[str] if self.many else str
        default = self.shown(defaults)
        shown = Parameter(
            name=self.name,
            negative=f"--no-{self.name[2:]}" if self.switch else "",
            help=self.help,
            show_default=False if default is None else lambda _: default,
            group="Settings",
        )
        return inspect.Parameter(
            "__".join(self.path),
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[kind | None, shown],
        )


def flags_of(model: type[BaseModel], path: tuple[str, ...] = (), only: str = "") -> list[Flag]:
    """Return a flag for every setting of a config, those of all members of a choice included."""
    found: dict[tuple[str, ...], Flag] = {}
    for key, field in model.model_fields.items():
        here = (*path, key)
        inside = models_in(field.annotation)
        plain = not inside or takes_many(field.annotation)
        text = " ".join((field.description or "").split())
        if plain:
            choices = _choices(field.annotation)
            flag = Flag(
                path=here,
                many=takes_many(_bare(field.annotation)),
                switch=_bare(field.annotation) is bool,
                texts={only: text},
                choices=choices,
            )
            _add(found, flag)
            continue
        if type(None) in get_args(field.annotation):
            texts = {only: f"Its settings are below; none: {_without(text)}"}
            _add(found, Flag(here, many=False, switch=False, texts=texts, without=True))
        for member in inside:
            tag = str(member.model_fields["name"].default) if len(inside) > 1 else ""
            for flag in flags_of(member, here, tag):
                _add(found, flag)
    return list(found.values())


def _without(text: str) -> str:
    """Return what the description of a setting says about `none`, or else that it goes without."""
    _, found, said = text.rpartition("none: ")
    return said if found else "do without."


def _add(found: dict[tuple[str, ...], Flag], flag: Flag) -> None:
    """Add a flag; where several members of a choice have it, it is one flag for all of them."""
    same = found.setdefault(flag.path, flag)
    if same is not flag:
        same.texts.update(flag.texts)
        same.choices = tuple(dict.fromkeys(same.choices + flag.choices))


def _bare(annotation: Any) -> Any:
    """Return a type without `| None`."""
    members = [a for a in getattr(annotation, "__args__", ()) if a is not type(None)]
    optional = get_origin(annotation) in (Union, UnionType) and len(members) == 1
    return members[0] if optional else annotation


def _choices(annotation: Any) -> tuple[str, ...]:
    """Return what may be given, or the names of what may: of a list of choices, those of all."""
    bare = _bare(annotation)
    return tuple(map(str, get_args(bare))) if get_origin(bare) is Literal else tags_in(bare)


def _short(value: Any) -> str:
    """Return a value as it is written on the command line; of a choice, its name says enough."""
    if isinstance(value, float):
        return as_written(value)
    if isinstance(value, Mapping):
        return str(value["name"]) if "name" in value else json.dumps(value)
    return "none" if value is None else str(value)


def as_written(value: float) -> str:
    """Return a number as papers write it.

    >>> as_written(8 / 255), as_written(0.1), as_written(1e-4)
    ('8/255', '0.1', '0.0001')
    """
    short, levels = f"{value:.6g}", round(255 * value)
    return f"{levels}/255" if float(short) != value and levels / 255 == value else short


def with_settings(
    command: Callable[..., int], model: type[BaseModel], defaults: Mapping[str, Any]
) -> Callable[..., int]:
    """Return `command` with a flag for every setting of `model`.

    `command` takes the settings that were given as a nested mapping, by the keyword `settings`;
    a setting that it has a parameter of its own for gets no flag.
    """
    own = inspect.signature(command, eval_str=True)
    flags = [flag for flag in flags_of(model) if "__".join(flag.path) not in own.parameters]
    names = {"__".join(flag.path): flag for flag in flags}

    def wrapped(*positional: Any, **given: Any) -> int:
        settings: dict[str, Any] = {}
        for name, flag in names.items():
            value = given.pop(name, None)
            if value is not None:
                _put(settings, flag.path, _value(flag, value))
        return command(*positional, settings=settings, **given)

    first = [p for name, p in own.parameters.items() if name != "settings"]
    wrapped.__doc__ = command.__doc__
    wrapped.__name__ = command.__name__
    wrapped.__signature__ = own.replace(  # type: ignore[attr-defined]
        parameters=[*first, *(flag.parameter(defaults) for flag in flags)]
    )
    return wrapped


def _value(flag: Flag, given: bool | str | list[str]) -> Any:
    """Return what a flag says: JSON where it looks like JSON, else text for pydantic to judge. Of
    several values, each is the one or the other: `--attacks pgd '{"name": "square", ...}'`."""
    texts = given if isinstance(given, list) else [given]
    if flag.without:
        if str(given).lower() not in ("none", "null"):
            raise AssayError(
                f"{flag.name} is none or left out, not {given!r}: its settings are "
                f"{flag.name}.name and so on (--help)"
            )
        return None
    if len(texts) == 1 and isinstance(texts[0], str):
        if texts[0].startswith("["):
            return _json(flag, texts[0])
        if texts[0].lower() in ("none", "null") and "none" not in flag.choices:
            return None
    if isinstance(given, list):
        return [_json(flag, text) if text.startswith("{") else text for text in given]
    return _json(flag, given) if isinstance(given, str) and given.startswith("{") else given


def _json(flag: Flag, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise AssayError(f"{flag.name}: {text!r} is not JSON ({error})") from error


def _put(tree: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for depth, part in enumerate(path[:-1]):
        below = tree.setdefault(part, {})
        if below is None:
            flags = ["--" + ".".join(p).replace("_", "-") for p in (path[: depth + 1], path)]
            raise AssayError(f"{flags[0]} none leaves nothing that {flags[1]} could set: drop one")
        tree = below
    tree[path[-1]] = value


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay `over` on `base`; where it names another choice (`name`), the base's settings go. A base
    of text is the name of a choice without settings."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(value, Mapping) and isinstance(below, str):
            below = {"name": below}
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            renamed = "name" in value and value["name"] != below.get("name")
            merged[key] = dict(value) if renamed else merge(below, value)
        else:
            merged[key] = value
    return merged


def resolve(
    model: type[C], preset: Mapping[str, Any], file: Path | None, settings: Mapping[str, Any]
) -> C:
    """Return the config that a preset, a YAML file and flags make, in this order.

    Raises:
        AssayError: names the file or the flag, the value seen, and the nearest known key.
    """
    merged: dict[str, Any] = model.parse(dict(preset), where="preset").model_dump(mode="json")
    if file is not None:
        merged = merge(merged, read_yaml(file))
        model.parse(merged, where=str(file))
    return model.parse(merge(merged, settings), where="command line")


def read_yaml(file: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file."""
    try:
        data = yaml.safe_load(file.read_text())
    except OSError as error:
        raise AssayError(f"cannot read {file}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise AssayError(f"{file} is not valid YAML: {' '.join(str(error).split())}") from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise AssayError(f"{file} must hold a mapping of settings, not {type(data).__name__}")
    return data
