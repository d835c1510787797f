"""What runs are on each image, by which an effect is about images in general too."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from assay import stats
from assay.runs.entry import Result

Metric = str | Callable[[Result], float]
"""The name of a metric ("test_accuracy"), or what computes one from a result."""

SHARES = ("test_accuracy", "success_share")
"""The metrics that runs keep image by image."""
IMAGE_IDS = "image_ids"
"""The array that says which images of the test set a run was measured on. Older results lack it:
all runs of a study met the same images then, in the same order."""


def per_image(
    rows: Sequence[Sequence[Result]], weights: Sequence[float], metric: Metric
) -> stats.PerImage | None:
    """Return a weighted sum of what some runs of a seed are on each image, a row for each seed.

    Args:
        rows: the runs of each seed, in the order of the weights.
        metric: a share that runs keep image by image: see `_on_images`.

    Returns:
        None for other metrics, and where a run has not kept it, or not which images they were,
        while others met different ones. NaN where not all of a seed's runs have met an image.
    """
    said = [run.arrays[IMAGE_IDS] for row in rows for run in row if IMAGE_IDS in run.arrays]
    all_say = len(said) == sum(map(len, rows))
    if not all_say and any(not np.array_equal(ids, said[0]) for ids in said):
        return None
    known = [[_on_images(run, metric, ids=all_say) for run in row] for row in rows]
    if not known or any(one is None for row in known for one in row):
        return None
    sums = [_weighted([one for one in row if one is not None], weights) for row in known]
    kinds: dict[tuple[float, ...], stats.Kind] = {(1.0,): "share", (1.0, -1.0): "difference"}
    return stats.PerImage(crossed(sums), kinds.get(tuple(weights), "number"))


def crossed(rows: Sequence[Mapping[int, float]]) -> NDArray[np.float64]:
    """Return what each row has of images, by their ids, as an array (rows, images) with a column
    for each image that any has; NaN where a row lacks it."""
    ids = sorted(set().union(*rows))
    place = {image: column for column, image in enumerate(ids)}
    values = np.full((len(rows), len(ids)), math.nan)
    for row, found in zip(values, rows, strict=True):
        for image, value in found.items():
            row[place[image]] = value
    return values


def _weighted(runs: Sequence[Mapping[int, float]], weights: Sequence[float]) -> dict[int, float]:
    """Return the weighted sum of each image that all of the runs have met."""
    shared = set(runs[0]).intersection(*runs[1:])
    return {
        image: sum(weight * run[image] for weight, run in zip(weights, runs, strict=True))
        for image in shared
    }


def _on_images(result: Result, metric: Metric, *, ids: bool) -> dict[int, float] | None:
    """Return whether a share counts each image, 1 or 0, by the image's id, or else its place; None
    where the run has not kept it. Images that are not in the share's denominator are left out."""
    arrays = result.arrays
    if metric == "test_accuracy" and "test_correct" in arrays:
        counted, there = arrays["test_correct"], None
    elif metric == "success_share" and {"success", "correct"} <= set(arrays):
        counted, there = arrays["success"], arrays["correct"]
    else:
        return None
    names = arrays[IMAGE_IDS] if ids else np.arange(len(counted))
    kept = np.ones(len(counted), bool) if there is None else np.asarray(there, bool)
    return dict(zip(names[kept].tolist(), np.asarray(counted, float)[kept].tolist(), strict=True))
