"""Networks and images, both sampled: the mean of a value that every network has on every image.

All networks of a study usually meet the same images. Then images are crossed with seeds, not nested
in them, and an interval over seeds alone is about these images: no number of seeds narrows what the
choice of images leaves uncertain. Here both are samples:

    value of network s on image i = mean + network_s + image_i + rest_si

with variances that are estimated from the agreement of pairs (two images of one network, two
networks on one image), which needs no complete table: each seed may draw images of its own.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from assay.errors import AssayError
from assay.stats.estimates import Estimate, Floats

Kind = Literal["share", "difference", "number"]

LIMITS: dict[Kind, tuple[float, float]] = {
    "share": (0.0, 1.0),
    "difference": (-1.0, 1.0),
    "number": (-math.inf, math.inf),
}

MOST_SEEDS = 10_000

SAME = 1e-9
"""Numbers within this share of their size are equal but for rounding."""

FEW_IMAGES = 4.0
"""Below so many images with the rarer answer their variance is hardly known, and the design effect
is drawn towards its worst case."""


@dataclass(frozen=True)
class Variances:
    """What makes a mean over networks and images vary, and how much of each there is.

    Attributes:
        networks: variance of the mean of a network over all images.
        images: variance of the mean of an image over all networks.
        rest: variance of a single value beyond these two.
        per_network, per_image: Σ of squared numbers of values over the squared number of all: 1/S
            and 1/N where every one of S networks meets all of the same N images.
        values: how many single values there are.
    """

    networks: float
    images: float
    rest: float
    per_network: float
    per_image: float
    values: int

    @property
    def of_mean(self) -> float:
        """The variance of the mean over all values."""
        return (
            max(0.0, self.networks) * self.per_network
            + max(0.0, self.images) * self.per_image
            + self.rest / self.values
        )


@dataclass(frozen=True)
class Crossed:
    """A mean over networks and images.

    Attributes:
        estimate: the mean with its interval; n counts networks.
        variances: what the interval rests on; None where there are fewer than two networks.
        images: how many different images there are.

    >>> found = assay.stats.crossed_mean([[1, 0, 1], [1, 0, 0]], "share")
    >>> found.images, found.estimate.n
    (3, 2)
    """

    estimate: Estimate
    variances: Variances | None
    images: int


def crossed_mean(
    values: ArrayLike, kind: Kind = "number", *, of: str = "seeds", level: float = 0.95
) -> Crossed:
    """Return the mean over networks and images in general, with an interval for both samples.

    The variance of the mean has a part that more networks make smaller, estimated with few degrees
    of freedom (Student's t), and a part that only more images do (Searle, Casella & McCulloch 1992,
    ch. 5; as clusters in two ways, Cameron, Gelbach & Miller 2011). What single values leave is a
    floor: networks that agree by chance make no certainty. Shares get Wilson's interval and
    differences of shares Bonett & Price's, with the number of independent answers that would have
    the variance that answers and images leave (Korn & Graubard 1998); what networks add beyond it
    widens either side by the root of the sum of squares (Zou & Donner 2008).
    `benchmarks/crossed.py` prints how often they cover.

    Args:
        values: (S, N), a row for each network and a column for each image; NaN where a network has
            not met an image. Rows and columns without any value do not count.
        kind: "share": 0 or 1. "difference": of two shares, -1, 0 or 1. "number": anything else.
        of: what the rows are.
        level: confidence level.

    With one network or one image the interval is all that can be.

    Raises:
        AssayError: for another shape, infinite values, or values that `kind` does not have.

    >>> right = [[1, 1, 0, 1, 1, 0, 1, 1], [1, 1, 0, 1, 0, 0, 1, 1], [1, 1, 0, 1, 1, 1, 1, 1]]
    >>> crossed_mean(right, "share").estimate.percent()
    '75.0 % [39.8, 93.2], n = 3 seeds'
    """
    x = _checked(values, kind)
    there = ~np.isnan(x)
    (networks, images), count = x.shape, int(there.sum())
    mean = float(np.nansum(x) / count) if count else math.nan
    if networks < 2 or images < 2:
        return Crossed(Estimate(mean, *LIMITS[kind], networks, of, level), None, images)
    variances = _variances(np.where(there, x - mean, 0.0), there)
    rare = _rare(np.where(there, x, 0.0), there, kind, mean)
    t, z = (
        float(special.stdtrit(networks - 1, (1 + level) / 2)),
        float(special.ndtri((1 + level) / 2)),
    )
    # Variances in units of the normal quantile: what t adds for few networks is a larger one.
    few, of_rest = (t / z) ** 2, variances.rest / count
    of_means = variances.networks * variances.per_network
    of_networks = few * max(0.0, of_means)
    of_answers = max(few * max(0.0, of_means + of_rest), of_rest) - of_networks
    of_images = max(0.0, variances.images) * variances.per_image * (1 + 1 / max(1.0, rare))
    low, high = _ends(mean, of_answers + of_images, x[there], rare, variances, kind, z)
    if kind == "number" and np.ptp(x[there]) <= SAME * np.abs(x[there]).max():
        low, high = -math.inf, math.inf  # equal numbers say nothing of the spread
    least, greatest = LIMITS[kind]
    low = max(least, mean - math.hypot(mean - low, z * math.sqrt(of_networks)))
    high = min(greatest, mean + math.hypot(high - mean, z * math.sqrt(of_networks)))
    return Crossed(Estimate(mean, low, high, networks, of, level), variances, images)


@dataclass(frozen=True)
class Missing:
    """What would bring δ out of an interval, the mean and the variances being what they seem.

    Attributes:
        seeds: how many more networks, on the images that there are for them; None: no number would.
        images: how many more images of the same networks; None: more than there are.

    >>> assay.stats.Missing(seeds=4, images=None).seeds
    4
    """

    seeds: int | None
    images: int | None


def still_missing(
    found: Crossed, gap: float, *, level: float, there_are: int | None = None
) -> Missing:
    """Return how many more networks, or more images, would make half the interval less than a gap.

    Networks meet images as they did: all the same ones, or as many each, drawn from all that there
    are, so that more networks also meet more images. What the interval has beyond its variances,
    since few images say little of theirs, falls with the square of their number.

    Args:
        found: what is known so far.
        gap: how far the mean is from the smallest effect that matters.
        level: of the interval that will judge.
        there_are: how many images the test set has; None: those met, and no more.

    >>> found = assay.stats.crossed_mean([[1, 0, 1, 1], [1, 0, 0, 1], [0, 0, 1, 1]], "share")
    >>> assay.stats.still_missing(found, 0.001, level=0.95).images is None
    True
    """
    known = found.variances
    if known is None or not gap > 0:
        return Missing(None, None)
    seeds, images = found.estimate.n, found.images
    there_are = max(there_are or 0, images)
    each = known.values / seeds
    fresh = images > 1.5 * each  # networks draw images of their own
    a, b = max(0.0, known.networks), max(0.0, known.images)

    def of_image(networks: int, per_network: float) -> float:
        """Return by what the variance between images is multiplied in that of the mean."""
        shared = (1 + (networks - 1) * per_network / there_are) / (networks * per_network)
        return shared if fresh else 1 / per_network

    def squared(networks: int, per_network: float, level: float) -> float:
        """Return the square of half the interval, as far as the variances say."""
        t, z = special.stdtrit(networks - 1, (1 + level) / 2), special.ndtri((1 + level) / 2)
        of_network = a / networks + known.rest / (networks * per_network)
        return float(t**2 * of_network + z**2 * b * of_image(networks, per_network))

    now = (found.estimate.high - found.estimate.low) / 2
    beyond = max(0.0, now**2 - squared(seeds, each, found.estimate.level))

    def half(networks: int, per_network: float) -> float:
        """Return half the interval of so many networks with so many images each."""
        fewer = of_image(networks, per_network) / of_image(seeds, each)
        return math.sqrt(squared(networks, per_network, level) + beyond * fewer**2)

    def first(decides: Callable[[int], bool], most: int) -> int | None:
        place = bisect.bisect_left(range(1, most + 1), True, key=decides) + 1
        return place if place <= most else None

    return Missing(
        seeds=first(lambda more: half(seeds + more, each) < gap, MOST_SEEDS),
        images=first(lambda more: half(seeds, each + more) < gap, int(there_are - each)),
    )


def _checked(values: ArrayLike, kind: Kind) -> Floats:
    """Return the values without rows and columns that are empty, float64 (S, N)."""
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 2:
        raise AssayError(f"values must have shape (networks, images), got {x.shape}")
    if np.isinf(x).any():
        raise AssayError(f"{int(np.isinf(x).sum())} of {x.size} values are infinite")
    there = ~np.isnan(x)
    allowed = {"share": (0, 1), "difference": (-1, 0, 1)}.get(kind)
    if allowed is not None and not np.isin(x[there], allowed).all():
        odd = x[there][~np.isin(x[there], allowed)][0]
        raise AssayError(f"a {kind} has values {', '.join(map(str, allowed))}, got {odd:g}")
    return x[there.any(1)][:, there.any(0)]


def _variances(deviations: Floats, there: np.ndarray[Any, Any]) -> Variances:
    """Return the moment estimates from pairs: of images of a network, of networks on an image.

    Estimates below 0 are kept: they say that the rest is smaller than it seems.
    """
    in_row, in_column = there.sum(1).astype(float), there.sum(0).astype(float)
    count, squares = float(in_row.sum()), float((deviations**2).sum())

    def between(sums: Floats, counts: Floats) -> float:
        pairs = float((counts * (counts - 1)).sum())
        groups = len(counts)
        corrected = float((sums**2).sum()) * groups / (groups - 1)  # for the mean, estimated too
        return (corrected - squares) / pairs if pairs else 0.0

    networks = between(deviations.sum(1), in_row)
    images = between(deviations.sum(0), in_column)
    return Variances(
        networks=networks,
        images=images,
        rest=max(0.0, squares / count - max(0.0, networks) - max(0.0, images)),
        per_network=float((in_row**2).sum()) / count**2,
        per_image=float((in_column**2).sum()) / count**2,
        values=int(count),
    )


def _rare(x: Floats, there: np.ndarray[Any, Any], kind: Kind, mean: float) -> float:
    """Return on how many images the rarer answer rests, as an effective number (Kish 1965).

    For differences, an answer is rare where the two disagree; numbers have none.
    """
    if kind == "number":
        return float(x.shape[1])
    counts = np.abs(x).sum(0) if kind == "difference" or mean < 0.5 else (there - x).sum(0)
    return float(counts.sum() ** 2 / (counts**2).sum()) if counts.any() else 0.0


def _ends(
    mean: float,
    variance: float,
    values: Floats,
    rare: float,
    variances: Variances,
    kind: Kind,
    z: float,
) -> tuple[float, float]:
    """Return the ends of the interval of a mean with this variance (see `crossed_mean`)."""
    if kind == "number":
        return mean - z * math.sqrt(variance), mean + z * math.sqrt(variance)
    spread = float((values**2).mean()) - mean**2
    worst = 1 / variances.per_image  # as many answers as images, if networks agree on each
    n = worst
    if rare > 0 and spread > 0:
        effect, most = variance * variances.values / spread, variances.values / worst
        weight = min(1.0, (FEW_IMAGES / rare) ** 2)
        if effect < most:
            effect = (rare * effect + weight * most) / (rare + weight)
        n = min(variances.values / effect, float(variances.values))
    if kind == "share":
        centre = (mean + z**2 / (2 * n)) / (1 + z**2 / n)
        half = z / (1 + z**2 / n) * math.sqrt(spread / n + z**2 / (4 * n**2))
    else:
        centre = mean * n / (n + 2)
        disagree = (float((values**2).mean()) * n + 2) / (n + 2)
        half = z * math.sqrt((disagree - centre**2) / (n + 2))
    least, greatest = LIMITS[kind]
    return max(least, min(mean, centre - half)), min(greatest, max(mean, centre + half))
