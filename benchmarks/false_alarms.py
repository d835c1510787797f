"""How often the checks of an audit are wrong about a model that lies exactly at the threshold.

Its true value is the threshold, so that neither verdict is deserved: a check that passes or fails
it is wrong, and an honest one is undecided in 95 of 100 audits. Data are drawn, and judged by the
functions that an audit judges by.

    python benchmarks/false_alarms.py --audits 1000  # the table of docs/ci.md, a few seconds
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

import numpy as np
from scipy.special import ndtri

from assay import stats

Rng = np.random.Generator
Null = Callable[[Rng, int], stats.Estimate]


def share(threshold: float) -> Null:
    """ACC-001 and ROB-001: images that are right with this probability."""
    return lambda rng, n: stats.proportion(int(rng.binomial(n, threshold)), n, "images")


def corruptions(rng: Rng, n: int) -> stats.Estimate:
    """COR-001: fifteen versions of each image, whose chances differ between images (beta, mean 0.7,
    correlation 0.3)."""
    chance = rng.beta(0.7 * 7 / 3, 0.3 * 7 / 3, n)
    return stats.mean_interval(rng.binomial(15, chance) / 15, "images")


def gap(rng: Rng, n: int) -> stats.Estimate:
    """SLI-001: a fifth of the half that slices are tried on is right 10 points less often."""
    inside = n // 10
    outside = n // 2 - inside
    a, b = rng.binomial(outside, 0.9), rng.binomial(inside, 0.8)
    return stats.independent_difference(int(a), outside, int(b), inside, "images")


def detection(rng: Rng, n: int) -> stats.Estimate:
    """OOD-…: normal scores, as many outliers as inliers, AUROC 0.9."""
    return stats.auroc(rng.normal(0, 1, n), rng.normal(math.sqrt(2) * ndtri(0.9), 1, n))


def ece(rng: Rng, n: int) -> stats.Estimate:
    """CAL-001: confidences over [0.5, 1), each 5 points above the chance of being right."""
    sure = rng.uniform(0.5, 1.0, n)
    right = rng.random(n) < sure - 0.05
    p = np.stack([sure, 1 - sure], 1)
    return stats.calibration(p, np.where(right, 0, 1), rng=rng, resamples=200).ece


NULLS: dict[str, tuple[Null, float, str]] = {
    "accuracy, 90 %": (share(0.9), 0.9, "at least"),
    "accuracy, 99 %": (share(0.99), 0.99, "at least"),
    "robust accuracy, 50 %": (share(0.5), 0.5, "at least"),
    "corruptions, 70 %": (corruptions, 0.7, "at least"),
    "gap of a slice, 10 points": (gap, 0.1, "at most"),
    "AUROC, 0.9": (detection, 0.9, "at least"),
    "calibration error, 5 %": (ece, 0.05, "at most"),
}
"""By what is checked: what is drawn, the threshold, the side that passes."""


def rates(null: Null, threshold: float, direction: str, n: int, audits: int) -> tuple[float, float]:
    """Return the shares of audits that pass and that fail."""
    rng = np.random.default_rng(n)
    verdicts = [
        stats.judge_check(null(rng, n), threshold, direction)  # type: ignore[arg-type]
        for _ in range(audits)
    ]
    return verdicts.count("pass") / audits, verdicts.count("fail") / audits


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--audits", type=int, default=2000)
    parser.add_argument("--images", type=int, nargs="+", default=[100, 500, 1000])
    asked = parser.parse_args()
    print(f"pass / fail in % of {asked.audits:,} audits of a model exactly at the threshold\n")
    print("| check | " + " | ".join(f"{n:,} images" for n in asked.images) + " |")
    print("| --- |" + " --- |" * len(asked.images))
    for name, (null, threshold, direction) in NULLS.items():
        cells = []
        for n in asked.images:
            passes, fails = rates(null, threshold, direction, n, asked.audits)
            cells.append(f"{100 * passes:.1f} / {100 * fails:.1f}")
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
