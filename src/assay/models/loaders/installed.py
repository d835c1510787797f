"""Networks that a function of an installed package makes, such as those of torchvision and timm."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from assay.core.classifier import Classifier
from assay.disk import existing
from assay.errors import AssayError, told
from assay.models.loaders.base import Given, Loader
from assay.models.weights import load_weights, read_weights
from assay.usercode import in_file, installed, names_function


class Installed(Loader):
    """`package.module:function`, which is imported and called with `--model-args`."""

    name = "installed"
    what = "a function of an installed package"
    takes = frozenset({"weights", "args", "mean", "std", "channels", "outputs"})

    def recognises(self, spec: str) -> bool:
        return names_function(spec) and not in_file(spec)

    def load(self, spec: str, given: Given) -> Classifier:
        """Return the network that the function makes, with the weights given.

        Raises:
            AssayError: there is no such module or function, it fails, or gives no network; or the
                weights do not fit.
        """
        module = _made(installed(spec), spec, given.args)
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
