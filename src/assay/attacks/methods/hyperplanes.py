"""The decision boundary, linearised: hyperplanes on which two classes draw level, and the nearest
points on them inside [0, 1]."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from assay.attacks.methods.gradient import AT_A_TIME
from assay.attacks.methods.minimum_norm import rounding
from assay.core.images import rows_that_fit
from assay.core.memory import in_parts
from assay.core.oracle import Encoded, differentiable
from assay.core.threats import TINY, Norm
from assay.core.user_code import user_code

EXACT = 1e-6
"""How far, as a share of the way, a projection may stay short of its hyperplane."""


def nearest_hyperplane(
    model: Any,
    x: Tensor,
    y: Tensor,
    norm: Norm,
    *,
    targeted: bool,
    candidates: int,
    rival: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the boundary nearest to `x` that an attacker may cross, linearised there.

    Nearness is that of Moosavi-Dezfooli et al. 2016: |lead| over the dual norm of the slope,
    without regard to [0, 1]. A boundary whose slope is zero is infinitely far away. One forward
    pass, and one backward pass per boundary (for a ResNet-20 and ten of them this took 0.88 of
    the time of a vmapped backward, and 0.76 of that of repeating the images).

    Args:
        model: gives logits that can be differentiated.
        x: (n, C, H, W), the points.
        y: (n,) the label to leave, or, if `targeted`, the class to reach.
        norm: linf, l2 or l1: how distances are measured.
        targeted: the one boundary is that between `y` and the largest of the other logits.
        candidates: how many of the largest logits an untargeted search looks at, that of `y`
            among them: at most `candidates` - 1 boundaries.
        rival: (n,) the one class to lead to instead; None looks at the candidates.

    Returns:
        logits (n, K); lead (n,), by how much the attacker leads there, negative before the
        boundary, less twice what `rounding` may make of it, so that whatever reaches the hyperplane
        is taken for adversarial; slope (n, C, H, W), the gradient of the lead. What is not finite
        is zero.
    """

    def pairs(logits: Tensor, y: Tensor, rival: Tensor) -> tuple[Tensor, Tensor]:
        """Return the classes (n, k) whose logit is to rise, and that (n, 1) which is to fall."""
        if rival.shape[1]:
            return rival, y[:, None]
        own = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, y[:, None], True)
        others = logits.masked_fill(own, -torch.inf)
        if targeted:
            return y[:, None], others.argmax(1, keepdim=True)
        return others.topk(min(candidates, logits.shape[1]) - 1, dim=1).indices, y[:, None]

    def linearised(x: Tensor, y: Tensor, rival: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            values = x.detach().requires_grad_(True)
            logits = differentiable(model.logits(Encoded(values)))
            up, down = pairs(logits.detach(), y, rival)
            leads = logits.gather(1, up) - logits.gather(1, down)
            last = leads.shape[1] - 1
            with user_code(x):
                slopes = [
                    torch.autograd.grad(lead.sum(), values, retain_graph=k < last)[0]
                    for k, lead in enumerate(leads.unbind(1))
                ]
        slope = torch.stack(slopes, 1).nan_to_num_(0.0, 0.0, 0.0)
        steepness = dual(slope.flatten(2), norm)
        away = (leads.detach().abs() / steepness).masked_fill_(steepness == 0, torch.inf)
        chosen = away.argmin(1, keepdim=True)
        lead = leads.detach().gather(1, chosen)
        lead = (lead - 2 * rounding(logits.detach())[:, None]).nan_to_num_(0.0, 0.0, 0.0)
        slope = slope[torch.arange(len(x), device=x.device), chosen[:, 0]]
        return torch.cat([logits.detach(), lead], 1), slope

    rivals = y.new_empty(len(y), 0) if rival is None else rival[:, None]
    rows = len(x)
    if x.device.type == "cpu":
        rows = min(AT_A_TIME * torch.get_num_threads(), rows_that_fit(x))
    tally = getattr(model, "tally", None)
    answers, slope = in_parts(
        linearised, max(1, rows), x, y, rivals, tally=tally, kind="hyperplanes"
    )
    return answers[:, :-1], answers[:, -1], slope


def dual(slope: Tensor, norm: Norm) -> Tensor:
    """Return the dual norm over the last dimension: how fast a step of length 1 may rise."""
    if norm == "linf":
        return slope.abs().sum(-1)
    largest = slope.abs().amax(-1)
    if norm == "l1":
        return largest
    # Squares of vanishing slopes (1e-25 in deep plain nets) would be zero.
    scaled = slope / largest.clamp_min(TINY).unsqueeze(-1)
    length: Tensor = torch.linalg.vector_norm(scaled, dim=-1)
    return length * largest


def to_hyperplane(x: Tensor, lead: Tensor, slope: Tensor, norm: Norm) -> Tensor:
    """Return the shortest move inside [0, 1] that brings `lead` + slope·move to zero.

    Where no point of [0, 1] lies on the hyperplane, the move leads to a corner as near to it as
    there is (Croce & Hein 2020, section 3.1).

    A pixel can only help by going one way, at most up to the end of [0, 1]. In L1 the pixels with
    the steepest slope go first, each as far as it can. In Linf and L2 pixel i goes
    min(λ, room) or min(λ |slope|, room), and what they gain together is an increasing, concave,
    piecewise linear function of λ: Newton's method from λ = 0 meets the root from below in a
    handful of steps, where the paper sorts.

    Args:
        x: (n, C, H, W) in [0, 1].
        lead: (n,).
        slope: (n, C, H, W).
        norm: linf, l2 or l1.

    Returns:
        (n, C, H, W), to 1e-6 of the way.
    """
    flat, point = slope.flatten(1), x.flatten(1)
    size = flat.abs()
    scale = size.amax(1).clamp_min(TINY)  # squares of tiny slopes would be zero
    size = size / scale[:, None]
    way = -flat.sign() * lead.sign()[:, None]
    room = torch.where(way > 0, 1 - point, point).masked_fill_(way == 0, 0.0)
    needed = torch.minimum(lead.abs() / scale, (size * room).sum(1))
    if norm == "l1":
        moved = _steepest_first(size, room, needed)
    else:
        moved = _all_at_once(size, room, needed, torch.ones_like(size) if norm == "linf" else size)
    return (way * moved).view(x.shape)


def _steepest_first(size: Tensor, room: Tensor, needed: Tensor) -> Tensor:
    """Return how far each pixel goes: the steepest as far as it can, then the next, (n, D)."""
    ordered, order = size.sort(dim=1, descending=True)
    space = room.gather(1, order)
    gain = ordered * space
    left = needed[:, None] - (gain.cumsum(1) - gain)
    taken = torch.minimum((left / ordered.clamp_min(TINY)).clamp_min_(0), space)
    return torch.zeros_like(room).scatter_(1, order, taken)


def _all_at_once(size: Tensor, room: Tensor, needed: Tensor, pace: Tensor) -> Tensor:
    """Return min(λ pace, room) (n, D) for the λ at which size·moved is `needed`."""
    time = torch.zeros_like(needed)
    gain, both = torch.zeros_like(needed), size * pace
    while True:
        rate = torch.where(time[:, None] * pace < room, both, 0.0).sum(1)
        going = (needed - gain > EXACT * needed) & (rate > 0)
        if not bool(going.any()):
            return torch.minimum(time[:, None] * pace, room)
        time = torch.where(going, time + (needed - gain) / rate.clamp_min(TINY), time)
        gain = (size * torch.minimum(time[:, None] * pace, room)).sum(1)
