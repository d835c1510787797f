"""Running the trials of a plan, each exactly once, on whatever engine there is."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Protocol

from assay.errors import AssayError
from assay.runs.display import Display, make_display
from assay.runs.entry import LOG, Entry, Failure
from assay.runs.local import Local
from assay.runs.pace import Guess
from assay.runs.results import Results
from assay.runs.store import Store
from assay.runs.trial import Trial, torch_version
from assay.runs.worker import Message

Plan = Callable[[Results], Sequence[Trial]]

LISTEN = 0.2  # seconds to wait for an event before the display is drawn again
ASK_AGAIN = 0.3  # seconds between two looks at a trial that another process holds


class Engine(Protocol):
    """Where trials are computed: processes of this machine (`runs.local`), or something else.

    An engine knows the store and decides where and when; everything that makes results the same
    on every engine is in `worker.work`, which it has called for each trial, in a process that has
    `worker.variables(trial.threads)` in its environment. What a trial takes is in the trial: its
    threads and its class of device.
    """

    def submit(self, trial: Trial, *, again: bool) -> bool:
        """Take a trial up if there is room for it now; return whether there was.

        Args:
            again: also run it if it failed before; `work` is told so.
        """
        ...

    def events(self, seconds: float) -> Sequence[tuple[Trial, Message]]:
        """Return what the trials that were taken up have to say; wait for it, at most so long.

        Every one of them ends with exactly one message that is not "progress" or "lost": what
        `work` returned, or "died" where it could not return, because its process or machine was
        lost. An engine on machines that come and go may begin such a trial again itself, and says
        "lost" each time: the trial goes on from its checkpoint.

        Raises:
            AssayError: nothing can be run here.
        """
        ...

    def stop(self) -> None:
        """End what still runs, and leave nothing behind; what is whole is in the store."""
        ...


def execute(
    plan: Plan | Iterable[Trial],
    store: Store,
    *,
    engine: Engine | None = None,
    workers: int | None = None,
    progress: bool = True,
    rerun_failed: bool = False,
    guess: Guess | None = None,
) -> Results:
    """Run the trials of a plan and those they need; what the store holds already is not run again.

    Args:
        plan: the trials, or a function from what is done to the trials wanted, called again when
            all of its trials have ended, until it adds nothing.
        store: where results are kept, and looked for. Whoever names the trials in a run afterwards
            holds `store.using()` until then.
        engine: what runs the trials; None: worker processes on this machine. It is stopped at the
            end. The results are the same on any engine.
        workers: processes at a time where there is no `engine`; None: as many as the cores hold at
            the trials' own number of threads. The results are the same for any number.
        progress: show a live line on a terminal, or a few plain ones; False: nothing.
        rerun_failed: run trials again that failed before. Those whose process died are run again
            in any case.
        guess: what an unrun trial is expected to take, for what is said of the time left.

    Returns:
        The results, and the failures: a failed trial does not stop the others.

    Raises:
        AssayError: the store cannot be written, or its disk is full; this process is one of
            several that `torchrun` started.
        KeyboardInterrupt: after the engine was stopped; the same call goes on from there.
    """
    if engine is None and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise AssayError(
            "trials run in processes of their own, and this is one of several that torchrun or "
            "accelerate launch started: start this alone (only assay train is for several)"
        )
    store.prepare()
    engine = Local(store.root, workers) if engine is None else engine
    trials = () if callable(plan) else tuple(plan)
    try:
        with store.using(), make_display(progress, guess) as display:
            run = _Execution(store, engine, display, rerun_failed=rerun_failed)
            while run.add(plan(run.results) if callable(plan) else trials):
                run.finish()
            return run.results
    finally:
        engine.stop()


class _Execution:
    """The state of one call of `execute`."""

    def __init__(
        self, store: Store, engine: Engine, display: Display, *, rerun_failed: bool
    ) -> None:
        self.store = store
        self.engine = engine
        self.display = display
        self.results = Results()
        self.waiting: dict[str, Trial] = {}  # in the order they are to be started
        self.running: set[str] = set()
        self.again = rerun_failed
        self.torch = torch_version()
        self.held: dict[str, float] = {}  # held by another process: when to ask again

    def add(self, trials: Sequence[Trial]) -> bool:
        """Take up what is new in a plan; return whether there was anything new."""
        known = len(self.results.trials)
        failed = len(self.results.failures)
        there = sum(self._add(trial) for trial in trials)
        self.display.plan(
            there=there,
            to_do=list(self.waiting.values()),
            failed=len(self.results.failures) - failed,
        )
        return len(self.results.trials) > known

    def _add(self, trial: Trial) -> int:
        """Take up one trial after those it needs; return how many were done already."""
        if trial.address in self.results.trials:
            return 0
        if trial.torch != self.torch:
            raise AssayError(
                f"trial {trial.label or trial.short} is of torch {trial.torch}, but "
                f"{self.torch} is installed; plan it anew"
            )
        entry = self.store.entry(trial)
        result = entry.result(verify=True)
        found = 0
        for need in trial.needs:  # what a finished trial needed is shown, but not made again
            if result is None or self.store.result(need) is not None:
                found += self._add(need)
        self.results.trials[trial.address] = trial
        if result is not None:
            entry.tidy()
            self.store.publish(trial)
            self.results.keep(result)
            self.display.known(trial, float(result.record["seconds"]))
            return found + 1
        failure = entry.failure()
        if failure is not None and failure.kind != "died" and not self.again:
            self.results.failures[trial.address] = failure
        else:
            self.waiting[trial.address] = trial
        return found

    def finish(self) -> None:
        """Run until every trial has ended, well or badly."""
        while self.waiting or self.running:
            self._start_what_can()
            for trial, message in self.engine.events(LISTEN):
                self._heard(trial, message)
            self.display.tick()

    def _start_what_can(self) -> None:
        now = time.monotonic()
        for address, trial in list(self.waiting.items()):
            failed = next((n for n in trial.needs if n.address in self.results.failures), None)
            if failed is not None:
                del self.waiting[address]
                reason = self.results.failures[failed.address].message
                name = failed.label or failed.short
                self._fail(trial, Failure("needs", f"it needs {name}, which failed: {reason}"))
                continue
            if any(need not in self.results for need in trial.needs):
                continue
            if self.held.get(address, now) > now:
                continue
            if self.store.fetch(trial):  # another machine has finished it meanwhile
                del self.waiting[address]
                self.display.begin(trial)
                self._done(self.store.entry(trial))
                continue
            if not self.engine.submit(trial, again=self.again and address not in self.held):
                return
            del self.waiting[address]
            self.running.add(address)
            self.display.begin(trial)

    def _heard(self, trial: Trial, message: Message) -> None:
        if message.kind == "progress":
            self.display.update(trial, message.fraction, message.note)
            return
        if message.kind == "lost":
            self.display.lost(trial, message.note)
            return
        self.running.remove(trial.address)
        if message.kind == "stop":
            raise AssayError(message.note)
        if message.kind == "died":
            self._died(trial, message.note)
        elif message.kind == "busy":
            self.waiting[trial.address] = trial
            self.held[trial.address] = time.monotonic() + ASK_AGAIN
            self.display.held(trial)
        elif message.failure is not None:
            self._fail(trial, message.failure)
        else:
            self._done(self.store.entry(trial))

    def _done(self, entry: Entry) -> None:
        result = entry.result()
        if result is None:
            self._fail(entry.trial, Failure("died", f"its files in {entry.folder} are gone"))
            return
        self.store.publish(entry.trial)
        self.results.keep(result)
        self.display.end(entry.trial, None)

    def _died(self, trial: Trial, how: str) -> None:
        """Keep that a trial's process was lost, unless its record is there."""
        entry = self.store.entry(trial)
        with entry.lock() as held:
            if entry.result() is not None:
                self._done(entry)
                return
            failure = Failure(
                kind="died",
                message=f"its process died: {how}",
                traceback=_tail(entry),
                when=datetime.now(UTC).isoformat(timespec="seconds"),
                host=platform.node(),
            )
            if held:  # else another process has taken it up in this moment
                entry.fail(failure)
        self._fail(trial, failure)

    def _fail(self, trial: Trial, failure: Failure) -> None:
        self.results.failures[trial.address] = failure
        self.display.end(trial, failure)


def _tail(entry: Entry) -> str:
    """Return the last lines that a trial's process printed."""
    path = entry.folder / LOG
    if not path.is_file():
        return ""
    return "\n".join(path.read_text(errors="replace").splitlines()[-40:])
