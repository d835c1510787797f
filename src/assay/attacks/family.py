"""The union of all attacks: what a config's `attack:` may be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from assay.attacks.apgd import APGD, APGDT
from assay.attacks.auto import Auto
from assay.attacks.base import Attack
from assay.attacks.carlini_wagner import CarliniWagner
from assay.attacks.deepfool import DeepFool
from assay.attacks.fab import FAB
from assay.attacks.genetic import Genetic
from assay.attacks.gradient import FGSM, MIFGSM, PGD
from assay.attacks.hopskipjump import HopSkipJump
from assay.attacks.noise import Noise
from assay.attacks.pixels import FewPixel, OnePixel
from assay.attacks.square import Square
from assay.core.family import members, union

BUILT_IN: tuple[type[Attack], ...] = (
    APGD,
    APGDT,
    Auto,
    CarliniWagner,
    DeepFool,
    FAB,
    FGSM,
    MIFGSM,
    PGD,
    Noise,
    Square,
    HopSkipJump,
    FewPixel,
    OnePixel,
    Genetic,
)


def attacks() -> dict[str, type[Attack]]:
    """Return every attack by its name: ours, then those of the group `assay.attacks`."""
    return members(Attack, BUILT_IN, "assay.attacks")


if TYPE_CHECKING:
    AnyAttack = Annotated[
        APGD
        | APGDT
        | Auto
        | CarliniWagner
        | DeepFool
        | FAB
        | FGSM
        | MIFGSM
        | PGD
        | Noise
        | HopSkipJump
        | Square
        | FewPixel
        | OnePixel
        | Genetic,
        Field(discriminator="name"),
    ]
else:
    AnyAttack = union(attacks().values())
