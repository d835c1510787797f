"""Interim analyses at growing numbers of seeds, until every claim is decided.

The numbers of seeds are fixed beforehand: each analysis doubles them, whatever the last one said.
The bound of `level_at` adds the errors of all analyses, which is exact only if the data do not
choose when to analyse. Growing by what `more_seeds` suggests would save one seed in six, but it
analyses again soonest where a verdict is nearly reached: begun with two seeds, it decided a claim
on its boundary in 5.35 ± 0.23 % of simulated studies, doubling in 4.42 ± 0.21 %
(benchmarks/claims.py). When to stop, the data may choose.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from assay.stats.claims import IMAGES_TOO, Claim


def until_decided(look: Callable[[int], Sequence[Claim]], seeds: int, most: int) -> Sequence[Claim]:
    """Judge on growing numbers of seeds until all claims are decided; return the last claims.

    Args:
        look: judges all claims on so many seeds: `judge_claims`, each time one analysis further.
        seeds: how many seeds to begin with.
        most: never more than these.

    >>> def look(seeds):
    ...     values = [0.1 + 0.01 * (seed % 2) for seed in range(seeds)]
    ...     return assay.stats.judge_claims([assay.stats.Effect("a", "A wins.", 0.0, values)])
    >>> [claim.estimate.n for claim in assay.stats.until_decided(look, 3, 48)]
    [3]
    """
    while True:
        claims = look(seeds)
        if seeds >= most or not any(may_be_decided(claim) for claim in claims):
            return claims
        seeds = min(2 * seeds, most)


def may_be_decided(claim: Claim) -> bool:
    """Return whether more seeds may decide a claim: not where most of its runs are lost, nor where
    the uncertainty from the images alone is too large. A mean that is δ to the digit, or a spread
    that is not known yet, is mere chance, and changes with more seeds."""
    if claim.verdict != "undecided" or claim.mostly_lost or not claim.estimate.n:
        return False
    estimate = claim.estimate
    known = estimate.bounded and estimate.n > 1 and abs(estimate.value) != claim.delta
    return not (claim.about == IMAGES_TOO and known and claim.seeds_needed is None)
