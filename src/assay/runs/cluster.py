"""The Ray engine: workers on the nodes of a cluster, kept while there may be more for them.

Plain actors, no Ray Tune. The engine itself says on which node a worker is, so that it knows how
much room each node has, and leaves out those that cannot be used. A worker is one process, which
imports torch when a trial first asks for it and keeps it; it writes the store itself, through a
folder that every node sees. How far a trial is, the engine reads there too (`progress.json`).
"""

from __future__ import annotations

import contextlib
import os
import platform
import queue
import sys
import sysconfig
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

from assay.disk import write_atomic
from assay.errors import AssayError
from assay.runs.display import say
from assay.runs.joining import (
    abandon,
    asked,
    code,
    connect,
    head_of,
    how_lost,
    last_line,
    load_ray,
)
from assay.runs.local import KEEP_MEMORY
from assay.runs.store import Store
from assay.runs.trial import Trial, torch_version
from assay.runs.worker import Message, variables, work

TRIES = 3  # how often a trial is begun whose worker or node is lost
LOOK_EVERY = 1.0  # seconds between two looks at the nodes, and at how far trials are
ANSWER_WITHIN = 5.0  # seconds that the head may take to say which nodes there are
HEAD_WITHIN = 30.0  # seconds that it may be away: after 60 Ray would end this process
SEEN_WITHIN = 5.0  # seconds that a network file system may take to show a new file


class Shape(NamedTuple):
    """What a trial takes of a node."""

    cpus: int
    gpus: int


def shape_of(trial: Trial) -> Shape:
    return Shape(trial.threads, int(trial.device == "cuda"))


@dataclass(frozen=True)
class Expected:
    """What must be the same where a worker runs as where the engine does.

    Attributes:
        root: the store.
        token: the name of a file in the store, and what it holds.
        torch: the version of torch.
        code: the digest of assay's source.
    """

    root: str
    token: str
    torch: str
    code: str

    def misfit(self) -> str:
        """Return why trials may not run here; empty: they may."""
        deadline = time.monotonic() + SEEN_WITHIN
        token = Path(self.root) / self.token
        while not (token.is_file() and token.read_text() == self.token):
            if time.monotonic() > deadline:
                return f"it does not see the store {self.root}"
            time.sleep(0.1)
        if self.torch != torch_version():
            return f"it has torch {torch_version()}, not {self.torch}"
        return "" if self.code == code() else "it has another assay"


@dataclass(frozen=True)
class Misfit:
    """The answer of a worker that did not begin its trial: why its node cannot be used."""

    why: str


class Remote:
    """A worker, in its own process on some node."""

    def __init__(self, expected: Expected) -> None:
        self.expected = expected
        self.misfit: str | None = None  # not known yet

    def run(self, trial: Trial, again: bool) -> Message | Misfit:
        """Run a trial; return what there is to say at its end."""
        if self.misfit is None:
            self.misfit = self.expected.misfit()
        if self.misfit:
            return Misfit(f"{platform.node()}: {self.misfit}")
        try:
            return work(Store(self.expected.root), trial, _silent, again=again)
        except AssayError as error:
            return Message("stop", note=str(error))


def _silent(message: Message) -> None:
    """Say nothing: how far a trial is stands in its folder."""
    del message


@dataclass
class Hand:
    """One worker, seen from the engine; `ref` is the answer it owes."""

    actor: Any
    node: str
    shape: Shape
    trial: Trial | None = None
    again: bool = False
    ref: Any = None


class Ray:
    """Runs trials on the nodes of a Ray cluster. An `Engine`.

    Args:
        root: the store, in a folder that every node sees at the same path.
        address: "host:port" of the cluster's head, or "auto" on one of its nodes; None: what
            RAY_ADDRESS says, or else Ray is started on this machine, for as long as the engine is.
        workers: how many trials may run at once; None: as many as the nodes hold at the trials'
            own number of threads, and one for each GPU.
    """

    def __init__(self, root: Path, address: str | None = None, workers: int | None = None) -> None:
        if workers is not None and workers < 1:
            raise AssayError(f"workers must be at least 1, got {workers}")
        self.root = root
        self.address = address or os.environ.get("RAY_ADDRESS") or None
        self.workers = workers
        self.hands: list[Hand] = []
        self.lost: list[tuple[Trial, bool]] = []  # to be begun again
        self.begun: Counter[str] = Counter()  # by address
        self.left_out: dict[str, str] = {}  # nodes that cannot be used, and why
        self.nodes: dict[str, Shape] = {}
        self.seen: dict[str, Shape] = {}  # also those that are gone
        self.looked = self.read = float("-inf")
        self.ray: Any = None
        self.ours = False  # whether we connected, and so disconnect
        self.head = ""
        self.asked: queue.SimpleQueue[list[dict[str, Any]] | None] | None = None  # for its nodes
        self.away: float | None = None  # since when it has not answered
        self.gone = False
        self.expected = Expected(str(root), f".cluster-{uuid4().hex}", torch_version(), code())

    def submit(self, trial: Trial, *, again: bool) -> bool:
        """Give a trial to a worker, if a node has room for it now; return whether one had.

        Raises:
            AssayError: the cluster is out of reach, or none of its nodes can ever run the trial.
        """
        self._connect()
        return not self.lost and self._begin(trial, again)  # those that were lost come first

    def events(self, seconds: float) -> list[tuple[Trial, Message]]:
        """Wait for what the workers say, at most so long; begin again what was lost.

        Raises:
            AssayError: no node can run the trials, or the head of the cluster is gone.
        """
        if self.ray is not None:
            self._look()
        self.lost = [one for one in self.lost if not self._begin(*one)]
        busy = {h.ref: (h, h.trial) for h in self.hands if h.trial is not None}
        if not busy:
            time.sleep(seconds if self.lost else 0)
            return []
        ready, _ = self.ray.wait(list(busy), num_returns=1, timeout=seconds)
        if ready:
            ready, _ = self.ray.wait(list(busy), num_returns=len(busy), timeout=0)
        heard = [said for ref in ready for said in self._answer(*busy[ref])]
        return heard + self._progress()

    def stop(self) -> None:
        """End all workers, and Ray itself if it was started here."""
        for hand in list(self.hands) if not self.gone else ():
            self._dismiss(hand)
        if self.ray is None:
            return
        (self.root / self.expected.token).unlink(missing_ok=True)
        if self.gone:
            abandon(self.ray)
        elif self.ours:
            self.ray.shutdown()
        self.ray = None

    # -- the cluster -----------------------------------------------------------------------------

    def _connect(self) -> None:
        if self.ray is not None:
            return
        ray = load_ray(alone=self.address is None)
        if not ray.is_initialized():
            connect(ray, self.address)
            self.ours = True
        self.ray, self.head = ray, head_of(ray)
        write_atomic(self.root / self.expected.token, self.expected.token)

    def _look(self) -> None:
        """See which nodes there are, at most once in `LOOK_EVERY`.

        Raises:
            AssayError: the head of the cluster has not answered for `HEAD_WITHIN`.
        """
        if time.monotonic() - self.looked < LOOK_EVERY:
            return
        self.looked = time.monotonic()
        found = self._ask()
        if found is None:
            return
        self.nodes = {
            node["NodeID"]: Shape(*(int(node["Resources"].get(key, 0)) for key in ("CPU", "GPU")))
            for node in found
            if node["Alive"] and node["NodeID"] not in self.left_out
        }
        self.seen |= self.nodes
        for hand in list(self.hands):
            if hand.trial is None and hand.node not in self.nodes:
                self._dismiss(hand)

    def _ask(self) -> list[dict[str, Any]] | None:
        """Return what the head says of the nodes; None: it does not answer, and is waited for."""
        if self.asked is None:
            self.asked = asked(self.ray.nodes)
        began, found = time.monotonic(), None
        with contextlib.suppress(queue.Empty):
            found = self.asked.get(timeout=ANSWER_WITHIN)
            self.asked = None
        if found is not None:
            self.away = None
            return found
        if self.away is None:
            self.away = began
            say(f"the head of the Ray cluster, {self.head}, does not answer; waiting for it")
        waited = time.monotonic() - self.away
        if waited > HEAD_WITHIN:
            self.gone = True
            raise AssayError(
                f"the head of the Ray cluster, {self.head}, has not answered for {waited:.0f} s; "
                "what is finished is kept, and a trial that was begun goes on from its "
                "checkpoint: start the head, and give the same command again"
            )
        return None

    def _begin(self, trial: Trial, again: bool) -> bool:
        """Give a trial to a worker that is idle, or to a new one; return whether it could be."""
        self._look()
        if self.away is not None:
            return False
        shape = shape_of(trial)
        if (
            self.workers is not None
            and sum(h.trial is not None for h in self.hands) >= self.workers
        ):
            return False
        idle = [hand for hand in self.hands if hand.trial is None]
        hand = next((hand for hand in idle if hand.shape == shape), None)
        if hand is None:
            node = self._room(shape)
            for other in idle:  # of another shape: its room is needed
                if node is None:
                    self._dismiss(other)
                    node = self._room(shape)
            if node is None:
                self._check(trial, shape)
                return False
            hand = self._start(node, shape)
        hand.trial, hand.again = trial, again
        self.begun[trial.address] += 1
        hand.ref = hand.actor.run.remote(trial, again)
        return True

    def _room(self, shape: Shape) -> str | None:
        """Return the node that has most room, if it is enough."""
        free = dict(self.nodes)
        for hand in self.hands:
            if hand.node in free:
                had = free[hand.node]
                free[hand.node] = Shape(had.cpus - hand.shape.cpus, had.gpus - hand.shape.gpus)
        node = max(free, key=lambda name: free[name], default=None)
        fits = [name for name in free if _holds(free[name], shape)]
        return node if node in fits else max(fits, key=lambda name: free[name], default=None)

    def _check(self, trial: Trial, shape: Shape) -> None:
        """Refuse a trial that no node has ever had the room for; others wait for a node."""
        usable = [had for name, had in self.seen.items() if name not in self.left_out]
        if any(_holds(had, shape) for had in usable):
            return
        if self.left_out and not usable:
            why = "; ".join(sorted(set(self.left_out.values())))
            raise AssayError(
                f"no node of the cluster can run trials: {why}. Every node needs the same assay "
                "and torch, and the store in a folder that all of them share"
            )
        most = max(usable, default=Shape(0, 0))
        raise AssayError(
            f"{trial.title} takes {shape.cpus} CPUs and {shape.gpus} GPUs of one node, and the "
            f"largest has {most.cpus} and {most.gpus}; add a node, or give fewer --threads"
        )

    def _start(self, node: str, shape: Shape) -> Hand:
        on = self.ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node, soft=False)
        here = [path for path in sys.path if not path.startswith(_INSTALLED)]
        environment = {
            **KEEP_MEMORY,
            **variables(shape.cpus),
            "PYTHONPATH": os.pathsep.join(here),  # studies of a script's own folder
        }
        actor = self.ray.remote(Remote).options(
            num_cpus=shape.cpus,
            num_gpus=shape.gpus,
            max_restarts=0,
            scheduling_strategy=on,
            runtime_env={"env_vars": environment},
        )
        hand = Hand(actor.remote(self.expected), node, shape)
        self.hands.append(hand)
        return hand

    def _dismiss(self, hand: Hand) -> None:
        self.hands.remove(hand)
        self.ray.kill(hand.actor)

    # -- what workers say ------------------------------------------------------------------------

    def _answer(self, hand: Hand, trial: Trial) -> Sequence[tuple[Trial, Message]]:
        """Return what there is to say of a trial whose worker has answered, or is gone."""
        try:
            answer = self.ray.get(hand.ref)
        except Exception as error:  # Ray's own are many, and what a task raises is not among them
            self._dismiss(hand)
            text = str(error)
            if "creation task" in text or "runtime_env" in text or "ModuleNotFound" in text:
                return self._leave_out(hand, trial, f"a worker could not start: {last_line(text)}")
            return self._again(hand, trial, how_lost(error))
        if isinstance(answer, Misfit):
            self._dismiss(hand)
            return self._leave_out(hand, trial, answer.why)
        hand.trial = hand.ref = None
        return [(trial, answer)]

    def _leave_out(self, hand: Hand, trial: Trial, why: str) -> Sequence[tuple[Trial, Message]]:
        """Do without a node from now on."""
        new = hand.node not in self.left_out
        self.left_out[hand.node] = why
        self.nodes.pop(hand.node, None)
        self.begun[trial.address] -= 1  # it was not begun
        self.lost.append((trial, hand.again))
        return [(trial, Message("lost", note=f"a node is left out: {why}"))] if new else []

    def _again(self, hand: Hand, trial: Trial, why: str) -> Sequence[tuple[Trial, Message]]:
        """Begin a trial again whose worker is gone, unless that has been done often enough."""
        self.looked = float("-inf")  # its node may be gone too
        times = self.begun[trial.address]
        if times >= TRIES:
            return [(trial, Message("died", note=f"{why}, the last of {TRIES} times"))]
        self.lost.append((trial, hand.again))
        said = f"{why}; it is begun again (time {times + 1} of {TRIES})"
        return [(trial, Message("lost", note=said))]

    def _progress(self) -> list[tuple[Trial, Message]]:
        if time.monotonic() - self.read < LOOK_EVERY:
            return []
        self.read = time.monotonic()
        store, heard = Store(self.root), []
        for trial in (hand.trial for hand in self.hands if hand.trial is not None):
            if state := store.entry(trial).progress():
                message = Message("progress", float(state["fraction"]), str(state.get("note", "")))
                heard.append((trial, message))
        return heard


_INSTALLED = tuple(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib"))


def _holds(room: Shape, shape: Shape) -> bool:
    return room.cpus >= shape.cpus and room.gpus >= shape.gpus
