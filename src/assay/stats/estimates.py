"""A number with its doubt: shares of a count, means over seeds, two models on the same images."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from assay.errors import AssayError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Estimate:
    """A number with its doubt.

    Attributes:
        value: the estimate; NaN where n is 0.
        low, high: the ends of its interval.
        n: how many observations it rests on.
        of: what they are: the denominator in words ("correctly classified images", "seeds").
        level: the confidence level of the interval.

    >>> print(assay.stats.Estimate(0.5, 0.25, 0.75, 10, "images"))
    0.500 [0.250, 0.750], n = 10 images
    """

    value: float
    low: float
    high: float
    n: int
    of: str
    level: float = 0.95

    @property
    def bounded(self) -> bool:
        """Whether its interval says anything: that of a single value reaches from −∞ to ∞."""
        return math.isfinite(self.low) or math.isfinite(self.high)

    def __str__(self) -> str:
        return self.plain()

    def plain(self, digits: int = 3) -> str:
        """Return "0.943 [0.921, 0.960], n = 1,000 images"."""
        return self._text(1.0, digits, "")

    def percent(self, digits: int = 1) -> str:
        """Return "74.3 % [71.5, 76.9], n = 1,000 images" for a fraction of 0.743."""
        return self._text(100.0, digits, " %")

    def _repr_html_(self) -> str:
        return f"<span>{self.plain()}</span>"

    def to_dict(self) -> dict[str, Any]:
        """Return the fields; NaN and infinity become None, since JSON has neither."""
        return {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in asdict(self).items()
        }

    def _text(self, scale: float, digits: int, unit: str) -> str:
        value, low, high = (
            f"{scale * x:.{digits}f}" if math.isfinite(x) else "∞" if x > 0 else "−∞"
            for x in (self.value, self.low, self.high)
        )
        shown = "unknown" if math.isnan(self.value) else value + unit
        return f"{shown} [{low}, {high}], n = {self.n:,} {self.of}"


def proportion(successes: int, n: int, of: str, level: float = 0.95) -> Estimate:
    """Return `successes / n` with Wilson's score interval (Wilson 1927); [0, 1] where n is 0.

    Raises:
        AssayError: for `successes` outside 0 ... n.

    >>> print(assay.stats.proportion(5, 10, "images"))  # Wilson: 0.2366 to 0.7634
    0.500 [0.237, 0.763], n = 10 images
    """
    if not 0 <= successes <= n:
        raise AssayError(f"a proportion needs 0 <= successes <= n, got {successes} of {n} {of}")
    if n == 0:
        return Estimate(math.nan, 0.0, 1.0, 0, of, level)
    rate, z = successes / n, _z(level)
    width = 2 * (n + z**2)
    centre = (2 * n * rate + z**2) / width
    half = z / width * math.sqrt(4 * n * rate * (1 - rate) + z**2)
    low, high = 0.0 if successes == 0 else centre - half, 1.0 if successes == n else centre + half
    return Estimate(rate, low, high, int(n), of, level)


def binomial_variance(rate: float, images: int) -> float:
    """Return the variance that an accuracy has merely because it was measured on `images` images.

    This is the floor for `mean_interval`. Two successes and two failures are added (Agresti &
    Coull 1998), so that it is not zero at a rate of 0 or 1.

    >>> assay.stats.binomial_variance(0.5, 100)  # 0.25 / 100
    0.0025
    """
    smoothed = (rate * images + 2) / (images + 4)
    return smoothed * (1 - smoothed) / images


def mean_interval(
    values: ArrayLike,
    of: str = "seeds",
    level: float = 0.95,
    floor_variance: float | None = None,
) -> Estimate:
    """Return the mean over seeds with Student's t interval: what new seeds would give.

    The t interval serves every n. In simulation at 95 % it covers 95 % for normal values and for
    accuracies with a seed effect (a percentile bootstrap: 73 % at n = 3; BCa: 90 % at n = 10,
    93 % at 30); for exponential ones 89, 88, 91, 93 % at n = 3, 5, 10, 30. Only a bootstrap-t
    does better there, at a fifth more width and with a random answer.

    Args:
        values: one number per seed, (n,); images are nested in seeds and are not resampled.
        of: what the values are one of each.
        level: confidence level.
        floor_variance: least variance of one value to believe, for accuracies
            `binomial_variance`: three runs that agree by chance do not make a certainty.

    The interval is infinite for n = 1, and for equal values without a floor: neither says
    anything of the spread.

    Raises:
        AssayError: for values that are not finite: runs that collapsed are counted, not averaged.

    >>> print(assay.stats.mean_interval([1, 2, 3]))  # 2 ± 4.303 / √3
    2.000 [-0.484, 4.484], n = 3 seeds
    """
    x = vector(values, "values")
    if not np.isfinite(x).all():
        raise AssayError(
            f"{int((~np.isfinite(x)).sum())} of {len(x)} values are not finite: "
            "count the runs that collapsed, and leave them out of the mean"
        )
    value = float(x.mean()) if len(x) else math.nan
    half = half_width(_deviation(x, floor_variance), len(x), level)
    low, high = (value - half, value + half) if math.isfinite(half) else (-math.inf, math.inf)
    return Estimate(value, low, high, len(x), of, level)


def paired_difference(
    a: ArrayLike,
    b: ArrayLike,
    of: str = "seeds",
    level: float = 0.95,
    floor_variance: float | None = None,
) -> Estimate:
    """Return the mean of `a - b`, seed by seed, with its t interval: `mean_interval` of those.

    Args:
        a, b: one number per seed, (n,) each, in the same order of seeds.
        floor_variance: least variance of one difference to believe: for accuracies the sum of
            both `binomial_variance`s.

    Raises:
        AssayError: for lengths that differ, and as `mean_interval`.

    >>> print(assay.stats.paired_difference([2, 4, 6], [1, 2, 3]))
    2.000 [-0.484, 4.484], n = 3 seeds
    """
    x, y = vector(a, "a"), vector(b, "b")
    if len(x) != len(y):
        raise AssayError(f"pairs need equal lengths, got {len(x)} and {len(y)} {of}")
    return mean_interval(x - y, of, level, floor_variance)


@dataclass(frozen=True)
class McNemar:
    """Two models on the same images.

    Attributes:
        p: exact two-sided p-value of "both are right equally often".
        difference: accuracy of A minus accuracy of B.
        only_a, only_b: images that only A, or only B, gets right.

    >>> found = assay.stats.mcnemar([1, 1, 1, 0], [1, 0, 0, 0])
    >>> found.only_a, found.only_b
    (2, 0)
    """

    p: float
    difference: Estimate
    only_a: int
    only_b: int


def mcnemar(
    correct_a: ArrayLike, correct_b: ArrayLike, of: str = "images", level: float = 0.95
) -> McNemar:
    """Compare two models on the same images (McNemar 1947, exact), bool (N,) each.

    The interval of the difference is Bonett & Price's (2012) adjusted Wald interval for paired
    proportions. It says nothing of other seeds: a model is trained once here.

    Raises:
        AssayError: for lengths that differ.

    >>> assay.stats.mcnemar([1, 1, 1, 0], [1, 0, 0, 0]).p  # 2 · (1/2)²
    0.5
    """
    a, b = np.asarray(correct_a, dtype=bool).ravel(), np.asarray(correct_b, dtype=bool).ravel()
    if len(a) != len(b):
        raise AssayError(f"pairs need equal lengths, got {len(a)} and {len(b)} {of}")
    n, only_a, only_b = len(a), int((a & ~b).sum()), int((b & ~a).sum())
    if n == 0:
        return McNemar(math.nan, Estimate(math.nan, -1.0, 1.0, 0, of, level), 0, 0)
    from scipy.stats import binomtest  # which takes a third as long to load as torch

    discordant = only_a + only_b
    p = float(binomtest(only_a, discordant).pvalue) if discordant else 1.0
    centre = (only_a - only_b) / (n + 2)
    spread = math.sqrt(((discordant + 2) / (n + 2) - centre**2) / (n + 2))
    half = _z(level) * spread
    low, high = max(-1.0, centre - half), min(1.0, centre + half)
    difference = Estimate((only_a - only_b) / n, low, high, n, of, level)
    return McNemar(p, difference, only_a, only_b)


def vector(values: ArrayLike, name: str) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise AssayError(f"{name} must have shape (n,), got {array.shape}")
    return array


def _deviation(x: Floats, floor_variance: float | None) -> float:
    """Return the standard deviation to believe; infinite where nothing is known of it."""
    if len(x) < 2 or (floor_variance is None and np.ptp(x) <= 1e-9 * np.abs(x).max()):
        return math.inf  # equal but for rounding counts as equal
    return math.sqrt(max(float(x.var(ddof=1)), floor_variance or 0.0))


def half_width(deviation: float, n: int, level: float) -> float:
    """Return half the t interval of a mean of `n` values with that standard deviation."""
    if n < 2:
        return math.inf
    return float(special.stdtrit(n - 1, (1 + level) / 2)) * deviation / math.sqrt(n)


def _z(level: float) -> float:
    return float(special.ndtri((1 + level) / 2))


def at_level(estimate: Estimate, level: float) -> Estimate:
    """Return an estimate with its interval at another confidence level.

    Of a share of a count it is Wilson's. Of any other value each half is stretched by the ratio of
    the normal quantiles, which is right where the value is normal about the truth.

    >>> at_level(proportion(90, 100, "images"), 0.99).low < proportion(90, 100, "images").low
    True
    """
    if level == estimate.level or not estimate.n:
        return estimate
    successes = round(estimate.value * estimate.n)
    wilson = 0 <= successes <= estimate.n and proportion(
        successes, estimate.n, estimate.of, estimate.level
    )
    if wilson and np.allclose(
        (wilson.value, wilson.low, wilson.high),
        (estimate.value, estimate.low, estimate.high),
        atol=1e-9,
    ):
        return proportion(successes, estimate.n, estimate.of, level)
    wider = _z(level) / _z(estimate.level)
    low = estimate.value - wider * (estimate.value - estimate.low)
    high = estimate.value + wider * (estimate.high - estimate.value)
    return Estimate(estimate.value, low, high, estimate.n, estimate.of, level)


def independent_difference(
    successes_a: int, n_a: int, successes_b: int, n_b: int, of: str, level: float = 0.95
) -> Estimate:
    """Return the difference of two shares of different images, a − b, with Newcombe's interval
    (1998, method 10), which is made of Wilson's for each.

    Its n is that of both.

    >>> independent_difference(56, 70, 48, 80, "images").plain()
    '0.200 [0.052, 0.334], n = 150 images'
    """
    a, b = proportion(successes_a, n_a, of, level), proportion(successes_b, n_b, of, level)
    n = n_a + n_b
    if not (n_a and n_b):
        return Estimate(math.nan, -1.0, 1.0, 0, of, level)
    value = a.value - b.value
    low = value - math.hypot(a.value - a.low, b.high - b.value)
    high = value + math.hypot(a.high - a.value, b.value - b.low)
    return Estimate(value, low, high, n, of, level)
