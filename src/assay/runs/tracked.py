"""Where experiments are tracked, as the processes that run trials are told it. Never imports torch.

It is no part of a trial: with it or without, addresses and results are the same.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from assay.errors import unknown

VARIABLE = "ASSAY_TRACK"
"""The environment variable by which worker processes are told."""

Tracker = Literal["tensorboard", "wandb", "trackio"]
"""What experiments can be tracked by; each writes to files of this machine."""


@dataclass(frozen=True)
class Tracking:
    """What tracks the trials of a study.

    Attributes:
        to: the trackers.
        folder: where they write.
        study: what groups the runs: the study's name and preset, or "train".
    """

    to: tuple[Tracker, ...]
    folder: str
    study: str

    @contextmanager
    def told(self) -> Iterator[None]:
        """Tell the processes that are started meanwhile."""
        before = os.environ.get(VARIABLE)
        os.environ[VARIABLE] = json.dumps(asdict(self))
        try:
            yield
        finally:
            os.environ.pop(VARIABLE)
            if before is not None:
                os.environ[VARIABLE] = before

    def mark(self, tracker: str, address: str) -> Path:
        """Return the file that is there once a tracker has the whole run of a trial."""
        return Path(self.folder) / "whole" / tracker / address[:12]


def tracking(to: Sequence[str], store: Path, study: str) -> Tracking | None:
    """Return what tracks a study whose trials are in `store`; None where nothing does.

    Raises:
        AssayError: for a tracker that is not known.
    """
    known = get_args(Tracker)
    for name in to:
        if name not in known:
            raise unknown("tracker", name, known)
    chosen: tuple[Tracker, ...] = tuple(dict.fromkeys(to))  # type: ignore[arg-type]
    return Tracking(chosen, str((store / "tracking").absolute()), study) if to else None


def current() -> Tracking | None:
    """Return what this process was told."""
    said = os.environ.get(VARIABLE)
    if not said:
        return None
    found = json.loads(said)
    return Tracking(tuple(found["to"]), found["folder"], found["study"])
