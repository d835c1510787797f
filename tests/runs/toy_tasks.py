"""Tasks without torch, for the tests of the engine."""

from __future__ import annotations

import os
import signal
import sys
import time

import numpy as np

from assay.errors import AssayError
from assay.runs.files import write_arrays, write_atomic
from assay.runs.files import Arrays
from assay.runs.trial import Outcome, Trial
from assay.runs.worker import Workspace


def walk(trial: Trial, work: Workspace) -> Outcome:
    """A random walk, checkpointed after every epoch; starts where the trials it needs ended."""
    epochs, pause = trial.config["epochs"], trial.config.get("pause", 0.0)
    saved = work.checkpoint / "state.npz"
    if saved.exists():
        state = Arrays(saved)
        start, path = int(state["epoch"]), state["path"]
    else:
        start = 0
        path = np.array([sum(float(need.arrays["path"][-1]) for need in work.needs)])
    for epoch in range(start, epochs):
        step = np.random.default_rng([trial.seed, epoch]).normal()
        path = np.append(path, path[-1] + step)
        time.sleep(pause)
        write_arrays(saved, {"epoch": np.array(epoch + 1), "path": path})
        work.progress((epoch + 1) / epochs, f"epoch {epoch + 1}")
    write_atomic(work.path("model.bin"), path.tobytes())
    return Outcome(
        metrics={"end": float(path[-1]), "epochs": epochs, "nothing": float("nan")},
        arrays={"path": path, "steps": np.diff(path)},
    )


def threads(trial: Trial, work: Workspace) -> Outcome:
    """What the process was given."""
    return Outcome({"omp": os.environ["OMP_NUM_THREADS"], "pid": os.getpid()})


def refuse(trial: Trial, work: Workspace) -> Outcome:
    """A mistake of the user's."""
    raise AssayError("the labels do not fit; give 10 classes")


def crash(trial: Trial, work: Workspace) -> Outcome:
    """A mistake of ours, unless a file named in the config is there."""
    if os.path.exists(trial.config.get("repaired", "")):
        return Outcome({"ok": True})
    raise ValueError("loss is not finite\nat step 3")


def killed(trial: Trial, work: Workspace) -> Outcome:
    """Dies as the system lets a process die when memory runs out."""
    print("memory is running out", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError
