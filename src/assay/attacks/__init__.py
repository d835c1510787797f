"""Attacks: how easily is a model fooled?

    result = assay.attacks.PGD(norm="linf", eps=8 / 255, steps=20)(clf, x, y, seed=0)

Everything here is loaded when it is first used. An attack from another package joins the
union `AnyAttack` by an entry point in the group `assay.attacks` that names its class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from assay.lazy import lazily

if TYPE_CHECKING:
    from assay.attacks import text as text
    from assay.attacks.base import Attack as Attack
    from assay.attacks.base import Iterate as Iterate
    from assay.attacks.methods.gradient import Iterative as Iterative
    from assay.attacks.methods.universal import Perturbation as Perturbation
    from assay.attacks.methods.universal import Universal as Universal
    from assay.attacks.registry import *  # noqa: F403
    from assay.attacks.registry import AnyAttack as AnyAttack
    from assay.attacks.registry import attacks as attacks
    from assay.attacks.result import AttackResult as AttackResult
    from assay.attacks.runner import run as run
    from assay.attacks.transfer import Transfer as Transfer
    from assay.attacks.transfer import transfer_matrix as transfer_matrix
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "base": ["Attack", "Iterate"],
            "methods.gradient": ["Iterative"],
            "methods.universal": ["Perturbation", "Universal"],
            "registry": ["AnyAttack", "attacks"],
            "result": ["AttackResult"],
            "runner": ["run"],
            "transfer": ["Transfer", "transfer_matrix"],
        },
        packages=["text"],
        registry="attacks",
    )
