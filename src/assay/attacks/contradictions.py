"""Signs of a failed attack in what attacks came to: results on the same images that contradict one
another, or that do not outlive rounding.

After Carlini et al. 2019, "On evaluating adversarial robustness" (sections 4 and 5), and the flags
of AutoAttack (Croce & Hein 2020). The model is asked nothing here; the signs for which it is asked
again are in `reliability`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch

from assay import stats
from assay.attacks.base import Attack
from assay.attacks.reliability import Indicator
from assay.attacks.result import AttackResult
from assay.errors import AssayError


def larger_budget_worse(results: Sequence[AttackResult], *, allowed: float = 0.01) -> Indicator:
    """REL-002: one attack fools fewer of the same images with a larger eps.

    The larger ball holds the smaller one, so a search that works cannot lose by it. `results` are
    of one attack and one model on the same images, in any order; raised if a rise of eps lowers
    the number of fooled images by more than the share `allowed`. A single step may overshoot:
    for FGSM a raised flag says no more than that.

    Raises:
        AssayError: fewer than two results, or results of other attacks, norms or images.
    """
    if len(results) < 2:
        raise AssayError(f"this check compares at least two budgets, got {len(results)} results")
    names = sorted({result.attack.name for result in results})
    if len(names) > 1:
        raise AssayError(f"this check compares budgets of one attack, got {', '.join(names)}")
    norms = sorted({result.threat.norm for result in results})
    if len(norms) > 1:
        raise AssayError(f"this check compares budgets in one norm, got {', '.join(norms)}")
    for other in results[1:]:
        _check_same_images(results[0], other)
    ordered = sorted(results, key=lambda result: result.threat.eps)
    worst, detail = 0.0, "more budget never fooled fewer images"
    for small, large in itertools.pairwise(ordered):
        lost = int(small.success.sum()) - int(large.success.sum())
        if lost / len(small) > worst:
            worst = lost / len(small)
            detail = (
                f"eps {small.threat.eps:.4g} fooled {int(small.success.sum())} of {len(small)} "
                f"images, eps {large.threat.eps:.4g} only {int(large.success.sum())}: "
                "take more steps or another step size"
            )
    return Indicator("REL-002", "A larger budget does worse", worst > allowed, detail)


def iterated_worse(
    single: AttackResult, iterated: AttackResult, *, allowed: float = 0.01
) -> Indicator:
    """REL-003: a single step fools more of the same images than many steps do.

    Both results are on the same images with the same threat. Iterating follows the gradient more
    closely; where that does worse, the gradients do not lead where the loss rises.

    Raises:
        AssayError: the two have different threats, or other images.
    """
    _check_same_threat(single, iterated)
    _check_same_images(single, iterated)
    one, many = int(single.success.sum()), int(iterated.success.sum())
    detail = f"{single.attack.name} fooled {one} and {iterated.attack.name} {many} of {len(single)}"
    raised = (one - many) / len(single) > allowed
    if raised:
        detail += ": the gradients mislead; use more restarts, or an attack that needs no gradients"
    return Indicator("REL-003", "Many steps do worse than one", raised, detail)


def rounding_undoes(result: AttackResult, *, allowed: float = 0.05) -> Indicator:
    """REL-007: more than the share `allowed` of the successes is lost by rounding to 8 bits, its
    whole 95 % interval above it: a lost one of six says little.

    Such adversarial images exist as floats only; saved as a PNG they are harmless. A robust
    accuracy is too low then, if anything, never too high.
    """
    fooled = int(result.fooled.sum())
    rounded = result.after_rounding
    survived = round(rounded.value * rounded.n) if rounded.n else 0
    lost = stats.proportion(fooled - survived, fooled, "successes")
    raised = fooled > 0 and lost.low > allowed
    detail = f"{survived} of {fooled} successes survive rounding to 8 bits"
    if raised and result.stop == "fooled":
        detail += ': run every step (stop="never")'
    elif raised and result.attack.minimum_norm:
        detail += ": the nearest images lie on the decision boundary; use a whole budget instead"
    elif raised:
        detail += ": make eps at least one grey level"
    return Indicator("REL-007", "8-bit rounding undoes success", raised, detail)


def black_box_beats_white_box(
    white: AttackResult, black: AttackResult, *, allowed: float = 0.01
) -> Indicator:
    """REL-009: an attack without gradients fools images that one with gradients does not.

    Both results are on the same images with the same threat. They are compared image by image: a
    black box may fool as many as the white box, and yet others. Raised if the images that only the
    black box fools are more than the share `allowed` of those classified correctly: then gradients
    are masked (Athalye et al. 2018), and the white box's figure overstates the robustness.

    Raises:
        AssayError: the two have different threats, or other images; the first attack needs no
            gradients, or the second does.
    """
    if white.attack.needs != "gradient" or black.attack.needs == "gradient":
        raise AssayError(
            "this check compares an attack by gradients with one that needs none, in this order; "
            f"got {white.attack.name}, which needs the {white.attack.needs} of the model, and "
            f"{black.attack.name}, which needs its {black.attack.needs}"
        )
    _check_same_threat(white, black)
    _check_same_images(white, black)
    correct = white.correct & black.correct
    alone = int((correct & black.success & ~white.success).sum())
    return black_box_alone(alone, int(correct.sum()), white.attack, black.attack, allowed=allowed)


def black_box_alone(
    alone: int, of: int, white: Attack, black: Attack, *, allowed: float = 0.01
) -> Indicator:
    """REL-009 from counts, by whoever runs the black box on nothing that the white box has fooled:
    `alone` images are fooled by the black box only, of `of` classified correctly."""
    raised = alone / max(1, of) > allowed
    detail = (
        f"of {of} correctly classified images, {black.name} fools {alone} that {white.name} does "
        "not"
    )
    if raised:
        detail += ": gradients are masked; believe the union of both attacks at most"
    return Indicator("REL-009", "A black box beats the white box", raised, detail)


def _check_same_threat(one: AttackResult, other: AttackResult) -> None:
    if one.threat != other.threat:
        seen = (f"{r.attack.name} with {r.threat.norm} {r.threat.eps:.4g}" for r in (one, other))
        raise AssayError(f"this check compares two attacks with one threat, got {', '.join(seen)}")


def _check_same_images(one: AttackResult, other: AttackResult) -> None:
    """Refuse results that cannot be compared image by image: of other images, labels or targets."""
    if len(one) != len(other):
        raise AssayError(
            f"this check compares attacks on the same images, got {len(one)} and {len(other)}"
        )
    pairs = {
        "images": (one.inputs, other.inputs),
        "labels": (one.labels, other.labels),
        "targets": (one.targets, other.targets),
    }
    for what, (first, second) in pairs.items():
        if (first is None) != (second is None):
            raise AssayError("this check compares attacks with one aim, got one targeted alone")
        if first is None or second is None:
            continue
        if not torch.equal(first.cpu(), second.cpu()):
            raise AssayError(
                f"this check compares attacks on the same images, but their {what} differ: "
                "attack the same x, y and targets"
            )
