"""What a section of an audit takes, in evaluations of the model, and how fast this model is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from assay.attacks.base import Attack
from assay.attacks.losses import cross_entropy
from assay.core.classifier import Classifier
from assay.core.oracle import gradient
from assay.errors import AssayError
from assay.report.numerals import duration

if TYPE_CHECKING:
    from assay.auditing.evidence import Evidence

Clock = Callable[[], float]
"""Returns seconds."""

TIMED = 64
"""Images whose gradient is timed."""
FEWEST = 20
"""Images that an audit needs."""
CLEAN = 0.3
"""Share of a budget that the one clean pass may take."""
DEAREST = 0.75
"""Gradients that a forward pass takes at most: the clean pass has warmed up the model too."""
BACKWARD = 2.0
"""Forward passes that a backward pass is taken to cost, where it cannot be timed."""


@dataclass(frozen=True)
class Work:
    """What is done between one tick of a section and the next.

    Attributes:
        kind: stretches of one kind miss their estimate alike: how the last one did says how the
            next one will.
        forward: evaluations of one image, at most.
        gradient: evaluations of one image with its gradient, at most.
        seconds: whatever else there is to do.
    """

    kind: str
    forward: float = 0.0
    gradient: float = 0.0
    seconds: float = 0.0
    likely: float = 1.0
    """The share of those evaluations that are likely to be made, in the time that they take: what
    says how long is left, and nothing of what a budget suffices for."""
    early: bool = False
    """Whether images leave early, and the more do the further back in its kind it comes."""
    doing: str = ""
    """What the tick says that begins it; "": it is the next one, whatever that says."""


@dataclass(frozen=True)
class Pace:
    """How fast a model is, in seconds per image.

    >>> from assay.auditing.cost import Pace, Work
    >>> Pace(forward=0.001, gradient=0.003).seconds([Work("maps", forward=100, gradient=50)])
    0.25
    """

    forward: float = 0.0
    gradient: float = 0.0

    def seconds(self, work: Iterable[Work]) -> float:
        """Return what some work takes at most."""
        return sum(
            one.forward * self.forward + one.gradient * self.gradient + one.seconds for one in work
        )

    def likely(self, work: Work) -> float:
        """Return what a stretch of work is likely to take, as far as it can be said beforehand."""
        evaluated = work.forward * self.forward + work.gradient * self.gradient
        return work.likely * evaluated + work.seconds


def pace_of(evidence: Evidence, clean: float, clock: Clock) -> Pace:
    """Return how fast the model is.

    Args:
        evidence: of a network the gradient is timed, by what attacks climb: its fast copy.
        clean: seconds that the one clean pass over all of its images took.
        clock: returns seconds.
    """
    forward = clean / max(1, len(evidence.y))
    if evidence.kind != "images" or evidence.copies is None:
        return Pace(forward, (1 + BACKWARD) * forward)
    x, y = evidence.x[:TIMED], evidence.y[:TIMED]
    try:
        with evidence.classifier.borrowed():
            copy, _ = evidence.copies.of(evidence.config.precision)
            took = min(_timed(copy, x, y, clock) for _ in range(2))  # the first one warms up
    except AssayError:  # whoever needs a gradient will say what is wrong with it
        return Pace(forward, (1 + BACKWARD) * forward)
    each = took / len(x)
    return Pace(min(forward, DEAREST * each), each)


def _timed(model: Any, x: Any, y: Any, clock: Clock) -> float:
    started = clock()
    gradient(model, x, y.to(getattr(model, "device", x.device)), cross_entropy)
    return clock() - started


def affordable(model: Any, x: Any, budget: float, clock: Clock) -> int:
    """Return how many of the images, or texts, `x` a budget leaves time to evaluate: those that
    take a part of it at most, and no fewer than an audit needs.

    Args:
        model: is asked about the first few; a network twice, since the first pass warms up.
        budget: seconds.
        clock: returns seconds.

    Raises:
        AssayError: even those take longer.
    """
    some = x[:FEWEST]
    started = clock()
    model.query(some)
    if isinstance(model, Classifier):
        started = clock()
        model.query(some)
    each = (clock() - started) / len(some)
    if each * len(some) > budget:
        raise AssayError(
            f"the budget of {duration(budget)} is too short: {len(some)} evaluations of the model "
            f"take {duration(each * len(some))}"
        )
    return max(len(some), min(len(x), int(CLEAN * budget / max(each, 1e-9))))


def attack_work(attack: Attack, images: int, doing: str = "") -> Work:
    """Return what an attack on so many images takes at most: every step, of every start.

    What is likely was measured on small networks (benchmarks/audit.py): an attack of one step
    confirms few images, and from one of many about half leave early at the smallest budget.
    """
    spent = {"gradient": 0.0, "forward": 0.0}
    for stage in attack.stages:
        one = _evaluations(stage)
        spent["gradient" if stage.needs == "gradient" else "forward"] += stage.starts * one
    early = sum(spent.values()) > 1
    return Work(
        attack.name,
        images * (spent["forward"] + 2),
        images * spent["gradient"],
        likely=0.6 if early else 0.7,
        early=early,
        doing=doing,
    )


def _evaluations(attack: Attack) -> int:
    """Return the evaluations per image of one search: its queries; or its steps, times what each
    of them evaluates."""
    if (queries := getattr(attack, "queries", None)) is not None:
        return int(queries)
    each = 1
    for name in ("population", "eot", "n_target_classes"):
        each *= int(getattr(attack, name, None) or 1)
    return each * int(getattr(attack, "steps", 1))
