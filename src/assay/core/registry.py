"""Registries: what a config may choose among, ours and what other packages bring by entry point.

A room's module `registry` imports its members, one line each, and says what they are:

    from assay.attacks.methods.deepfool import DeepFool as DeepFool

    attacks = Registry(Attack, __name__, "assay.attacks")

The union for configs, the room's public names and the table by name come from those lines.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from importlib.metadata import EntryPoint, entry_points
from operator import or_
from typing import Annotated, Any, Generic, TypeVar

from pydantic import Field

from assay.errors import AssayError

C = TypeVar("C")


@dataclass(frozen=True)
class Registry(Generic[C]):
    """The classes that derive from `base`: those that a module imports, and those of a group."""

    base: type[C]
    module: str
    """The module whose imports are the members of ours."""
    group: str
    """The entry points by which other packages bring theirs."""

    def __call__(self) -> dict[str, type[C]]:
        """Return every member by its name: ours in the order of their lines, then the others'.

        Raises:
            AssayError: for an entry point that cannot be loaded, that is not a `base`, or whose
                name is already taken.
        """
        found = self.built_in()
        for point in sorted(entry_points(group=self.group), key=lambda point: point.name):
            kind = loaded(point, self.base)
            if tag(kind) in found:
                raise AssayError(
                    f"{where(point)} takes the name {tag(kind)!r}, which is taken: rename it"
                )
            found[tag(kind)] = kind
        return found

    def built_in(self) -> dict[str, type[C]]:
        """Return the members of ours by their names; nothing of another package is loaded."""
        return {
            tag(kind): kind
            for kind in vars(sys.modules[self.module]).values()
            if isinstance(kind, type) and issubclass(kind, self.base) and kind is not self.base
        }

    def union(self) -> Any:
        """Return the type of a choice among all members: what a field of a config may be."""
        return union(self().values())


def loaded(point: EntryPoint, base: type[C]) -> type[C]:
    """Return the class that an entry point names.

    Raises:
        AssayError: it cannot be loaded, or is not a class derived from `base`.
    """
    try:
        kind = point.load()
    except Exception as error:  # whatever another package may raise when imported
        raise AssayError(f"{where(point)} fails: {type(error).__name__}: {error}") from error
    if not (isinstance(kind, type) and issubclass(kind, base)):
        raise AssayError(f"{where(point)} is not a class derived from {base.__name__}")
    return kind


def where(point: EntryPoint) -> str:
    """Return an entry point in words."""
    return f"the entry point {point.name} = {point.value} ({point.group})"


def tag(kind: type[Any]) -> str:
    """Return the name by which a member is chosen: a config's `name`, or a class's."""
    fields = getattr(kind, "model_fields", {})
    return str(fields["name"].default if "name" in fields else kind.name)


def union(kinds: Iterable[type[Any]]) -> Any:
    """Return the type of a choice among configs, told apart by `name`."""
    some = list(kinds)
    # pydantic refuses a discriminator where there is only one thing to choose
    return some[0] if len(some) == 1 else Annotated[reduce(or_, some), Field(discriminator="name")]
