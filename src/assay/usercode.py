"""Functions that a user names: of a file, `file.py:function`, or of an installed package,
`package.module:function`.

Code runs when it is named like this, and at no other time.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any, ClassVar

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
    """Let a user's file find its neighbours, as it does when it is run; and later, in what it
    imports while it is called."""
    folder = str(path.parent)
    _part_with_others(folder)
    if folder not in _Neighbours.folders:
        _Neighbours.folders.append(folder)
    if _Neighbours not in sys.meta_path:
        sys.meta_path.append(_Neighbours)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        with suppress(ValueError):  # the file may have taken it off itself
            sys.path.remove(folder)


def _part_with_others(folder: str) -> None:
    """Forget modules that lie beside a user's file elsewhere and whose name one beside this file
    has too: Python would hand it the other's. Whoever has imported them keeps them."""
    others = set(_Neighbours.folders) - {folder}
    for name, module in list(sys.modules.items()) if others else ():
        # not `getattr`, since some modules load others when they are asked
        home = "" if "." in name else _home(getattr(module, "__dict__", {}))
        if home not in others or not PathFinder.find_spec(name, [folder]):
            continue
        for part in list(sys.modules):
            if part.partition(".")[0] == name:
                del sys.modules[part]


def _home(known: Mapping[str, Any]) -> str:
    """Return the folder in which a module's own package, or it itself, was found, by its globals;
    empty where that is none."""
    file, package = known.get("__file__"), known.get("__package__")
    places = [Path(file).parent] if isinstance(file, str) else list(known.get("__path__") or ())
    if not places:
        return ""
    depth = len(package.split(".")) if isinstance(package, str) and package else 0
    place = Path(places[0])
    return os.path.realpath((place, *place.parents)[min(depth, len(place.parents))])


class _Neighbours:
    """Finds what a user's file imports while it is called, when its folder is no longer on
    `sys.path`: there, a folder of data called `wandb` or `onnx` would pass for that package."""

    folders: ClassVar[list[str]] = []
    """Those of the files that were named so far."""

    @classmethod
    def find_spec(cls, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Find a module beside the file that imports it; nothing for anybody else."""
        frame = sys._getframe(1)  # nothing else tells who imports
        while frame.f_back and str(frame.f_globals.get("__name__")).startswith("importlib"):
            frame = frame.f_back
        home = _home(frame.f_globals)
        if path is not None or home not in cls.folders:
            return None
        return PathFinder.find_spec(name, [home], target)


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
