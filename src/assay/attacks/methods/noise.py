"""Random noise of the size of a budget: what every attack must be better than."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import PositiveInt
from torch import Tensor

from assay.attacks.base import Attack, Iterate, Search
from assay.config import Number
from assay.core.oracle import Access, Loss
from assay.core.random import Rows
from assay.core.threats import Norm, NormBall


class Noise(Attack):
    """Noise on the boundary of the ball: no attack, but the baseline of every attack.

    Linf: every value goes up or down by eps, at random. L2: a normal draw scaled to length eps.
    L1: the exponential spacings of `NormBall.random_start` at full size. L0: as many random pixels
    as the budget allows, redrawn uniformly. Clipped to [0, 1], so a little less near its ends.

    >>> assay.attacks.Noise(eps=0.05)(clf, x, y).success_rate.value
    0.0
    """

    needs: ClassVar[Access] = "labels"

    name: Literal["noise"] = "noise"
    """The method's name in configs."""
    norm: Norm = "linf"
    """The norm that the noise is measured in: linf, l2, l1 or l0."""
    eps: Number = 8 / 255
    """Size of the noise, in pixel units of [0, 1]; a number of pixels for l0."""
    draws: PositiveInt = 1
    """How many draws per image; the first that fools the model counts."""

    @property
    def threat(self) -> NormBall:
        return NormBall.parse({"norm": self.norm, "eps": self.eps}, where=self.name)

    @property
    def starts(self) -> int:
        return self.draws

    @property
    def opening(self) -> int:
        return 0

    def search(
        self,
        model: Any,
        x: Tensor,
        y: Tensor,
        *,
        threat: NormBall,
        loss: Loss,
        targeted: bool,
        rng: Rows,
    ) -> Search:
        del model, y, loss, targeted  # nothing is queried
        yield Iterate(noisy(threat, x, rng), spent=0)


def noisy(threat: NormBall, x: Tensor, rng: Rows) -> Tensor:
    """Return the images (N, C, H, W) with noise of the ball's full size, clipped to [0, 1]."""
    if threat.norm == "l0":
        return threat.random_start(x, rng)
    if threat.norm == "linf":
        sign = (rng.uniform(x.shape[1:]) < 0.5).to(x) * 2 - 1
        return (x + threat.eps * sign).clamp(0, 1)
    if threat.norm == "l2":
        drawn = threat.steepest(rng.normal(x.shape[1:]))
        return (x + threat.eps * drawn).clamp(0, 1)
    spread = threat.random_start(x * 0 + 0.5, rng) - 0.5
    size = spread.flatten(1).abs().sum(1).clamp_min(1e-12).view(-1, 1, 1, 1)
    return (x + spread * (threat.eps / size)).clamp(0, 1)
