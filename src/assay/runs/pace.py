"""How long trials still take: by what others of their kind took, and by how far they are."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import inf
from statistics import fmean

from assay.runs.trial import Cost, Trial, kin

Guess = Callable[[Trial], Cost | None]
"""What a trial is expected to take, by the size of its network say; None: nothing is known."""

TOLD = 0.05
"""Share of a trial that has to be done before its own pace says how long the rest takes."""
AT_ONCE = 1.0
"""Seconds in which a trial that goes on from a checkpoint has said how far it was."""
OF_ITS_NEED = 0.02
"""What a trial takes of the time of the dearest one whose result it reads, where none of its task
was seen: about the median of our attacks, saliency shifts and loss surfaces on trained networks
(docs/log.md)."""
DEAR = 60.0
"""Seconds from which on a trial is worth guessing what others of its task take: a guess may measure
a few steps."""


@dataclass
class Underway:
    """A trial that runs.

    Attributes:
        trial: it.
        since: when it was begun here.
        before: how much of it was done then: it may go on from a checkpoint.
        fraction: how much of it is done; None: it has said nothing yet.
    """

    trial: Trial
    since: float
    before: float = 0.0
    fraction: float | None = None

    def whole(self, now: float) -> float | None:
        """Return what all of it would take at its pace so far; None: that is not known yet."""
        done = (self.fraction or 0.0) - self.before
        return (now - self.since) / done if done >= TOLD else None


class Pace:
    """Estimates what is left of a plan.

    A trial that waits takes what those of its kind took, which are equal but for the seed; where
    none has ended, what those that run will take at their own pace. Otherwise it takes what others
    of its task took (those that bear its label, if there are such: a seed may also say which
    classes are left out), in proportion to what both are guessed at, if they can be; where there
    is none of its task, a small part of what it needs takes; and where it needs nothing, what all
    others took. Those that wait are then given to as many workers as were ever seen at work, in
    their order.

    Args:
        trials: what is to be run.
        guess: what an unrun trial takes; asked for one at a time, and only where trials are dear.

    >>> from assay.runs.pace import Pace
    >>> from assay.runs.trial import Trial
    >>> trial, other = (Trial(task="demo:walk", config={}, seed=seed) for seed in (0, 1))
    >>> pace = Pace([trial, other])
    >>> pace.begin(trial, 0.0)
    >>> pace.update(trial, 0.25, 10.0)  # it has told so much at 10 s
    >>> pace.left(10.0)  # 30 s of this one, then 40 s of the other
    70.0
    """

    def __init__(self, trials: Iterable[Trial] = (), guess: Guess | None = None) -> None:
        self.waiting: dict[str, Trial] = {}
        self.running: dict[str, Underway] = {}
        self.workers = 1
        self._guess = guess
        self._took: dict[str, list[float]] = defaultdict(list)
        """Seconds of the trials that have ended, by kind."""
        self._one_of: dict[str, Trial] = {}
        """A trial of each kind that was seen."""
        self._kinds: dict[str, str] = {}
        self._guessed: dict[str, float | None] = {}
        self.add(trials)

    def add(self, trials: Iterable[Trial]) -> None:
        """These are to be run as well, in this order."""
        self.waiting |= {trial.address: trial for trial in trials}

    def learn(self, trial: Trial, seconds: float) -> None:
        """A trial took so long, now or in an earlier run; what is no time says nothing."""
        if not 0 <= seconds < inf:
            return
        self._one_of[self._kind(trial)] = trial
        self._took[self._kind(trial)].append(seconds)

    def begin(self, trial: Trial, now: float) -> None:
        """A trial was given to a worker; also one that is begun again elsewhere."""
        self.waiting.pop(trial.address, None)
        self.running[trial.address] = Underway(trial, now)
        self.workers = max(self.workers, len(self.running))

    def update(self, trial: Trial, fraction: float, now: float) -> None:
        """A trial says how far it is. The first it says is how far it was when it was begun, if it
        says so before it can have done anything."""
        one = self.running.get(trial.address)
        if one is None:
            return
        if one.fraction is None and fraction > 0 and now - one.since < AT_ONCE:
            one.before, one.since = fraction, now
        one.fraction = fraction

    def put_back(self, trial: Trial) -> None:
        """A trial cannot be run yet: another process holds it."""
        self.running.pop(trial.address, None)
        self.waiting[trial.address] = trial

    def end(self, trial: Trial, now: float, *, well: bool) -> None:
        """A trial has ended; how long one took that failed says nothing of others."""
        self.waiting.pop(trial.address, None)
        one = self.running.pop(trial.address, None)
        if one is not None and well:
            self.learn(trial, (now - one.since) / max(TOLD, 1 - one.before))

    def left(self, now: float) -> float | None:
        """Return the seconds until all have ended; None before anything is known."""
        known = self._known(now)
        if not known and (self.running or self.waiting):
            return None
        if self._guess is not None and known and max(known.values()) >= DEAR:
            self._ask(known)
        ends = []
        for one in self.running.values():
            whole = one.whole(now)
            if whole is not None:
                ends.append(whole * (1 - (one.fraction or 0.0)))
            else:
                rest = self._expected(one.trial, known) * (1 - one.before)
                ends.append(max(0.0, rest - (now - one.since)))
        free = ends + [0.0] * (self.workers - len(ends))
        heapq.heapify(free)
        last = max(free, default=0.0)
        for trial in self.waiting.values():
            end = heapq.heappop(free) + self._expected(trial, known)
            heapq.heappush(free, end)
            last = max(last, end)
        return last

    def _known(self, now: float) -> dict[str, float]:
        """Return what a trial takes, by kind, of the kinds that were seen."""
        own: dict[str, list[float]] = defaultdict(list)
        for one in self.running.values():
            whole, kind = one.whole(now), self._kind(one.trial)
            if whole is not None and kind not in self._took:
                own[kind].append(whole)
                self._one_of[kind] = one.trial
        return {kind: fmean(some) for kind, some in (self._took | own).items()}

    def _expected(self, trial: Trial, known: dict[str, float]) -> float:
        """Return what a trial takes; something is known of others, at least."""
        kind = self._kind(trial)
        if kind in known:
            return known[kind]
        like = {k: seconds for k, seconds in known.items() if self._one_of[k].task == trial.task}
        if like:
            named = {k: s for k, s in like.items() if self._one_of[k].group == trial.group}
            like = named or like
            own = self._guessed.get(kind)
            guesses = {other: self._guessed.get(other) for other in like}
            scaled = [like[other] * own / its for other, its in guesses.items() if own and its]
            return fmean(scaled or like.values())
        if trial.needs:
            return OF_ITS_NEED * max(self._expected(need, known) for need in trial.needs)
        return fmean(known.values())

    def _ask(self, known: dict[str, float]) -> None:
        """Guess what one more kind takes whose task was seen, and what the one seen does."""
        assert self._guess is not None
        for trial in self.waiting.values():
            kind = self._kind(trial)
            if kind in known or kind in self._guessed:
                continue
            seen = [other for other in known if self._one_of[other].task == trial.task]
            for one in [trial, *(self._one_of[other] for other in seen[:1])] if seen else ():
                if self._kind(one) not in self._guessed:
                    cost = self._guess(one)
                    says = cost is not None and 0 < cost.seconds < inf
                    self._guessed[self._kind(one)] = cost.seconds if cost and says else None
            if seen:
                return

    def _kind(self, trial: Trial) -> str:
        if trial.address not in self._kinds:
            self._kinds[trial.address] = kin(trial)
        return self._kinds[trial.address]
