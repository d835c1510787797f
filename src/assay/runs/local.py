"""The local engine: worker processes, started when there is work, kept while there may be more."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from assay.errors import AssayError
from assay.runs.environment import cores
from assay.runs.trial import Trial
from assay.runs.worker import Message, variables

KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**32)}
"""glibc gives a freed tensor back to the kernel and faults the next one in page by page: two
workers then spend a quarter of their time in page faults (docs/log.md). A worker keeps what it
has."""


@dataclass
class Worker:
    """One worker process, seen from the engine."""

    process: subprocess.Popen[bytes]
    connection: Connection[Any, Any]
    threads: int
    ready: bool = False
    trial: Trial | None = None


class Local:
    """Runs trials in processes of this machine. An `Engine`.

    They are plain subprocesses rather than multiprocessing's: those import the script that the
    user started once more, which breaks scripts without a `__main__` guard.

    Args:
        root: the store.
        workers: how many trials may run at once; None: as many as the cores hold at the trials'
            own number of threads, and one at a time on a GPU.
    """

    def __init__(self, root: Path, workers: int | None = None) -> None:
        if workers is not None and workers < 1:
            raise AssayError(f"workers must be at least 1, got {workers}")
        self.root = root
        self.workers = workers
        self.hands: list[Worker] = []

    def submit(self, trial: Trial, *, again: bool) -> bool:
        """Start a trial on a worker, if there is room for it now; return whether there was."""
        room = self.workers or cores()
        used = sum(self._share(hand.trial) for hand in self.hands if hand.trial is not None)
        if used + self._share(trial) > room:
            return False
        idle = [hand for hand in self.hands if hand.trial is None]
        hand = next((hand for hand in idle if hand.threads == trial.threads), None)
        if hand is None:
            if idle and len(self.hands) >= room:
                self._dismiss(idle[0])
            hand = self._start(trial.threads)
        try:
            hand.connection.send((trial, again))
        except OSError:  # it died while it was idle
            self._dismiss(hand)
            return False
        hand.trial = trial
        return True

    def events(self, seconds: float) -> list[tuple[Trial, Message]]:
        """Wait for what the workers say, at most so long.

        Raises:
            AssayError: a worker could not even start.
        """
        heard = []
        for hand, message in self._listen(seconds):
            if message is None:
                message = self._lost(hand)
            trial = hand.trial
            if trial is None or message.kind == "ready":
                continue
            if message.kind != "progress":
                hand.trial = None
            heard.append((trial, message))
        return heard

    def stop(self) -> None:
        """End all workers: what is whole is on the disk; the rest is redone."""
        for hand in list(self.hands):
            self._dismiss(hand)

    def _listen(self, seconds: float) -> list[tuple[Worker, Message | None]]:
        """Return one message of each worker that has one; None instead: it has died."""
        heard: list[tuple[Worker, Message | None]] = []
        open_ones: Sequence[Any] = [hand.connection for hand in self.hands]
        speaking = wait(open_ones, seconds)
        for hand in list(self.hands):
            dead = hand.process.poll() is not None  # asked first: it may have spoken, then died
            try:
                if hand.connection in speaking or (dead and hand.connection.poll()):
                    message = hand.connection.recv()
                    hand.ready = True
                    heard.append((hand, message))
                elif dead:
                    heard.append((hand, None))
            except (EOFError, OSError):
                heard.append((hand, None))
        return heard

    def _lost(self, hand: Worker) -> Message:
        """Go on without a worker that died."""
        code = self._dismiss(hand, patience=1.0)
        how = ending(code)
        if not hand.ready and code > 0:
            raise AssayError(f"a worker process could not start: {how}; its message is above")
        return Message("died", note=how)

    def _dismiss(self, hand: Worker, *, patience: float = 0.0) -> int:
        """End a worker, if it does not end by itself in so many seconds; return its exit code."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            hand.process.wait(patience)
        hand.process.kill()
        hand.connection.close()
        self.hands.remove(hand)
        return hand.process.wait()

    def _share(self, trial: Trial) -> int:
        """Return how much of the room a trial takes; never more than there is."""
        if self.workers is not None:
            return 1
        return min(trial.threads, cores()) if trial.device == "cpu" else cores()

    def _start(self, threads: int) -> Worker:
        ours, theirs = socket.socketpair()
        number = theirs.fileno()
        code = (
            f"import sys; sys.path[:] = {sys.path!r}; from assay.runs.worker import main; "
            f"main({number}, {os.getpid()}, {str(self.root)!r})"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            env={**KEEP_MEMORY, **os.environ, **variables(threads)},
            stdin=subprocess.DEVNULL,
            pass_fds=(number,),
        )
        theirs.close()
        hand = Worker(process, Connection(ours.detach()), threads)
        self.hands.append(hand)
        return hand


def ending(code: int) -> str:
    """Return what the exit code of a process means."""
    if code == -signal.SIGKILL:
        return "it was killed by signal 9, probably by the kernel because memory ran out"
    if code < 0:
        return f"it ended by signal {-code} ({signal.Signals(-code).name})"
    return f"it ended with exit code {code}"
