"""Square Attack: random search with squares, which needs no more than scores."""

from __future__ import annotations

import math
from bisect import bisect_left
from functools import lru_cache
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from assay.attacks.base import Attack, Iterate, Search, only, wins
from assay.attacks.losses import cross_entropy, margin, towards
from assay.config import Number, Repeats
from assay.core.oracle import Access, Loss, labels
from assay.core.random import Rows
from assay.core.threats import NormBall

HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""After which proposal of 10,000 the share of the pixels that a square covers is halved."""

Change = tuple[Tensor, Tensor]
"""Where in the rows of pixels something is written, int64 (n, k), and what, (n, k)."""


class Square(Attack):
    """Square Attack (Andriushchenko et al. 2020): change a random square, keep it if it helps.

    Every image has proposals of its own. L1 is the L2 form with L1 lengths (cf. Croce & Hein 2021,
    "Mind the box"). Where the paper and its code differ the paper is followed: squares may touch
    every edge of the image, and each channel of a window keeps its own length. From AutoAttack's
    code comes that a target is approached by its cross entropy instead of its margin, and that the
    schedule of the sizes stretches with `queries`.

    >>> assay.attacks.Square(eps=0.3, queries=300)(clf, x, y).success_rate.value > 0.5
    True
    """

    needs: ClassVar[Access] = "scores"

    name: Literal["square"] = "square"
    """The method's name in configs."""
    norm: Literal["linf", "l2", "l1"] = "linf"
    """The norm that the perturbation is measured in: linf, l2 or l1."""
    eps: Number = 8 / 255
    """Radius of the ball, in pixel units of [0, 1]."""
    queries: PositiveInt = 5000
    """Queries per image and restart: one for the first guess, one for each square."""
    p_init: Number = Field(default=0.8, gt=0, le=1)
    """Share of the pixels that the first squares cover."""
    restarts: Repeats = 1
    """How many searches to try, each from a first guess of its own."""

    @property
    def threat(self) -> NormBall:
        return NormBall.parse({"norm": self.norm, "eps": self.eps}, where=self.name)

    @property
    def starts(self) -> int:
        return self.restarts

    def objective(self, targeted: bool) -> Loss:
        return towards(cross_entropy) if targeted else margin

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
        x = x.clone()  # dense: what is held from here on are rows of pixels as they lie in memory
        layout = Layout(x)
        guess = stripes if threat.norm == "linf" else tiles
        propose = recolour if threat.norm == "linf" else move
        best = layout.rows(torch.empty_like(x).copy_(guess(threat, x, rng)))
        x = layout.rows(x)
        damage = x.new_full((len(x),), -math.inf)
        won = torch.zeros_like(y, dtype=torch.bool)
        for number in range(self.queries):
            changes: list[Change] = []
            if number:
                side = self._side(number - 1, layout)
                changes = propose(threat, layout, x, best, side, rng)
            before = [best.gather(1, where) for where, _ in changes]
            for where, values in changes:
                best.scatter_(1, where, values)
            answer = model.query(layout.images(best))
            said = labels(answer)
            rise = loss(answer, y).masked_fill(said < 0, torch.nan)
            fooled = wins(answer, y, targeted)
            better = (fooled & ~won) | ((fooled == won) & (rise > damage))
            after = [best.gather(1, where) for where, _ in changes]
            for (where, _), old, new in zip(changes, before, after, strict=True):
                best.scatter_(1, where, torch.where(better[:, None], new, old))
            damage, won = torch.where(better, rise, damage), won | fooled
            # An image that is as it was has been judged; nothing new is said about it.
            news, ahead = said.masked_fill(~better, -1), int(number + 1 < self.queries)
            keep = yield Iterate(layout.images(best), news, ahead=ahead)
            x, y, best, damage, won, rng = only(keep, x, y, best, damage, won, rng)

    def _side(self, proposal: int, layout: Layout) -> int:
        """Return the side of the square of a proposal (from 0), in pixels."""
        _, height, width = layout.shape
        halved = bisect_left(HALVINGS, int(proposal / self.queries * 10_000))
        side = round(math.sqrt(self.p_init / 2**halved * height * width))
        if self.norm != "linf":
            side = max(side, 3) | 1  # odd, and enough for two bumps
        return min(max(side, 1), height, width)


class Layout:
    """How a batch of images (N, C, H, W), dense in memory in any order, is one of rows (N, C·H·W).

    Attributes:
        shape: (C, H, W).
    """

    def __init__(self, x: Tensor) -> None:
        self.shape = (int(x.shape[1]), int(x.shape[2]), int(x.shape[3]))
        self.size = math.prod(self.shape)
        self.strides = x.stride()[1:]

    def rows(self, images: Tensor) -> Tensor:
        return images.as_strided((len(images), self.size), (self.size, 1))

    def images(self, rows: Tensor) -> Tensor:
        return rows.as_strided((len(rows), *self.shape), (self.size, *self.strides))

    def window(self, top: Tensor, left: Tensor, side: int) -> Tensor:
        """Return where in a row the pixels of a square are: int64 (n, C·side·side), by channel."""
        channels = torch.arange(self.shape[0], device=top.device) * self.strides[0]
        along = torch.arange(side, device=top.device)
        square = (along * self.strides[1])[:, None] + along * self.strides[2]
        offsets = (channels[:, None] + square.flatten()).flatten()
        return (top * self.strides[1] + left * self.strides[2])[:, None] + offsets

    def places(self, side: int, count: int, rng: Rows) -> tuple[Tensor, Tensor]:
        """Draw `count` squares per row that lie in the image: tops and lefts, (n, count) each."""
        across = self.shape[2] - side + 1
        place = rng.integers((self.shape[1] - side + 1) * across, (count,))
        return place // across, place % across


def signs(drawn: Tensor) -> Tensor:
    """Turn 0 and 1 into -1.0 and 1.0."""
    return drawn.float().mul_(2).sub_(1)


def stripes(threat: NormBall, x: Tensor, rng: Rows) -> Tensor:
    """Return the first guess in Linf: each column of each channel moved by eps, up or down."""
    colours = signs(rng.integers(2, (x.shape[1], 1, x.shape[3])))
    return (x + threat.eps * colours).clamp_(0, 1)


def recolour(
    threat: NormBall, layout: Layout, x: Tensor, best: Tensor, side: int, rng: Rows
) -> list[Change]:
    """Propose, in Linf, a square moved by eps up or down in each channel.

    A colour that the square has already is drawn again, and if it has that one too, inverted, so
    that no query repeats an image that has been evaluated.
    """
    top, left = layout.places(side, 1, rng)
    where = layout.window(top[:, 0], left[:, 0], side)
    first, second = signs(rng.integers(2, (2, layout.shape[0]))).unbind(1)
    around, now = x.gather(1, where), best.gather(1, where)

    def painted(colour: Tensor) -> Tensor:
        moves = (threat.eps * colour).repeat_interleave(side * side, 1)
        return (around + moves).clamp_(0, 1)

    again = torch.where((first == second).all(1, keepdim=True), -first, second)
    square = painted(first)
    same = (square == now).all(1, keepdim=True)
    if bool(same.any()):
        square = painted(torch.where(same, again, first))
    return [(where, square)]


def tiles(threat: NormBall, x: Tensor, rng: Rows) -> Tensor:
    """Return the first guess in L2 and L1: 5 × 5 tiles of two bumps each, signs drawn."""
    n, channels, height, width = x.shape
    side = max(1, min(height, width) // 5)
    rows, columns = height // side, width // side
    drawn = signs(rng.integers(2, (1 + channels, rows, columns)))[..., None, :, None]
    bump = bumps(side, threat.norm).to(x)[:, None]
    across = torch.where(drawn[:, :1] > 0, bump, bump.transpose(0, 2))
    tiled = (across * drawn[:, 1:]).reshape(n, channels, rows * side, columns * side)
    moved = torch.zeros_like(x)
    top, left = (height - rows * side) // 2, (width - columns * side) // 2
    moved[:, :, top : top + rows * side, left : left + columns * side] = tiled
    if threat.norm == "l2":
        moved *= threat.eps / torch.linalg.vector_norm(moved, dim=(1, 2, 3), keepdim=True)
    return threat.project(x, x + moved)


def move(
    threat: NormBall, layout: Layout, x: Tensor, best: Tensor, side: int, rng: Rows
) -> list[Change]:
    """Propose, in L2 and L1, to undo one window, and to spend what that and clipping set free on
    two more bumps in another (algorithm 3 of the paper). Lengths are to the power of the norm's
    order, in which they add up.
    """
    order = 2 if threat.norm == "l2" else 1
    channels = layout.shape[0]
    tops, lefts = layout.places(side, 2, rng)
    gains, loses = (layout.window(tops[:, k], lefts[:, k], side) for k in range(2))
    drawn = rng.integers(2, (1 + channels,))
    moved = best - x
    unused = (threat.eps**order - _lengths(moved, order)).clamp_min_(0) / channels
    gaining = moved.gather(1, gains).view(len(x), channels, -1)
    losing = moved.gather(1, loses).view(len(x), channels, -1)
    losing = losing.masked_fill(_shared(tops, lefts, side)[:, None], 0.0)
    free = _lengths(gaining, order) + _lengths(losing, order) + unused[:, None]
    bump = bumps(side, threat.norm).to(x)
    turned = torch.where(drawn[:, :1] > 0, bump.flatten(), bump.T.flatten())
    mixed = turned[:, None] * signs(drawn[:, 1:, None]) + _unit(gaining, order)
    spent = _unit(mixed, order) * free[..., None] ** (1 / order)
    kept = x.gather(1, loses), x.gather(1, gains)
    return [(loses, kept[0]), (gains, (kept[1] + spent.flatten(1)).clamp_(0, 1))]


@lru_cache(maxsize=64)
def bumps(side: int, norm: str) -> Tensor:
    """Return two bumps of opposite sign, one above the other, of length 1 in the norm: (s, s)."""
    order = {"l2": 2, "l1": 1}[norm]
    halves = (_bump(side // 2, side, order), -_bump(side - side // 2, side, order))
    both = torch.cat(halves)
    length: Tensor = torch.linalg.vector_norm(both, ord=order)
    return both / length


def _bump(height: int, width: int, order: int) -> Tensor:
    """Return nested rectangles, the k-th smallest raised by 1 / k², scaled to length 1."""
    down = (torch.arange(height) - height // 2).abs()
    across = (torch.arange(width) - width // 2).abs()
    rises = 1.0 / torch.arange(1, max(height, width) // 2 + 2).float() ** 2
    raised = rises.flip(0).cumsum(0).flip(0)[torch.maximum(down[:, None], across)]
    length: Tensor = torch.linalg.vector_norm(raised, ord=order)
    return raised / length.clamp_min(1e-12)


def _lengths(values: Tensor, order: int) -> Tensor:
    """Return the norm of the last dimension, to the power of its order."""
    length: Tensor = torch.linalg.vector_norm(values, ord=order, dim=-1)
    return length**order


def _unit(values: Tensor, order: int) -> Tensor:
    """Return the rows of the last dimension scaled to length 1; zeros stay."""
    length: Tensor = torch.linalg.vector_norm(values, ord=order, dim=-1, keepdim=True)
    return values / length.clamp_min(1e-12)


def _shared(tops: Tensor, lefts: Tensor, side: int) -> Tensor:
    """Return which pixels of the second window are in the first one too: bool (n, s·s)."""
    along = torch.arange(side, device=tops.device)
    down = (tops[:, 1] - tops[:, 0])[:, None] + along
    across = (lefts[:, 1] - lefts[:, 0])[:, None] + along
    inside = [(at >= 0) & (at < side) for at in (down, across)]
    return (inside[0][:, :, None] & inside[1][:, None]).flatten(1)
