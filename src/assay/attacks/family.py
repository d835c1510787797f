"""The union of all attacks: what a config's `attack:` may be."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Annotated, Union

from pydantic import Field

from assay.attacks.base import Attack
from assay.attacks.gradient import FGSM, PGD
from assay.errors import AssayError

BUILT_IN: tuple[type[Attack], ...] = (FGSM, PGD)


def attacks() -> dict[str, type[Attack]]:
    """Return every attack by its name: ours, then those of the entry-point group `assay.attacks`.

    Raises:
        AssayError: for an entry point that is no attack, or whose name is already taken.
    """
    found = {_tag(kind): kind for kind in BUILT_IN}
    for point in entry_points(group="assay.attacks"):
        kind = point.load()
        if not (isinstance(kind, type) and issubclass(kind, Attack)):
            raise AssayError(f"entry point {point.name!r} ({point.value}) is not an Attack")
        if _tag(kind) in found:
            raise AssayError(f"entry point {point.value} takes the name {_tag(kind)!r}: rename it")
        found[_tag(kind)] = kind
    return found


def _tag(kind: type[Attack]) -> str:
    return str(kind.model_fields["name"].default)


if TYPE_CHECKING:
    AnyAttack = Annotated[FGSM | PGD, Field(discriminator="name")]
else:
    known = tuple(attacks().values())
    AnyAttack = Annotated[Union[known], Field(discriminator="name")]  # noqa: UP007 - not static
