"""The local engine: runs the trials of a plan in worker processes, each exactly once."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime

from assay.errors import AssayError
from assay.runs.display import Display, make_display
from assay.runs.entry import LOG, Entry, Failure
from assay.runs.pool import Pool, Worker, ending
from assay.runs.results import Results
from assay.runs.store import Store
from assay.runs.trial import Outcome, Trial, torch_version
from assay.runs.worker import Message, Workspace

__all__ = ["Outcome", "Plan", "Results", "Workspace", "execute"]

Plan = Callable[[Results], Sequence[Trial]]

LISTEN = 0.2  # seconds between two looks at the workers, when none of them says anything
ASK_AGAIN = 0.3  # seconds between two looks at a trial that another process holds


def execute(
    plan: Plan | Iterable[Trial],
    store: Store,
    *,
    workers: int | None = None,
    progress: bool = True,
    rerun_failed: bool = False,
) -> Results:
    """Run what a plan asks for and what that needs; what the store holds already is not run again.

    Args:
        plan: the trials, or a function from what is done to the trials wanted, called again when
            all that it asked for has ended, until it adds nothing.
        store: where results are kept, and looked for.
        workers: trials at a time; None: as many as the cores hold at the trials' own number of
            threads. The results are the same for any number.
        progress: show a live line on a terminal, or a few plain ones; False: nothing.
        rerun_failed: run trials again that failed before. Those whose process died are run again
            in any case.

    Returns:
        The results, and the failures: a failed trial does not stop the others.

    Raises:
        AssayError: the store cannot be written, or its disk is full.
        KeyboardInterrupt: after the workers were stopped; the same call goes on from there.
    """
    store.prepare()
    if not callable(plan):
        wanted = tuple(plan)
        return execute(
            lambda _: wanted, store, workers=workers, progress=progress, rerun_failed=rerun_failed
        )
    with Pool(store.root, workers) as pool, make_display(progress) as display:
        run = _Execution(store, pool, display, rerun_failed=rerun_failed)
        while run.add(plan(run.results)):
            run.finish()
        return run.results


class _Execution:
    """The state of one call of `execute`."""

    def __init__(self, store: Store, pool: Pool, display: Display, *, rerun_failed: bool) -> None:
        self.store = store
        self.pool = pool
        self.display = display
        self.results = Results()
        self.waiting: dict[str, Trial] = {}  # in the order they are to be started
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
            to_do=len(self.waiting),
            failed=len(self.results.failures) - failed,
        )
        return len(self.results.trials) > known

    def _add(self, trial: Trial) -> int:
        """Take up one trial after those it needs; return how many were there already."""
        if trial.address in self.results.trials:
            return 0
        if trial.torch != self.torch:
            raise AssayError(
                f"trial {trial.label or trial.address[:12]} is of torch {trial.torch}, but "
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
            self.results.keep(result)
            return found + 1
        failure = entry.failure()
        if failure is not None and failure.kind != "died" and not self.again:
            self.results.failures[trial.address] = failure
        else:
            self.waiting[trial.address] = trial
        return found

    def finish(self) -> None:
        """Run until every trial has ended, well or badly."""
        while self.waiting or self.pool.busy:
            self._start_what_can()
            for hand, message in self.pool.listen(LISTEN):
                if message is None:
                    self._lost(hand)
                else:
                    self._heard(hand, message)
            self.display.tick()

    def _start_what_can(self) -> None:
        now = time.monotonic()
        for address, trial in list(self.waiting.items()):
            failed = next((n for n in trial.needs if n.address in self.results.failures), None)
            if failed is not None:
                del self.waiting[address]
                reason = self.results.failures[failed.address].message
                name = failed.label or failed.address[:12]
                self._fail(trial, Failure("needs", f"it needs {name}, which failed: {reason}"))
                continue
            if any(need not in self.results for need in trial.needs):
                continue
            if self.held.get(address, now) > now:
                continue
            if not self.pool.give(trial, again=self.again and address not in self.held):
                return
            del self.waiting[address]
            self.display.begin(trial)

    def _heard(self, hand: Worker, message: Message) -> None:
        trial = hand.trial
        if trial is None or message.kind == "ready":
            return
        if message.kind == "progress":
            self.display.update(trial, message.fraction, message.note)
            return
        hand.trial = None
        if message.kind == "stop":
            raise AssayError(message.note)
        if message.kind == "busy":
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
        self.results.keep(result)
        self.display.end(entry.trial, None)

    def _lost(self, hand: Worker) -> None:
        """Go on without a worker that died; its trial has failed, unless its record is there."""
        trial = hand.trial
        code = self.pool.dismiss(hand, patience=1.0)
        how = ending(code)
        if not hand.ready and code > 0:
            raise AssayError(f"a worker process could not start: {how}; its message is above")
        if trial is None:
            return
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
