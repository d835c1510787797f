"""What a user's Python file has: a function that makes a network, or one of images.

It runs when it is named, and at no other time.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import nn

from assay.core.classifier import Classifier
from assay.disk import existing
from assay.errors import AssayError, told
from assay.models.loaders.base import EVERYTHING, Given, Loader
from assay.models.weights import load_weights, read_weights
from assay.usercode import from_file, in_file, misfit


class Factory(Loader):
    """`file.py:factory`, a function or class that gives a `torch.nn.Module`."""

    name = "factory"
    what = "a function of yours"
    takes = EVERYTHING

    def recognises(self, spec: str) -> bool:
        return in_file(spec)

    def load(self, spec: str, given: Given) -> Classifier:
        """Run the file, and return the network that the factory makes, with the weights given.

        Raises:
            AssayError: the file or the factory fails, it gives no network, or the weights do not
                fit.
        """
        module = _from_factory(spec, given.args)
        notes: tuple[str, ...] = (f"no --weights: those of {spec} are what the factory made",)
        if given.weights is not None:
            path = existing(given.weights)
            notes = load_weights(module, read_weights(path), path)
        return given.classifier(_eval(module), notes)

    def files(self, spec: str) -> list[Path]:
        return [existing(Path(spec.rpartition(":")[0]))]

    def part(self, spec: str) -> str:
        return spec.rpartition(":")[2]


def function_of(spec: str) -> Callable[..., Any]:
    """Return a user's function of one array."""
    file = spec.rpartition(":")[0]
    if not file.endswith(".py"):
        raise AssayError(
            f"--access goes with file.py:function, a function of images, or with a URL; {spec} is "
            "neither"
        )
    with from_file(spec) as found:
        function = found
    if isinstance(function, nn.Module) or inspect.isclass(function):
        raise AssayError(
            f"{spec} is a network: drop --access, or name a function that takes a numpy array"
        )
    if wrong := misfit(function, None):
        raise AssayError(
            f"{spec} cannot be called with one array of images ({wrong}): drop --access if it "
            "makes a network"
        )
    return function


def _from_factory(spec: str, args: Mapping[str, Any]) -> nn.Module:
    """Run a user's file, call the factory in it, and return the network that it gives."""
    with from_file(spec) as factory:
        wrong = "" if isinstance(factory, nn.Module) else misfit(factory, **args)
        if wrong:
            called = f"with {', '.join(args)}" if args else "without arguments"
            raise AssayError(
                f"{spec} is called {called} to make a network, which fails ({wrong}): set what it "
                "needs by --model-args; or, if it is a function of images, say what it answers, "
                "--access labels, scores or logits"
            )
        try:
            made = factory if isinstance(factory, nn.Module) else factory(**args)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # whatever a user's code may raise
            raise AssayError(f"{spec} raised {told(error)}") from error
    if inspect.isclass(made) and issubclass(made, nn.Module):
        raise AssayError(f"{spec} gave the class {made.__name__}: let it return {made.__name__}()")
    if inspect.iscoroutine(made):
        made.close()  # which would be complained of, since nothing awaits it
        raise AssayError(f"{spec} is async: name a function that returns the network itself")
    if not isinstance(made, nn.Module):
        raise AssayError(f"{spec} gave {type(made).__name__}, not a torch.nn.Module")
    return made


def _eval(module: nn.Module) -> nn.Module:
    """Return the module in eval mode; one that was exported, or is frozen, is in no other."""
    with suppress(NotImplementedError, RuntimeError):
        module.eval()
    return module
