"""HopSkipJump: to the nearest adversarial image along the boundary, by labels alone."""

from __future__ import annotations

import itertools
import math
from typing import Any, ClassVar, Literal

import torch
from pydantic import PositiveInt
from torch import Tensor

from assay.attacks.base import Attack, Iterate, Search, only, wins
from assay.config import Number
from assay.core.images import rows_that_fit
from assay.core.oracle import Access, Loss, labels
from assay.core.random import Rows
from assay.core.threats import NormBall, per_row

STARTS = 100
"""Random images that are tried before an image is given up."""
SHORTENINGS = 12
"""How often a step is halved before none is made."""
RADIUS = 0.01
"""How far away the probes lie, as a share of the L2 distance to the image."""
BEYOND = 1e-4
"""How far behind the boundary the candidate lies, as a share of its distance: there the float32
original says what its fast copy says."""


class HopSkipJump(Attack):
    """HopSkipJumpAttack (Chen, Jordan & Wainwright 2020), which queries labels only.

    It starts from a random image that has what is wanted, and then hops: a binary search towards
    the image, to the boundary; a guess of the boundary's normal there from random probes, more of
    them each time; a step along it, halved until it stays on the far side. Targeted, it needs a
    random image of the target class; where none is found the attack has failed.

    Two things are not as in the paper. Random images are also drawn in coarse blocks, since noise
    by the pixel may all be of one class. The probes lie a hundredth of the L2 distance away, and
    the binary searches are as fine as these need; the paper's share of 1 / d (in Linf less) is at
    the edge of what float32 can tell apart, and brings the same distances.

    All queries are made at the boundary, where the last bit of a logit may turn an answer, and
    with it the rest of the way. It depends on the batch: of a few images in a hundred, another
    batch size brings another result.

    >>> predict = lambda images: clf.predict(torch.from_numpy(images))
    >>> box = assay.BlackBox(predict, classes=3, access="labels")
    >>> result = assay.attacks.HopSkipJump(queries=300)(box, x, y)
    >>> result.success_rate.value > 0.5, int(result.queries.max()) <= 302
    (True, True)
    """

    VERSION: ClassVar[int] = 3  # an image that is wrong itself rests

    needs: ClassVar[Access] = "labels"
    minimum_norm: ClassVar[bool] = True

    name: Literal["hopskipjump"] = "hopskipjump"
    """The method's name in configs."""
    norm: Literal["l2", "linf"] = "l2"
    """The norm in which the nearest adversarial image is looked for: l2 or linf."""
    eps: Number | None = None
    """What counts as a success: at most this far, in pixel units of [0, 1]; null for any."""
    queries: PositiveInt = 5000
    """Most queries per image. A hop that would take more is not begun."""
    probes: PositiveInt = 100
    """Queries by which the first normal is estimated; the t-th takes √t times as many."""

    @property
    def threat(self) -> NormBall:
        return NormBall.parse({"norm": self.norm, "eps": self.eps}, where=self.name)

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
        del loss  # labels say all there is
        at, best, nearest = x.clone(), x, x.new_full((len(x),), math.inf)
        spent = torch.zeros_like(y)
        lost = torch.ones_like(y, dtype=torch.bool)
        # Generators of their own, so that what an image draws for its hops does not depend on how
        # long the others in play seek.
        starts = rng.repeat(1)
        most = min(STARTS, self.queries)
        for number in range(most):
            cost, drawn = lost.long(), blocks(x, starts, number)
            rows = lost.nonzero()[:, 0]
            rows = rows[wins(model.query(drawn[rows]), y[rows], targeted)]
            at[rows], lost[rows] = drawn[rows], False
            spent = spent + cost
            seeking = number + 1 < most and bool(lost.any())
            ahead = lost.long() if seeking else self._cost(0, x)
            keep = yield Iterate(x, spent=cost, ahead=ahead)
            x, y, at, best, nearest, spent, lost, rng, starts = only(
                keep, x, y, at, best, nearest, spent, lost, rng, starts
            )
            if not seeking:
                break
        for hop in itertools.count():
            away = (at != x).flatten(1).any(1)  # an image that is wrong itself rests
            going = ~lost & away & (spent + self._cost(hop, x) <= self.queries)
            rows = going.nonzero()[:, 0]
            if not len(rows):
                return
            jump = _Jump(model, threat, x[rows], y[rows], targeted)
            far = at[rows]
            if hop:
                probes = self._probes(hop)
                normals = jump.normals(far, probes, hop == 1, rng.repeat(probes), rows)
                far = jump.stride(far, normals, hop)
            at[rows], candidate, said = jump.land(far)
            distance = threat.distance(jump.x, candidate)
            nearer = wins(said, jump.y, targeted) & (distance < nearest[rows])
            news, closer = torch.full_like(y, -1), rows[nearer]
            news[closer] = said[nearer]
            nearest[closer] = distance[nearer]
            best = best.index_copy(0, closer, candidate[nearer])
            cost = torch.zeros_like(y).index_copy_(0, rows, jump.spent)
            spent = spent + cost
            shown = best
            if threat.limited:
                outside = ~threat.contains(x, best)
                news = news.masked_fill(outside, -1)
                shown = torch.where(per_row(outside, x), threat.project(x, best), best)
            keep = yield Iterate(shown, news, spent=cost, ahead=self._cost(hop + 1, x))
            x, y, at, best, nearest, spent, lost, rng = only(
                keep, x, y, at, best, nearest, spent, lost, rng
            )

    def _probes(self, hop: int) -> int:
        return int(self.probes * math.sqrt(hop))

    def _cost(self, hop: int, x: Tensor) -> int:
        """Return the most queries that a hop may take; the 0-th is the first binary search."""
        return (self._probes(hop) + SHORTENINGS if hop else 0) + halvings(x) + 1


class _Jump:
    """The queries of one hop, and how many of them: `spent` int64 (n,)."""

    def __init__(self, model: Any, threat: NormBall, x: Tensor, y: Tensor, targeted: bool) -> None:
        self.model, self.threat, self.x, self.y, self.targeted = model, threat, x, y, targeted
        self.spent = torch.zeros_like(y)

    def normals(self, at: Tensor, probes: int, first: bool, rng: Rows, rows: Tensor) -> Tensor:
        """Return the direction that leads away from the boundary at `at`: (n, C, H, W).

        Each of the probes lies a random direction away; where the far side of the boundary is, is
        where they are on it (equation 16 of the paper, whose baseline is the mean answer). In L2
        the direction has length 1, in Linf it is the sign.
        """
        length = torch.linalg.vector_norm((at - self.x).flatten(1), dim=1)
        radius = torch.full_like(length, 0.1) if first else RADIUS * length
        found = torch.empty_like(at)
        held = rows_that_fit(at)
        for part in torch.split(torch.arange(len(at), device=at.device), max(1, held // probes)):
            sums = at.new_zeros(2, len(part), at[0].numel())
            ayes = at.new_zeros(len(part))
            for some in torch.split(torch.arange(probes, device=at.device), held):
                which = (rows[part, None] * probes + some).flatten()
                times = len(some)
                centre = at[part].repeat_interleave(times, 0)
                scale = per_row(radius[part].repeat_interleave(times), at)
                way = self._directions(rng[which], tuple(at.shape[1:]))
                points = (centre + scale * way).clamp_(0, 1)
                way = ((points - centre) / scale).reshape(len(part), times, -1)
                goal = self.y[part].repeat_interleave(times)
                won = wins(self.model.query(points), goal, self.targeted)
                vote = won.to(at).mul_(2).sub_(1).view(len(part), 1, times)
                sums[0] += torch.bmm(vote, way)[:, 0]
                sums[1] += way.sum(1)
                ayes += vote[:, 0].sum(1)
            mean = ayes / probes
            mean = mean.masked_fill(mean.abs() == 1, 0.0)
            found[part] = (sums[0] - mean[:, None] * sums[1]).view(-1, *at.shape[1:])
        self.spent += probes
        return self.threat.steepest(found)

    def _directions(self, rng: Rows, shape: tuple[int, ...]) -> Tensor:
        drawn = rng.normal(shape) if self.threat.norm == "l2" else rng.uniform(shape, -1.0, 1.0)
        length: Tensor = torch.linalg.vector_norm(drawn.flatten(1), dim=1)
        return drawn / per_row(length, drawn)

    def stride(self, at: Tensor, normals: Tensor, hop: int) -> Tensor:
        """Return the end of the first step along `normals` that stays on the far side, of length
        distance / √hop and halves of it; where none does, `at`.
        """
        far, length = at.clone(), self.threat.distance(self.x, at) / math.sqrt(hop)
        left = torch.arange(len(at), device=at.device)
        for _ in range(SHORTENINGS):
            tried = (at[left] + per_row(length[left], at) * normals[left]).clamp_(0, 1)
            won = wins(self.model.query(tried), self.y[left], self.targeted)
            self.spent[left] += 1
            far[left[won]] = tried[won]
            left, length = left[~won], length / 2
            if not len(left):
                break
        return far

    def land(self, far: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return where the way from `far` to the image meets the boundary, on the far side of it;
        the candidate a little behind; and the label of that, int64 (n,).
        """
        high = torch.ones(len(far), device=far.device)
        low = torch.zeros_like(high)
        for _ in range(halvings(far)):
            middle = (low + high) / 2
            won = wins(self.model.query(self._between(far, middle)), self.y, self.targeted)
            high, low = torch.where(won, middle, high), torch.where(won, low, middle)
        candidate = self._between(far, (high * (1 + BEYOND)).clamp_max_(1))
        said = labels(self.model.query(candidate))
        self.spent += halvings(far) + 1
        return self._between(far, high), candidate, said

    def _between(self, far: Tensor, share: Tensor) -> Tensor:
        """Return the points at a share of the distance from the images to `far`: in L2 on the line
        between them, in Linf `far` clipped to the ball of that radius.
        """
        if self.threat.norm == "l2":
            return self.x + per_row(share, far) * (far - self.x)
        reach = per_row(share * self.threat.distance(self.x, far), far)
        return torch.minimum(torch.maximum(far, self.x - reach), self.x + reach)


def halvings(x: Tensor) -> int:
    """Return how often a binary search halves: until it is as fine as the step of a probe across
    the boundary, of which a random direction has but a share of 1 / √d. 13 times for CIFAR.
    """
    return math.ceil(math.log2(math.sqrt(math.prod(x.shape[1:])) / RADIUS))


def blocks(x: Tensor, rng: Rows, number: int) -> Tensor:
    """Return random images: of single pixels at first, then of blocks of 2 × 2, 4 × 4, … pixels,
    up to one colour, and from the start again.
    """
    _, channels, height, width = x.shape
    coarsest = math.ceil(math.log2(max(height, width)))
    side = 2 ** (number % (coarsest + 1))
    drawn = rng.uniform((channels, math.ceil(height / side), math.ceil(width / side)))
    image = drawn.repeat_interleave(side, 2).repeat_interleave(side, 3)[:, :, :height, :width]
    return torch.empty_like(x).copy_(image)
