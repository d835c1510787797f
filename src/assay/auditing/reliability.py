"""Whether an audit's robustness figures can be trusted: the flags of its strongest attack."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from assay.attacks import contradictions, reliability
from assay.attacks.methods.noise import Noise
from assay.attacks.methods.pgd import FGSM
from assay.attacks.methods.square import Square
from assay.attacks.result import AttackResult
from assay.errors import told
from assay.report.schema import Flag

if TYPE_CHECKING:
    from assay.auditing.evidence import Evidence

FEW = 64
"""Images that attacks are run on again."""
BLACK_BOX_QUERIES = 200
"""Per image, of the audit's black-box attack: enough to show masked gradients, under which images
remain robust that fall to a few random squares."""


def flags_of(
    evidence: Evidence, found: Sequence[Mapping[float, AttackResult]], images: int = FEW
) -> list[Flag]:
    """Return the reasons not to trust the robustness figures, those that are up and the others.

    One that cannot be looked at says why, and is neither up nor clear.

    Args:
        evidence: the audit's model and images.
        found: for each attack its results by eps.
        images: how many are attacked again, at most.
    """
    model, seed, eps = evidence.model, evidence.config.seed, evidence.config.eps
    at_eps = [results[eps] for results in found]
    chosen = strongest(at_eps)
    at = at_eps[chosen]
    attack, curve = at.attack, list(found[chosen].values())
    few = evidence.attacked[:images]
    x, y = evidence.x[few], evidence.y[few]
    right = few[evidence.correct[few]]
    by_gradient = attack.needs == "gradient"
    looks: dict[str, Callable[[], reliability.Indicator]] = {
        "REL-005": lambda: reliability.randomised(model, x),
        "REL-006": lambda: reliability.outputs_were_probabilities(model),
        "REL-007": lambda: contradictions.rounding_undoes(at),
    }
    if evidence.copies is not None:
        losses = reliability.followed(attack) or ("cross_entropy",)
        clf = evidence.classifier
        looks["REL-001"] = lambda: reliability.vanishing_gradients(clf, x, y, losses=losses)
    if len(curve) > 1:
        looks["REL-002"] = lambda: contradictions.larger_budget_worse(curve)
    single = next((one for one in at_eps if isinstance(one.attack, FGSM)), None)
    if single is not None and by_gradient and not isinstance(attack, FGSM):
        one = single
        looks["REL-003"] = lambda: contradictions.iterated_worse(one, at)
    if not isinstance(attack, Noise) and evidence.config.norm != "l0":
        looks["REL-004"] = lambda: reliability.unbounded_fails(
            attack, model, x, y, seed=seed, **evidence.known(few)
        )
    if len(right) and by_gradient and not attack.minimum_norm:
        clf = evidence.classifier
        looks["REL-008"] = lambda: reliability.loss_does_not_rise(
            attack,
            clf,
            evidence.x[right],
            evidence.y[right],
            seed=seed,
            logits=evidence.answer[right],
            copies=evidence.copies,
        )
    if len(right) and by_gradient and evidence.config.norm != "l0":
        looks["REL-009"] = lambda: _black_box(at, evidence, right)
    return [_looked(code, looks[code]) for code in sorted(looks)]


def strongest(results: Sequence[AttackResult]) -> int:
    """Return the place of the attack that flags are about: of those by more than one gradient the
    one that fooled the most images; if there is none, of FGSM; then of those without gradients;
    noise, which is no attack, comes last."""

    def rank(k: int) -> tuple[bool, bool, bool, int, int]:
        attack = results[k].attack
        fooled = int(results[k].fooled.sum())
        by_gradient = attack.needs == "gradient"
        return (not isinstance(attack, Noise), by_gradient, not isinstance(attack, FGSM), fooled, k)

    return max(range(len(results)), key=rank)


def _black_box(at: AttackResult, evidence: Evidence, rows: Tensor) -> reliability.Indicator:
    """Compare what an attack came to on a few images, all classified correctly, with one that needs
    no gradient. That one is run on those that the attack did not fool: no others can count."""
    config = evidence.config
    square = Square.parse({"norm": config.norm, "eps": config.eps, "queries": BLACK_BOX_QUERIES})
    left = (~at.fooled[rows].cpu()).nonzero()[:, 0]
    alone = 0
    if len(left):  # drawn by their places among all of `rows`, as if all were attacked
        alone = int(evidence.run(square, rows[left], "fooled", ids=left).fooled.sum())
    return contradictions.black_box_alone(alone, len(rows), at.attack, square)


def _looked(code: str, look: Callable[[], reliability.Indicator]) -> Flag:
    try:
        found = look()
    except Exception as error:  # whatever a user's model, or attack, may raise
        return Flag(code=code, title="Could not be looked at", raised=None, detail=told(error))
    return Flag(code=found.code, title=found.title, raised=found.raised, detail=found.detail)
