"""Registries: a choice among our classes and those that other packages bring."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from types import ModuleType
from typing import Literal

import pytest
from pydantic import TypeAdapter, ValidationError

from assay.config import Config
from assay.core import registry
from assay.core.registry import Registry
from assay.errors import AssayError


class Shape(Config):
    name: str


class Circle(Shape):
    name: Literal["circle"] = "circle"
    radius: float = 1.0


SHAPES = Registry(Shape, "shapes", "test.shapes")


@pytest.fixture(autouse=True)
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module that imports one shape, as a room's registry does."""
    made = ModuleType("shapes")
    vars(made).update(Shape=Shape, Circle=Circle, Stranger=Stranger, SHAPES=SHAPES)
    monkeypatch.setitem(sys.modules, "shapes", made)
    return made


class Square(Shape):
    name: Literal["square"] = "square"
    side: float = 1.0


class Impostor(Shape):
    name: Literal["circle"] = "circle"


class Stranger(Config):
    name: Literal["stranger"] = "stranger"


def bring(monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    point = EntryPoint("theirs", f"{__name__}:{target}", "test.shapes")

    def entry_points(group: str) -> list[EntryPoint]:
        assert group == "test.shapes"
        return [point]

    monkeypatch.setattr(registry, "entry_points", entry_points)


def test_one_from_another_package_joins(monkeypatch: pytest.MonkeyPatch) -> None:
    bring(monkeypatch, "Square")
    found = SHAPES()
    assert found == {"circle": Circle, "square": Square}
    choice = TypeAdapter(SHAPES.union())
    assert choice.validate_python({"name": "square", "side": 2}) == Square(side=2)
    assert choice.validate_python({"name": "circle"}) == Circle()
    with pytest.raises(ValidationError, match="'circle', 'square'"):
        choice.validate_python({"name": "triangle"})


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("Impostor", "takes the name 'circle', which is taken"),
        ("Stranger", "is not a class derived from Shape"),
        ("bring", "is not a class derived from Shape"),
        ("Nowhere", "fails: AttributeError"),
    ],
)
def test_one_that_does_not_fit_is_named(
    monkeypatch: pytest.MonkeyPatch, target: str, message: str
) -> None:
    bring(monkeypatch, target)
    with pytest.raises(AssayError, match=rf"theirs = .*{target}.*{message}"):
        SHAPES()


def test_a_registry_of_one_needs_no_choice() -> None:
    choice = TypeAdapter(registry.union([Circle]))
    assert choice.validate_python({"name": "circle", "radius": 3}) == Circle(radius=3)
    with pytest.raises(ValidationError, match="name"):
        choice.validate_python({"name": "square"})


def test_ours_stand_in_the_order_of_their_lines(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring(monkeypatch, "Nowhere")  # that another package is broken is no matter
    module.Square = Square  # type: ignore[attr-defined]
    assert list(SHAPES.built_in().items()) == [("circle", Circle), ("square", Square)]


def test_classes_that_are_no_configs_are_known_by_their_name() -> None:
    class Part:
        name = "part"

    assert registry.tag(Part) == "part"
