"""How often intervals over networks and images cover, and how often verdicts on them are wrong.

Answers are drawn instead of trained: every image has a probability of its own to be classified
correctly (beta distributed, so that two networks agree on it with the stated correlation), every
network shifts all of them. Reported: how often the 95 % interval of `stats.crossed_mean` holds the
share over images and networks in general, how wide it is in units of the interval that knows the
true variance, and the same of an interval over seeds alone, which takes images as nested in them.

    python benchmarks/crossed.py                  # what docs/claims.md shows, 10 minutes of a core
    python benchmarks/crossed.py --studies 100    # an interim view
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import special

from assay import stats

OUT = Path(__file__).parent / "out"
Rng = np.random.Generator
Floats = NDArray[np.float64]

NETWORKS = (3, 8, 24, 96)
IMAGES = (100, 1_000, 10_000)
CORRELATIONS = (0.0, 0.25, 0.5)
SHIFT = 0.15
"""Standard deviation of a network's shift, in log odds: 3.7 points at 50 %."""
CELLS = 3_000_000
"""Values drawn for a line, at most: large tables are simulated less often."""


@dataclass(frozen=True)
class Answers:
    """A share: how many images are classified correctly, by networks that agree so much."""

    share: float
    correlation: float
    shift: float = SHIFT
    kind: stats.Kind = "share"

    def draw(self, rng: Rng, networks: int, images: int) -> Floats:
        """Return 1 for correct and 0 for wrong, (networks, images)."""
        odds = special.logit(np.clip(self._images(rng, images), 1e-12, 1 - 1e-12))
        chance = special.expit(odds[None] + rng.normal(0, self.shift, (networks, 1)))
        return (rng.random((networks, images)) < chance).astype(float)

    def _images(self, rng: Rng, images: int) -> Floats:
        if self.correlation == 0:
            return np.full(images, self.share)
        size = 1 / self.correlation - 1
        return rng.beta(self.share * size, (1 - self.share) * size, images)

    def truth(self) -> float:
        """Return the share over images and networks in general, to 1e-4."""
        rng = np.random.default_rng(1)
        n = 2_000_000
        odds = special.logit(np.clip(self._images(rng, n), 1e-12, 1 - 1e-12))
        return float(special.expit(odds + rng.normal(0, self.shift, n)).mean())


@dataclass(frozen=True)
class Differences:
    """A difference of two networks of one seed, which agree on most images."""

    agree: float
    first_right: float  # share of the images on which they differ where the first is right
    correlation: float
    kind: stats.Kind = "difference"

    def draw(self, rng: Rng, networks: int, images: int) -> Floats:
        """Return 1 where only the first is right, -1 where only the second, (networks, images)."""
        apart = 1 - self.agree
        shares = np.array([apart * self.first_right, apart * (1 - self.first_right), self.agree])
        chance = np.tile(shares, (images, 1))
        if self.correlation:
            chance = rng.dirichlet(shares * (1 / self.correlation - 1), images)
        u = rng.random((networks, images))
        either = chance[:, 0] + chance[:, 1]
        return np.where(u < chance[:, 0], 1.0, np.where(u < either, -1.0, 0.0))

    def truth(self) -> float:
        return (1 - self.agree) * (2 * self.first_right - 1)


@dataclass(frozen=True)
class Line:
    """What was found of one population and size."""

    networks: int
    images: int
    studies: int
    covered: float
    width: float  # over that of the interval that knows the true variance
    nested: float  # how often the interval over seeds alone covers

    def __str__(self) -> str:
        error = math.sqrt(max(self.covered * (1 - self.covered), 1 / self.studies) / self.studies)
        return (
            f"{self.networks:3} networks {self.images:6,} images  {100 * self.covered:5.1f} ± "
            f"{100 * error:.1f} %  width {self.width:.2f}  seeds alone {100 * self.nested:5.1f} %"
        )


def over_seeds(x: Floats, kind: stats.Kind, level: float = 0.95) -> stats.Estimate:
    """Return the interval over seeds alone, with the binomial floor: images nested in seeds."""
    rates = x.mean(1)
    floor = (
        stats.binomial_variance(float(rates.mean()), x.shape[1])
        if kind == "share"
        else float((x**2).mean() - x.mean() ** 2 + 4 / x.shape[1]) / x.shape[1]
    )
    return stats.mean_interval(rates, "seeds", level, floor)


def measure(
    population: Answers | Differences, networks: int, images: int, studies: int, seed: int = 0
) -> Line:
    """Draw studies of one size, and see how often their intervals hold the truth."""
    rng, truth = np.random.default_rng(seed), population.truth()
    studies = max(100, min(studies, CELLS // (networks * images)))
    values, widths, covered, nested = [], [], 0, 0
    for _ in range(studies):
        x = population.draw(rng, networks, images)
        found = stats.crossed_mean(x, population.kind).estimate
        alone = over_seeds(x, population.kind)
        covered += found.low <= truth <= found.high
        nested += alone.low <= truth <= alone.high
        values.append(found.value)
        widths.append(found.high - found.low)
    oracle = 2 * float(special.ndtri(0.975)) * float(np.std(values))
    width = float(np.mean(widths)) / oracle if oracle > 0 else math.nan
    return Line(networks, images, studies, covered / studies, width, nested / studies)


def populations() -> Iterator[tuple[str, Answers | Differences]]:
    """Yield what is drawn, by what it is called."""
    for share, correlation in itertools.product((0.01, 0.1, 0.5, 0.9, 0.99), CORRELATIONS):
        yield f"{100 * share:g} % correct, correlation {correlation:g}", Answers(share, correlation)
    for agree, right, correlation in itertools.product((0.5, 0.9, 0.99), (0.5, 0.8), CORRELATIONS):
        name = f"{100 * agree:g} % agree, {100 * right:g} : {100 - 100 * right:g}"
        yield f"{name}, correlation {correlation:g}", Differences(agree, right, correlation)


@dataclass(frozen=True)
class Sequential:
    """A claim that is judged from 3 networks to 96 until it is decided, on images that stay.

    Attributes:
        population: its truth is delta, so that any verdict is wrong.
        images: how many, the same for every network.
        nested: judged over seeds alone.
    """

    population: Answers | Differences
    images: int
    nested: bool

    def wrong(self, rng: Rng, most: int = 96) -> bool:
        """Return whether a study ends with a verdict."""
        x = self.population.draw(rng, most, self.images)
        delta, judged = self.population.truth(), 0

        def interim(seeds: int) -> Sequence[stats.Claim]:
            nonlocal judged
            judged += 1
            rows = x[:seeds]
            images = None if self.nested else stats.PerImage(rows, self.population.kind)
            variance = float((x**2).mean() - x.mean() ** 2) / self.images
            effect = stats.Effect("a.b", "", delta, list(rows.mean(1)), variance, per_image=images)
            return stats.judge_claims([effect], look=judged)

        (claim,) = stats.until_decided(interim, 3, most)
        return claim.verdict in ("holds", "does not hold")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=1000, help="simulated studies per line")
    studies = parser.parse_args().studies
    found: dict[str, list[dict[str, object]]] = {}
    for name, population in populations():
        print(name, flush=True)
        for networks, images in itertools.product(NETWORKS, IMAGES):
            line = measure(population, networks, images, studies)
            print(f"  {line}", flush=True)
            found.setdefault(name, []).append(vars(line))
    print("until decided, 3 to 96 networks on the same 1,000 images, truth exactly on delta: wrong")
    for correlation, nested in itertools.product((0.0, 0.35), (True, False)):
        study = Sequential(Answers(0.75, correlation, shift=0.1), 1000, nested)
        rng = np.random.default_rng(0)
        wrong = float(np.mean([study.wrong(rng) for _ in range(max(100, studies // 2))]))
        name = f"correlation {correlation:g}, {'over seeds alone' if nested else 'crossed'}"
        print(f"  {name:<40} {100 * wrong:5.1f} %", flush=True)
        found.setdefault("until decided", []).append({"study": name, "wrong": wrong})
    OUT.mkdir(exist_ok=True)
    (OUT / "crossed.json").write_text(json.dumps({"studies": studies, **found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
