"""Commands with a flag for every setting; from flags to a config: preset, YAML, then flags."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from cyclopts import App, Parameter
from pydantic import BaseModel

from assay.cli import FLAGS
from assay.commands.sentences import InSentences
from assay.commands.settings import Setting, flags_of
from assay.config import Config, read_yaml
from assay.described import described
from assay.disk import read_small
from assay.errors import AssayError, expanded, unknown

if TYPE_CHECKING:
    from assay.inputs import Inputs

C = TypeVar("C", bound=Config)


INPUT_GROUPS = {
    "Data": ("data", "split", "images", "size"),
    "Model": (
        "weights",
        "model_args",
        "mean",
        "std",
        "channels",
        "outputs",
        "classes",
        "trust_program",
        "access",
        "timeout",
        "header",
        "wire",
        "concurrency",
        "rate",
        "max_queries",
    ),
    "Running": ("device", "threads", "batch_size"),
}
"""The headings that help shows the settings of `Inputs` under, in the order they are shown."""


def with_settings(
    command: Callable[..., int],
    model: type[BaseModel],
    defaults: Mapping[str, Any],
    inputs: Mapping[str, Any] | None = None,
    first: Collection[str] | None = None,
) -> Callable[..., int]:
    """Return `command` with a flag for every setting of `model`.

    `command` takes the settings that were given as a nested mapping, by the keyword `settings`;
    a setting, or an input, that it has a parameter of its own for gets no flag.

    Args:
        command: the function that is called in the end.
        model: the config whose settings are flags.
        defaults: what help shows as their defaults.
        inputs: None, or the defaults of `Inputs` that are others for this command: it is then
            given the model as MODEL and all the rest by flags, and takes an `Inputs` by the
            keyword `inputs`.
        first: the flags that help shows, by their names as parameters; None: all of them.
    """
    own = inspect.signature(command, eval_str=True, locals={"Inputs": object})  # never a flag
    flags = flags_of(model) if inputs is None else apart(flags_of(model))
    flags = [flag for flag in flags if flag.key not in own.parameters]
    names = {flag.key: flag for flag in flags}
    given_in = [] if inputs is None else input_flags()
    given_in = [flag for flag in given_in if flag.key not in own.parameters]
    before = {} if inputs is None else _usual_inputs() | dict(inputs)

    def wrapped(*positional: Any, **given: Any) -> int:
        settings: dict[str, Any] = {}
        for name, flag in names.items():
            value = given.pop(name, None)
            if value is not None:
                _put(settings, flag.path, _value(flag, value))
        if inputs is not None:
            given["inputs"] = _read_inputs(positional[0], inputs, given_in, given)
            positional = positional[1:]
        return command(*positional, settings=settings, **given)

    kept = [p for name, p in own.parameters.items() if name not in ("settings", "inputs")]
    wrapped.__doc__ = command.__doc__
    wrapped.__name__ = command.__name__
    parameters = [
        *([] if inputs is None else [_model_parameter()]),
        *(flag.parameter(before) for flag in given_in),
        *kept,
        *(flag.parameter(defaults) for flag in flags),
    ]
    wrapped.__signature__ = own.replace(  # type: ignore[attr-defined]
        parameters=[p if _shows(p, first) else _hidden(p) for p in parameters]
    )
    return wrapped


def _shows(parameter: inspect.Parameter, first: Collection[str] | None) -> bool:
    positional = parameter.kind is inspect.Parameter.POSITIONAL_ONLY
    return first is None or positional or parameter.name in first


def _hidden(parameter: inspect.Parameter) -> inspect.Parameter:
    return parameter.replace(annotation=Annotated[parameter.annotation, Parameter(show=False)])


HELP_ALL = "--help-all"


def run(make: Callable[[bool], App], tokens: Sequence[str]) -> int:
    """Run the App that `make` returns: with all of its flags shown where --help-all asks for it."""
    everything = HELP_ALL in tokens
    plain = ["--help" if token == HELP_ALL else token for token in tokens]
    return int(make(everything)(plain, exit_on_error=False, print_error=False) or 0)


def flag_app(
    name: str,
    command: Callable[..., int],
    model: type[BaseModel],
    defaults: Mapping[str, Any],
    *,
    inputs: Mapping[str, Any] | None = None,
    first: Collection[str],
    everything: bool,
) -> App:
    """Return the App of a command whose settings are flags (see `with_settings`).

    Args:
        name: what the user types, `assay audit`.
        command, model, defaults, inputs: as for `with_settings`.
        first: the flags that matter first: --help shows these.
        everything: show all flags.
    """
    app = App(
        name=name,
        default_parameter=FLAGS,
        help_formatter=InSentences(),
        result_action="return_value",
        version_flags=(),
        suppress_keyboard_interrupt=False,
        help_epilogue=None if everything else f"{name} {HELP_ALL} shows every flag.",
    )
    app.default(with_settings(command, model, defaults, inputs, None if everything else first))
    return app


def apart(flags: Sequence[Setting]) -> list[Setting]:
    """Return the flags of an attack; one that is called as an input is, is named with the attack:
    `--attack.size` beside the `--size` of images."""
    taken = {key for keys in INPUT_GROUPS.values() for key in keys}
    return [replace(f, of=("attack",)) if f.path[0] in taken else f for f in flags]


def input_flags() -> list[Setting]:
    """Return a flag for every setting of `Inputs` but the model, which is MODEL."""
    from assay.inputs import Inputs

    groups = {key: group for group, keys in INPUT_GROUPS.items() for key in keys}
    found = {flag.path[0]: flag for flag in flags_of(Inputs)}
    return [replace(found[key], group=group) for key, group in groups.items()]


def _read_inputs(
    model: str, usual: Mapping[str, Any], flags: Sequence[Setting], given: dict[str, Any]
) -> Inputs:
    """Take what flags say about inputs out of what was given, and return it as a config."""
    from assay.inputs import Inputs

    said = {flag.path[0]: (flag, given.pop(flag.path[0], None)) for flag in flags}
    kept = {key: _value(flag, value) for key, (flag, value) in said.items() if value is not None}
    return Inputs.parse({**usual, **kept, "model": model}, where="command line")


def _usual_inputs() -> dict[str, Any]:
    from assay.inputs import Inputs

    return Inputs(model="", data="").model_dump(mode="json", exclude_none=True)


def _model_parameter() -> inspect.Parameter:
    from assay.inputs import Inputs

    text = " ".join(described(Inputs)["model"].split())
    annotation = Annotated[str, Parameter(help=text)]
    return inspect.Parameter("model", inspect.Parameter.POSITIONAL_ONLY, annotation=annotation)


def _value(flag: Setting, given: bool | str | list[str]) -> Any:
    """Return what a flag says: JSON where it looks like JSON, else text for pydantic to judge. Of
    several values, each is the one or the other: `--attacks pgd '{"name": "square", ...}'`."""
    texts = given if isinstance(given, list) else [given]
    if flag.without:
        if given in flag.choices:
            return {"name": given}
        if str(given).lower() not in ("none", "null"):
            if flag.choices:
                raise unknown(flag.name, str(given), [*flag.choices, "none"])
            raise AssayError(
                f"{flag.name} is none or left out, not {given!r}: its settings are "
                f"{flag.name}.… (--help-all)"
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


def _json(flag: Setting, text: str) -> Any:
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
        merged = merge(merged, read_settings(file))
        model.parse(merged, where=str(file))
    return model.parse(merge(merged, settings), where="command line")


LONGEST = 250_000
"""Bytes of a YAML file of settings, at most."""


def read_settings(file: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file."""
    try:
        data = read_yaml(read_small(expanded(file), LONGEST).decode(), where=str(file))
    except UnicodeDecodeError as error:
        raise AssayError(f"{file} is not valid YAML: {' '.join(str(error).split())}") from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise AssayError(f"{file} must hold a mapping of settings, not {type(data).__name__}")
    return data
