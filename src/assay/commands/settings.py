"""The settings of a config as flags: each by its dotted name, with what help says of it."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from cyclopts import Parameter
from pydantic import BaseModel

from assay.config import as_written, models_in, tags_in, takes_many
from assay.described import described


@dataclass
class Setting:
    """One setting of a config, by its dotted name.

    Attributes:
        path: the keys that lead to it.
        kind: the type of one value, which help shows.
        many: whether it takes several values.
        switch: whether it is on or off.
        texts: its description, by the members of a choice that have it ("" where there is none).
        choices: what it may be, where that is a fixed set.
        without: whether it says `none`, that there are to be no settings below it, or else the name
            of one of `choices`, whose settings are below.
        group: the heading that help shows it under.
        required: whether it must be given.
        of: what its name begins with, where the name alone is that of an input.
    """

    path: tuple[str, ...]
    kind: Any
    many: bool
    switch: bool
    texts: dict[str, str]
    choices: tuple[str, ...] = ()
    without: bool = False
    group: str = "Settings"
    required: bool = False
    of: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return "--" + ".".join((*self.of, *self.path)).replace("_", "-")

    @property
    def key(self) -> str:
        """Its name as a parameter of a function."""
        return "__".join((*self.of, *self.path))

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
        word = "CHOICE" if self.choices else NAMES.get(self.kind, "STR")
        default = self.shown(defaults)
        shown = Parameter(
            name=self.name,
            negative=f"--no-{self.name[2:]}" if self.switch else "",
            metavar=None if self.switch else f"{word}..." if self.many else word,
            help=self.help,
            show_default=(lambda _: default) if default else False,
            group=self.group,
        )
        return inspect.Parameter(
            self.key,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if self.required else None,
            annotation=Annotated[kind if self.required else kind | None, shown],
        )


NAMES = {int: "INT", float: "FLOAT", Path: "PATH"}
"""What help calls the types of values."""


def flags_of(model: type[BaseModel], path: tuple[str, ...] = (), only: str = "") -> list[Setting]:
    """Return a flag for every setting of a config, those of all members of a choice included."""
    found: dict[tuple[str, ...], Setting] = {}
    said = described(model)
    for key, field in model.model_fields.items():
        here = (*path, key)
        inside = models_in(field.annotation)
        plain = not inside or takes_many(field.annotation)
        text = " ".join(said[key].split())
        if plain:
            bare = _bare(field.annotation)
            flag = Setting(
                path=here,
                kind=_kind(bare),
                many=takes_many(bare),
                switch=bare is bool,
                texts={only: text},
                choices=_choices(bare),
                required=field.is_required(),
            )
            _add(found, flag)
            continue
        if type(None) in get_args(field.annotation):
            texts = {only: f"Its settings are below; none: {_without(text)}"}
            names = tags_in(field.annotation)
            flag = Setting(here, str, False, False, texts, choices=names, without=True)
            _add(found, flag)
        for member in inside:
            tag = str(member.model_fields["name"].default) if len(inside) > 1 else ""
            for flag in flags_of(member, here, tag):
                if text and flag.path == (*here, "name"):  # says what is chosen, not what a name is
                    flag = replace(flag, texts={tag: text})
                _add(found, flag)
    return list(found.values())


def _without(text: str) -> str:
    """Return what the description of a setting says about `none`, or else that it goes without."""
    _, found, said = text.rpartition("none: ")
    return said if found else "do without."


def _add(found: dict[tuple[str, ...], Setting], flag: Setting) -> None:
    """Add a flag; where several members of a choice have it, it is one flag for all of them."""
    same = found.setdefault(flag.path, flag)
    if same is not flag:
        same.texts.update(flag.texts)
        same.choices = tuple(dict.fromkeys(same.choices + flag.choices))
        same.kind = same.kind if same.kind == flag.kind else str


def _bare(annotation: Any) -> Any:
    """Return a type without `| None`."""
    members = [a for a in getattr(annotation, "__args__", ()) if a is not type(None)]
    optional = get_origin(annotation) in (Union, UnionType) and len(members) == 1
    return members[0] if optional else annotation


def _kind(bare: Any) -> Any:
    """Return the type of one value, as far as help has a name for it: INT, FLOAT, PATH, or STR."""
    one = get_args(bare)[0] if takes_many(bare) else bare
    one = get_args(one)[0] if get_origin(one) is Annotated else one
    return one if one in (int, float, Path) else str


def _choices(bare: Any) -> tuple[str, ...]:
    """Return what may be given, or the names of what may: of a list of choices, those of all."""
    return tuple(map(str, get_args(bare))) if get_origin(bare) is Literal else tags_in(bare)


def _short(value: Any) -> str:
    """Return a value as it is written on the command line; of a choice, its name says enough."""
    if isinstance(value, float):
        return as_written(value)
    if isinstance(value, Mapping):
        return str(value["name"]) if "name" in value else json.dumps(value)
    return "none" if value is None else str(value)
