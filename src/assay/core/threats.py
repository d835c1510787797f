"""What an attacker may do to inputs; to images, in pixel units of [0, 1]."""

from __future__ import annotations

import math
from typing import Any, Generic, Literal

import torch
from pydantic import Field, field_serializer, field_validator
from torch import Tensor
from typing_extensions import TypeVar

from assay.config import Config, Number, check_pixels
from assay.core.batches import X, take
from assay.core.random import Rows
from assay.errors import AssayError

Norm = Literal["linf", "l2", "l1", "l0"]

TOLERANCE = 1e-6
TINY = torch.finfo(torch.float32).tiny
HALF_ULP = 2.0**-25  # of a float32 in [0.5, 1): how far rounding moves a pixel at most


class Threat(Config, Generic[X]):
    """What an attacker may do to an input: to images, as `NormBall` says, or to texts.

    To add one, write `distance` and `contains`. Its settings are fields, as of any config.
    """

    def distance(self, x: X, adv: X) -> Tensor:
        """Return how far each row was moved, in the threat's own unit: float32 (N,)."""
        raise NotImplementedError

    def contains(self, x: X, adv: X) -> Tensor:
        """Return which rows of `adv` the attacker may reach from `x`: bool (N,)."""
        raise NotImplementedError

    def check(self, x: X) -> None:
        """Refuse inputs that this is no limit for.

        Raises:
            AssayError: names the limit, and what would be one.
        """

    def nearest(self, x: X, adv: X) -> Tensor:
        """Return which row of `x` (n, ...) each of `adv` (m, ...) is nearest to: int64 (m,)."""
        rows = [take(adv, torch.full((len(x),), k)) for k in range(len(adv))]
        return torch.stack([self.distance(x, row).argmin() for row in rows])

    def describe(self) -> str:
        """Return the settings in a few words."""
        return ", ".join(f"{key} {value}" for key, value in self.model_dump(mode="json").items())


class NormBall(Threat[Tensor]):
    """All images within `eps` of the original in a norm, and inside [0, 1].

    `linf`, `l2` and `l1` measure the difference over all channels and pixels. `l0` counts pixels:
    a pixel counts once, whichever of its channels changed (Su et al. 2019, one-pixel attack).

    >>> ball = assay.NormBall(norm="linf", eps=0.1)
    >>> grey = torch.full((2, 1, 4, 4), 0.5)
    >>> ball.contains(grey, grey + torch.tensor([0.05, 0.2]).reshape(2, 1, 1, 1)).tolist()
    [True, False]
    """

    norm: Norm = "linf"
    """The norm: linf, l2, l1, or l0 (number of pixels changed)."""
    eps: Number = Field(default=8 / 255, allow_inf_nan=True)
    """The radius: pixel units of [0, 1] for linf, l2 and l1; a number of pixels for l0; null, and
    math.inf in Python, for no limit but [0, 1]."""

    @field_validator("eps", mode="before")
    @classmethod
    def _no_limit(cls, eps: Any) -> Any:
        return math.inf if eps is None else eps

    @field_validator("eps")
    @classmethod
    def _positive(cls, eps: float) -> float:
        if math.isnan(eps):
            raise ValueError("eps is a radius: a finite number, or null for no limit")
        if eps < 0:
            raise ValueError("eps is a radius and cannot be negative")
        return eps

    @field_serializer("eps", when_used="json")
    def _as_json(self, eps: float) -> float | None:
        return None if math.isinf(eps) else eps

    @property
    def limited(self) -> bool:
        """Whether there is a limit besides [0, 1]."""
        return not math.isinf(self.eps)

    def model_post_init(self, _: Any) -> None:
        if not self.limited:
            return
        if self.norm == "l0" and self.eps != int(self.eps):
            raise ValueError(f"eps counts pixels in l0, so it is a whole number, not {self.eps:g}")
        if self.norm == "linf":
            check_pixels(self.eps)

    def distance(self, x: Tensor, adv: Tensor) -> Tensor:
        """Return the norm of `adv - x` per row: float32 (N,), from (N, C, H, W) each."""
        delta = (adv - x).float()
        flat = delta.flatten(1)
        if self.norm == "linf":
            return flat.abs().amax(1)
        if self.norm == "l2":
            return wide(flat).pow(2).sum(1).sqrt().to(flat)
        if self.norm == "l1":
            return wide(flat).abs().sum(1).to(flat)
        return (delta != 0).any(1).flatten(1).sum(1).float()

    def contains(self, x: Tensor, adv: Tensor) -> Tensor:
        """Return which rows lie in the ball and in [0, 1], to 1e-6 (relative for eps > 1).

        In L2 and L1, where coordinates add up, what rounding each of them to float32 can add is
        allowed on top: 1e-4 in L1 for a CIFAR image.
        """
        flat = adv.flatten(1)
        size = flat.shape[1]
        added = {"linf": 0.0, "l2": math.sqrt(size), "l1": size, "l0": 0.0}[self.norm]
        slack = TOLERANCE * max(1.0, self.eps) + HALF_ULP * added
        inside = (flat.amin(1) >= -TOLERANCE) & (flat.amax(1) <= 1 + TOLERANCE)
        return inside & (self.distance(x, adv) <= self.eps + slack)  # a NaN is never inside

    def check(self, x: Tensor) -> None:
        """Refuse a radius that reaches every image of the shape of `x` (N, C, H, W)."""
        most = widest(self.norm, x)
        if not self.limited or self.eps <= most:
            return
        if self.norm == "l0":
            raise AssayError(
                f"eps = {self.eps:g} pixels may be changed, but these images have {most:g} each: "
                "give a smaller eps"
            )
        raise AssayError(
            f"eps = {self.eps:g} is no limit: no two images of shape {tuple(x.shape[1:])} in "
            f"[0, 1] are further apart than {most:.4g} in {self.norm}; write {self.eps:g}/255 if "
            "you meant grey levels"
        )

    def nearest(self, x: Tensor, adv: Tensor) -> Tensor:
        """Return which image of `x` each of `adv` is nearest to in L2, whatever the norm."""
        return torch.cdist(adv.flatten(1), x.flatten(1)).argmin(1)

    def describe(self) -> str:
        """Return norm and radius."""
        return f"{self.norm} {f'eps {self.eps:.4g}' if self.limited else 'without a limit'}"

    def project(self, x: Tensor, adv: Tensor) -> Tensor:
        """Return the point of the ball around `x`, and of [0, 1], for each row of `adv`.

        Linf is exact. For L2 and L1 the point is projected on the ball and then clipped to
        [0, 1], as Madry et al. 2018 do; since `x` lies in [0, 1], clipping brings every
        coordinate nearer to `x`, so the result stays in the ball. L1 follows Duchi et al. 2008.
        L0 keeps the `eps` pixels that were moved furthest (in L2 over channels).
        """
        if not self.limited:
            return adv.clamp(0, 1)
        if self.norm == "linf":
            return adv.clamp(x - self.eps, x + self.eps).clamp_(0, 1)
        delta = adv - x
        if self.norm == "l2":
            length = torch.linalg.vector_norm(delta.flatten(1), dim=1).clamp_min(1e-12)
            delta = delta * per_row((self.eps / length).clamp_max(1.0), delta)
        elif self.norm == "l1":
            delta = _project_l1(delta, self.eps)
        else:
            delta = _keep_pixels(delta, delta.pow(2).sum(1), int(self.eps))
        return (x + delta).clamp_(0, 1)

    def random_start(self, x: Tensor, rng: Rows) -> Tensor:
        """Return a random point of the ball for each row: uniform in linf, l2 and l1.

        L2 and L1 points are uniform in the ball before clipping to [0, 1] (L1: Barthe et al.
        2005, exponential spacings). L0 redraws `eps` random pixels uniformly in [0, 1]. Without a
        limit every pixel is redrawn.
        """
        shape, size = tuple(x.shape[1:]), math.prod(x.shape[1:])
        if not self.limited:
            return rng.uniform(shape)
        if self.norm == "linf":
            return (x + rng.uniform(shape, -self.eps, self.eps)).clamp_(0, 1)
        if self.norm == "l2":
            direction = rng.normal(shape)
            length = torch.linalg.vector_norm(direction.flatten(1), dim=1).clamp_min(1e-12)
            radius = self.eps * rng.uniform() ** (1.0 / size)
            return (x + direction * per_row(radius / length, x)).clamp_(0, 1)
        if self.norm == "l1":
            spacing = -torch.log1p(-rng.uniform(shape))
            sign = torch.where(rng.uniform(shape) < 0.5, -1.0, 1.0)
            rest = -torch.log1p(-rng.uniform())
            total = spacing.flatten(1).sum(1) + rest
            return (x + sign * spacing * per_row(self.eps / total, x)).clamp_(0, 1)
        rank = rng.uniform(shape[1:]).flatten(1)
        chosen = torch.zeros_like(rank, dtype=torch.bool)
        count = min(int(self.eps), rank.shape[1])
        chosen.scatter_(1, rank.topk(count, dim=1).indices, True)
        return torch.where(chosen.view(len(x), 1, *shape[1:]), rng.uniform(shape), x)

    def steepest(self, gradient: Tensor) -> Tensor:
        """Return the step of length 1 in the norm along which a linear loss rises most.

        Linf: the sign. L2: the gradient over its length. L1: the largest coordinate alone.
        L0: the one pixel with the largest sum of gradients over channels, in absolute value, moved
        by their signs. Zero gradients give zero.
        """
        if self.norm == "linf":
            return gradient.sign()
        flat = gradient.flatten(1)
        if self.norm == "l2":
            # Vanishing gradients (1e-25 in deep plain nets) keep their direction: squares of
            # float32 below 1e-19 would be zero.
            flat = flat / flat.abs().amax(1, keepdim=True).clamp_min(TINY)
            length = flat.pow(2).sum(1, keepdim=True).sqrt().clamp_min(TINY)
            return (flat / length).view_as(gradient)
        if self.norm == "l1":
            best = flat.abs().argmax(1, keepdim=True)
            step = torch.zeros_like(flat).scatter_(1, best, flat.gather(1, best).sign())
            return step.view_as(gradient)
        return _keep_pixels(gradient, gradient.abs().sum(1), 1).sign()


T = TypeVar("T", bound=Threat[Any], default=NormBall)
"""What an attack keeps to: a ball where a type does not say."""


def widest(norm: Norm, x: Tensor) -> float:
    """Return the radius that reaches every image of the shape of `x` (N, C, H, W) in [0, 1] from
    any other: 1 in Linf, √(C·H·W) in L2, C·H·W in L1, and in L0 its H·W pixels."""
    size = math.prod(x.shape[1:])
    return {"linf": 1.0, "l2": math.sqrt(size), "l1": float(size), "l0": size / x.shape[1]}[norm]


def per_row(values: Tensor, like: Tensor) -> Tensor:
    """Return (N,) values shaped (N, 1, ..., 1), to multiply the rows of `like`."""
    return values.view(-1, *[1] * (like.ndim - 1))


def _project_l1(delta: Tensor, eps: float) -> Tensor:
    """Project rows on the L1 ball (Duchi et al. 2008, "Efficient projections onto the l1-ball")."""
    flat = delta.flatten(1)
    size = flat.abs()
    if eps == 0:
        return torch.zeros_like(delta)
    ordered = wide(size.sort(dim=1, descending=True).values)
    excess = ordered.cumsum(1) - eps
    count = torch.arange(1, flat.shape[1] + 1, device=ordered.device)
    active = (ordered * count > excess).sum(1).clamp_min(1)
    theta = excess.gather(1, active[:, None] - 1) / active[:, None]
    shrunk = flat.sign() * (size - theta.clamp_min(0).to(size)).clamp_min(0)
    return shrunk.view_as(delta)


def wide(values: Tensor) -> Tensor:
    """Return float64, on the CPU where the device is MPS, which has none."""
    return (values.cpu() if values.device.type == "mps" else values).double()


def _keep_pixels(delta: Tensor, size: Tensor, count: int) -> Tensor:
    """Zero all pixels of (N, C, H, W) but the `count` with the largest `size` (N, H, W)."""
    size = size.flatten(1)
    keep = torch.zeros_like(size, dtype=torch.bool)
    keep.scatter_(1, size.topk(min(count, size.shape[1]), dim=1).indices, True)
    return delta * keep.view(len(delta), 1, *delta.shape[2:])
