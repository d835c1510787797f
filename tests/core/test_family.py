"""Families: a choice among our configs and those that other packages bring."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Literal

import pytest
from pydantic import TypeAdapter, ValidationError

from assay.config import Config
from assay.core import family
from assay.errors import AssayError


class Shape(Config):
    name: str


class Circle(Shape):
    name: Literal["circle"] = "circle"
    radius: float = 1.0


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

    monkeypatch.setattr(family, "entry_points", entry_points)


def test_one_from_another_package_joins(monkeypatch: pytest.MonkeyPatch) -> None:
    bring(monkeypatch, "Square")
    found = family.members(Shape, (Circle,), "test.shapes")
    assert found == {"circle": Circle, "square": Square}
    choice = TypeAdapter(family.union(found.values()))
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
        family.members(Shape, (Circle,), "test.shapes")


def test_a_family_of_one_needs_no_choice() -> None:
    choice = TypeAdapter(family.union([Circle]))
    assert choice.validate_python({"name": "circle", "radius": 3}) == Circle(radius=3)
    with pytest.raises(ValidationError, match="name"):
        choice.validate_python({"name": "square"})
