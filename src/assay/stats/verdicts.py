"""Verdicts on claims and checks.

An effect counts as shown only when its interval lies beyond the smallest effect that matters.
Several claims, and interim analyses at growing numbers of seeds, share one probability of error.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal

from assay.errors import AssayError
from assay.stats.claims import Asks, Claim, Effect, Unit, Verdict
from assay.stats.crossed import MOST_SEEDS, Crossed, crossed_mean, still_missing
from assay.stats.estimates import Estimate, half_width, mean_interval

CheckVerdict = Literal["pass", "fail", "undecided", "not run"]


def judge(low: float, high: float, delta: float, asks: Asks = "larger") -> Verdict:
    """Return the verdict on "the effect exceeds delta" for an effect in [low, high].

    With asks="equivalent", the verdict on "the effect lies in (-delta, delta)", by two one-sided
    tests (Schuirmann 1987).

    >>> assay.stats.judge(0.03, 0.07, 0.02), assay.stats.judge(0.01, 0.07, 0.02)
    ('holds', 'undecided')
    >>> assay.stats.judge(-0.01, 0.01, 0.02, "equivalent")
    'equivalent'
    """
    if asks == "equivalent":
        if -delta < low and high < delta:
            return "equivalent"
        return "does not hold" if low > delta or high < -delta else "undecided"
    if low > delta:
        return "holds"
    return "does not hold" if high < delta else "undecided"


def level_at(claims: int, look: int = 1, alpha: float = 0.05) -> float:
    """Return the confidence level of each interval: 1 - alpha / claims / 2**look.

    Bonferroni across claims, one chosen among several counting as all of them; of its share each
    claim spends half at the first interim analysis, a quarter at the second, and so on, so that
    however many there are, all verdicts of a study together are wrong with probability at most
    alpha. An interim analysis is a judgement at one number of seeds, which must not be chosen by
    what the last one showed (see `looks`).

    Raises:
        AssayError: for less than one claim or analysis.

    >>> round(assay.stats.level_at(5, look=2), 6)  # 1 - 0.05 / 5 / 4
    0.9975
    """
    if claims < 1 or look < 1:
        raise AssayError(f"claims and interim analyses are counted from 1, got {claims} and {look}")
    return 1 - alpha / claims / 2.0**look


def judge_claims(
    effects: Sequence[Effect],
    *,
    look: int | Sequence[int] = 1,
    alpha: float = 0.05,
    decided: Sequence[Claim] = (),
) -> tuple[Claim, ...]:
    """Judge all claims of a study together.

    Args:
        effects: one for each claim of the study, also for those that have no values yet: how many
            they are corrects the level.
        look: how often these claims have been judged, each time on more seeds; this time counts.
            One number, or one for each effect.
        alpha: probability that any verdict of the study, over all analyses, is wrong.
        decided: claims as earlier analyses judged them. One that was decided stays decided, with
            the estimate of that analysis: its share of alpha was spent there, and a verdict that
            comes and goes is none. What all seeds say now is its `latest`. One that was judged
            among fewer claims than now spent more than its share: it is judged again.

    The estimate of each claim is `crossed_mean` of its effect per image, or `mean_interval` of its
    values where there is none, at `level_at(len(effects), look, alpha)`; two one-sided tests of
    equivalence take their share of alpha each.

    No verdict is given where more runs of one kind were lost (collapsed or failed) than values
    remain, which is so whenever more than half of them were: the survivors are a selected sample.
    With fewer lost, the claim is about runs that train, and its note counts the others.

    >>> effect = assay.stats.Effect("a.wins", "A is better than B.", 0.02, [0.01, 0.06])
    >>> [claim.verdict for claim in assay.stats.judge_claims([effect])]
    ['undecided']
    """
    looks = [look] * len(effects) if isinstance(look, int) else look
    before = {
        (claim.code, claim.text, claim.delta): claim
        for claim in decided
        if claim.verdict != "undecided"
    }

    def level_of(effect: Effect, one: int) -> float:
        return _level(effect, level_at(len(effects) * effect.chosen_among, one, alpha))

    claims = []
    for effect, at in zip(effects, looks, strict=True):
        level, next_level = level_of(effect, at), level_of(effect, at + 1)
        crossed, estimate = _estimated(effect, level)
        claim = Claim(
            code=effect.code,
            text=effect.text,
            delta=effect.delta,
            estimate=_possible(estimate, effect.unit),
            verdict=judge(estimate.low, estimate.high, effect.delta, effect.asks),
            collapsed=dict(effect.collapsed),
            note=effect.note,
            failed=dict(effect.failed),
            unit=effect.unit,
            look=at,
            about=effect.about,
            asks=effect.asks,
            why_delta=effect.why_delta,
            per=effect.per,
        )
        earlier = before.get((effect.code, effect.text, effect.delta))
        if earlier is not None and earlier.estimate.level >= level_of(effect, earlier.look):
            claims.append(_stays(earlier, claim))
            continue
        if claim.mostly_lost:
            claim = replace(claim, verdict="undecided")
        elif claim.verdict == "undecided":
            claim = _planned(claim, effect, estimate, crossed, next_level)
        claims.append(replace(claim, note=_joined(claim.note, *_lost(claim))))
    return tuple(claims)


def _level(effect: Effect, level: float) -> float:
    """Return the level of the interval by which an effect is judged."""
    return level if effect.asks == "larger" else 2 * level - 1


def _estimated(effect: Effect, level: float) -> tuple[Crossed | None, Estimate]:
    """Return the effect with its interval, and what that rests on where images are sampled too."""
    if effect.per_image is None:
        return None, mean_interval(effect.values, effect.of, level, effect.floor_variance)
    found = crossed_mean(effect.per_image.values, effect.per_image.kind, of=effect.of, level=level)
    return found, found.estimate


def _planned(
    claim: Claim, effect: Effect, estimate: Estimate, crossed: Crossed | None, level: float
) -> Claim:
    """Return an undecided claim with what would decide it at the next level."""
    value = abs(estimate.value) if effect.asks == "equivalent" else estimate.value
    gap = abs(value - effect.delta)
    if crossed is None or effect.per_image is None:
        return replace(claim, seeds_needed=more_seeds(estimate, gap, level))
    missing = still_missing(crossed, gap, level=level, there_are=effect.per_image.there_are)
    known = gap > 0 and crossed.variances is not None and estimate.bounded
    open_still = known and not (missing.seeds or missing.images)
    note = "Neither more seeds nor the whole test set would decide it." if open_still else ""
    return replace(
        claim,
        seeds_needed=missing.seeds,
        images_needed=missing.images,
        note=_joined(claim.note, note),
    )


def _possible(estimate: Estimate, unit: Unit) -> Estimate:
    """Return an interval without what cannot be: fractions differ by at most 1."""
    least = {"points": -1.0, "fraction": 0.0}.get(unit)
    if least is None or not math.isfinite(estimate.high - estimate.low):
        return estimate
    return replace(estimate, low=max(least, estimate.low), high=min(1.0, estimate.high))


def _stays(decided: Claim, now: Claim) -> Claim:
    """Return a claim that an earlier analysis decided, as it said it, beside what is known now."""
    estimate = decided.estimate
    told = [f"Decided at interim analysis {decided.look}, on {estimate.n} {estimate.of}."]
    if now.verdict not in ("undecided", decided.verdict):
        told.append("The interval of all of them says the opposite: trust neither.")
    if now.note not in decided.note:
        told.append(f"Now, on {now.estimate.n} {now.estimate.of}: {now.note}")
    claim = replace(
        now,
        verdict=decided.verdict,
        estimate=estimate,
        look=decided.look,
        latest=now.estimate,
        note=decided.note,
        about=decided.about,
    )
    return replace(claim, latest_note=_joined(*told, *_lost(claim)))


def _joined(*sentences: str) -> str:
    return " ".join(filter(None, sentences))


def _lost(claim: Claim) -> Iterator[str]:
    """Yield what a reader must know of the runs that were lost, a sentence each."""
    for what, lost in (("collapsed", claim.collapsed), ("failed", claim.failed)):
        if any(lost.values()):
            counts = ", ".join(f"{n} of {name}" for name, n in lost.items() if n)
            yield f"Runs that {what}, counted but not averaged in: {counts}."
    left = (claim.latest or claim.estimate).n
    if not left:
        yield "There is nothing to judge it by."
    elif claim.mostly_lost:
        verdict = "no verdict" if claim.verdict == "undecided" else "do not rely on its verdict"
        of = claim.estimate.of.removesuffix("s") if left == 1 else claim.estimate.of
        yield f"More were lost than the {left} {of} left to judge it by: {verdict}."


def more_seeds(estimate: Estimate, gap: float, level: float | None = None) -> int | None:
    """Return how many more seeds would make half the interval less than a gap.

    The mean and the spread are taken to stay as they are in `estimate`, which is one of
    `mean_interval`; the true effect being what it is, that is as likely too few as too many.

    Args:
        estimate: the mean over seeds so far.
        gap: how far the mean is from the smallest effect that matters.
        level: the level at which the grown sample will be judged; None: that of the estimate.

    Returns:
        None where the spread is unknown, or where not even 10,000 more would do.

    >>> assay.stats.more_seeds(assay.stats.mean_interval([1.0, 2.0, 3.0]), gap=2.0)
    1
    """
    n = estimate.n
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

    >>> assay.stats.judge_check(assay.stats.proportion(95, 100, "images"), 0.8)
    'pass'
    >>> assay.stats.judge_check(assay.stats.proportion(95, 100, "images"), 0.9)
    'undecided'
    """
    if estimate.n == 0 or math.isnan(estimate.value):
        return "not run"
    if direction == "at least":
        passes, fails = estimate.low >= threshold, estimate.high < threshold
    else:
        passes, fails = estimate.high <= threshold, estimate.low > threshold
    return "pass" if passes else "fail" if fails else "undecided"
