"""How long the work that is ahead is likely to take, by what work like it took."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from statistics import median

from assay.auditing.cost import Pace, Work

FALL = 0.75
"""What an attack takes at a budget of what it took at the next smaller one, where nothing is known:
at larger budgets more images leave it early."""
STEEPEST = 0.5
"""The least that it is taken to fall to."""
OUTLYING = 2.0
"""By how many times a kind of work may miss what it was likely to take and count for more: what is
longer says something of that work, not of the model."""
ASSUMED = 0.05
"""How much of what is ahead has to have been seen before it says as much of other work as what was
likely in the first place."""


class Outlook:
    """Learns from each stretch of work how long those that are ahead will take.

    What there was of the same kind says it: the median of the last three; of attacks, which more
    images leave early at each larger budget, the last one and how much less it took than the one
    before it. Of a kind that there was none of, it is what is likely at the pace of the model,
    corrected by how the other kinds missed that, as far as it is evaluations of the model.

    >>> from assay.auditing.cost import Pace, Work
    >>> from assay.auditing.outlook import Outlook
    >>> outlook, pace = Outlook(), Pace(gradient=1.0)
    >>> attack = Work("pgd", gradient=100, early=True)
    >>> outlook.learn(attack, pace, 80.0)
    >>> outlook.learn(attack, pace, 40.0)
    >>> outlook.each([attack, attack], pace)
    [20.0, 10.0]
    """

    def __init__(self) -> None:
        self._missed: dict[str, list[float]] = defaultdict(list)
        """By kind, what each stretch took over what it was likely to take."""
        self._seen: dict[str, float] = defaultdict(float)
        """Seconds that those of a kind were likely to take to evaluate the model."""
        self._at_most: dict[str, float] = {}
        """By kind of those that images leave early: their most, over what is likely."""

    def learn(self, work: Work, pace: Pace, took: float) -> None:
        """A stretch of work has ended; one that was to take no time says nothing."""
        likely = pace.likely(work)
        if likely <= 0:
            return
        self._missed[work.kind].append(took / likely)
        self._seen[work.kind] += likely - work.seconds
        if work.early:
            self._at_most[work.kind] = pace.seconds([work]) / likely

    def each(self, ahead: Iterable[Work], pace: Pace) -> list[float]:
        """Return the seconds that each stretch of some work, in this order, is likely to take."""
        works = list(ahead)
        slower = self._slower(sum(pace.likely(one) - one.seconds for one in works))
        place: Counter[str] = Counter()
        found = []
        for work in works:
            place[work.kind] += 1
            missed = self._missed.get(work.kind, [])
            likely = pace.likely(work)
            if not missed:
                fall = FALL ** (place[work.kind] - 1) if work.early else 1.0
                found.append(fall * slower * (likely - work.seconds) + work.seconds)
            elif work.early:
                found.append(_falling(missed, place[work.kind]) * likely)
            else:
                found.append(median(missed[-3:]) * likely)
        return found

    def _slower(self, ahead: float) -> float:
        """Return by how much work of other kinds is likely to miss what is likely, where `ahead`
        seconds of it are. That images left an attack early says nothing of it; that the attack took
        more than it could at most does."""
        logs, weights = [0.0], [ASSUMED * ahead]
        for kind, missed in self._missed.items():
            found = median(missed[-3:]) / self._at_most.get(kind, 1.0)
            if found > 0 and (kind not in self._at_most or found > 1):
                logs.append(max(-math.log(OUTLYING), min(math.log(OUTLYING), math.log(found))))
                weights.append(self._seen[kind])
        if not sum(weights):
            return 1.0
        mean = sum(w * one for w, one in zip(weights, logs, strict=True)) / sum(weights)
        return math.exp(mean)


def _falling(missed: Sequence[float], place: int) -> float:
    """Return by how much the stretch of a kind that is `place` ahead will miss what is likely."""
    fall = FALL
    if len(missed) > 1:
        fall = max(STEEPEST, min(1.0, missed[-1] / missed[-2])) if missed[-2] else 1.0
    return missed[-1] * fall**place
