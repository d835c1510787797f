"""From flags to a config: preset, then YAML, then every flag by its dotted name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from cyclopts.argument import ArgumentCollection

from assay.config import Config
from assay.errors import AssayError

C = TypeVar("C", bound=Config)


class Overrides:
    """Collects the flags that belong to a config, for `merge` to lay over what came before.

    Given to a cyclopts App as its `config` hook: cyclopts makes the flags and their help, pydantic
    alone judges the values, so a mistake reads the same in YAML and on the command line.
    """

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def __call__(self, app: Any, commands: Any, arguments: ArgumentCollection) -> None:
        del app, commands
        for argument in arguments:
            if argument.keys and argument.tokens:
                _put(self.values, argument.keys, _value(argument))
                argument.tokens.clear()


def _value(argument: Any) -> Any:
    """Return what the tokens of one flag say: JSON where it is JSON, else text for pydantic."""
    tokens = argument.tokens
    if len(tokens) == 1 and not tokens[0].value:
        return tokens[0].implicit_value
    texts = [token.value for token in tokens]
    many = argument.token_count()[1]
    if len(texts) == 1 and texts[0][:1] in "[{":
        try:
            return json.loads(texts[0])
        except json.JSONDecodeError as error:
            raise AssayError(f"{argument.name}: {texts[0]!r} is not JSON ({error})") from error
    if len(texts) == 1 and texts[0].lower() in ("none", "null"):
        return None
    return texts if many or len(texts) > 1 else texts[0]


def _put(tree: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for part in path[:-1]:
        tree = tree.setdefault(part.replace("-", "_"), {})
    tree[path[-1].replace("-", "_")] = value


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay `over` on `base`; where it names another choice (`name`), the base's settings go."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            renamed = "name" in value and value["name"] != below.get("name")
            merged[key] = dict(value) if renamed else merge(below, value)
        else:
            merged[key] = value
    return merged


def resolve(model: type[C], preset: Mapping[str, Any], file: Path | None, flags: Overrides) -> C:
    """Return the config that a preset, a YAML file and flags make, in this order.

    Raises:
        AssayError: names the file or the flag, the value seen, and the nearest known key.
    """
    merged: dict[str, Any] = model.parse(dict(preset), where="preset").model_dump(mode="json")
    if file is not None:
        merged = merge(merged, read_yaml(file))
        model.parse(merged, where=str(file))
    return model.parse(merge(merged, flags.values), where="command line")


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
