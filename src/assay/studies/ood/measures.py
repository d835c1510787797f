"""What the tables, figures and claims of the study `ood` read of its results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from assay import stats
from assay.runs.entry import Result
from assay.studies.cells import Cells

MEASURES = {
    "auroc": ("AUROC", "the probability that an outlier scores above a test image; 50 % is a coin"),
    "aupr_out": ("AUPR, outliers", "average precision where outliers are to be found"),
    "aupr_in": ("AUPR, test images", "average precision where test images are to be found"),
    "fpr95": (
        "FPR95",
        "outliers taken for test images where 95 % of test images are kept; lower is better",
    ),
}
Value = Callable[[Result], float]
Images = Callable[[Result], int]


def measured(measure: str, detector: str, kind: str) -> Value:
    """Return what reads a measure of a result, NaN where the detector could not be used."""

    def read(run: Result) -> float:
        return float(run.metrics[measure].get(detector, {}).get(kind, np.nan))

    return read


def share(cells: Cells, cell: str, value: Value, images: Images) -> stats.Estimate:
    """Return the mean of a share over networks, with an interval that stays in [0, 1].

    Networks that agree exactly, all at 100 % say, are no certainty: a value has at least the
    variance of a share of `images` images. For an AUROC that is the most that it can have, with
    `images` the fewer of inliers and outliers (Birnbaum & Klose 1957, "Bounds for the variance of
    the Mann-Whitney statistic").
    """
    runs = [run for run in cells.kept(cell) if np.isfinite(value(run))]
    values = [value(run) for run in runs]
    floors = [stats.binomial_variance(float(np.mean(values)), images(run)) for run in runs]
    found = stats.mean_interval(values, "seeds", floor_variance=float(np.mean(floors or [0.0])))
    return replace(found, low=max(0.0, found.low), high=min(1.0, found.high))


def fewest(*kinds: str) -> Images:
    """Return what counts the fewest images among test images and these kinds of outliers."""
    return lambda run: min(run.metrics["counts"][kind] for kind in ("in", *kinds))


def in_all(run: Result) -> int:
    """Return the fewest images that there are of any kind."""
    return int(min(run.metrics["counts"].values()))


def detectors(cells: Cells, cell: str) -> list[str]:
    """Return the rows of tables: what could be used on any of the networks."""
    return list(dict.fromkeys(n for run in cells.kept(cell) for n in run.metrics["detectors"]))


def accuracy(cells: Cells, cell: str) -> str:
    """Return how good the networks are at what they were trained for, and their spread."""
    values = [run.metrics["accuracy"] for run in cells.kept(cell)]
    if not values:
        return "no network was tested"
    each = f", from {100 * min(values):.1f} to {100 * max(values):.1f} %" if len(values) > 1 else ""
    return (
        f"accuracy of the {len(values)} networks on the test images of their classes "
        f"{100 * float(np.mean(values)):.1f} %{each}"
    )
