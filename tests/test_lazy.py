"""Public names: what a type checker sees of a package is what is there, and it is loaded late."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import subprocess
import sys

import pytest

from assay.lazy import lazily, made_late

LAZY = [
    "assay",
    "assay.attacks",
    "assay.attacks.text",
    "assay.auditing",
    "assay.explain",
    "assay.explain.text",
    "assay.models",
    "assay.ood",
]


def seen_by_type_checkers(name: str) -> set[str]:
    """Return the names that a package imports for types alone; those of `*` are its registry's."""
    package = importlib.import_module(name)
    (block,) = [
        node for node in ast.parse(inspect.getsource(package)).body if isinstance(node, ast.If)
    ]
    found = set()
    for line in block.body:
        assert isinstance(line, ast.ImportFrom), ast.unparse(line)
        for alias in line.names:
            assert alias.asname == alias.name or alias.name == "*", ast.unparse(line)
            found.add(alias.name)
    if "*" in found:
        registry = importlib.import_module(f"{name}.registry")
        for line in ast.parse(inspect.getsource(registry)).body:
            if isinstance(line, ast.ImportFrom):
                found |= {alias.name for alias in line.names if alias.asname == alias.name}
    return found - {"*"}


@pytest.mark.parametrize("name", LAZY)
def test_type_checkers_see_the_names_that_are_there(name: str) -> None:
    package = importlib.import_module(name)
    assert seen_by_type_checkers(name) == set(dir(package))
    for public in dir(package):
        assert getattr(package, public) is not None


@pytest.mark.parametrize("name", LAZY[1:])
def test_a_line_of_a_registry_is_a_public_name_and_a_choice(name: str) -> None:
    registry = importlib.import_module(f"{name}.registry")
    (members,) = [one for one in vars(registry).values() if isinstance(one, registry.Registry)]
    lines = [
        alias.name
        for line in ast.parse(inspect.getsource(registry)).body
        if isinstance(line, ast.ImportFrom)
        for alias in line.names
        if alias.asname == alias.name
    ]
    assert [kind.__name__ for kind in members.built_in().values()] == lines
    assert list(members())[: len(lines)] == list(members.built_in())


@pytest.mark.parametrize("name", LAZY[1:])
def test_a_member_whose_line_is_missing_is_named(name: str) -> None:
    """Whatever can be chosen by a name, in any module of the room, has its line."""
    registry = importlib.import_module(f"{name}.registry")
    (members,) = [one for one in vars(registry).values() if isinstance(one, registry.Registry)]
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, f"{name}."):
        importlib.import_module(module.name)

    def below(kind: type) -> set[type]:
        return {kind}.union(*map(below, kind.__subclasses__()))

    inner = tuple(f"{other}." for other in LAZY if other.startswith(f"{name}."))
    found = {
        kind.__name__
        for kind in below(members.base)
        if kind.__module__.startswith(f"{name}.")
        and not kind.__module__.startswith(inner or "-")
        and isinstance(tag_of(kind), str)
        # not that of an example in a docstring, which another test has run
        and getattr(sys.modules[kind.__module__], kind.__name__, None) is kind
    }
    assert found - {kind.__name__ for kind in members.built_in().values()} == set()


def tag_of(kind: type) -> object:
    fields = getattr(kind, "model_fields", {})
    return fields["name"].default if "name" in fields else getattr(kind, "name", None)


@pytest.mark.parametrize("name", LAZY)
def test_a_name_that_is_not_there_is_an_error(name: str) -> None:
    package = importlib.import_module(name)
    for absent in ("Nothing", "nothing", "__nothing__"):
        with pytest.raises(AttributeError, match=f"module {name!r} has no attribute {absent!r}"):
            getattr(package, absent)


def test_everything_public_comes_with_a_star() -> None:
    names: dict[str, object] = {}
    exec("from assay.ood import *", names)
    assert {"MaxLogit", "AnyDetector", "detectors", "evaluate"} <= names.keys()


def test_a_name_of_a_registry_loads_no_other_package() -> None:
    """A package that brings an attack may import one of ours while it is itself imported."""
    code = (
        "import importlib.metadata as m, assay.core.registry as r\n"
        "def refuse(**_): raise RuntimeError('looked for other packages')\n"
        "r.entry_points = refuse\n"
        "from assay.attacks import PGD, Attack, run\n"
        "from assay.models import MLP\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_late_name_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def make() -> str:
        made.append(1)
        return "made"

    monkeypatch.setitem(sys.modules, "late", type(sys)("late"))
    late = sys.modules["late"]
    late.__getattr__ = made_late("late", Union=make)  # type: ignore[method-assign]
    assert (late.Union, late.Union, made) == ("made", "made", [1])
    with pytest.raises(AttributeError, match="'late' has no attribute 'Other'"):
        _ = late.Other


def test_a_package_without_a_registry_has_what_it_lists() -> None:
    load, public = lazily("assay", {"errors": ["AssayError"]}, packages=["stats"])
    assert public() == load("__all__") == ["AssayError", "stats"]
