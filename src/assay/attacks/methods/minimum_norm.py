"""What minimum-norm methods share: the search for the nearest adversarial image."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from assay.attacks.base import Attack, Iterate
from assay.attacks.losses import margin, towards
from assay.config import Number
from assay.core.oracle import Loss
from assay.core.threats import NormBall, per_row

SURE = 2e-5
"""By what share of its largest logit, in size, a copy must prefer another class before a candidate
is taken for adversarial: those of the float32 original, which confirms it, differ by up to 1e-5."""

MASKED = -100.0
"""A class whose logit lies below so many times the size of the highest, or of 1, is masked: a logit
such as -1e9 or -inf does not say how coarsely the others are rounded."""


class MinimumNorm(Attack):
    """A search for the nearest adversarial image. `eps` only says which of them count: the search
    itself may go further out and come back, and what it offers is projected on the ball."""

    minimum_norm: ClassVar[bool] = True

    norm: Literal["linf", "l2", "l1"] = "linf"
    """The norm that distances are measured in: linf, l2 or l1."""
    eps: Number | None = None
    """Radius within which an image counts as fooled, in pixel units of [0, 1]; null: any."""

    @property
    def threat(self) -> NormBall:
        return NormBall.parse({"norm": self.norm, "eps": self.eps}, where=self.name)

    def objective(self, targeted: bool) -> Loss:
        return towards(margin) if targeted else margin


def surplus(logits: Tensor, y: Tensor, targeted: bool) -> Tensor:
    """Return by how much the attacker has won each row: positive beyond the boundary, float (n,).

    It is the logit of the best class that the attacker wants over the best that it does not,
    less what the copy's rounding may be wrong by (`rounding`). A row with a NaN is lost.
    """
    lead = margin(logits, y)
    lead = -lead if targeted else lead
    return (lead - rounding(logits)).nan_to_num(nan=-torch.inf)


def rounding(logits: Tensor) -> Tensor:
    """Return by how much a lead of one logit over another may be wrong in a copy, float (n,)."""
    masked = logits < MASKED * logits.amax(1, keepdim=True).abs().clamp_min(1)
    return SURE * logits.abs().masked_fill(masked, 0.0).amax(1)


class Nearest:
    """The nearest adversarial point of each row so far; indexing keeps rows, as in `only`.

    Attributes:
        threat: which norm distances are measured in.
        x: (n, ...), the images.
        adv: (n, ...), the nearest points; the images themselves where there is none yet.
        distance: (n,), how far they are; infinite where there is none yet.
        surplus: (n,), by how much the attacker has won there.
    """

    def __init__(
        self, threat: NormBall, x: Tensor, adv: Tensor, distance: Tensor, surplus: Tensor
    ) -> None:
        self.threat, self.x, self.adv = threat, x, adv
        self.distance, self.surplus = distance, surplus

    @classmethod
    def none_yet(cls, threat: NormBall, x: Tensor) -> Nearest:
        distance = torch.full((len(x),), torch.inf, device=x.device)
        return cls(threat, x, x, distance, -distance)

    def __getitem__(self, keep: Tensor) -> Nearest:
        held = (self.x, self.adv, self.distance, self.surplus)
        return Nearest(self.threat, *(item[keep] for item in held))

    def see(self, adv: Tensor, surplus: Tensor) -> Tensor:
        """Look at further points (n, ...) and what the attacker has won there; return which of
        them are the nearest adversarial ones so far, bool (n,)."""
        distance = self.threat.distance(self.x, adv)
        better = (surplus > 0) & (distance < self.distance)
        self.adv = torch.where(per_row(better, adv), adv, self.adv)
        self.distance = torch.where(better, distance, self.distance)
        self.surplus = torch.where(better, surplus, self.surplus)
        return better

    def offer(
        self, adv: Tensor, logits: Tensor, surplus: Tensor, spent: int | Tensor = 1
    ) -> Iterate:
        """Look at further points, and return what to yield: the nearest adversarial points so far,
        which is what remains of a search that is cut short, and `adv` where there is none.

        The answer about a point that was found earlier is withheld: it has been judged.
        """
        news = self.see(adv, surplus) | self.distance.isinf()
        adv = torch.where(per_row(news, adv), adv, self.adv)
        return offer(self.threat, self.x, adv, logits.masked_fill(~news[:, None], torch.nan), spent)


def offer(
    threat: NormBall, x: Tensor, adv: Tensor, logits: Tensor | None, spent: int | Tensor = 1
) -> Iterate:
    """Return what to yield for candidates that may lie outside the threat.

    Those that do are projected on it, and the answer about them is withheld (NaN): the model was
    evaluated another image.
    """
    if not threat.limited:
        return Iterate(adv, logits, spent)
    outside = threat.distance(x, adv) > threat.eps
    adv = torch.where(per_row(outside, adv), threat.project(x, adv), adv)
    if logits is not None:
        logits = logits.masked_fill(outside[:, None], torch.nan)
    return Iterate(adv, logits, spent)
