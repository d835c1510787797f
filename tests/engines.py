"""Trials in the process of the test: results are the same on any engine, and none has to start with
`import torch`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from assay.runs.engine import execute
from assay.runs.results import Results
from assay.runs.store import Store
from assay.runs.trial import Trial
from assay.runs.worker import Message, work

Work = Callable[..., Message]


class Here:
    """An `Engine` that runs a trial when it takes it up, one at a time.

    Args:
        root: the store.
        workers: what `Local` is told, whose place it can take.
        most: how many trials it runs before it is stopped as by Ctrl-C.
        do: what runs a trial, as `work` does.

    Attributes:
        taken: the trials that it took up.
        stopped: whether it was stopped.
    """

    def __init__(
        self,
        root: Path,
        workers: int | None = None,
        *,
        most: float = float("inf"),
        do: Work = work,
    ) -> None:
        del workers
        self.store, self.most, self.do = Store(root), most, do
        self.taken: list[Trial] = []
        self.said: list[tuple[Trial, Message]] = []
        self.stopped = False

    def submit(self, trial: Trial, *, again: bool) -> bool:
        if self.said:
            return False
        if len(self.taken) >= self.most:
            raise KeyboardInterrupt
        self.taken.append(trial)

        def tell(message: Message) -> None:
            self.said.append((trial, message))

        tell(self.do(self.store, trial, tell, again=again))
        return True

    def events(self, seconds: float) -> list[tuple[Trial, Message]]:
        del seconds
        said, self.said = self.said, []
        return said

    def stop(self) -> None:
        self.stopped = True

    def execute(self, *args: Any, engine: object, **settings: Any) -> Results:
        """Do as `execute`, whatever engine was to be."""
        del engine
        return execute(*args, engine=self, **settings)
