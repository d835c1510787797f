"""Families of configs: a choice among ours and those that other packages bring by entry point."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from importlib.metadata import entry_points
from operator import or_
from typing import Annotated, Any, TypeVar

from pydantic import Field

from assay.config import Config
from assay.errors import AssayError

C = TypeVar("C", bound=Config)


def members(base: type[C], built_in: Sequence[type[C]], group: str) -> dict[str, type[C]]:
    """Return every member of a family by its tag: ours, then those of the entry-point group.

    Raises:
        AssayError: for an entry point that cannot be loaded, that is not a `base`, or whose name
            is already taken.
    """
    found = {tag(kind): kind for kind in built_in}
    for point in sorted(entry_points(group=group), key=lambda point: point.name):
        where = f"the entry point {point.name} = {point.value} ({group})"
        try:
            kind = point.load()
        except Exception as error:  # whatever another package may raise when imported
            raise AssayError(f"{where} fails: {type(error).__name__}: {error}") from error
        if not (isinstance(kind, type) and issubclass(kind, base)):
            raise AssayError(f"{where} is not a class derived from {base.__name__}")
        if tag(kind) in found:
            raise AssayError(f"{where} takes the name {tag(kind)!r}, which is taken: rename it")
        found[tag(kind)] = kind
    return found


def tag(kind: type[Config]) -> str:
    """Return the name by which a config is chosen."""
    return str(kind.model_fields["name"].default)


def union(kinds: Iterable[type[Config]]) -> Any:
    """Return the type of a choice among `kinds`, told apart by `name`."""
    some = list(kinds)
    # pydantic refuses a discriminator where there is only one thing to choose
    return some[0] if len(some) == 1 else Annotated[reduce(or_, some), Field(discriminator="name")]
