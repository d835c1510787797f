"""The union of all attacks: what a config's `attack:` may be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from assay.attacks.base import Attack
from assay.attacks.fab import FAB
from assay.attacks.gradient import FGSM, PGD
from assay.attacks.square import Square
from assay.core.family import members, union

BUILT_IN: tuple[type[Attack], ...] = (FAB, FGSM, PGD, Square)


def attacks() -> dict[str, type[Attack]]:
    """Return every attack by its name: ours, then those of the group `assay.attacks`."""
    return members(Attack, BUILT_IN, "assay.attacks")


if TYPE_CHECKING:
    AnyAttack = Annotated[FAB | FGSM | PGD | Square, Field(discriminator="name")]
else:
    AnyAttack = union(attacks().values())
