"""One command in the processes that `torchrun` or `accelerate launch` start.

The first process runs the command as ever: it alone tells, keeps the store and writes the product.
The others know no store. They wait for a trial that it begins, run its task with it, whose training
shares out the rows of every batch, and let go of what comes of it.
"""

from __future__ import annotations

import os
import queue
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from accelerate import PartialState
from torch import nn

from assay.errors import AssayError, told
from assay.runs.store import Store
from assay.runs.trial import Outcome, Trial
from assay.runs.worker import Message, Task, Workspace, end_with, load_task, logged, work
from assay.train.parallel import Peers, mixing, several
from assay.train.recipe import Recipe


class Together:
    """Runs trials in this process, the first, with the help of the others. An `Engine`."""

    def __init__(self, peers: Peers) -> None:
        self.peers = peers
        self.store: Store | None = None
        self.trial: Trial | None = None
        self.heard: queue.Queue[Message | AssayError] = queue.Queue()
        self.in_step = True
        """Whether the others wait to be told of a trial, or of the end."""

    def at(self, store: Store) -> Together:
        """Return this engine, which keeps what comes of its trials in a store."""
        self.store = Store(store.root)
        return self

    def submit(self, trial: Trial, *, again: bool) -> bool:
        """Begin a trial, unless another is running."""
        if self.trial is not None:
            return False
        self.trial = trial
        threading.Thread(target=self._work, args=(trial, again), daemon=True).start()
        return True

    def events(self, seconds: float) -> Sequence[tuple[Trial, Message]]:
        """Return what the trial has to say; wait for it, at most so long.

        Raises:
            AssayError: the store cannot be written.
        """
        trial = self.trial
        if trial is None:
            return []
        try:
            message = self.heard.get(timeout=seconds)
        except queue.Empty:
            return []
        if isinstance(message, AssayError):
            raise message
        if message.kind != "progress":
            self.trial = None
        return [(trial, message)]

    def stop(self) -> None:
        """Let the others end. Who is in the middle of a training is ended by the launcher, since
        this process then ends with an error."""
        if self.in_step and self.trial is None:
            self.in_step = False
            self.peers.of_first(None)

    def _work(self, trial: Trial, again: bool) -> None:
        assert self.store is not None
        try:
            self.heard.put(work(self.store, trial, self.heard.put, again=again, run=self._run))
        except AssayError as error:
            self.heard.put(error)
        except Exception as error:
            self.heard.put(AssayError(told(error)))

    def _run(self, task: Task, trial: Trial, space: Workspace) -> Outcome:
        self.in_step = False
        self.peers.of_first(trial)
        outcome = task(trial, space)
        self.in_step = True
        return outcome


def together(device: str, lead: Callable[[Together | None], int]) -> int:
    """Run a command: `lead` in the first process, and what its trainings need in the others. Where
    there are several, this does not return: the process ends.

    Args:
        device: cpu or cuda, the class that all compute on.
        lead: the command, given the engine of its trials; None: this process is alone.

    Raises:
        AssayError: what the command raises; a device that processes cannot share; several processes
            were asked for, and this is the only one.
    """
    if not several():
        refuse_one_of_several()
        return lead(None)
    end_with(os.getppid())  # a launcher that is killed leaves its processes behind
    peers = gathered(device)
    if peers.first:
        engine = Together(peers)
        try:
            code = lead(engine)
        finally:
            engine.stop()
    else:
        code = help_first(peers)
    if not code:
        PartialState().destroy_process_group()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # torch 2.13's gloo threads now and then abort an interpreter that ends


def refuse_one_of_several() -> None:
    """Refuse to train alone where `accelerate launch` was asked for several processes: without GPUs
    it starts one (1.14), and says where the others would find it.

    Raises:
        AssayError: how to start several.
    """
    if "ACCELERATE_MIXED_PRECISION" in os.environ and "MASTER_PORT" in os.environ:
        raise AssayError(
            "accelerate launch was asked for several processes and started one: without GPUs give "
            "it --multi_gpu, and assay train --device cpu; or start them by torchrun"
        )


def gathered(device: str) -> Peers:
    """Return the processes that were started together, each on its own device.

    Raises:
        AssayError: there is no way between them on this device, or there are not enough GPUs.
    """
    if device not in ("cpu", "cuda"):
        raise AssayError(f"several processes train on CPUs or on CUDA, not on {device}")
    if device == "cuda":
        number, there = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        if number >= there:
            raise AssayError(
                f"there are fewer GPUs on this machine ({there}) than processes: start fewer, or "
                "give --device cpu"
            )
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
        torch.cuda.set_device(number)
    return Peers(PartialState(cpu=device == "cpu"))


def shared(peers: Peers, trial: Trial, model: nn.Module, recipe: Recipe) -> Trial:
    """Return the trial as several processes train it.

    What sees more than one row at a time gives another network in another number of processes:
    then the number is part of the address. Otherwise the trial is that of one process.

    Raises:
        AssayError: for a training that processes cannot do together.
    """
    peers.check(recipe)
    if trial.needs:
        raise AssayError(
            f"{trial.needs[0].label} is trained first, which several processes cannot: train in one"
        )
    if not mixing(model, recipe):
        return trial
    # not model_copy, which would take along an address that was asked for before
    fields = {name: getattr(trial, name) for name in Trial.model_fields}
    return Trial(**{**fields, "versions": {**trial.versions, "processes": peers.count}})


def help_first(peers: Peers) -> int:
    """Run the task of each trial that the first process begins; return the exit code."""
    told_here: Trial | None = None  # the first process has the trials
    while True:
        try:
            trial = peers.of_first(told_here)
        except RuntimeError:  # the first is gone, and has said why
            return 2
        if trial is None:
            return 0
        with tempfile.TemporaryDirectory() as folder:
            try:
                with logged(Path(folder) / "log.txt"):
                    load_task(trial.task)(trial, Workspace(Path(folder)))
            except Exception as error:
                said = f"assay: process {peers.rank + 1} of {peers.count}: {told(error)}"
                print(said, file=sys.__stderr__, flush=True)
                return 2
