"""Auto: the cascade of attacks by which a robust accuracy is best reported."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import PositiveInt

from assay.attacks.base import Attack, Search
from assay.attacks.losses import dlr, towards
from assay.attacks.methods.apgd import APGD, APGDT
from assay.attacks.methods.fab import FAB
from assay.attacks.methods.square import Square
from assay.config import Number
from assay.core.oracle import Loss
from assay.core.threats import NormBall
from assay.errors import AssayError


class Auto(Attack):
    """AutoAttack (Croce & Hein 2020, "Reliable evaluation of adversarial robustness with an
    ensemble of diverse parameter-free attacks"), in its standard form: APGD with cross entropy,
    targeted APGD with the DLR loss, targeted FAB, and Square, which needs no gradient.

    Each meets only the images that remain robust to those before it, with the very draws that it
    would have alone: whatever one of them fools with a seed, `Auto` fools with that seed too.

    In L1, as in Croce & Hein 2021 ("Mind the box"), the first has 5 restarts, and the second goes
    towards 5 classes. For a randomised model set `eot`: it is then AutoAttack's form for those,
    APGD with cross entropy and with DLR.

    >>> result = assay.attacks.Auto(eps=0.2, steps=10, queries=50)(clf, x, y, stop="fooled")
    >>> result.robust_accuracy.value
    0.0
    >>> [stage.name for stage in result.attack.stages]
    ['apgd', 'apgdt', 'fab', 'square']
    """

    VERSION: ClassVar[int] = 3  # that of FAB

    name: Literal["auto"] = "auto"
    """The method's name in configs."""
    norm: Literal["linf", "l2", "l1"] = "linf"
    """The norm that the perturbation is measured in: linf, l2 or l1."""
    eps: Number = 8 / 255
    """Radius of the ball, in pixel units of [0, 1]."""
    steps: PositiveInt = 100
    """Steps of each run of APGD and of FAB."""
    queries: PositiveInt = 5000
    """Most queries of Square per image."""
    eot: PositiveInt | None = None
    """For a randomised model, over how many draws of it each gradient is averaged (20 in
    AutoAttack); null takes the model for one that always answers the same."""

    @property
    def threat(self) -> NormBall:
        return NormBall.parse({"norm": self.norm, "eps": self.eps}, where=self.name)

    @property
    def stages(self) -> tuple[Attack, ...]:
        ball: dict[str, Any] = {"norm": self.norm, "eps": self.eps}
        climb = {**ball, "steps": self.steps, "eot": self.eot}
        if self.eot is not None:
            return APGD(**climb), APGD(**climb, loss="dlr")
        sparse = self.norm == "l1"
        return (
            APGD(**climb, restarts=5 if sparse else 1),
            APGDT(**climb, n_target_classes=5 if sparse else 9),
            FAB(**ball, steps=self.steps, n_target_classes=9),
            Square(**ball, queries=self.queries),
        )

    def objective(self, targeted: bool) -> Loss:
        return towards(dlr) if targeted else dlr

    def search(self, *_: Any, **__: Any) -> Search:
        raise AssayError(
            "auto is a cascade, which meets survivors only: to move every image (to train, say), "
            "take one of its stages, such as apgd"
        )
