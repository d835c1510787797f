"""Whether maps can be believed, and which explainer is the most faithful for one model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator
from torch import Tensor

from assay import stats
from assay.config import Config, Number
from assay.core.attribution import Attribution
from assay.core.classifier import Classifier
from assay.core.fast import Copies, Precision
from assay.errors import AssayError
from assay.explain.base import Explainer, Targets, checked, chosen
from assay.explain.curves import Curve, deletion, insertion, order_of, random_order
from assay.explain.pointing import PointingGame, pointing_game
from assay.explain.randomise import Outcome, Randomised, randomised
from assay.explain.registry import AnyExplainer
from assay.explain.registry import explainers as family
from assay.explain.together import explained
from assay.explain.variants import Missing

Array = NDArray[np.float64]
Tick = Callable[[str], None]
"""Told what is being done, in a few words."""

ALPHA = 0.05
"""Probability that a tie with the best is denied, over all explainers together."""


def every_explainer() -> tuple[Any, ...]:
    """Return every explainer of the family, as it is without settings."""
    return tuple(kind.parse({}) for kind in family().values())


class FaithfulnessConfig(Config):
    """What explainers are tested for before one of them is believed.

    >>> config = assay.explain.FaithfulnessConfig.parse({"explainers": ["grad-cam", "occlusion"]})
    >>> config.steps, config.explainers[1].name
    (16, 'occlusion')
    """

    explainers: tuple[AnyExplainer, ...] = Field(default_factory=every_explainer, min_length=1)
    """What is compared; by default every explainer there is."""
    steps: int = Field(default=16, ge=1)
    """Parts that the pixels go, or come, in: points of a deletion or insertion curve, less one."""
    deleted: Missing = "mean"
    """What deletion leaves of a pixel: the image's "mean" colour, its "blur", "black", or a grey
    in [0, 1]."""
    inserted: Missing = "blur"
    """What insertion puts pixels on: the image's "blur", its "mean" colour, "black", or a grey."""
    networks: int = Field(default=12, ge=2)
    """Copies of the network with random weights."""
    randomised: int = Field(default=36, ge=2)
    """Images that are explained again with random weights, split among these copies."""
    stages: int = Field(default=4, ge=1)
    """How often on the way from a random top layer to all layers random."""
    survives: Number = Field(default=0.5, ge=0, le=1)
    """Rank correlation with the maps of random networks above which maps explain nothing of what
    was learnt."""
    tolerance: int | None = Field(default=None, ge=0)
    """How far beside the object the pointing game counts a hit, in pixels; null: 3 % of the image's
    longer side."""
    precision: Precision = "float32"
    """What the fast copy computes in, for deletion and insertion."""
    seed: int = Field(default=0, ge=0)
    """The stream of random orders and random weights."""

    @field_validator("explainers")
    @classmethod
    def _different(cls, some: tuple[Explainer, ...]) -> tuple[Explainer, ...]:
        if len(set(labels(some))) < len(some):
            raise ValueError("an explainer is there twice with the same settings")
        return some


def labels(some: Sequence[Explainer]) -> list[str]:
    """Return what each explainer is called: its name, and its settings that are not the usual."""
    found = []
    for explainer in some:
        words = [explainer.name]
        for key, field in type(explainer).model_fields.items():
            value = getattr(explainer, key)
            if value != field.get_default(call_default_factory=True):
                words.append(f"{key} {value}".replace("_", " "))
        found.append(", ".join(words))
    return found


@dataclass(frozen=True, eq=False)
class Judged:
    """One explainer, its maps, and the measures that it is judged by.

    Attributes:
        name: what it is called.
        explainer: itself, with its settings.
        maps: of all images.
        deletion, insertion: the curves of pixels in the order of its maps.
        gain: float64 (N,), area of insertion less area of deletion, less the same for a random
            order of the same image: 0 for a map that knows nothing.
        randomisation: how like are the maps of random networks; None where that was not tried.
        pointing: whether maps point at the object; None without masks.
        seconds: what the maps took; of a pass that several explainers share, an equal part.
    """

    name: str
    explainer: Explainer
    maps: Attribution
    deletion: Curve
    insertion: Curve
    gain: Array
    randomisation: Randomised | None
    pointing: PointingGame | None
    seconds: float

    @property
    def better(self) -> stats.Estimate:
        """The mean gain over a random order, paired image by image."""
        return stats.mean_interval(self.gain, "images")

    @property
    def verdict(self) -> Outcome:
        """What randomising the weights came to."""
        return "not run" if self.randomisation is None else self.randomisation.verdict

    @property
    def eligible(self) -> bool:
        """Whether it may be called faithful: better than a random order, and not without what was
        learnt. Where weights could not be made random, that is not required."""
        passes = self.randomisation is None or self.verdict == "passes"
        return passes and self.better.low > 0

    @property
    def empty(self) -> stats.Estimate:
        """The share of maps that explain nothing."""
        return stats.proportion(int(self.maps.empty.sum()), len(self.maps), "images")

    def to_dict(self) -> dict[str, Any]:
        return {
            "settings": self.explainer.model_dump(mode="json"),
            "layer": self.maps.layer,
            "insertion": stats.mean_interval(self.insertion.area, "images").to_dict(),
            "deletion": stats.mean_interval(self.deletion.area, "images").to_dict(),
            "better_than_random": self.better.to_dict(),
            "curves": {
                "insertion": self.insertion.to_dict(),
                "deletion": self.deletion.to_dict(),
            },
            "randomisation": None if self.randomisation is None else self.randomisation.to_dict(),
            "verdict": self.verdict,
            "pointing": None if self.pointing is None else self.pointing.to_dict(),
            "empty": self.empty.to_dict(),
        }


@dataclass(frozen=True, eq=False)
class Faithfulness:
    """Which explainer of a model is the most faithful, and what each was judged by.

    Attributes:
        judged: the explainers that work on the model, by falling gain over a random order.
        failed: why the others do not, by name.
        deletion, insertion: the curves of pixels in random order.
        targets: int64 (N,), the class that was explained of each image.
        unrandomised: why weights were not made random; empty where they were.
        config: the settings.

    >>> quick = assay.explain.FaithfulnessConfig(networks=2, randomised=4, stages=1)
    >>> some = [assay.explain.GradCAM(), assay.explain.HiResCAM()]
    >>> found = assay.explain.faithfulness(clf, x, y, explainers=some, config=quick)
    >>> sorted(one.name for one in found.judged)
    ['grad-cam', 'hires-cam']
    """

    judged: tuple[Judged, ...]
    failed: Mapping[str, str]
    deletion: Curve
    insertion: Curve
    targets: Tensor
    unrandomised: str
    config: FaithfulnessConfig

    @property
    def best(self) -> str | None:
        """The most faithful: the greatest gain of those that are better than a random order and
        whose maps depend on what was learnt. None where there is no such explainer."""
        return next((one.name for one in self.judged if one.eligible), None)

    @property
    def ties(self) -> tuple[str, ...]:
        """Those within the noise of the best: the interval of the difference in gain, paired image
        by image, spans 0. The intervals share an error of 5 % (Bonferroni)."""
        some = [one for one in self.judged if one.eligible]
        level = 1 - ALPHA / max(1, len(some) - 1)
        found = []
        for one in some[1:]:
            difference = stats.paired_difference(some[0].gain, one.gain, "images", level)
            if difference.low <= 0:
                found.append(one.name)
        return tuple(found)

    def to_dict(self) -> dict[str, Any]:
        """Return what a record keeps of it: everything but arrays and seconds."""
        return {
            "n": len(self.targets),
            "best": self.best,
            "within_noise": list(self.ties),
            "explainers": {one.name: one.to_dict() for one in self.judged},
            "failed": dict(self.failed),
            "random_order": {
                "insertion": stats.mean_interval(self.insertion.area, "images").to_dict(),
                "deletion": stats.mean_interval(self.deletion.area, "images").to_dict(),
            },
            "unrandomised": self.unrandomised,
            "config": self.config.model_dump(mode="json", exclude={"explainers"}),
        }

    def plot(self) -> Any:
        """Return a matplotlib figure: the mean curves of deletion and of insertion, of the best
        explainer and of a random order in colour, of all others in grey."""
        from assay.report.curves import Series
        from assay.report.panels import Panel, panels

        def line(name: str, curve: Curve, colour: int, dash: int = 0) -> Series:
            share, mean = (100 * curve.share).tolist(), curve.probability.mean(0).tolist()
            return Series(name, share, mean, colour=colour, dash=dash)

        def lines(kind: str) -> list[Series]:
            others = [one for one in self.judged if one.name != self.best]
            name = "other explainers" if self.best else "explainers, none ranked"
            drawn = [line(name, getattr(one, kind), 6) for one in others]
            drawn.append(line("random order", getattr(self, kind), 1, 1))
            best = [one for one in self.judged if one.name == self.best]
            return drawn + [line(f"{one.name}, the best", getattr(one, kind), 0) for one in best]

        return panels(
            [[Panel(kind, lines(kind)) for kind in ("deletion", "insertion")]],
            x_label="pixels exchanged, %",
            y_label="probability of the class",
            fraction=True,
            whole=True,
        )

    def _repr_html_(self) -> str:
        from assay.report.figures import inline_svg

        return inline_svg(self.plot())


def faithfulness(
    clf: Classifier,
    x: Tensor,
    targets: Targets = None,
    *,
    explainers: Sequence[Explainer] | None = None,
    masks: NDArray[Any] | None = None,
    config: FaithfulnessConfig | None = None,
    progress: Tick | None = None,
    copies: Copies | None = None,
    logits: Tensor | None = None,
) -> Faithfulness:
    """Judge explainers by what their maps are worth on these images of this model.

    A faithful map names the pixels that decide: deleting these first takes the class away,
    inserting them first brings it (Petsiuk et al. 2018). With the areas under both curves of a map
    and of a random order of the same image,

        gain = (insertion - deletion) of the map - (insertion - deletion) of the random order.

    The most faithful explainer is that with the greatest mean gain among those whose gain is above
    0, and whose maps do not survive random weights (Adebayo et al. 2018). Whether a map points at
    the object (Zhang et al. 2016) is shown and not ranked by: a model may rely on something else.

    Args:
        clf: the classifier; it comes back as it was.
        x: float32 (N, C, H, W) in [0, 1].
        targets: the class to explain: an int, int64 (N,), or None for the predicted class.
        explainers: what is compared, also ones of your own; None: those of the config.
        masks: bool (N, H, W), true on the object, where that is known.
        config: the settings of the tests.
        progress: told what is being done.
        copies: the classifier's fast copies, where they are made already.
        logits: float32 (N, K), what it says of the images, where that is known already.

    Raises:
        AssayError: for images, targets or masks that do not fit, for no explainers or one that
            is given twice, for a model that fails on the images, or where no explainer works.

    >>> quick = assay.explain.FaithfulnessConfig(networks=2, randomised=4, stages=1)
    >>> some = [assay.explain.HiResCAM(), assay.explain.Occlusion()]
    >>> found = assay.explain.faithfulness(clf, x, y, explainers=some, config=quick)
    >>> [one.gain.shape for one in found.judged]  # per image: better than a random order by
    [(12,), (12,)]
    """
    config = FaithfulnessConfig() if config is None else config
    tick = _silent if progress is None else progress
    x, wanted = checked(x, targets)
    known = _by_label(config.explainers if explainers is None else explainers)
    wanted = chosen(clf.query(x) if logits is None else logits, wanted)
    copies = Copies(clf, x) if copies is None else copies
    made = explained(known, clf, x, wanted, lambda name: tick(f"maps: {name}"), copies)
    maps = {name: one.maps for name, one in made.items() if one.maps is not None}
    failed = {name: one.why for name, one in made.items() if one.maps is None}
    if not maps:
        name, why = next(iter(failed.items()))
        raise AssayError(f"no explainer that was given works on this model; {name}: {why}")

    tick("deletion and insertion in random order")
    ties = random_order(x, config.seed)
    how: dict[str, Any] = {"steps": config.steps, "precision": config.precision, "copies": copies}
    random_gone = deletion(clf, x, wanted, ties, onto=config.deleted, **how)
    whole = {1.0: random_gone.ends[0.0]}  # what insertion ends with, deletion begins with
    random_come = insertion(clf, x, wanted, ties, onto=config.inserted, known=whole, **how)
    some = slice(0, config.randomised)
    unrandomised, alike = "", dict[str, Randomised]()
    try:
        alike = randomised(
            clf,
            x[some],
            {name: known[name] for name in maps},
            {name: _first(found, some) for name, found in maps.items()},
            networks=config.networks,
            stages=config.stages,
            threshold=config.survives,
            seed=config.seed,
            progress=tick,
        )
    except AssayError as error:
        unrandomised = str(error)
    judged = []
    for name, found in maps.items():
        tick(f"deletion and insertion: {name}")
        order = order_of(found.values, ties)
        how["known"] = random_gone.ends
        gone = deletion(clf, x, wanted, order, onto=config.deleted, **how)
        how["known"] = random_come.ends
        come = insertion(clf, x, wanted, order, onto=config.inserted, **how)
        judged.append(
            Judged(
                name=name,
                explainer=known[name],
                maps=found,
                deletion=gone,
                insertion=come,
                gain=(come.area - gone.area) - (random_come.area - random_gone.area),
                randomisation=alike.get(name),
                pointing=None if masks is None else pointing_game(found, masks, config.tolerance),
                seconds=made[name].seconds,
            )
        )
    judged.sort(key=lambda one: -one.better.value)
    return Faithfulness(
        tuple(judged), failed, random_gone, random_come, wanted, unrandomised, config
    )


def _by_label(some: Sequence[Explainer]) -> dict[str, Explainer]:
    """Return the explainers by what they are called."""
    for one in some:
        if not isinstance(one, Explainer):
            raise AssayError(
                f"explainers holds {one!r}, which is none: give objects, GradCAM() say"
            )
    if not some:
        raise AssayError("there is nothing to compare: explainers holds none")
    called = labels(some)
    for name in called:
        if called.count(name) > 1:
            raise AssayError(f"explainers holds {name!r} twice with the same settings")
    return dict(zip(called, some, strict=True))


def _first(maps: Attribution, some: slice) -> Attribution:
    return replace(
        maps,
        values=maps.values[some],
        raw=maps.raw[some],
        empty=maps.empty[some],
        targets=maps.targets[some],
        undefined=None if maps.undefined is None else maps.undefined[some],
    )


def _silent(doing: str) -> None:
    del doing
