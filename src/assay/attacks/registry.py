"""The attacks of ours: a line each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assay.attacks.methods.apgd import APGD as APGD
from assay.attacks.methods.apgd import APGDT as APGDT
from assay.attacks.methods.auto import Auto as Auto
from assay.attacks.base import Attack
from assay.attacks.methods.carlini_wagner import CarliniWagner as CarliniWagner
from assay.attacks.methods.deepfool import DeepFool as DeepFool
from assay.attacks.methods.fab import FAB as FAB
from assay.attacks.methods.genetic import Genetic as Genetic
from assay.attacks.methods.pgd import FGSM as FGSM
from assay.attacks.methods.pgd import MIFGSM as MIFGSM
from assay.attacks.methods.pgd import PGD as PGD
from assay.attacks.methods.hopskipjump import HopSkipJump as HopSkipJump
from assay.attacks.methods.noise import Noise as Noise
from assay.attacks.methods.pixels import FewPixel as FewPixel
from assay.attacks.methods.pixels import OnePixel as OnePixel
from assay.attacks.methods.square import Square as Square
from assay.core.registry import Registry
from assay.lazy import made_late

attacks = Registry(Attack, __name__, "assay.attacks")
"""Every attack by its name: ours, then those of the entry-point group `assay.attacks`."""

if TYPE_CHECKING:
    AnyAttack = Attack
else:
    # the union, for the fields of configs; other packages are loaded for it, so it is made late
    __getattr__ = made_late(__name__, AnyAttack=attacks.union)
