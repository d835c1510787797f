"""The clock of an audit: what each section took, what is left, and when a budget is spent."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence

from assay.auditing.cost import Clock, Pace, Work
from assay.auditing.outlook import Outlook
from assay.runs.display import until

Tick = Callable[[str], None]
"""Told what is being done, in a few words."""


class OutOfTime(BaseException):
    """The budget is spent. No `Exception`: whoever catches all that a user's model may raise lets
    it pass."""


class Watch:
    """Says what is being done and for how long still, and ends it when the budget is spent.

    How long is left is what is likely (`auditing.outlook`); what a budget suffices for goes by what
    work takes at most, at the pace of the model.

    Args:
        tell: told what is being done.
        budget: seconds from now on; None: no limit.
        clock: returns seconds.

    >>> from assay.auditing.cost import Pace, Work
    >>> from assay.auditing.watch import Watch
    >>> watch = Watch(print, clock=iter([0.0, 0.0, 0.0, 6.0]).__next__)
    >>> watch.pace = Pace(forward=0.1)
    >>> watch.begin("corruptions", [Work("corruption", forward=20)] * 4)
    >>> watch.tick("fog")
    fog, about 8.0 s left
    >>> watch.tick("jpeg")
    jpeg, about 18 s left
    """

    def __init__(
        self,
        tell: Tick | None = None,
        budget: float | None = None,
        clock: Clock = time.perf_counter,
    ) -> None:
        self.budget = budget
        self.pace = Pace()
        self.took: dict[str, float] = {}
        """Seconds by section."""
        self.ahead: dict[str, Sequence[Work]] = {}
        """What the sections that are still to be run will do."""
        self._tell = tell or (lambda _: None)
        self.clock = clock
        self.started = clock()
        self._name = ""
        self._begun = self._since = self.started
        self._now: Work | None = None
        self._rest: list[Work] = []
        self._outlook = Outlook()
        self._done = self._expected = 0.0

    def spent(self) -> float:
        """Return the seconds since the audit began."""
        return self.clock() - self.started

    def remaining(self) -> float:
        """Return the seconds that the budget has left; without one, no end of them."""
        return math.inf if self.budget is None else self.budget - self.spent()

    def most(self, work: Iterable[Work]) -> float:
        """Return the seconds that some work takes at most: at the pace of the model, and no faster
        than all work so far."""
        return self.pace.seconds(work) * self._slower

    def begin(self, name: str, work: Sequence[Work]) -> None:
        """A section begins, which will tick at the beginning of each of these stretches."""
        self.ahead.pop(name, None)
        self._name, self._rest, self._now = name, list(work), None
        self._begun = self.clock()

    def end(self) -> float:
        """The section has ended; return the seconds it took."""
        now = self.clock()
        if self._rest:  # it has failed: how long the last stretch took says nothing of others
            self._now = None
        self._close(now)
        self._rest = []
        self.took[self._name] = now - self._begun
        return now - self._begun

    def tick(self, doing: str) -> None:
        """Something else is being done from now on.

        Raises:
            OutOfTime: the budget is spent.
        """
        now = self.clock()
        self._close(now)
        if self.budget is not None and now - self.started >= self.budget:
            raise OutOfTime
        self._now = self._begun_by(doing)
        self._since = now
        self._tell(f"{doing}{until(self._left(now))}")

    def left(self) -> float | None:
        """Return the seconds left, as far as is known: None before the pace is."""
        return self._left(self.clock())

    def _begun_by(self, doing: str) -> Work | None:
        """Return the stretch that begins with a tick; None: one that nobody has spoken of."""
        named = [place for place, work in enumerate(self._rest) if work.doing == doing]
        if named:  # what failed has left out what lies before it
            del self._rest[: named[0]]
        elif self._rest and self._rest[0].doing:
            return None
        return self._rest.pop(0) if self._rest else None

    def _left(self, now: float) -> float | None:
        if self.pace == Pace():
            return None
        now_first = [] if self._now is None else [self._now]
        later = [one for work in self.ahead.values() for one in work]
        each = self._outlook.each([*now_first, *self._rest, *later], self.pace)
        done = min(now - self._since, each[0]) if now_first else 0.0
        return sum(each) - done

    @property
    def _slower(self) -> float:
        """How much slower all work so far was than it was thought to be at most; at least 1, since
        that images leave an attack early says nothing of other work."""
        return max(1.0, self._done / self._expected) if self._expected else 1.0

    def _close(self, now: float) -> None:
        """A stretch has ended: keep by how much it missed what was expected."""
        work, self._now = self._now, None
        expected = 0.0 if work is None else self.pace.seconds([work])
        if work is None or expected <= 0:
            return
        self._outlook.learn(work, self.pace, now - self._since)
        self._done += now - self._since
        self._expected += expected
