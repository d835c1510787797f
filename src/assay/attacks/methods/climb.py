"""Where a run of Auto-PGD is: what is held of each image, when a step is halved, and how it moves.

Croce & Hein 2020, "Reliable evaluation of adversarial robustness with an ensemble of diverse
parameter-free attacks"; in L1, Croce & Hein 2021, "Mind the box: l1-APGD for sparse adversarial
attacks on image classifiers".
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor

from assay.attacks.base import only
from assay.core.random import Rows
from assay.core.threats import NormBall, per_row, wide

SPARSER = 1.5
"""In L1, how many times fewer coordinates a step moves than the best point has moved."""
MOMENTUM = 0.75
"""Share of the projected step in a move; the rest repeats the move before it."""


class _Held:
    """What is held per row, as fields; `only` keeps the rows to go on with."""

    def only(self, keep: Tensor | None) -> None:
        for field in fields(self):  # type: ignore[arg-type]
            (kept,) = only(keep, getattr(self, field.name))
            setattr(self, field.name, kept)


@dataclass
class Images(_Held):
    """The images (n, ...) of a search, and the best candidate of each over all its runs: one that
    fooled the model before one that did not, then the higher loss."""

    x: Tensor
    y: Tensor
    rng: Rows
    towards: Tensor
    """int64 (n, T), the classes to try; none unless the search chooses them."""
    best: Tensor
    fooled: Tensor
    score: Tensor

    @classmethod
    def of(cls, x: Tensor, y: Tensor, rng: Rows) -> Images:
        score = torch.full((len(x),), -torch.inf, device=x.device)
        return cls(x, y, rng, y[:, None][:, :0], x.clone(), score > 0, score)

    def note(self, adv: Tensor, fooled: Tensor, score: Tensor) -> tuple[Tensor, Tensor]:
        """Keep the candidates `adv` that are better than what is held.

        Returns what is left of a search that is cut short here, and where that is `adv`, bool (n,):
        the best so far, or a candidate that fooled the model less clearly than the best did, which
        the float32 original may yet confirm where it refused the best.
        """
        better = (fooled & ~self.fooled) | ((fooled == self.fooled) & (score > self.score))
        rows = better.nonzero()[:, 0]
        self.best.index_copy_(0, rows, adv[rows])
        self.score = torch.where(better, score, self.score)
        self.fooled = self.fooled | fooled
        again = (fooled & ~better).nonzero()[:, 0]
        left = self.best.index_copy(0, again, adv[again]) if len(again) else self.best
        return left, better | fooled


@dataclass
class Climb(_Held):
    """Where a run of APGD is, in Linf or L2."""

    goal: Tensor
    """What the loss takes beside the logits: (n,) or (n, 2)."""
    adv: Tensor
    before: Tensor
    """Where the row was a move ago."""
    slope: Tensor
    loss: Tensor
    peak: Tensor
    """The point of the highest loss so far."""
    peak_slope: Tensor
    peak_loss: Tensor
    size: Tensor
    """float32 (n,), the length of a step."""
    rises: Tensor
    """How often the loss rose since the last checkpoint."""
    checked_loss: Tensor
    """`peak_loss` at the last checkpoint."""
    changed: Tensor
    """bool (n,), whether the last checkpoint changed the step."""

    @classmethod
    def at(cls, start: Tensor, goal: Tensor, size: float, **more: Tensor) -> Self:
        per_image = torch.zeros(len(start), device=start.device)
        flat = torch.zeros_like(start)
        return cls(
            goal=goal,
            adv=start,
            before=start,
            slope=flat,
            loss=per_image + torch.inf,
            peak=start.clone(),
            peak_slope=flat,
            peak_loss=per_image - torch.inf,
            size=per_image + size,
            rises=per_image,
            checked_loss=per_image - torch.inf,
            changed=per_image == 0,
            **more,
        )

    def intervals(self, steps: int) -> tuple[int, int, int]:
        """Return steps to the first checkpoint, the fewest between two, and how many fewer each."""
        return max(int(0.22 * steps), 1), max(int(0.06 * steps), 1), max(int(0.03 * steps), 1)

    def note(self, loss: Tensor) -> None:
        """Take note of the loss of `adv`; one that is NaN is no rise, and no peak."""
        loss = loss.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
        self.rises = self.rises + (loss > self.loss)
        self.loss = loss
        higher = (loss > self.peak_loss).nonzero()[:, 0]
        self.peak.index_copy_(0, higher, self.adv[higher])
        self.peak_slope.index_copy_(0, higher, self.slope[higher])
        self.peak_loss = torch.maximum(loss, self.peak_loss)

    def check(self, x: Tensor, enough: float, eps: float) -> None:
        """Halve the step where it is too long, and go on from the peak there."""
        del x, eps
        seldom = self.rises <= enough
        no_higher = ~self.changed & (self.checked_loss >= self.peak_loss)
        self.changed = seldom | no_higher
        self.size = torch.where(self.changed, self.size / 2, self.size)
        self.return_to_peak(self.changed)
        self.checked_loss = self.peak_loss
        self.rises = torch.zeros_like(self.rises)

    def return_to_peak(self, where: Tensor) -> None:
        rows = where.nonzero()[:, 0]
        self.adv = self.adv.index_copy(0, rows, self.peak[rows])
        self.slope = self.slope.index_copy(0, rows, self.peak_slope[rows])

    def move(self, x: Tensor, ball: NormBall, share: float) -> None:
        """Make a step, then `share` of it and the rest of the move before."""
        ahead = torch.addcmul(self.adv, ball.steepest(self.slope), per_row(self.size, x))
        ahead = ball.project(x, ahead)
        if share < 1:
            # by differences, so that a point that stays where it is does so to the last bit
            ahead.sub_(self.adv).mul_(share).add_(self.adv)
            ahead.add_(self.adv - self.before, alpha=1 - share)
            ahead = ball.project(x, ahead)
        self.before, self.adv = self.adv, ahead


@dataclass
class SparseClimb(Climb):
    """Where a run of APGD is, in L1."""

    share: Tensor
    """float32 (n,), of the coordinates, the share that a step moves."""
    nonzero: Tensor
    """float32 (n,), how many coordinates of the peak had moved at the last checkpoint."""

    @staticmethod
    def moving(x: Tensor, adv: Tensor) -> dict[str, Tensor]:
        """Return `share` and `nonzero` of where it starts."""
        nonzero = (adv != x).flatten(1).sum(1).float()
        return {"share": nonzero / (SPARSER * x[0].numel()), "nonzero": nonzero}

    def intervals(self, steps: int) -> tuple[int, int, int]:
        every = max(int(0.04 * steps), 1)
        return every, every, 0

    def check(self, x: Tensor, enough: float, eps: float) -> None:
        """Take the full step again, from the peak, where that has become sparser; elsewhere a
        shorter one."""
        del enough
        now = self.moving(x, self.peak)
        sparser = now["nonzero"] < 0.95 * self.nonzero
        self.size = torch.where(sparser, eps, self.size / 1.5).clamp_(eps / 10, eps)
        self.share, self.nonzero = now["share"], now["nonzero"]
        self.return_to_peak(sparser)

    def move(self, x: Tensor, ball: NormBall, share: float) -> None:
        """Move the coordinates with the largest gradients equally far; there is no momentum."""
        del share
        size = self.slope.flatten(1).abs()
        count = size.shape[1]
        moved = (self.share * count).long().clamp_(1, count)
        least = size.sort(dim=1, descending=True).values.gather(1, moved[:, None] - 1)
        step = torch.where(size >= least, self.slope.flatten(1), 0.0).sign_()
        length = self.size / step.abs().sum(1).clamp_min(1)
        away = self.adv + (step * length[:, None]).view_as(x)
        self.before, self.adv = self.adv, nearest_in_l1(x, away, ball.eps)


def nearest_in_l1(x: Tensor, adv: Tensor, eps: float) -> Tensor:
    """Return the nearest point to `adv` (in L2) that lies in the L1 ball around `x` and in [0, 1]
    (Croce & Hein 2021, proposition 2.1), not the clipped projection on the ball alone.

    With d = adv - x and room for each coordinate up to the end of [0, 1], it is x + sign(d) ·
    min(max(|d| - t, 0), room), for the least t ≥ 0 that fits. Its L1 norm is piecewise linear in
    t, with a bend at each |d| and each |d| - room, so t is found by sorting those.
    """
    delta = (adv - x).flatten(1)
    size, room = delta.abs(), torch.where(delta > 0, 1 - x.flatten(1), x.flatten(1))
    bends, order = torch.cat([size, size - room], dim=1).sort(dim=1, descending=True)
    bends = wide(bends)
    falling = wide(torch.where(order < size.shape[1], 1.0, -1.0)).cumsum(1)
    norm = (falling[:, :-1] * (bends[:, :-1] - bends[:, 1:])).cumsum(1)  # at bends[:, 1:]
    first = (norm < eps).sum(1, keepdim=True).clamp_max(norm.shape[1] - 1)
    over = (norm - eps).gather(1, first) / falling.gather(1, first).clamp_min(1)
    limit = (bends.gather(1, first + 1) + over).clamp_min(0).to(size)
    moved = (size - limit).clamp_min_(0).minimum(room).mul_(delta.sign())
    return (x + moved.view_as(x)).clamp_(0, 1)
