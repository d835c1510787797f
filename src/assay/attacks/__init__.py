"""Attacks: how easily is it fooled?

    result = assay.attacks.PGD(norm="linf", eps=8 / 255, steps=20)(clf, x, y, seed=0)

Everything here is loaded when it is first asked for. An attack from another package joins the
union `AnyAttack` by an entry point in the group `assay.attacks` that names its class.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from assay.attacks.apgd import APGD as APGD
    from assay.attacks.apgd import APGDT as APGDT
    from assay.attacks.auto import Auto as Auto
    from assay.attacks.base import Attack as Attack
    from assay.attacks.base import Iterate as Iterate
    from assay.attacks.carlini_wagner import CarliniWagner as CarliniWagner
    from assay.attacks.deepfool import DeepFool as DeepFool
    from assay.attacks.fab import FAB as FAB
    from assay.attacks.family import AnyAttack as AnyAttack
    from assay.attacks.family import attacks as attacks
    from assay.attacks.genetic import Genetic as Genetic
    from assay.attacks.gradient import FGSM as FGSM
    from assay.attacks.gradient import MIFGSM as MIFGSM
    from assay.attacks.gradient import PGD as PGD
    from assay.attacks.gradient import Iterative as Iterative
    from assay.attacks.hopskipjump import HopSkipJump as HopSkipJump
    from assay.attacks.noise import Noise as Noise
    from assay.attacks.over import run_over as run_over
    from assay.attacks.pixels import FewPixel as FewPixel
    from assay.attacks.pixels import OnePixel as OnePixel
    from assay.attacks.result import AttackResult as AttackResult
    from assay.attacks.runner import run as run
    from assay.attacks.square import Square as Square
    from assay.attacks.transfer import Transfer as Transfer
    from assay.attacks.transfer import transfer_matrix as transfer_matrix
    from assay.attacks.universal import Perturbation as Perturbation
    from assay.attacks.universal import Universal as Universal

_HOMES = {
    "APGD": "apgd",
    "APGDT": "apgd",
    "Attack": "base",
    "Auto": "auto",
    "Iterate": "base",
    "CarliniWagner": "carlini_wagner",
    "DeepFool": "deepfool",
    "FAB": "fab",
    "AnyAttack": "family",
    "attacks": "family",
    "Genetic": "genetic",
    "FGSM": "gradient",
    "Iterative": "gradient",
    "MIFGSM": "gradient",
    "PGD": "gradient",
    "HopSkipJump": "hopskipjump",
    "Noise": "noise",
    "run_over": "over",
    "FewPixel": "pixels",
    "OnePixel": "pixels",
    "AttackResult": "result",
    "run": "runner",
    "Transfer": "transfer",
    "transfer_matrix": "transfer",
    "Perturbation": "universal",
    "Universal": "universal",
    "Square": "square",
}
__all__ = [
    "APGD",
    "APGDT",
    "FAB",
    "FGSM",
    "MIFGSM",
    "PGD",
    "AnyAttack",
    "Attack",
    "AttackResult",
    "Auto",
    "CarliniWagner",
    "DeepFool",
    "FewPixel",
    "Genetic",
    "HopSkipJump",
    "Iterate",
    "Iterative",
    "Noise",
    "OnePixel",
    "Perturbation",
    "Square",
    "Transfer",
    "Universal",
    "attacks",
    "run",
    "run_over",
    "transfer_matrix",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
