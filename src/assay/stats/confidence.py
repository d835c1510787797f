"""Whether a confidence of 80 % is right 80 % of the time, and which class is taken for which."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from assay.errors import AssayError
from assay.stats.estimates import Estimate, Floats, Ints, binomial_variance


@dataclass(frozen=True)
class Calibration:
    """Confidence (the largest probability) against accuracy.

    Attributes:
        ece: expected calibration error: the mean over images of the gap between confidence and
            accuracy in their bin.
        ece_equal_mass: the same over bins of equally many images (Nguyen & O'Connor 2015).
        edges: of the equal-width bins, (bins + 1,), from 0 to 1.
        count, correct: images, and correctly classified ones, in each bin, (bins,).
        confidence, accuracy: means in each bin, (bins,); NaN in empty ones.

    >>> said = [[0.9, 0.1]] * 10
    >>> found = assay.stats.calibration(said, [0] * 9 + [1], rng=np.random.default_rng(0))
    >>> found.ece_equal_mass < 1e-9
    True
    """

    ece: Estimate
    ece_equal_mass: float
    edges: Floats
    count: Ints
    correct: Ints
    confidence: Floats
    accuracy: Floats


def calibration(
    probabilities: ArrayLike,
    labels: ArrayLike,
    bins: int = 15,
    *,
    rng: np.random.Generator,
    level: float = 0.95,
    resamples: int = 1000,
) -> Calibration:
    """Compare confidence with accuracy over equal-width bins ((i - 1)/bins, i/bins] (Guo 2017).

    The interval of the ECE is a bootstrap over images. ECE is biased upwards, a resampled ECE
    twice so: a percentile interval never reaches 0, also where calibration is perfect. Its upper
    end is therefore the percentile, its lower end the ECE less the resampled noise of the gaps,
    by which, as the triangle inequality has it, the ECE at most exceeds its true value. It is
    conservative, and speaks of the binned ECE: a true ECE that bins hide is not in it.

    Args:
        probabilities: (N, K), rows that sum to 1.
        labels: (N,) int, from 0 to K - 1.
        bins: how many.
        rng: what the bootstrap draws from.
        level: confidence level.
        resamples: how often to resample.

    Raises:
        AssayError: for shapes that do not fit, rows that are not probabilities, foreign labels.

    >>> said = [[0.9, 0.1]] * 10
    >>> half = assay.stats.calibration(said, [0, 1] * 5, rng=np.random.default_rng(0))
    >>> round(half.ece.value, 3)  # 0.9 said, 0.5 right
    0.4
    """
    p, y = np.asarray(probabilities, dtype=np.float64), np.asarray(labels)
    if p.ndim != 2 or p.shape[1] == 0 or y.shape != p.shape[:1]:
        raise AssayError(
            f"calibration needs probabilities (N, K) and labels (N,), got {p.shape} and {y.shape}"
        )
    if not bool((p >= 0).all() and (np.abs(p.sum(1) - 1) < 1e-3).all()):
        raise AssayError(
            "calibration needs rows of probabilities that sum to 1; apply a softmax to logits first"
        )
    y = _classes(y, p.shape[1], "labels")
    n = len(p)
    confidence, right = p.max(1), p.argmax(1) == y
    edges = np.linspace(0.0, 1.0, bins + 1)
    place = _bin(confidence, bins)
    count = np.bincount(place, minlength=bins)
    correct = np.bincount(place[right], minlength=bins)
    with np.errstate(invalid="ignore"):
        mean_confidence = np.bincount(place, confidence, bins) / count
        accuracy = correct / count
    ece = _ece_interval(place, confidence, right, bins, rng, level, resamples)
    equal_mass = math.nan
    if n:  # images of equal confidence share a bin, whatever their order
        inner = np.quantile(confidence, np.arange(1, bins) / bins)
        gaps = np.bincount(np.searchsorted(inner, confidence), confidence - right, bins)
        equal_mass = float(np.abs(gaps).sum()) / n
    return Calibration(ece, equal_mass, edges, count, correct, mean_confidence, accuracy)


def calibration_error(confidence: ArrayLike, correct: ArrayLike, bins: int = 15) -> float:
    """Return the ECE alone, of what is known of each answer: as `calibration` has it.

    Args:
        confidence: (N,), the probability of the answer that was given, in [0, 1].
        correct: bool (N,), whether that answer is right.
        bins: how many of equal width.

    Raises:
        AssayError: for lengths that differ, or confidences that are no probabilities.

    >>> round(assay.stats.calibration_error([0.9] * 10, [True] * 5 + [False] * 5), 3)
    0.4
    """
    p, right = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=bool)
    if p.ndim != 1 or p.shape != right.shape or not bool(((p >= 0) & (p < 1 + 1e-6)).all()):
        raise AssayError(
            f"calibration needs a confidence in [0, 1] for each answer, got {p.shape} of them and "
            f"{right.shape} answers"
        )
    if not len(p):
        return math.nan
    return float(np.abs(np.bincount(_bin(p, bins), p - right, bins)).sum()) / len(p)


def _bin(confidence: Floats, bins: int) -> Ints:
    """Return which of the bins ((i - 1)/bins, i/bins] each confidence is in, (N,)."""
    edges = np.linspace(0.0, 1.0, bins + 1)
    place: Ints = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    return place


def _ece_interval(
    place: Ints,
    confidence: Floats,
    right: NDArray[np.bool_],
    bins: int,
    rng: np.random.Generator,
    level: float,
    resamples: int,
) -> Estimate:
    """Return the ECE of images in the bins of `place`.

    Its interval reaches at least as far up and down as that of the accuracy (`binomial_variance`):
    images that are all right resample into nothing else, and are no certainty.
    """
    gap, n = confidence - right, len(right)
    if n == 0:
        return Estimate(math.nan, 0.0, 1.0, 0, "images", level)
    gaps = np.bincount(place, gap, bins) / n
    value = float(np.abs(gaps).sum())
    resampled = np.empty((resamples, bins))
    for row in resampled:
        drawn = rng.integers(0, n, n)
        row[:] = np.bincount(place[drawn], gap[drawn], bins) / n
    tail = (1 + level) / 2
    least = float(special.ndtri(tail)) * math.sqrt(binomial_variance(float(right.mean()), n))
    noise = max(least, float(np.quantile(np.abs(resampled - gaps).sum(1), tail)))
    high = max(value + least, float(np.quantile(np.abs(resampled).sum(1), tail)))
    return Estimate(value, max(0.0, value - noise), max(value, min(1.0, high)), n, "images", level)


def confusion(labels: ArrayLike, predictions: ArrayLike, k: int) -> Ints:
    """Return counts int64 (k, k): a row for each true class, a column for each predicted one.

    Raises:
        AssayError: for lengths that differ, or classes outside 0 ... k - 1.

    >>> assay.stats.confusion([0, 0, 1], [0, 1, 1], 2).tolist()
    [[1, 1], [0, 1]]
    """
    true, seen = _classes(labels, k, "labels"), _classes(predictions, k, "predictions")
    if true.shape != seen.shape:
        raise AssayError(
            f"a confusion matrix needs equal lengths, got {len(true)} labels "
            f"and {len(seen)} predictions"
        )
    return np.bincount(true * k + seen, minlength=k * k).reshape(k, k).astype(np.int64)


def _classes(values: ArrayLike, k: int, name: str) -> Ints:
    array = np.asarray(values).astype(np.int64).ravel()
    if len(array) and (array.min() < 0 or array.max() >= k):
        raise AssayError(
            f"{name} must lie in 0 ... {k - 1}, but go from {array.min()} to {array.max()}"
        )
    return array
