"""Verdicts on claims and checks.

An effect counts as shown only when its interval lies beyond the smallest effect that matters.
Several claims, and looks at growing numbers of seeds, share one probability of error.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from assay.errors import AssayError
from assay.stats.estimates import Estimate, half_width, mean_interval

Verdict = Literal["holds", "does not hold", "undecided"]
CheckVerdict = Literal["pass", "fail", "undecided", "not run"]

MOST_SEEDS = 10_000


@dataclass(frozen=True)
class Effect:
    """What a claim rests on, before it is judged.

    Attributes:
        code: a stable id ("skip.degrades").
        text: the claim in words.
        delta: the smallest effect that matters, set before the data was seen.
        values: the effect, one number per seed; runs that collapsed are left out.
        floor_variance: as in `mean_interval`.
        collapsed: how many runs collapsed, by what they were runs of (the label of their trials);
            counted, not averaged in.
        note: what else the reader must know.
        of: what there is one value of each.
        failed: how many runs failed (raised, or their process died), as `collapsed`.
    """

    code: str
    text: str
    delta: float
    values: Sequence[float]
    floor_variance: float | None = None
    collapsed: Mapping[str, int] = field(default_factory=dict)
    note: str = ""
    of: str = "seeds"
    failed: Mapping[str, int] = field(default_factory=dict, kw_only=True)


@dataclass(frozen=True)
class Claim:
    """A claim with its verdict.

    Attributes:
        code, text, delta, collapsed, failed: as in `Effect`.
        estimate: the effect; its level is corrected for the number of claims and of looks.
        verdict: "holds" if the interval lies above delta, "does not hold" if below.
        seeds_needed: how many more seeds would decide at the observed effect and spread, judged
            at the next look; None when decided, or when not even 10,000 would.
        note: as in `Effect`, and which runs collapsed or failed.
    """

    code: str
    text: str
    delta: float
    estimate: Estimate
    verdict: Verdict
    seeds_needed: int | None = None
    collapsed: Mapping[str, int] = field(default_factory=dict)
    note: str = ""
    failed: Mapping[str, int] = field(default_factory=dict, kw_only=True)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"estimate": self.estimate.to_dict()}


def judge(low: float, high: float, delta: float) -> Verdict:
    """Return the verdict on "the effect exceeds delta" for an effect in [low, high]."""
    if low > delta:
        return "holds"
    return "does not hold" if high < delta else "undecided"


def level_at(claims: int, look: int = 1, alpha: float = 0.05) -> float:
    """Return the confidence level of each interval: 1 - alpha / claims / 2**look.

    Bonferroni across claims; of its share each claim spends half at the first look, a quarter at
    the second, and so on, so that however many looks there are, all verdicts of a study together
    are wrong with probability at most alpha. A look is one judgement at one number of seeds.

    Raises:
        AssayError: for less than one claim or look.
    """
    if claims < 1 or look < 1:
        raise AssayError(f"claims and looks are counted from 1, got {claims} and {look}")
    return 1 - alpha / claims / 2.0**look


def judge_claims(
    effects: Sequence[Effect], *, look: int = 1, alpha: float = 0.05
) -> tuple[Claim, ...]:
    """Judge all claims of a study together.

    Args:
        effects: one for each claim of the study, also for those that have no values yet: how many
            they are corrects the level.
        look: how often these claims have been judged, each time on more seeds; this time counts.
        alpha: probability that any verdict of the study, over all looks, is wrong.

    The estimate of each claim is `mean_interval` at `level_at(len(effects), look, alpha)`.
    """
    claims = []
    for effect in effects:
        level = level_at(len(effects), look, alpha)
        estimate = mean_interval(effect.values, effect.of, level, effect.floor_variance)
        verdict = judge(estimate.low, estimate.high, effect.delta)
        needed = None
        if verdict == "undecided":
            needed = more_seeds(estimate, effect.delta, level_at(len(effects), look + 1, alpha))
        notes = [effect.note]
        for what, lost in (("collapsed", effect.collapsed), ("failed", effect.failed)):
            if any(lost.values()):
                counts = ", ".join(f"{n} of {name}" for name, n in lost.items() if n)
                notes.append(f"Runs that {what}, counted but not averaged in: {counts}.")
        claims.append(
            Claim(
                code=effect.code,
                text=effect.text,
                delta=effect.delta,
                estimate=estimate,
                verdict=verdict,
                seeds_needed=needed,
                collapsed=dict(effect.collapsed),
                failed=dict(effect.failed),
                note=" ".join(filter(None, notes)),
            )
        )
    return tuple(claims)


def more_seeds(estimate: Estimate, delta: float, level: float | None = None) -> int | None:
    """Return how many more seeds would bring `delta` out of the interval.

    The mean and the spread are taken to stay as they are in `estimate`, which is one of
    `mean_interval`; the true effect being what it is, that is as likely too few as too many.

    Args:
        estimate: the mean over seeds so far.
        delta: the smallest effect that matters.
        level: the level at which the grown sample will be judged; None: that of the estimate.

    Returns:
        None where the spread is unknown, or where not even 10,000 more would do.
    """
    n, gap = estimate.n, abs(estimate.value - delta)
    half = (estimate.high - estimate.low) / 2
    if not (math.isfinite(half) and gap > 0):
        return None
    deviation = half / half_width(1.0, n, estimate.level)
    level = estimate.level if level is None else level

    def decides(more: int) -> bool:
        return half_width(deviation, n + more, level) < gap

    needed = bisect.bisect_left(range(1, MOST_SEEDS + 1), True, key=decides) + 1
    return needed if needed <= MOST_SEEDS else None


def judge_check(
    estimate: Estimate, threshold: float, direction: Literal["at least", "at most"] = "at least"
) -> CheckVerdict:
    """Return whether a value keeps its threshold: "undecided" where the interval spans it, and
    "not run" where the value rests on nothing (n = 0), which never counts as a pass.

    An end of the interval that is exactly the threshold keeps it.
    """
    if estimate.n == 0 or math.isnan(estimate.value):
        return "not run"
    if direction == "at least":
        passes, fails = estimate.low >= threshold, estimate.high < threshold
    else:
        passes, fails = estimate.high <= threshold, estimate.low > threshold
    return "pass" if passes else "fail" if fails else "undecided"
