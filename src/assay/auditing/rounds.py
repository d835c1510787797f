"""Which section is run when, and on how many images, where a budget of time is given.

In the first round every section is run as it is asked for, if that leaves time for the others, even
if it took twice as long as thought; otherwise on the fewest images that it makes sense on;
otherwise not at all. Those whose checks count go first, and of these the cheapest. In the second
round what is left of the time goes to those that had few images, in the same order: they are
measured anew on as many as the time allows, at the pace of the first round. Only how many images
there are ever differs, and how many budgets a curve has: never the steps, restarts or queries of an
attack. No verdict decides any of this: looking at verdicts before taking more images would make
them too sure. Time does, of which an attack takes less where more images leave it fooled; so which
of its two numbers of images is reported is not wholly apart from what they showed.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from assay.auditing.cost import Work
from assay.auditing.evidence import Evidence
from assay.auditing.outcome import outcome, refusal, unrun
from assay.auditing.section import Measured, Section
from assay.auditing.watch import OutOfTime, Watch
from assay.report.numerals import duration

FINER = 1.25
"""How much larger one number of images is than the next that is considered."""
TRUSTED = 0.5
"""Share of the time that a section may be thought to take for all of it to be begun at once."""
WORTH = 1.5
"""How many times the images a section must get for it to be measured anew."""
SPARE = 0.05
"""Share of the budget that the second round leaves for what was not foreseen."""


@dataclass(frozen=True)
class Size:
    """How large a section is measured.

    Attributes:
        most: images at most; None: as many as are asked for.
        short: whether curves have two budgets and no more.
    """

    most: int | None = None
    short: bool = False


@dataclass
class Share:
    """What a section got of the budget.

    Attributes:
        section: it.
        found: what it came to.
        size: how large it was measured.
        seconds: what that took.
        run: whether it was begun at all.
    """

    section: Section
    found: Measured
    size: Size = field(default_factory=Size)
    seconds: float = 0.0
    run: bool = True


def in_turn(evidence: Evidence, watch: Watch) -> list[Share]:
    """Run every section as it is asked for, in the order of the config."""
    sections = evidence.config.sections
    watch.ahead = {section.name: _work(section, evidence, Size()) for section in sections}
    return [_carried_out(section, evidence, watch, Size()) for section in sections]


def within_budget(evidence: Evidence, watch: Watch, counted: Collection[str]) -> list[Share]:
    """Run the sections for which the budget of `watch` suffices; return all, in the order of the
    config.

    Args:
        counted: codes of the checks that count.
    """
    plan = {one.name: sizes(one, evidence) for one in evidence.config.sections}
    order = sorted(
        evidence.config.sections,
        key=lambda one: (
            bool(_seconds(one, evidence, watch, plan[one.name][0])),  # what is free goes first
            _rank(one, evidence, counted),
            _seconds(one, evidence, watch, plan[one.name][0]),
        ),
    )
    shares: dict[str, Share] = {}
    owed = 0.0  # to those that had few images, and come before the others in the second round
    for place, section in enumerate(order):
        size = _first_size(section, order[place + 1 :], plan, evidence, watch, owed)
        if size not in (None, plan[section.name][-1]):
            owed += _seconds(section, evidence, watch, plan[section.name][-1])
        if size is None:
            shares[section.name] = _skipped(section, evidence, watch, plan[section.name][0])
        else:
            shares[section.name] = _carried_out(section, evidence, watch, size)
    for section in order:
        _grown(shares[section.name], plan[section.name], evidence, watch)
    return [shares[section.name] for section in evidence.config.sections]


def sizes(section: Section, evidence: Evidence) -> list[Size]:
    """Return how large a section could be measured, from the least to all that is asked for.

    Sizes that take no less than the next one are left out.
    """
    rows, full = section.fewest, section.rests_on(evidence)
    found = []
    while section.fewest and rows < full:
        found.append(Size(rows, short=True))
        rows = max(rows + 1, round(FINER * rows))
    found += [Size(None, short=True), Size()]
    work = [_work(section, evidence, size) for size in found]
    same = [one == other for one, other in pairwise(work)]
    return [size for size, is_same in zip(found, [*same, False], strict=True) if not is_same]


def _first_size(
    section: Section,
    later: Sequence[Section],
    plan: dict[str, list[Size]],
    evidence: Evidence,
    watch: Watch,
    owed: float,
) -> Size | None:
    """Return how large a section is measured in the first round; None: there is no time for it."""
    least, full = plan[section.name][0], plan[section.name][-1]
    left = watch.remaining()
    kept = 0.0  # for the others, as far as it goes
    for other in later:
        needed = _seconds(other, evidence, watch, plan[other.name][0])
        if kept + needed <= left:
            kept += needed
    if _seconds(section, evidence, watch, full) <= TRUSTED * max(0.0, left - kept - owed):
        return full
    return least if _seconds(section, evidence, watch, least) <= left else None


def _grown(share: Share, plan: list[Size], evidence: Evidence, watch: Watch) -> None:
    """Measure a section anew on as many images as the time that is left allows, if it had few."""
    if not share.run or share.size == plan[-1] or watch.budget is None:
        return
    foreseen = _seconds(share.section, evidence, watch, share.size)
    slower = share.seconds / foreseen if foreseen else 1.0
    left = watch.remaining() - SPARE * watch.budget
    had = share.section.rests_on(evidence.within(share.size.most, short=True))
    fits = [
        size
        for size in plan
        if slower * _seconds(share.section, evidence, watch, size) <= left
        and (
            size == plan[-1]
            or share.section.rests_on(evidence.within(size.most, short=True)) >= WORTH * had
        )
    ]
    if not fits:
        return
    again = _carried_out(share.section, evidence, watch, fits[-1])
    again.seconds += share.seconds
    if again.run:
        share.found, share.size = again.found, again.size
    share.seconds = again.seconds


def _carried_out(section: Section, evidence: Evidence, watch: Watch, size: Size) -> Share:
    """Run a section; where the budget is spent meanwhile, its places say so."""
    some = evidence if size == Size() else evidence.within(size.most, short=size.short)
    watch.begin(section.name, _work(section, evidence, size))
    try:
        found = outcome(section, some)
    except OutOfTime:
        found = unrun(section, evidence, _spent(watch))
        return Share(section, found, size, watch.end(), run=False)
    return Share(section, found, size, watch.end())


def _skipped(section: Section, evidence: Evidence, watch: Watch, least: Size) -> Share:
    takes = duration(_seconds(section, evidence, watch, least))
    left = duration(max(0.0, watch.remaining()))
    why = (
        f"the budget of {duration(watch.budget)} is too small: it takes about {takes} at least, "
        f"and {left} were left"
    )
    return Share(section, unrun(section, evidence, why), least, run=False)


def _spent(watch: Watch) -> str:
    return f"the budget of {duration(watch.budget)} was spent"


def _work(section: Section, evidence: Evidence, size: Size) -> tuple[Work, ...]:
    if refusal(section, evidence):
        return ()
    return section.work(evidence.within(size.most, short=size.short))


def _seconds(section: Section, evidence: Evidence, watch: Watch, size: Size) -> float:
    return watch.most(_work(section, evidence, size))


def _rank(section: Section, evidence: Evidence, counted: Collection[str]) -> int:
    """Return 0 for a section with a check that counts, 1 with another check, 2 without any."""
    codes = {criterion.code for criterion in section.criteria(evidence.config)}
    if codes & set(counted):
        return 0
    return 1 if codes else 2
