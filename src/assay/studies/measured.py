"""What is known of a metric before it is averaged: its value in a run, where it lies, and the least
variance that a share can have.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from assay import stats
from assay.runs.entry import Result
from assay.studies.on_images import Metric

RANGES = {
    "_accuracy": (0.0, 1.0),
    "_share": (0.0, 1.0),
    "_overlap": (0.0, 1.0),
    "_correlation": (-1.0, 1.0),
    "_distance": (0.0, math.inf),
}
"""Where metrics lie, by how their names end: so do their intervals."""


def value_of(result: Result, metric: Metric) -> float:
    """Return the metric of a run."""
    return float(metric(result) if callable(metric) else result.metrics[metric])


def lies_between(metric: Metric) -> tuple[float, float]:
    """Return between which values a metric lies."""
    for end, lies in RANGES.items():
        if isinstance(metric, str) and metric.endswith(end):
            return lies
    return -math.inf, math.inf


def is_share(metric: Metric) -> bool:
    """Return whether a metric is a share of images, by how its name ends."""
    return isinstance(metric, str) and metric.endswith(("_accuracy", "_share"))


def least_variance(groups: Sequence[Sequence[Result]], metric: Metric) -> float | None:
    """Return the sum of the groups' binomial variances of a share; None for other metrics, and
    where a group has no run with a share.

    Seeds cannot agree better than the number of images allows. A run on no image has no share.
    """
    if not is_share(metric) or not groups:
        return None
    assert isinstance(metric, str)
    images = "n_" + metric.removesuffix("_accuracy").removesuffix("_share")
    found = 0.0
    for runs in groups:
        counts = [int(run.metrics[images]) for run in runs]
        shares = [run.metrics[metric] for run, n in zip(runs, counts, strict=True) if n]
        if not shares:
            return None
        rate = float(np.mean(shares))
        found += float(np.mean([stats.binomial_variance(rate, n) for n in counts if n]))
    return found
