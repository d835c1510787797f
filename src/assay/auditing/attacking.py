"""The attacks of an audit at its budgets; and of a model that may be asked a limited number of
times, as many of them as that allows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from assay.attacks.base import Attack
from assay.attacks.methods.hopskipjump import HopSkipJump
from assay.attacks.methods.noise import Noise
from assay.attacks.methods.pixels import OnePixel
from assay.attacks.methods.square import Square
from assay.attacks.result import ARRAYS, AttackResult
from assay.auditing.cost import attack_work
from assay.auditing.reliability import FEW
from assay.core.oracle import Access, granted
from assay.errors import AssayError, told
from assay.report.numerals import attack_name, budget
from assay.report.schema import Flag

if TYPE_CHECKING:
    from assay.auditing.config import AuditConfig
    from assay.auditing.evidence import Evidence

Curve = list[tuple[float, AttackResult]]
"""(eps, result), by rising eps."""

QUERIES = 1000
"""Per image, of the attack that replaces the chosen ones where they all need gradients."""
OTHERS = 0.3
"""Share of the queries left that is kept for the sections after this one, if that is enough for
them."""
LOOKS = 0.2
"""Share of them that is kept for the flags, at most."""
LOOKED = 32
"""Images that the flags are to have queries for, where that share suffices."""
AGAIN = 3
"""Queries that flags make of an image, beside those of an attack."""
WORTH = 0.2
"""What further images must add to those that were attacked to be attacked too."""
MARGIN = 1.5
"""How many times the queries that a budget took a larger one may take."""


def attack_all(
    evidence: Evidence, attacks: Sequence[Attack]
) -> tuple[dict[str, Curve], dict[str, str]]:
    """Run every attack at every budget of the audit; an image stops early, once it is fooled.

    Returns:
        the curves by the label of the attack, and why others could not be run.
    """
    curves: dict[str, Curve] = {}
    failed: dict[str, str] = {}
    for attack in attacks:
        curve: Curve = []
        for eps in evidence.config.curve:
            found = _attacked(evidence, attack, eps, evidence.attacked, failed)
            if found is None:
                break
            curve.append((eps, found))
        else:
            curves[label(attack)] = curve
    return curves, failed


def _attacked(
    evidence: Evidence,
    attack: Attack,
    eps: float,
    rows: Tensor,
    failed: dict[str, str],
    *,
    ids: Tensor | None = None,
) -> AttackResult | None:
    """Attack the images `rows` at one budget; None where that cannot be done, which `failed` then
    says the reason of, by the label of the attack."""
    evidence.tick(doing(attack, evidence.config, eps))
    try:
        return evidence.run(at_budget(attack, evidence.config, eps), rows, "fooled", ids=ids)
    except Exception as error:  # whatever a user's model, or attack, may raise
        failed[label(attack)] = told(error)
        return None


def doing(attack: Attack, config: AuditConfig, eps: float) -> str:
    """Return what is said while an attack runs at one of the budgets."""
    return f"{label(attack)} at eps {budget(eps, config.norm)}"


def stand_in(access: Access, config: AuditConfig) -> Attack:
    """Return the strongest attack in the audit's norm that needs no more than `access`."""
    ball: dict[str, Any] = {"norm": config.norm, "eps": config.eps}
    if access == "labels":
        hops = config.norm in ("linf", "l2")
        return HopSkipJump.parse({**ball, "queries": QUERIES}) if hops else Noise.parse(ball)
    pixels = config.norm == "l0"
    return OnePixel.parse(ball) if pixels else Square.parse({**ball, "queries": QUERIES})


def at_budget(attack: Attack, config: AuditConfig, eps: float) -> Attack:
    """Return the attack with the audit's norm and this budget, validated again."""
    return type(attack).parse(
        {**attack.model_dump(mode="json"), "norm": config.norm, "eps": eps}, where="audit"
    )


def label(attack: Attack) -> str:
    """Return an attack's name with its settings that are not the usual ones.

    No two attacks of an audit have the same: curves and arrays go by it.
    """
    steps = getattr(attack, "steps", None)
    restarts = getattr(attack, "restarts", 1)
    words = [attack_name(attack.name)]
    words += [f"{steps} steps"] if steps else []
    words += [f"{restarts} restarts"] if restarts > 1 else []
    for key, field in type(attack).model_fields.items():
        value = getattr(attack, key)
        if key not in ("name", "norm", "eps", "steps", "restarts") and value != field.default:
            words.append(f"{key} {value}".replace("_", " "))
    return ", ".join(words)


def attacks_on(evidence: Evidence) -> list[Attack]:
    """Return the attacks of the config that the model grants enough for; or the one that replaces
    them."""
    model, config = evidence.model, evidence.config
    run = [attack for attack in config.attacks if granted(model, attack.needs)]
    return run or [stand_in(model.access, config)]


@dataclass(frozen=True)
class Afforded:
    """What attacks came to within a number of queries.

    Attributes:
        evidence: with no more images than were attacked.
        curves: by the label of the attack.
        failed: why others could not be run.
        looked: images that there are queries left for to look at the flags.
        flags: what could not be afforded, if anything.
    """

    evidence: Evidence
    curves: dict[str, Curve]
    failed: dict[str, str]
    looked: int
    flags: tuple[Flag, ...]


# -- within a number of queries ------------------------------------------------------------------


def most_queries(model: Any) -> int | None:
    """Return how many images a model may be asked about in all; None: any number."""
    most: int | None = getattr(model, "most", None)
    return most


def nearest_first(config: AuditConfig) -> tuple[float, ...]:
    """Return the budgets of the curves, eps first, and then what is nearest to it."""
    return tuple(sorted(config.curve, key=lambda eps: abs(math.log(eps / config.eps))))


def attack_within(evidence: Evidence, attacks: Sequence[Attack]) -> Afforded:
    """Attack as many images as the queries that are left allow: at eps first, by every attack, then
    at the other budgets, the nearest first.

    Images are taken in their order, as many at a time as the attacks could spend all of their
    queries on; how many queries those before them took decides whether there are more, and no
    verdict does. Attacks keep their queries. Some are kept for the flags, and for what other
    sections ask for.

    Raises:
        AssayError: the queries do not suffice for a single image.
    """
    config, rows = evidence.config, evidence.attacked
    right = evidence.correct[rows]
    each = sum(attack_work(attack, 1).forward for attack in attacks)
    others = _others(evidence)
    kept = others + min(LOOKS * _left(evidence), LOOKED * (each + AGAIN))

    def left() -> float:
        return _left(evidence) - kept

    running = {label(attack): attack for attack in attacks}
    parts: dict[str, list[AttackResult]] = {name: [] for name in running}
    failed: dict[str, str] = {}
    done = 0
    while running and done < len(rows):
        some = _affordable(right[done:], int(left() // each))
        if not some or some < WORTH * done:
            break
        part = rows[done : done + some]
        for name, attack in list(running.items()):
            found = _attacked(evidence, attack, config.eps, part, failed, ids=part)
            if found is None:
                del running[name]
            else:
                parts[name].append(found)
        done += some
    if not done:
        raise AssayError(
            f"budget spent: an image is attacked with up to {each:,.0f} queries, and of "
            f"{most_queries(evidence.model):,} (--max-queries) {max(0.0, left()):,.0f} are left "
            "for that"
        )
    curves = {name: [(config.eps, joined(parts[name]))] for name in running}
    fewer = evidence.within(done, short=False)
    missed = _at_other_budgets(fewer, running, curves, failed, left)
    looked = int((_left(evidence) - others) // (each + AGAIN))
    return Afforded(fewer, curves, failed, max(1, min(FEW, looked)), _flag(evidence, done, missed))


def _at_other_budgets(
    evidence: Evidence,
    running: dict[str, Attack],
    curves: dict[str, Curve],
    failed: dict[str, str],
    left: Callable[[], float],
) -> list[float]:
    """Attack at the budgets other than eps that there are queries for; return the rest of them."""
    config, rows = evidence.config, evidence.attacked
    right = int(evidence.correct[rows].sum())
    missed = []
    for eps in nearest_first(config)[1:]:
        at_most = sum(attack_work(attack, right).forward for attack in running.values())
        took = sum(int(curve[0][1].queries.sum()) for curve in curves.values())
        if (min(at_most, MARGIN * took) if eps > config.eps else at_most) > left():
            missed.append(eps)
            continue
        for name, attack in list(running.items()):
            found = _attacked(evidence, attack, eps, rows, failed)
            if found is None:
                del running[name], curves[name]
            else:
                curves[name].append((eps, found))
    for curve in curves.values():
        curve.sort(key=lambda point: point[0])
    return sorted(missed)


def _left(evidence: Evidence) -> int:
    most = most_queries(evidence.model)
    assert most is not None
    return most - evidence.model.queries


def _others(evidence: Evidence) -> float:
    """Return the queries that are kept for the sections that come after the attacks: those that
    they ask for, or none where that is too many."""
    sections = evidence.config.sections
    place = [section.name for section in sections].index("robustness")
    others = sum(
        work.forward + work.gradient
        for section in sections[place + 1 :]
        if granted(evidence.model, section.needs) and not evidence.refuses(section)
        for work in section.work(evidence)
    )
    return others if others <= OTHERS * _left(evidence) else 0.0


def _affordable(right: Tensor, room: int) -> int:
    """Return how many of the images can be attacked, of which `room` may be classified correctly:
    the others take no query."""
    return int((right.cumsum(0) <= room).sum()) if room > 0 else 0


def joined(parts: Sequence[AttackResult]) -> AttackResult:
    """Return what an attack came to on images that were attacked one part after another."""
    first = parts[0]
    evaluations: dict[str, int] = {}
    for part in parts:
        for kind, count in part.evaluations.items():
            evaluations[kind] = evaluations.get(kind, 0) + count
    whole: dict[str, Any] = {
        name: torch.cat([getattr(part, name) for part in parts])
        for name in (*ARRAYS, "inputs")
        if getattr(first, name) is not None
    }
    return replace(
        first,
        **whole,
        seconds=sum(part.seconds for part in parts),
        refused=sum(part.refused for part in parts),
        evaluations=evaluations,
    )


def _flag(evidence: Evidence, done: int, missed: Iterable[float]) -> tuple[Flag, ...]:
    config, asked = evidence.config, len(evidence.attacked)
    most = most_queries(evidence.model)
    at = [budget(eps, config.norm) for eps in missed]
    said = [f"of {asked:,} images the first {done:,} were attacked"] if done < asked else []
    said += [f"none was at {', '.join(at)}"] if at else []
    if not said:
        return ()
    title = "The queries allowed were too few for all attacks"
    detail = (
        f"With {most:,} queries in all (--max-queries) {', and '.join(said)}: allow more, or name "
        "attacks with fewer queries for each image (--attacks)"
    )
    return (Flag(code="FLAG-QUERIES", title=title, raised=True, detail=detail),)
