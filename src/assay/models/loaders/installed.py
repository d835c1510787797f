"""Networks that a function of an installed package makes, such as those of torchvision and timm."""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from assay.core.classifier import Classifier
from assay.errors import AssayError, told, unknown
from assay.models.loaders.base import Given, Loader, existing
from assay.models.weights import load_weights, read_weights

NAMED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


class Installed(Loader):
    """`package.module:function`, which is imported and called with `--model-args`."""

    name = "installed"
    what = "a function of an installed package"
    takes = frozenset({"weights", "args", "mean", "std", "channels", "outputs"})

    def recognises(self, spec: str) -> bool:
        return bool(NAMED.fullmatch(spec)) and ".py:" not in spec

    def load(self, spec: str, given: Given) -> Classifier:
        """Return the network that the function makes, with the weights given.

        Raises:
            AssayError: there is no such module or function, it fails, or gives no network; or the
                weights do not fit.
        """
        module = _made(_named(spec), spec, given.args)
        notes: tuple[str, ...] = (f"no --weights: those of {spec} are what the function made",)
        if given.weights is not None:
            path = existing(given.weights)
            notes = load_weights(module, read_weights(path), path)
        return given.classifier(module.eval(), notes)

    def files(self, spec: str) -> list[Path]:
        del spec
        return []

    def part(self, spec: str) -> str:
        return spec


def _named(spec: str) -> Callable[..., Any]:
    """Import the module and return what is called so in it."""
    name, _, inside = spec.partition(":")
    package = name.partition(".")[0]
    if importlib.util.find_spec(package) is None:
        raise AssayError(
            f"{spec} is in the package {package}, which is not installed; a file of yours is named "
            f"{name}.py:{inside}"
        )
    try:
        found: Any = importlib.import_module(name)
    except Exception as error:  # whatever a package raises while it is imported
        raise AssayError(f"{name} cannot be imported: {told(error)}") from error
    for part in inside.split("."):
        if not hasattr(found, part):
            raise unknown(f"function in {name}", part, [k for k in dir(found) if k[:1] != "_"])
        found = getattr(found, part)
    if not callable(found):
        raise AssayError(f"{spec} is {type(found).__name__}, not a function or class")
    made: Callable[..., Any] = found
    return made


def _made(function: Callable[..., Any], spec: str, args: Mapping[str, Any]) -> nn.Module:
    try:
        made = function(**args)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever code of others may raise
        called = ", ".join(f"{name}={value!r}" for name, value in args.items())
        raise AssayError(
            f"{spec}({called}) raised {told(error)}; what it is called with is set by --model-args"
        ) from error
    if not isinstance(made, nn.Module):
        raise AssayError(f"{spec} gave {type(made).__name__}, not a torch.nn.Module")
    return made
