"""Tasks without torch, for the tests of the engine."""

# ruff: noqa: ARG001 (a task takes a trial and a workspace, whether or not it uses them)

from __future__ import annotations

import errno
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from assay.disk import write_atomic
from assay.errors import AssayError
from assay.runs.files import Arrays, write_arrays
from assay.runs.trial import Outcome, Trial
from assay.runs.worker import Workspace


def walk(trial: Trial, work: Workspace) -> Outcome:
    """A random walk, checkpointed after every epoch; starts where the trials it needs ended."""
    tally(trial)
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


def tally(trial: Trial) -> None:
    """Note in the file that the config names (if any) that the trial was begun, and by whom."""
    if name := trial.config.get("tally"):
        handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(handle, f"{trial.seed} {os.getpid()}\n".encode())
        os.close(handle)


def given(trial: Trial, work: Workspace) -> Outcome:
    """What the process was given."""
    print("hello from the task")
    return Outcome(
        {
            "threads": os.environ["OMP_NUM_THREADS"],
            "trim": os.environ["MALLOC_TRIM_THRESHOLD_"],
            "pid": os.getpid(),
        }
    )


def loaded(trial: Trial, work: Workspace) -> Outcome:
    """Whether the process that runs this has imported torch."""
    return Outcome({"torch": "torch" in sys.modules})


def sleep(trial: Trial, work: Workspace) -> Outcome:
    tally(trial)
    time.sleep(trial.config["seconds"])
    return Outcome({})


def refuse(trial: Trial, work: Workspace) -> Outcome:
    """A mistake of the user's."""
    raise AssayError("the labels do not fit; give 10 classes")


def crash(trial: Trial, work: Workspace) -> Outcome:
    """A mistake of ours, unless the file that the config names is there."""
    work.path("half.bin").write_bytes(b"half")
    if Path(trial.config.get("repaired", "")).is_file():
        return Outcome({"ok": True})
    raise ValueError("loss is not finite\nat step 3")


def killed(trial: Trial, work: Workspace) -> Outcome:
    """Dies as the system lets a process die when memory runs out."""
    print("memory is running out", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def full(trial: Trial, work: Workspace) -> Outcome:
    """Meets a full disk after half a file."""
    work.path("half.bin").write_bytes(b"half")
    try:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        raise RuntimeError("could not save") from error


def unstorable(trial: Trial, work: Workspace) -> Outcome:
    return Outcome({"curve": {"loss": [1.0, np.zeros(3)]}})
