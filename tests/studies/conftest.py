"""What the tests of studies share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from assay.runs import engine
from assay.runs.store import Store
from assay.runs.trial import Trial
from assay.runs.worker import Message, work


def silent(message: Message) -> None:
    del message


class Here:
    """Runs trials in this process, one after the other. An `Engine`: results are the same on any,
    and none has to start with `import torch`."""

    def __init__(self, root: Path, workers: int | None = None) -> None:
        del workers
        self.store = Store(root)
        self.ended: list[tuple[Trial, Message]] = []

    def submit(self, trial: Trial, *, again: bool) -> bool:
        if self.ended:
            return False
        self.ended.append((trial, work(self.store, trial, silent, again=again)))
        return True

    def events(self, seconds: float) -> Sequence[tuple[Trial, Message]]:
        del seconds
        told, self.ended = self.ended, []
        return told

    def stop(self) -> None:
        pass


@pytest.fixture(scope="package", autouse=True)
def _in_this_process() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "Local", Here)
        yield
