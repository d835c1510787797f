"""Functions that a user names: of a file, `file.py:function`, or of an installed package,
`package.module:function`.

Code runs when it is named like this, and at no other time.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from assay.disk import existing
from assay.errors import AssayError, told, unknown

NAMED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def names_function(spec: str) -> bool:
    """Whether a name is that of a function: `file.py:function` or `package.module:function`.

    >>> names_function("data.py:test"), names_function("torchvision.models:resnet18")
    (True, True)
    >>> names_function("digits"), names_function("http://localhost:80/")
    (False, False)
    """
    return in_file(spec) or bool(NAMED.fullmatch(spec))


def in_file(spec: str) -> bool:
    """Whether a name is that of something in a Python file."""
    return ".py:" in spec


@contextmanager
def from_file(spec: str) -> Iterator[Callable[..., Any]]:
    """Run the file of `file.py:function`, and give the function; while it is used, it finds the
    file's neighbours, as when the file is run.

    Raises:
        AssayError: there is no such file or function, or the file fails.
    """
    file, _, name = spec.rpartition(":")
    path = existing(Path(file)).resolve()
    with _beside(path):
        yield _run(path, file, name)


def misfit(function: Callable[..., Any], *arguments: Any, **named: Any) -> str:
    """Return why a function cannot be called with these arguments; empty where it can, or where it
    does not say what it takes, as builtins do."""
    try:
        inspect.signature(function).bind(*arguments, **named)
    except TypeError as error:
        return str(error)
    except ValueError:
        pass
    return ""


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


def installed(spec: str) -> Callable[..., Any]:
    """Import the module and return what is called so in it."""
    name, _, inside = spec.partition(":")
    package = name.partition(".")[0]
    if importlib.util.find_spec(package) is None:
        own = "" if "." in name else f"; a file of yours is named {name}.py:{inside}"
        raise AssayError(
            f"{spec} is in the package {package}, which is not installed here: install it beside "
            f"assay{own}"
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
