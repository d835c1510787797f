"""What is judged, and what comes of it: an effect, the smallest that matters, and its claim."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from assay.stats.crossed import Kind
from assay.stats.estimates import Estimate, Floats

Verdict = Literal["holds", "equivalent", "does not hold", "undecided"]
Unit = Literal["points", "fraction", "factor", "decades", "number"]
IMAGES_TOO, THESE_IMAGES = "networks and images", "networks, on these images"
"""The populations that a claim may be about."""
Asks = Literal["larger", "equivalent"]


@dataclass(frozen=True)
class PerImage:
    """The effect on each image, by which a claim is about images in general too.

    Attributes:
        values: (S, N), a row for each of the effect's values, NaN where a seed has not met an
            image; the mean of a row is that seed's value.
        kind: as in `crossed_mean`.
        there_are: how many images the test set has; None: those met, and no more.

    >>> assay.stats.PerImage(np.array([[1.0, 0.0], [1.0, 1.0]]), "share").values.mean(1).tolist()
    [0.5, 1.0]
    """

    values: Floats
    kind: Kind
    there_are: int | None = None


@dataclass(frozen=True)
class Effect:
    """What a claim rests on, before it is judged.

    Attributes:
        code: a stable id ("skip.degrades").
        text: the claim in words.
        delta: the smallest effect that matters, set before the data was seen.
        values: the effect, one number per seed; runs that collapsed are left out.
        floor_variance: as in `mean_interval`.
        collapsed: how many runs collapsed, by what they were runs of (the label of their trials);
            counted, not averaged in.
        note: what else the reader must know.
        of: what there is one value of each.
        failed: how many runs failed (raised, or their process died), as `collapsed`.
        unit: how the effect is shown: a difference of fractions as points, a share as percent, what
            something shrinks by, given as minus the logarithm of a factor to base e ("factor") or
            10 ("decades"), as that factor; or as it is.
        rests_on: addresses of the trials that the values come from, of every seed, finished or
            not, and of those that results chose among; none given: all trials of the study.
        per_image: the same effect image by image. With it the claim is about networks and images
            in general; without, about networks on these images, unless they were drawn.
        images_drawn: each seed met images of its own, so that the values of seeds are a sample of
            images too.
        by_image: results may say the effect image by image, also where these here do not.
        asks: whether the effect is larger than delta, or within ± delta of nothing.
        chosen_among: how many effects this one was chosen from by the results that it is judged
            on; its interval is one that all of them would have together (Bonferroni).
        why_delta: why an effect of delta matters, and a smaller one does not: what a reader would
            do differently; one sentence.
        per: what the effect is counted by, such as "layer"; empty: nothing.

    >>> assay.stats.Effect("a.wins", "A is better than B.", 0.02, [0.05, 0.06]).about
    'networks, on these images'
    """

    code: str
    text: str
    delta: float
    values: Sequence[float]
    floor_variance: float | None = None
    collapsed: Mapping[str, int] = field(default_factory=dict)
    note: str = ""
    of: str = "seeds"
    failed: Mapping[str, int] = field(default_factory=dict, kw_only=True)
    unit: Unit = field(default="points", kw_only=True)
    rests_on: Sequence[str] = field(default=(), kw_only=True)
    per_image: PerImage | None = field(default=None, kw_only=True)
    asks: Asks = field(default="larger", kw_only=True)
    images_drawn: bool = field(default=False, kw_only=True)
    by_image: bool = field(default=False, kw_only=True)
    chosen_among: int = field(default=1, kw_only=True)
    why_delta: str = field(default="", kw_only=True)
    per: str = field(default="", kw_only=True)

    @property
    def about(self) -> str:
        """Which population the claim is about."""
        known = self.per_image is not None or self.images_drawn
        return IMAGES_TOO if known else THESE_IMAGES


@dataclass(frozen=True)
class Claim:
    """A claim with its verdict.

    Attributes:
        code, text, delta, collapsed, failed, unit, asks, why_delta, per: as in `Effect`.
        estimate: the effect; its level is corrected for the number of claims and of
            interim analyses.
        verdict: "holds" if the interval lies above delta, "does not hold" if below; of a claim
            that there is no difference, "equivalent" if it lies within ± delta, "does not hold" if
            it lies outside.
        seeds_needed: how many more seeds would decide at the observed effect and spread, judged
            at the next analysis; None when decided, or when not even 10,000 would.
        images_needed: how many more images would, for each network; None when decided, and when
            the test set has fewer.
        about: as in `Effect`.
        note: as in `Effect`, and which runs collapsed or failed, at the analysis of the estimate.
        look: the interim analysis whose estimate this is: the one that decided it, or the newest.
        latest: what all seeds say at the newest analysis, where an earlier one decided.
        latest_note: when it was decided, and what must be known of `latest`.

    >>> effect = assay.stats.Effect("a.wins", "A is better than B.", 0.02, [0.05, 0.06, 0.055])
    >>> (claim,) = assay.stats.judge_claims([effect])
    >>> claim.verdict, claim.estimate.n
    ('holds', 3)
    """

    code: str
    text: str
    delta: float
    estimate: Estimate
    verdict: Verdict
    seeds_needed: int | None = None
    collapsed: Mapping[str, int] = field(default_factory=dict)
    note: str = ""
    failed: Mapping[str, int] = field(default_factory=dict, kw_only=True)
    unit: Unit = field(default="points", kw_only=True)
    look: int = field(default=1, kw_only=True)
    latest: Estimate | None = field(default=None, kw_only=True)
    latest_note: str = field(default="", kw_only=True)
    images_needed: int | None = field(default=None, kw_only=True)
    about: str = field(default=THESE_IMAGES, kw_only=True)
    asks: Asks = field(default="larger", kw_only=True)
    why_delta: str = field(default="", kw_only=True)
    per: str = field(default="", kw_only=True)

    @property
    def mostly_lost(self) -> bool:
        """Whether more runs of one kind were lost than there are values."""
        kinds = {*self.collapsed, *self.failed}
        lost = (self.collapsed.get(kind, 0) + self.failed.get(kind, 0) for kind in kinds)
        return max(lost, default=0) > (self.latest or self.estimate).n

    def to_dict(self) -> dict[str, Any]:
        latest = self.latest.to_dict() if self.latest else None
        return asdict(self) | {"estimate": self.estimate.to_dict(), "latest": latest}
