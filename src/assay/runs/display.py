"""What is said while trials run: a live display on a terminal, a few lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self

from assay.report.numerals import duration
from assay.runs.entry import Failure
from assay.runs.pace import Guess, Pace
from assay.runs.trial import Trial

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

LINE_EVERY = 10.0  # seconds between two plain lines, at least
NEWS_EVERY = 60.0  # seconds without a line, after which a trial says how far it is
SHOWN = 8  # trials with a line of their own on a terminal


class Display:
    """Keeps count, estimates what is left, and says nothing."""

    def __init__(self, guess: Guess | None = None) -> None:
        self.there = 0
        self.to_do = 0
        self.ended = 0
        self.failed = 0
        self.fractions: dict[str, float] = {}
        self.started = time.monotonic()
        self.pace = Pace(guess=guess)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    def plan(self, *, there: int, to_do: Sequence[Trial], failed: int) -> None:
        """A plan was made: of its trials so many are done, these are to do, in this order, and so
        many failed before."""
        self.there += there
        self.to_do += len(to_do)
        self.failed += failed
        self.pace.add(to_do)

    def known(self, trial: Trial, seconds: float) -> None:
        """A trial of the plan was done before, in so many seconds."""
        self.pace.learn(trial, seconds)

    def begin(self, trial: Trial) -> None:
        """A trial was given to a worker."""
        self.fractions[trial.address] = 0.0
        self.pace.begin(trial, time.monotonic())

    def update(self, trial: Trial, fraction: float, note: str) -> None:
        """A trial says how far it is."""
        del note
        self.fractions[trial.address] = fraction
        self.pace.update(trial, fraction, time.monotonic())

    def held(self, trial: Trial) -> None:
        """Another process works on a trial."""
        self.fractions.pop(trial.address, None)
        self.pace.put_back(trial)

    def lost(self, trial: Trial, note: str) -> None:
        """The worker of a trial is gone, or cannot be used; the trial is begun again elsewhere."""
        del note
        self.fractions[trial.address] = 0.0
        self.pace.begin(trial, time.monotonic())

    def end(self, trial: Trial, failure: Failure | None) -> None:
        """A trial has ended."""
        self.fractions.pop(trial.address, None)
        self.pace.end(trial, time.monotonic(), well=failure is None)
        self.ended += 1
        self.failed += failure is not None

    def tick(self) -> None:
        """Some time has passed."""

    @property
    def work(self) -> float:
        """How much is done of what was to do, in trials."""
        return self.ended + sum(self.fractions.values())

    def left(self) -> float | None:
        """Return the seconds left, or None before anything is known of them: see `Pace`."""
        now = time.monotonic()
        return None if now - self.started < 1.0 else self.pace.left(now)


class Lines(Display):
    """A few plain lines, for logs and pipes."""

    def __init__(self, guess: Guess | None = None) -> None:
        super().__init__(guess)
        self.said = 0.0

    def plan(self, *, there: int, to_do: Sequence[Trial], failed: int) -> None:
        super().plan(there=there, to_do=to_do, failed=failed)
        if total := there + len(to_do) + failed:
            before = f", {failed} failed before" if failed else ""
            done = f"{there} done already, {len(to_do)} to do{before}"
            say(f"{total} trial{'s' * (total > 1)}: {done}")

    def update(self, trial: Trial, fraction: float, note: str) -> None:
        super().update(trial, fraction, note)
        now = time.monotonic()
        if now - max(self.said, self.started) >= NEWS_EVERY:
            self.said = now
            say(f"{self.ended}/{self.to_do}, {trial.title}: {note}{until(self.left())}")

    def lost(self, trial: Trial, note: str) -> None:
        super().lost(trial, note)
        say(f"{trial.title}: {note}")

    def end(self, trial: Trial, failure: Failure | None) -> None:
        super().end(trial, failure)
        if failure is not None:
            say(f"{trial.title} failed: {failure.message}")
        now = time.monotonic()
        if now - self.said >= LINE_EVERY or self.ended == self.to_do:
            self.said = now
            say(f"{self.ended}/{self.to_do} {trial.title}{until(self.left())}")


class Live(Display):
    """One live display: all trials together, and a line for each that runs."""

    def __init__(self, guess: Guess | None = None) -> None:
        super().__init__(guess)
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self.progress: Progress = Progress(
            TextColumn("{task.description}", markup=False),  # a label may hold brackets
            BarColumn(bar_width=24),
            TextColumn("{task.fields[note]}", style="dim", markup=False),
            console=Console(stderr=True),
            auto_refresh=False,
            transient=True,
        )
        self.all: TaskID = self.progress.add_task("trials", total=None, note="")
        self.rows: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.progress.stop()

    def begin(self, trial: Trial) -> None:
        super().begin(trial)
        if trial.address not in self.rows:
            self.rows[trial.address] = self.progress.add_task(
                f"  {trial.title}", total=1.0, note="", visible=len(self.rows) < SHOWN
            )

    def update(self, trial: Trial, fraction: float, note: str) -> None:
        super().update(trial, fraction, note)
        self.progress.update(self.rows[trial.address], completed=fraction, note=note)

    def held(self, trial: Trial) -> None:
        super().held(trial)
        self.progress.update(self.rows[trial.address], note="another process works on it")

    def lost(self, trial: Trial, note: str) -> None:
        super().lost(trial, note)
        self.progress.console.print(f"{trial.title}: {note}", style="yellow", markup=False)

    def end(self, trial: Trial, failure: Failure | None) -> None:
        super().end(trial, failure)
        row = self.rows.pop(trial.address, None)
        if row is not None:
            self.progress.remove_task(row)
        if failure is not None:
            self.progress.console.print(
                f"{trial.title} failed: {failure.message}", style="red", markup=False
            )

    def tick(self) -> None:
        note = f"{self.ended}/{self.to_do}{until(self.left())}"
        note += f", {self.failed} failed" if self.failed else ""
        self.progress.update(self.all, total=self.to_do, completed=self.work, note=note)
        self.progress.refresh()


def make_display(progress: bool, guess: Guess | None = None) -> Display:
    """Return the display for this terminal, or for none; `guess` as for `Pace`."""
    if not progress:
        return Display()
    return Live(guess) if sys.stderr.isatty() else Lines(guess)


def until(seconds: float | None) -> str:
    """Return ", about 3 min left", or nothing where it is not known."""
    return "" if seconds is None or seconds < 1 else f", about {duration(seconds)} left"


def say(line: str) -> None:
    print(f"assay: {line}", file=sys.stderr, flush=True)


@contextmanager
def doing(first: str, quiet: bool) -> Iterator[Callable[[str], None]]:
    """Tell what is being done: in one line that changes on a terminal, in a line each elsewhere."""
    from rich.console import Console

    console = Console(stderr=True, quiet=quiet, highlight=False)
    with console.status(first) as status:

        def tell(what: str) -> None:
            status.update(what)
            if not console.is_terminal:
                console.print(f"  {what}", markup=False)

        yield tell
