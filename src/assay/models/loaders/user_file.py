"""What a user's Python file has: a function that makes a network, or one of images.

It runs when it is named, and at no other time.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from torch import nn

from assay.core.classifier import Classifier
from assay.errors import AssayError, told, unknown
from assay.models.loaders.base import EVERYTHING, Given, Loader, existing
from assay.models.weights import load_weights, read_weights


class Factory(Loader):
    """`file.py:factory`, a function or class that gives a `torch.nn.Module`."""

    name = "factory"
    what = "a function of yours"
    takes = EVERYTHING

    def recognises(self, spec: str) -> bool:
        return ".py:" in spec

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
    file, _, name = spec.rpartition(":")
    if not file.endswith(".py"):
        raise AssayError(
            f"--access goes with file.py:function, a function of images, or with a URL; {spec} is "
            "neither"
        )
    path = existing(Path(file)).resolve()
    with _beside(path):
        function = _run(path, file, name)
    if isinstance(function, nn.Module) or inspect.isclass(function):
        raise AssayError(
            f"{spec} is a network: drop --access, or name a function that takes a numpy array"
        )
    if misfit := _misfit(function, None):
        raise AssayError(
            f"{spec} cannot be called with one array of images ({misfit}): drop --access if it "
            "makes a network"
        )
    return function


def _misfit(function: Callable[..., Any], *arguments: Any, **named: Any) -> str:
    """Return why a function cannot be called with these arguments; empty where it can, or where it
    does not say what it takes, as builtins do."""
    try:
        inspect.signature(function).bind(*arguments, **named)
    except TypeError as error:
        return str(error)
    except ValueError:
        pass
    return ""


def _from_factory(spec: str, args: Mapping[str, Any]) -> nn.Module:
    """Run a user's file, call the factory in it, and return the network that it gives."""
    file, _, name = spec.rpartition(":")
    path = existing(Path(file)).resolve()
    with _beside(path):
        factory = _run(path, file, name)
        misfit = "" if isinstance(factory, nn.Module) else _misfit(factory, **args)
        if misfit:
            called = f"with {', '.join(args)}" if args else "without arguments"
            raise AssayError(
                f"{spec} is called {called} to make a network, but {misfit}: set what it needs by "
                "--model-args; or, if it is a function of images, say what it answers, --access "
                "labels, scores or logits"
            )
        try:
            made = factory if isinstance(factory, nn.Module) else factory(**args)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # whatever a user's code may raise
            raise AssayError(f"{spec} raised {told(error)}") from error
    if not isinstance(made, nn.Module):
        raise AssayError(f"{spec} gave {type(made).__name__}, not a torch.nn.Module")
    return made


def _eval(module: nn.Module) -> nn.Module:
    """Return the module in eval mode; one that was exported, or is frozen, is in no other."""
    with suppress(NotImplementedError, RuntimeError):
        module.eval()
    return module


@contextmanager
def _beside(path: Path) -> Iterator[None]:
    """Let a user's file find its neighbours, as it does when it is run."""
    folder = str(path.parent)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        with suppress(ValueError):  # the file may have taken it off itself
            sys.path.remove(folder)


def _run(path: Path, file: str, name: str) -> Callable[..., Any]:
    """Run a Python file as a module of its own and return what is called `name` in it."""
    inside = f"assay_user_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    loader = importlib.util.spec_from_file_location(inside, path)
    assert loader is not None  # the name ends in .py
    assert loader.loader is not None
    module = importlib.util.module_from_spec(loader)
    sys.modules[inside] = module  # dataclasses and pickles of the file look themselves up here
    try:
        loader.loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever a user's code may raise
        raise AssayError(f"{file} cannot be run: {told(error)}") from error
    known: Mapping[str, Any] = vars(module)
    if name not in known:
        own = [key for key, value in known.items() if callable(value) and not key.startswith("_")]
        if not name:
            raise AssayError(
                f"name a function of {file} after the colon: {', '.join(own) or 'none'}"
            )
        raise unknown(f"function in {file}", name, own)
    if not callable(known[name]):
        raise AssayError(f"{file}:{name} is {type(known[name]).__name__}, not a function or class")
    factory: Callable[..., Any] = known[name]
    return factory
