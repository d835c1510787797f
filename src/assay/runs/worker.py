"""A worker process: runs one trial after another, and ends when the process that started it does.

`local` starts it, with its number of threads already in the environment, so that whatever a task
imports (torch) finds it there.
"""

from __future__ import annotations

import ctypes
import faulthandler
import importlib
import os
import platform
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

from assay.disk import DiskFull, disk_is_full, write_atomic
from assay.errors import AssayError, told
from assay.runs.entry import CHECKPOINT, LOG, PROGRESS, SCHEMA, Entry, Failure, Result
from assay.runs.environment import accelerator, forget_peak, peak_memory, surroundings
from assay.runs.files import to_json
from assay.runs.store import Store
from assay.runs.tasks import FUNCTIONS, function_of
from assay.runs.trial import Outcome, Trial

SHOW_EVERY, NOTE_EVERY = 0.2, 5.0  # seconds between two messages, and two writes of progress.json


THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


def variables(threads: int) -> dict[str, str]:
    """Return what a process that works on trials of so many threads has in its environment.

    They are read when it starts, or when torch is imported: none of them can be set later.
    """
    return {
        **dict.fromkeys(THREAD_VARIABLES, str(threads)),
        "PYTHONHASHSEED": "0",  # sets of str have one order, in every worker
        # What cuBLAS needs to be deterministic; read when CUDA starts.
        "CUBLAS_WORKSPACE_CONFIG": os.environ.get("CUBLAS_WORKSPACE_CONFIG", ":4096:8"),
    }


@dataclass(frozen=True)
class Message:
    """What is said of a trial while it runs and when it ends.

    `done` and `failed` are on the disk already when they are said. `busy`: another process holds
    the trial. `stop`: the store cannot be used (a full disk); `died`: the process that worked on
    the trial is gone; `note` says why. `lost`: the same, but the engine begins the trial again.
    `ready`: a worker process has started.
    """

    kind: Literal["ready", "progress", "done", "failed", "busy", "stop", "died", "lost"]
    fraction: float = 0.0
    note: str = ""
    failure: Failure | None = None


class Workspace:
    """What a task may use beside its trial.

    Attributes:
        folder: the trial's folder; files that the task writes here belong to its result.
        needs: the results of `trial.needs`, in that order.
    """

    def __init__(
        self,
        folder: Path,
        needs: tuple[Result, ...] = (),
        report: Callable[[float, str], None] | None = None,
    ) -> None:
        self.folder = folder
        self.needs = needs
        self._report = report

    @cached_property
    def checkpoint(self) -> Path:
        """A folder for what the task needs to go on after it was stopped; it is empty at first, and
        deleted on success. Write in it atomically."""
        folder = self.folder / CHECKPOINT
        # Not before it is asked for: to remove a folder takes ext4 milliseconds (docs/log.md).
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def path(self, name: str) -> Path:
        """Return where to write a file of the result; its folders are made."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def progress(self, fraction: float, note: str = "") -> None:
        """Say how much of the trial is done (0 to 1), and with what it is busy; cheap."""
        if self._report is not None:
            self._report(min(1.0, max(0.0, fraction)), note)


Task = Callable[[Trial, Workspace], Outcome]


def load_task(name: str) -> Task:
    """Return the function that a task's name, or "module:function", means.

    Raises:
        AssayError: there is no such module or function.
    """
    module_name, _, function_name = function_of(name).partition(":")
    if not function_name or module_name == "__main__":
        raise AssayError(
            f"task {name!r}: it is neither one of {', '.join(FUNCTIONS)} nor 'module:function' "
            "in a module that can be imported"
        )
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and module_name.startswith(error.name):
            raise AssayError(f"task {name!r}: there is no module {error.name!r}") from error
        raise
    task: Task | None = getattr(module, function_name, None)
    if task is None:
        raise AssayError(f"task {name!r}: {module_name} has no function {function_name!r}")
    return task


Run = Callable[[Task, Trial, Workspace], Outcome]
"""What runs a task, where it is not simply called."""


def work(
    store: Store,
    trial: Trial,
    tell: Callable[[Message], None],
    *,
    again: bool,
    run: Run | None = None,
) -> Message:
    """Run a trial and keep what comes of it, unless another process holds it or has done it.

    Args:
        again: also run it if it failed before.
        run: what runs its task; None: it is called, and what it prints goes to the trial's log.

    Raises:
        AssayError: the store cannot be written; `DiskFull` where that is why. The trial has not
            failed, and nothing half-written is left.
    """
    entry = store.entry(trial)
    with entry.lock() as held:
        if not held:
            return Message("busy")
        if entry.result(verify=True) is not None:
            return Message("done")
        failure = entry.failure()
        if failure is not None and failure.kind != "died" and not again:
            return Message("failed", failure=failure)
        try:
            attempt(store, entry, tell, run)
        except Exception as error:
            if disk_is_full(error):
                entry.clear()
                raise full_disk(store, error) from error
            failure = failure_of(error)
            entry.fail(failure)
            return Message("failed", failure=failure)
        return Message("done")


def attempt(
    store: Store, entry: Entry, tell: Callable[[Message], None], run: Run | None = None
) -> None:
    """Run the task of a trial whose lock is held."""
    started, clock = datetime.now(UTC), time.perf_counter()
    forget_peak()
    before = entry.progress() if entry.has_checkpoint() else {}
    entry.begin()
    resumed = before.get("resumed", 0) + 1 if entry.has_checkpoint() else 0
    spent = float(before.get("seconds", 0.0))
    shown = -SHOW_EVERY
    noted = -NOTE_EVERY if resumed else 0.0  # of a new trial there is nothing to note at first

    def report(fraction: float, note: str) -> None:
        nonlocal shown, noted
        now = time.perf_counter() - clock
        if now - noted >= NOTE_EVERY:
            noted = now
            state = {"resumed": resumed, "seconds": spent + now, "fraction": fraction, "note": note}
            said = to_json({"schema": SCHEMA, **state})
            write_atomic(entry.folder / PROGRESS, said, durable=False)
        if now - shown >= SHOW_EVERY:
            shown = now
            tell(Message("progress", fraction, note))

    needs = []
    for need in entry.trial.needs:
        result = store.result(need)
        if result is None:
            raise AssayError(f"trial {need.label or need.short}, which it needs, is gone")
        needs.append(result)
    report(float(before.get("fraction", 0.0)), str(before.get("note", "")))
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    space = Workspace(entry.folder, tuple(needs), report)
    if run is not None:
        outcome = run(load_task(entry.trial.task), entry.trial, space)
    else:
        with logged(entry.folder / LOG):
            outcome = load_task(entry.trial.task)(entry.trial, space)
    if not isinstance(outcome, Outcome):
        raise TypeError(f"task {entry.trial.task} returned {type(outcome).__name__}, no Outcome")
    entry.finish(
        outcome,
        {
            **surroundings(),
            "accelerator": accelerator(),
            "started": started.isoformat(timespec="seconds"),
            "seconds": spent + time.perf_counter() - clock,
            "timings": dict(outcome.timings),
            "peak_memory": peak_memory(),
            "worker": os.getpid(),
            "resumed": resumed,
            **({"processes": processes} if processes > 1 else {}),
        },
    )


@contextmanager
def logged(path: Path) -> Iterator[None]:
    """Send what the process prints, also from C, to a file: a live display owns the terminal."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        os.dup2(file, 1)
        os.dup2(file, 2)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, handle in enumerate(kept, start=1):
            os.dup2(handle, number)
            os.close(handle)
        os.close(file)


def failure_of(error: BaseException) -> Failure:
    """Return the record of an exception that a task raised."""
    return Failure(
        kind="error" if isinstance(error, AssayError) else "exception",
        message=told(error),
        traceback="".join(traceback.format_exception(error)),
        when=datetime.now(UTC).isoformat(timespec="seconds"),
        host=platform.node(),
    )


def full_disk(store: Store, error: BaseException) -> DiskFull:
    """Return what to tell the user about a full disk."""
    if isinstance(error, DiskFull):
        return DiskFull(f"{error}: it goes on from here")
    return DiskFull(
        f"no space left on the disk while a trial of {store.root} was running ({error}); "
        "free some and give the same command again: it goes on from here"
    )


def die_with(parent: int) -> None:
    """End this process at once when the process that started it is gone, however it went."""
    if sys.platform == "linux":
        death_signal = 1  # PR_SET_PDEATHSIG, from <linux/prctl.h>
        ctypes.CDLL(None).prctl(death_signal, signal.SIGKILL)
    end_with(parent)  # everywhere else, and on Linux for the moment before the call above


def end_with(parent: int) -> None:
    """End this process within a second after the process that started it is gone. The kernel's own
    signal would come when the *thread* that started it ends, which is right for our workers alone.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main(descriptor: int, parent: int, root: str) -> None:
    """Serve the engine at the other end of a socket until it hangs up.

    Args:
        descriptor: the file descriptor of the socket.
        parent: the engine's process id.
        root: the store.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the engine, which stops us
    die_with(parent)
    faulthandler.enable()
    connection: Connection[Any, Any] = Connection(descriptor)
    store = Store(root)

    def tell(message: Message) -> None:
        try:
            connection.send(message)
        except OSError:  # the engine is gone: that is no failure of the trial
            os._exit(1)

    tell(Message("ready"))
    while True:
        try:
            trial, again = connection.recv()
        except (EOFError, OSError):
            return
        try:
            tell(work(store, trial, tell, again=again))
        except AssayError as error:
            tell(Message("stop", note=str(error)))
