"""What a plan still costs, before it is run: for `--dry-run`."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from assay.report.numerals import MISSING, duration
from assay.runs.entry import Entry, Result, State
from assay.runs.environment import cores
from assay.runs.store import Store
from assay.runs.trial import Cost, Trial, kin
from assay.runs.view import Grid, View


@dataclass(frozen=True)
class TrialStatus:
    """The state of one trial of a plan.

    Attributes:
        state: what `Entry.state` says.
        fraction: how much is done, 0 to 1.
        seconds: expected for the rest; None where nothing like it was ever run.
        bytes: on disk, or expected there; None likewise.
    """

    trial: Trial
    state: State
    fraction: float
    seconds: float | None
    bytes: int | None


@dataclass(frozen=True)
class PlanStatus:
    """The state of every trial of a plan, those that it needs included."""

    trials: tuple[TrialStatus, ...]

    def counts(self) -> dict[str, int]:
        """Return how many trials are in each state that occurs."""
        return dict(Counter(status.state for status in self.trials))

    def unknown(self) -> int:
        """Return for how many trials nothing is known of their cost."""
        return sum(status.seconds is None for status in self.trials)

    def seconds(self, workers: int | None = None) -> float:
        """Return the expected duration of what is left, without the trials of unknown cost."""
        rest = [s for s in self.trials if s.seconds]
        if not rest:
            return 0.0
        room = workers or max(1, cores() // max(status.trial.threads for status in rest))
        known = [status.seconds or 0.0 for status in rest]
        return max(max(known), sum(known) / room)

    def bytes(self) -> int:
        """Return the bytes that what is left will add, without the trials of unknown cost."""
        return sum(s.bytes or 0 for s in self.trials if s.state != "finished")

    def view(self, workers: int | None = None) -> View:
        """Return what `--dry-run` prints: a row per label, and the sums."""
        groups: dict[str, list[TrialStatus]] = defaultdict(list)
        for status in self.trials:
            groups[status.trial.group].append(status)
        rows = []
        for label, group in groups.items():
            counts = Counter(status.state for status in group)
            known = [status.seconds for status in group if status.seconds is not None]
            time = duration(sum(known)) if len(known) == len(group) else "not known"
            if set(counts) == {"finished"}:
                time = MISSING
            states = ", ".join(f"{count} {state}" for state, count in counts.items())
            rows.append((label, str(len(group)), states, time))
        total = {
            "trials": len(self.trials),
            "counts": self.counts(),
            "seconds": self.seconds(workers),
            "bytes": self.bytes(),
            "unknown": self.unknown(),
        }
        sums = f"about {duration(self.seconds(workers))} and {self.bytes() / 1e6:.1f} MB to go"
        if self.unknown():
            sums += f", without {self.unknown()} trials the like of which was never run"
        grid = Grid("", ("trials", "n", "state", "one after another"), tuple(rows))
        return View(f"{len(self.trials)} trials", total, (grid,), (sums,))


def plan_status(
    trials: Iterable[Trial],
    store: Store,
    guess: Callable[[Trial], Cost | None] | None = None,
) -> PlanStatus:
    """Give the state of each trial and what the rest will cost, without running anything.

    A trial's cost is the median of the finished trials in the store that are equal but for the
    seed (and for the versions of the code); where there are none, of those in the plan that bear
    its label, whose seeds may also say which classes they are trained on.

    Args:
        guess: what a trial is expected to take where none like it was run.
    """
    wanted: dict[str, Trial] = {}
    for trial in trials:
        _with_needs(trial, wanted)
    entries = {address: store.entry(trial) for address, trial in wanted.items()}
    results = {address: entry.result() for address, entry in entries.items()}
    costs = _costs(store) if any(result is None for result in results.values()) else {}
    named: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for address, result in results.items():
        if result is not None:
            named[wanted[address].group].append(_cost(result))

    def like(trial: Trial) -> list[tuple[float, int]]:
        return costs.get(kin(trial)) or named[trial.group]

    return PlanStatus(
        tuple(
            _status(entry, results[address], like(entry.trial), guess)
            for address, entry in entries.items()
        )
    )


def _status(
    entry: Entry,
    result: Result | None,
    like: list[tuple[float, int]],
    guess: Callable[[Trial], Cost | None] | None,
) -> TrialStatus:
    if result is not None:
        return TrialStatus(entry.trial, "finished", 1.0, 0.0, _bytes(result.record))
    progress = entry.progress()
    state = entry.state()
    going = state == "running" or entry.has_checkpoint()
    fraction = float(progress.get("fraction", 0.0)) if going else 0.0
    seconds: float | None = None
    size: int | None = None
    if like:
        seconds, size = median(cost[0] for cost in like), int(median(cost[1] for cost in like))
    elif fraction > 0:
        seconds = float(progress["seconds"]) / fraction
    elif guess is not None and (cost := guess(entry.trial)) is not None:
        seconds, size = cost.seconds, cost.bytes
    if seconds is not None:
        seconds *= 1 - fraction
    return TrialStatus(entry.trial, state, fraction, seconds, size)


def _costs(store: Store) -> Mapping[str, list[tuple[float, int]]]:
    """Return seconds and bytes of every finished trial in the store, by kin."""
    found: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for entry in store.trials():
        result = entry.result()
        if result is not None:
            found[kin(entry.trial)].append(_cost(result))
    return found


def _cost(result: Result) -> tuple[float, int]:
    return float(result.record["seconds"]), _bytes(result.record)


def _bytes(record: Mapping[str, Any]) -> int:
    return sum(int(size) for size, _ in record["files"].values())


def _with_needs(trial: Trial, wanted: dict[str, Trial]) -> None:
    if trial.address not in wanted:
        for need in trial.needs:
            _with_needs(need, wanted)
        wanted[trial.address] = trial
