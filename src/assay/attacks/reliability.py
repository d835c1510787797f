"""Signs that a robustness figure must not be trusted, because the attack failed, not because the
model is robust.

After Carlini et al. 2019, "On evaluating adversarial robustness" (sections 4 and 5), Athalye et
al. 2018 (obfuscated gradients) and the flags of AutoAttack (Croce & Hein 2020). A raised flag does
not say that a model is weak: it says that this evaluation does not show that it is strong.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from assay.attacks.base import Attack
from assay.attacks.losses import LOSSES, LossName, margin
from assay.attacks.runner import run
from assay.core.classifier import Classifier
from assay.core.fast import Copies
from assay.core.oracle import Differentiable, Oracle, gradient, labels
from assay.core.random import Stream
from assay.core.threats import widest
from assay.errors import AssayError


@dataclass(frozen=True)
class Indicator:
    """One reliability check and what it found.

    Attributes:
        code: stable name, REL-001 to REL-009.
        title: what was looked for.
        raised: true if it was found: robustness figures of this attack are then not evidence.
        detail: what was seen, with the numbers, and what to do about it.
    """

    code: str
    title: str
    raised: bool
    detail: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def vanishing_gradients(
    oracle: Differentiable[Tensor],
    x: Tensor,
    y: Tensor,
    *,
    losses: Sequence[LossName] = ("cross_entropy",),
    allowed: float = 0.05,
) -> Indicator:
    """REL-001: images at which none of the losses that an attack follows (see `followed`) has a
    gradient.

    Counted are gradients that are zero or not finite, and those below 1e-6 of the gradient of the
    margin (the largest other logit minus the label's), which does not saturate: there the loss
    has drowned in float32 rounding. That of dlr is taken times the lead of the largest logit on the
    third, by which this loss divides. Raised if they are more than the share `allowed`.

    Raises:
        AssayError: the model gives no gradients.
    """
    _check_gradients(oracle)
    flat, drowned = 0, 0
    with _held(oracle):
        for part, goal in zip(torch.split(x, 128), torch.split(y, 128), strict=True):
            goal = goal.to(getattr(oracle, "device", x.device))
            unsaturated = gradient(oracle, part, goal, margin)[1].flatten(1).abs().amax(1)
            sizes = torch.stack([_size(oracle, part, goal, loss) for loss in losses])
            steepest = sizes.nan_to_num(nan=0.0, posinf=0.0).amax(0)
            none = ~sizes.isfinite().any(0) | ((steepest == 0) & ~(unsaturated > 0))
            flat += int(none.sum())
            drowned += int((~none & (steepest <= 1e-6 * unsaturated)).sum())
    share = (flat + drowned) / max(1, len(x))
    named = " and the ".join(loss.replace("_", " ") for loss in losses)
    detail = (
        f"of {len(x)} images, {flat} have a zero or non-finite gradient whatever the loss, and on "
        f"{drowned} the {named} {'saturates' if len(losses) == 1 else 'saturate'}"
    )
    if share > allowed:
        detail += (
            ": use the margin loss"
            if drowned > flat
            else ": the model hides its gradients; use an attack that needs none"
        )
    return Indicator("REL-001", "Gradients vanish", share > allowed, detail)


def _size(oracle: Differentiable[Tensor], x: Tensor, y: Tensor, loss: LossName) -> Tensor:
    """Return how large each image's gradient is, in the scale of that of the margin: (N,)."""
    logits, slope = gradient(oracle, x, y, LOSSES[loss])
    size = slope.flatten(1).abs().amax(1)
    if loss != "dlr" or logits.shape[1] < 3:
        return size
    first, _, third = logits.topk(3, dim=1).values.unbind(1)
    return size * (first - third)


def followed(attack: Attack) -> tuple[LossName, ...]:
    """Return the losses whose gradients an attack follows: of a cascade those of all its stages, of
    a method that looks for the nearest image the margin, and of one without gradients none."""
    return tuple(
        dict.fromkeys(
            "margin" if stage.minimum_norm else getattr(stage, "loss", "cross_entropy")
            for stage in attack.stages
            if stage.needs == "gradient"
        )
    )


def unbounded_fails(
    attack: Attack, oracle: Oracle[Tensor], x: Tensor, y: Tensor, *, seed: int = 0, **known: Any
) -> Indicator:
    """REL-004: with all of [0, 1] to move in, the attack does not fool every image.

    The attack is run again with the radius that reaches every image (Linf 1, L2 √D, L1 D), its
    step size, if it has one that goes with the radius, scaled with it, in Linf up to 1. Give it a
    few dozen images: more add little. What is `known` of them (`copies`, `clean`) is handed on to
    `run`.

    Raises:
        AssayError: for a norm in which no radius reaches every image (L0).
    """
    threat = attack.threat
    if threat.norm == "l0":
        raise AssayError(f"no unbounded form of the norm {threat.norm} is known")
    eps = widest(threat.norm, x)
    settings = {**attack.model_dump(), "eps": eps}
    if settings.get("step_size") is not None and threat.eps > 0 and not attack.minimum_norm:
        longer = settings["step_size"] * eps / threat.eps
        settings["step_size"] = min(longer, 1.0) if threat.norm == "linf" else longer
    found = run(type(attack).parse(settings), oracle, x, y, stop="fooled", seed=seed, **known)
    fooled, correct = int(found.fooled.sum()), int(found.correct.sum())
    detail = f"with eps {eps:.4g}, {fooled} of {correct} correctly classified images were fooled"
    if fooled < correct:
        detail += ": the attack fails where it cannot but succeed; its other failures mean little"
    return Indicator("REL-004", "Unbounded, it still fails", fooled < correct, detail)


def randomised(oracle: Oracle[Tensor], x: Tensor, *, times: int = 3) -> Indicator:
    """REL-005: the model answers the same query differently.

    Raised if a label changes, or the direction of a row of logits by more than 1e-4 of its length
    (which leaves room for the order of sums on a GPU). An answer that came in another batch cannot
    serve: dynamic quantisation scales a batch by its largest value.
    """
    first = oracle.query(x)
    changed, furthest = 0, 0.0
    for _ in range(times - 1):
        again = oracle.query(x)
        changed = max(changed, int((labels(again) != labels(first)).sum()))
        if first.ndim == 2:
            length = first.float().norm(dim=1).clamp_min(1e-12)
            apart = (again.float() - first.float()).norm(dim=1) / length
            furthest = max(furthest, float(apart.nan_to_num(0.0).amax()))
    raised = changed > 0 or furthest > 1e-4
    detail = (
        f"queried {times} times on {len(x)} images, {changed} labels changed, and logits moved by "
        f"up to {furthest:.2g} of their length"
    )
    if raised:
        detail += ": average gradients over several answers (Athalye et al. 2018)"
    return Indicator("REL-005", "The model is randomised", raised, detail)


def outputs_were_probabilities(oracle: Oracle[Tensor]) -> Indicator:
    """REL-006: the model ends in a softmax, which hides gradients where it is confident."""
    raised = getattr(oracle, "outputs", "logits") == "probabilities"
    detail = (
        "the model was declared to return probabilities; their logarithm serves as logits, but "
        "where float32 rounds them to 0 or 1 there is no gradient: remove the softmax"
        if raised
        else "the model returns logits"
    )
    return Indicator("REL-006", "Outputs were probabilities", raised, detail)


def loss_does_not_rise(
    attack: Attack,
    oracle: Differentiable[Tensor],
    x: Tensor,
    y: Tensor,
    *,
    seed: int = 0,
    allowed: float = 0.1,
    logits: Tensor | None = None,
    copies: Copies | None = None,
) -> Indicator:
    """REL-008: the attack's own loss ends no higher than it began.

    Counted are the images on which the loss of the last step is not above that of the clean image,
    over all steps (none stops early), and, of an attack of four steps or more, whether the mean
    loss of the second half of the steps is below that of the first half: steps that overshoot.
    Raised if the images are more than the share `allowed`, or if the mean falls. Give it a few
    dozen images that are classified correctly. A method that looks for the nearest image lets the
    loss fall again on purpose: the check is not for it. Of a cascade each stage by gradients is
    looked at in turn, and one whose loss rises will do; of a method that goes towards several
    classes in turn it is the way to the first. `logits` are those of `x`, where they are known.
    With `copies` the way up is climbed on the float32 copy, as attacks climb it; the loss that it
    ends with is the model's own.

    Raises:
        AssayError: for a method that looks for the nearest image, or a model without gradients.
    """
    _check_gradients(oracle)
    if attack.minimum_norm or attack.needs != "gradient":
        looks = "looks for the nearest image" if attack.minimum_norm else "follows no gradient"
        raise AssayError(
            f"{attack.name} {looks}, not the way to the highest loss: whether its loss rises says "
            "nothing"
        )
    climbing = [
        stage for stage in attack.stages if stage.needs == "gradient" and not stage.minimum_norm
    ]
    clean = oracle.query(x) if logits is None else logits
    found: list[Indicator] = []
    for stage in climbing:
        found.append(_stage_rises(stage, oracle, x, y, clean, seed, allowed, copies))
        if not found[-1].raised:
            return found[-1]
    return found[0]


def _stage_rises(
    attack: Attack,
    oracle: Differentiable[Tensor],
    x: Tensor,
    y: Tensor,
    clean: Tensor,
    seed: int,
    allowed: float,
    copies: Copies | None,
) -> Indicator:
    """Return REL-008 of one method that is no cascade."""
    if "n_target_classes" in type(attack).model_fields:
        attack = attack.parse({**attack.model_dump(), "n_target_classes": 1})
    loss = attack.objective(False)
    device = getattr(oracle, "device", x.device)
    x, y = x.to(device), y.to(device)
    draws = Stream(seed).child("attack", attack.name, 0).rows(range(len(x))).to(device)
    averaged = getattr(attack, "eot", None)  # over what the model itself draws
    with _held(oracle):
        climbed = oracle if copies is None or averaged else copies.of("float32")[0]
        losses, last = [loss(clean.to(device), y)], x
        search = attack.search(
            climbed, x, y, threat=attack.threat, loss=loss, targeted=False, rng=draws
        )
        for iterate in search:
            last = iterate.adversarial
            losses.append(loss(climbed.query(last), y))
        if climbed is not oracle:
            losses[-1] = loss(oracle.query(last), y)
    stuck = int((~(losses[-1] > losses[0])).sum())  # a NaN does not rise
    means = [float(at.float().mean()) for at in losses]
    half = len(means) // 2
    first, second = sum(means[:half]) / max(1, half), sum(means[half:]) / (len(means) - half)
    falls = len(means) >= 4 and second < first
    detail = (
        f"over {len(losses) - 1} steps the mean loss goes from {means[0]:.3g} to {means[-1]:.3g}; "
        f"on {stuck} of {len(x)} images it does not rise"
    )
    raised = stuck / max(1, len(x)) > allowed or falls
    if raised:
        detail += ": the gradient does not lead uphill, or the steps are too long"
    return Indicator("REL-008", "The loss does not rise", raised, detail)


def _check_gradients(oracle: Oracle[Tensor]) -> None:
    if oracle.access != "gradient":
        raise AssayError(
            f"this check follows gradients, but this model answers with {oracle.access} only: "
            "it is for a Classifier"
        )


def _held(oracle: Oracle[Tensor]) -> ExitStack:
    """Hold a classifier's model in eval mode for a while; anything else needs no holding."""
    stack = ExitStack()
    if isinstance(oracle, Classifier):
        stack.enter_context(oracle.borrowed())
    return stack
