"""The flags of attacks on images that mean something for texts: signs that the attack failed, or
that its figure says something else than it seems to."""

from __future__ import annotations

import torch
from torch import Tensor

from assay.attacks.reliability import Indicator
from assay.attacks.result import AttackResult
from assay.attacks.runner import run
from assay.attacks.text.base import TextAttack, WordAttack
from assay.attacks.text.threat import Words
from assay.core.oracle import Oracle, labels

SOME = 24
"""Texts that a flag is found on: more add little."""


def text_flags(result: AttackResult[list[str], Words]) -> list[Indicator]:
    """Return the flags of an attack on texts that are up: REL-004 and REL-005."""
    attack, x = result.attack, result.inputs[:SOME]
    found = [randomised(result.oracle, x)]
    right = [k for k in range(len(result)) if bool(result.correct[k])][:SOME]
    if isinstance(attack, TextAttack) and right:
        some = [result.inputs[k] for k in right]
        found.append(unbounded_fails(attack, result.oracle, some, result.labels[right]))
    return [flag for flag in found if flag.raised]


def unbounded_fails(
    attack: TextAttack, oracle: Oracle[list[str]], x: list[str], y: Tensor, *, seed: int = 0
) -> Indicator:
    """REL-004: with all words to change and no similarity asked for, the attack still does not fool
    the model on half of the texts.

    An image has a radius that reaches every other image; a text keeps its stop words and what has
    no substitute, so not all need be fooled.
    """
    free: dict[str, object] = {"share": 1.0, "setting": "permissive"}
    if isinstance(attack, WordAttack):
        free |= {"similarity": 0.0, "word_similarity": -1.0, "part_of_speech": None}
    found = run(attack.model_copy(update=free), oracle, x, y, stop="fooled", seed=seed)
    fooled, right = int(found.fooled.sum()), int(found.correct.sum())
    detail = f"with every word free, {fooled} of {right} correctly classified texts were fooled"
    raised = right > 0 and 2 * fooled < right
    if raised:
        detail += ": it has too few substitutes, or does not find them; its failures mean little"
    return Indicator("REL-004", "Unbounded, it still fails", raised, detail)


def randomised(oracle: Oracle[list[str]], x: list[str], *, times: int = 3) -> Indicator:
    """REL-005: the model answers the same query differently."""
    first = oracle.query(x)
    changed, furthest = 0, 0.0
    for _ in range(times - 1):
        again = oracle.query(x)
        changed = max(changed, int((labels(again) != labels(first)).sum()))
        if first.ndim == 2:
            length = first.float().norm(dim=1).clamp_min(1e-12)
            apart = (again.float() - first.float()).norm(dim=1) / length
            furthest = max(furthest, float(torch.nan_to_num(apart).amax()))
    raised = changed > 0 or furthest > 1e-4
    detail = (
        f"queried {times} times on {len(x)} texts, {changed} labels changed, and logits moved by "
        f"up to {furthest:.2g} of their length"
    )
    return Indicator("REL-005", "The model is randomised", raised, detail)
