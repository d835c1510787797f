"""How often verdicts are wrong, and how many seeds they take, in simulated studies.

A simulated study has claims whose true effects are known; its seeds are drawn instead of trained.
It is judged by the functions that judge real ones, once or `--until-decided`. Reported, each share
with the standard error of the simulation (twice that: 95 %):

    coverage     of the t interval over seeds (nominal: 95 %)
    errors       studies with a wrong verdict on any claim at any interim analysis (bound: 5 %)
    power        studies that decide every claim rightly, and how many seeds that takes

    python benchmarks/claims.py                   # what docs/claims.md shows, 5 minutes on one core
    python benchmarks/claims.py --studies 500     # quick
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from assay import stats

OUT = Path(__file__).parent / "out"
Rng = np.random.Generator
Floats = NDArray[np.float64]
Draw = Callable[[Rng, tuple[int, ...]], Floats]
Look = Callable[[int], Sequence[stats.Claim]]


def accuracies(rng: Rng, size: tuple[int, ...]) -> Floats:
    """Accuracies on 1,000 images of networks whose own accuracies differ by 2 points; centred."""
    return rng.binomial(1000, rng.normal(0.75, 0.02, size)) / 1000 - 0.75


def outliers(rng: Rng, size: tuple[int, ...]) -> Floats:
    """One run in ten is five deviations worse than the others."""
    return rng.normal(0, 1, size) - 5 * (rng.random(size) < 0.1) + 0.5


SEEDS: Mapping[str, Draw] = {
    "normal": lambda rng, size: rng.normal(0, 1, size),
    "accuracies": accuracies,
    "heavy tails (t, 3 d.f.)": lambda rng, size: rng.standard_t(3, size),
    "skewed (gamma 4)": lambda rng, size: 2 - rng.gamma(4, 0.5, size),
    "skewed (exponential)": lambda rng, size: 1 - rng.exponential(1, size),
    "one in ten is 5 σ worse": outliers,
}
"""How seeds may be distributed; every mean is 0."""


@dataclass(frozen=True)
class Share:
    """A share of simulated studies, with the standard error of the simulation."""

    value: float
    of: int

    @property
    def error(self) -> float:
        """At least that of one study among all, so that a share of 0 or 1 is no certainty."""
        share = min(max(self.value, 1 / self.of), 1 - 1 / self.of)
        return math.sqrt(share * (1 - share) / self.of)

    def __str__(self) -> str:
        return f"{100 * self.value:5.2f} ± {100 * self.error:.2f} %"


def coverage(
    draw: Draw, n: int, rng: Rng, studies: int, *, floor_variance: float | None = None
) -> Share:
    """Return how often the 95 % interval over n seeds holds the true mean, 0."""
    rows = draw(rng, (studies, n))
    found = [stats.mean_interval(row, floor_variance=floor_variance) for row in rows]
    return Share(float(np.mean([e.low <= 0 <= e.high for e in found])), studies)


@dataclass(frozen=True)
class Plan:
    """A study that is simulated.

    Attributes:
        truths: the true effect of each claim, in standard deviations over seeds beyond delta.
        draw: the seeds' deviations from it, (claims, seeds).
        seeds: how many at the first analysis.
        most: how many at the last one; as many as `seeds`: one analysis.
        lost: the probability that a run collapses, whatever its value.
        loop: what decides at how many seeds to analyse.
    """

    truths: Sequence[float] = (0.0, 0.0, 0.0)
    draw: Draw = SEEDS["normal"]
    seeds: int = 3
    most: int = 3
    lost: float = 0.0
    loop: Callable[[Look, int, int], object] = stats.until_decided


@dataclass(frozen=True)
class Ending:
    """How a simulated study ended: its last claims, seeds and analyses."""

    claims: tuple[stats.Claim, ...]
    seeds: int
    looks: int


def as_seems_needed(look: Look, seeds: int, most: int) -> None:
    """Analyse again at as many seeds as seem to be needed, at most twice as many: what assay does
    not do, since then the data choose when to analyse."""
    while True:
        waiting = [claim for claim in look(seeds) if claim.verdict == "undecided"]
        if not waiting or seeds >= most:
            return
        needed = max(claim.seeds_needed or seeds for claim in waiting)
        seeds = min(seeds + min(needed, seeds), most)


def simulate(plan: Plan, rng: Rng) -> Ending:
    """Draw a study and judge it, as `assay run --until-decided` does."""
    truths = np.array(plan.truths)[:, None]
    values = truths + plan.draw(rng, (len(truths), plan.most))
    kept = rng.random(values.shape) >= plan.lost
    ending = Ending((), 0, 0)

    def look(seeds: int) -> Sequence[stats.Claim]:
        nonlocal ending
        effects = [
            stats.Effect(
                code=f"claim.{i}",
                text="",
                delta=0.0,
                values=row[:seeds][there[:seeds]],
                collapsed={"network": int((~there[:seeds]).sum())},
            )
            for i, (row, there) in enumerate(zip(values, kept, strict=True))
        ]
        looks = ending.looks + 1
        claims = stats.judge_claims(effects, look=looks, decided=ending.claims)
        ending = Ending(claims, seeds, looks)
        return claims

    plan.loop(look, plan.seeds, plan.most)
    return ending


def is_wrong(claim: stats.Claim, truth: float) -> bool:
    """Return whether a verdict is; on the boundary itself any verdict is counted as wrong."""
    return (claim.verdict == "holds" and truth <= 0) or (
        claim.verdict == "does not hold" and truth >= 0
    )


@dataclass(frozen=True)
class Rates:
    """What became of many simulated studies.

    Attributes:
        wrong: those with any wrong verdict.
        decided: those in which every claim was decided, and rightly.
        seeds: mean number of seeds at the last analysis.
        looks: mean number of interim analyses.
    """

    wrong: Share
    decided: Share
    seeds: float
    looks: float


def rates(plan: Plan, studies: int, seed: int = 0) -> Rates:
    """Simulate many studies."""
    rng = np.random.default_rng(seed)
    endings = [simulate(plan, rng) for _ in range(studies)]
    wrong = [any(map(is_wrong, ending.claims, plan.truths)) for ending in endings]
    decided = [all(claim.verdict != "undecided" for claim in ending.claims) for ending in endings]
    right = np.array(decided) & ~np.array(wrong)
    return Rates(
        Share(float(np.mean(wrong)), studies),
        Share(float(right.mean()), studies),
        float(np.mean([ending.seeds for ending in endings])),
        float(np.mean([ending.looks for ending in endings])),
    )


NORMAL, ACCURACIES = SEEDS["normal"], SEEDS["accuracies"]
ERRORS: Mapping[str, Plan] = {
    "one analysis at 3 seeds": Plan(),
    "one analysis at 10 seeds": Plan(seeds=10, most=10),
    "until decided, 3 to 96 seeds": Plan(most=96),
    "the same, one claim": Plan(truths=(0.0,), most=96),
    "the same, ten claims": Plan(truths=(0.0,) * 10, most=96),
    "until decided, from 2 seeds": Plan(seeds=2, most=128),
    "3 to 96 seeds, a fifth of the runs collapses": Plan(most=96, lost=0.2),
    "3 to 96 seeds, half of the runs collapses": Plan(most=96, lost=0.5),
    "accuracies, until decided": Plan(draw=ACCURACIES, most=96),
    "heavy tails, until decided": Plan(draw=SEEDS["heavy tails (t, 3 d.f.)"], most=96),
    "differences of skewed runs, until decided": Plan(
        draw=lambda rng, size: rng.exponential(1, size) - rng.exponential(1, size), most=96
    ),
    "skewed (gamma 4), until decided": Plan(draw=SEEDS["skewed (gamma 4)"], most=96),
    "skewed (exponential), until decided": Plan(draw=SEEDS["skewed (exponential)"], most=96),
    "one claim, from 2 seeds": Plan(truths=(0.0,), seeds=2, most=512),
    "the same, analysed when it seems worth it": Plan(
        truths=(0.0,), seeds=2, most=512, loop=as_seems_needed
    ),
}
"""Every effect lies exactly on delta, where any verdict is wrong."""

POWER: Mapping[str, Plan] = {
    f"three claims, {far:g} σ beyond delta": Plan(truths=(far, far, -far), most=96)
    for far in (0.5, 1, 2, 5, 10, 20)
} | {
    "1 σ, analysed when it seems worth it": Plan(truths=(1, 1, -1), most=96, loop=as_seems_needed),
    "1 σ, 30 % of the runs collapse": Plan(truths=(1, 1, -1), most=96, lost=0.3),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=10_000, help="simulated studies per line")
    studies = parser.parse_args().studies
    found: dict[str, dict[str, object]] = {"coverage": {}, "errors": {}, "power": {}}
    print(f"coverage of the 95 % t interval at n seeds ({studies:,} studies each)")
    for name, draw in SEEDS.items():
        rng = np.random.default_rng(0)
        shares = {n: coverage(draw, n, rng, studies) for n in (3, 5, 10, 30)}
        print(f"  {name:<48}", *(f"n = {n}: {share}" for n, share in shares.items()), sep="  ")
        found["coverage"][name] = {n: share.value for n, share in shares.items()}
    print("studies with any wrong verdict, every effect exactly on delta")
    for name, plan in ERRORS.items():
        rate = rates(plan, studies)
        print(f"  {name:<48}  {rate.wrong}")
        found["errors"][name] = rate.wrong.value
    print("until decided, 3 to 96 seeds: studies with every verdict right, and seeds spent")
    for name, plan in POWER.items():
        rate = rates(plan, studies // 5)
        print(f"  {name:<48}  {rate.decided}  {rate.seeds:5.1f} seeds  {rate.looks:.1f} analyses")
        found["power"][name] = {"right": rate.decided.value, "seeds": rate.seeds}
    OUT.mkdir(exist_ok=True)
    (OUT / "claims.json").write_text(json.dumps({"studies": studies, **found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
