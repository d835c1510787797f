"""The Ray engine: against a Ray made up of one process here, and (slow) against real clusters."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from types import SimpleNamespace

import numpy as np
import pytest
from test_runs_engine import contents_of, run

from assay.errors import AssayError
from assay.runs import cluster, joining
from assay.runs.cluster import Misfit, Ray
from assay.runs.engine import execute
from assay.runs.joining import how_lost
from assay.runs.store import Store
from assay.runs.worker import Message


class Gone(Exception):
    """What the made-up Ray raises for an answer that never comes."""


class Ref:
    """An answer to come."""

    def __init__(self, made, node, given) -> None:
        self.made, self.node, self.given = made, node, given


class OneProcess:
    """As much of Ray as the engine uses. A trial runs in this process when it is waited for.

    Args:
        nodes: the CPUs of each node.
        lose: how many answers never come: the node that should give it goes with it.
        blind: nodes that do not see the store.
    """

    def __init__(self, nodes, *, lose=0, blind=()) -> None:
        self.had = dict(nodes)
        self.lose, self.blind = lose, blind
        self.started: list[tuple[str, int]] = []
        self.killed = 0
        self.joined = self.left = False
        self.silent = iter(())  # whether its head gives no answer, for each time it is asked

    class util:
        class scheduling_strategies:
            @staticmethod
            def NodeAffinitySchedulingStrategy(node: str, soft: bool) -> SimpleNamespace:
                assert not soft
                return SimpleNamespace(node_id=node)

    def is_initialized(self) -> bool:
        return self.joined

    def init(self, **how) -> None:
        self.joined, self.how = True, how

    def shutdown(self) -> None:
        self.left = True

    def get_runtime_context(self) -> SimpleNamespace:
        return SimpleNamespace(gcs_address="10.0.0.1:6379")

    def nodes(self):
        if next(self.silent, False):
            raise Gone("the head does not answer")
        return [
            {"NodeID": name, "Alive": True, "Resources": {"CPU": float(cpus)}}
            for name, cpus in self.had.items()
        ]

    def remote(self, kind):
        def options(*, num_cpus, num_gpus, max_restarts, scheduling_strategy, runtime_env):
            assert (num_gpus, max_restarts) == (0, 0)
            assert runtime_env["env_vars"]["OMP_NUM_THREADS"] == str(num_cpus)
            node = scheduling_strategy.node_id

            def start(expected):
                self.started.append((node, num_cpus))
                made = kind(expected)
                call = SimpleNamespace(remote=lambda *given: Ref(made, node, given))
                return SimpleNamespace(run=call)

            return SimpleNamespace(remote=start)

        return SimpleNamespace(options=options)

    def wait(self, refs, *, num_returns, timeout):
        del timeout
        return refs[:num_returns], refs[num_returns:]

    def get(self, ref):
        if self.lose:
            self.lose -= 1
            self.had.pop(ref.node, None)
            raise Gone("The actor died because its node has died.")
        if ref.node in self.blind:
            return Misfit(f"{ref.node}: it does not see the store")
        return ref.made.run(*ref.given)

    def kill(self, actor) -> None:
        del actor
        self.killed += 1


@pytest.fixture
def ray(monkeypatch):
    """Puts a made-up Ray in the place of the real one."""

    def make(nodes, **how) -> OneProcess:
        made = OneProcess(nodes, **how)
        monkeypatch.setattr(cluster, "load_ray", lambda **_: made)
        monkeypatch.setattr(cluster, "connect", lambda *_: made.init())
        monkeypatch.setattr(cluster, "LOOK_EVERY", 0.0)
        return made

    return make


def test_the_same_bytes_as_the_local_engine_and_workers_are_kept(tmp_path, toy, ray):
    first = toy("walk", epochs=3)
    plan = [toy("walk", seed=seed, epochs=3, needs=[first]) for seed in range(5)]
    local, other = Store(tmp_path / "local"), Store(tmp_path / "other")
    run(plan, local)
    made = ray({"a": 1, "b": 1})
    run(plan, other, engine=Ray(other.root, "auto"))
    assert contents_of(local) == contents_of(other)
    assert sorted(made.started) == [("a", 1), ("b", 1)]
    assert made.killed == 2
    assert made.left
    left = sorted(path.name for path in other.root.iterdir())
    assert left == ["audits", "lock", "studies", "trials"]


def test_trials_of_a_lost_node_run_elsewhere_and_that_is_said(tmp_path, toy, ray, capsys):
    store, tally = Store(tmp_path / "runs"), tmp_path / "tally"
    plan = [toy("walk", seed=seed, epochs=1, tally=str(tally)) for seed in range(4)]
    ray({"a": 1, "b": 1}, lose=1)
    results = execute(plan, store, engine=Ray(store.root, "auto"))
    assert len(results) == 4
    assert len(tally.read_text().splitlines()) == 4
    assert "its node is gone; it is begun again (time 2 of 3)" in capsys.readouterr().err


def test_a_trial_that_loses_every_worker_fails_in_the_end(store, toy, ray):
    made = ray({"a": 1, "b": 1, "c": 1, "d": 1}, lose=3)
    lost, other = toy("walk", epochs=1), toy("walk", seed=1, epochs=1)
    results = run([lost, other], store, engine=Ray(store.root, "auto", workers=1))
    assert results.failure(lost).kind == "died"
    assert "its node is gone, the last of 3 times" in results.failure(lost).message
    assert other in results
    assert len(made.had) == 1


def test_a_node_that_does_not_see_the_store_is_left_out(store, toy, ray):
    made = ray({"a": 2, "b": 1}, blind=("a",))
    plan = [toy("walk", seed=seed, epochs=1) for seed in range(3)]
    assert len(run(plan, store, engine=Ray(store.root, "auto"))) == 3
    assert made.started[-1] == ("b", 1)
    ray({"a": 2}, blind=("a",))
    with pytest.raises(AssayError, match="no node of the cluster can run trials: a: it does not"):
        run([toy("walk", epochs=2)], store, engine=Ray(store.root, "auto"))


def test_a_worker_looks_whether_store_torch_and_code_are_the_same(store, monkeypatch):
    store.prepare()
    monkeypatch.setattr(cluster, "SEEN_WITHIN", 0.0)
    expected = Ray(store.root).expected
    assert "does not see the store" in expected.misfit()
    (store.root / expected.token).write_text(expected.token)
    assert expected.misfit() == ""
    monkeypatch.setattr(cluster, "torch_version", lambda: "1.0")
    assert expected.misfit() == f"it has torch 1.0, not {expected.torch}"
    monkeypatch.undo()
    monkeypatch.setattr(cluster, "code", lambda: "")
    assert expected.misfit() == "it has another assay"


def test_a_head_that_is_away_is_waited_for(store, toy, ray, capsys):
    made = ray({"a": 1})
    made.silent = iter([False, True, True])
    plan = [toy("walk", seed=seed, epochs=1) for seed in range(3)]
    assert len(run(plan, store, engine=Ray(store.root, "auto"))) == 3
    line = "assay: the head of the Ray cluster, 10.0.0.1:6379, does not answer; waiting for it\n"
    assert capsys.readouterr().err == line
    assert made.left


def test_a_head_that_is_gone_is_one_line_and_ray_is_asked_nothing_more(
    store, toy, ray, monkeypatch
):
    made = ray({"a": 1})
    heads, hung = iter([True] * 3), threading.Event()
    nodes = made.nodes
    made.nodes = lambda: nodes() if next(heads, False) else hung.wait()
    monkeypatch.setattr(cluster, "ANSWER_WITHIN", 0.05)
    monkeypatch.setattr(cluster, "HEAD_WITHIN", 0.0)
    monkeypatch.setattr(joining, "abandoned", [])
    plan = [toy("walk", seed=seed, epochs=1) for seed in range(9)]
    with pytest.raises(AssayError, match=r"6379, has not answered for 0 s; what is finished is"):
        run(plan, store, engine=Ray(store.root, "auto"))
    assert (made.killed, made.left) == (0, False)
    assert not list(store.root.glob(".cluster-*"))
    hung.set()
    assert joining.abandoned == [made]
    made.nodes = nodes
    done = store.survey()[0]["finished"]
    assert 0 < done < 9
    assert len(run(plan, store, engine=Ray(store.root, "auto"))) == 9


def test_a_cluster_that_wants_a_token_says_so_in_a_line():
    def init(**_):
        os.write(2, b"gcs_client.cc:210: Unauthenticated: RPC error: InvalidAuthToken\n")
        raise ConnectionError("Failed to connect to Ray cluster")

    pytest.importorskip("ray", reason="needs Ray: pip install 'assay[ray]'")
    with listening(bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))) as address:
        with pytest.raises(AssayError, match=r"wants a token.*give RAY_AUTH_MODE=token"):
            cluster.connect(SimpleNamespace(init=init), address)
        with pytest.raises(AssayError, match=r"cannot join a Ray cluster at .*no init"):
            cluster.connect(SimpleNamespace(init=lambda **_: fail("no init")), address)


def test_a_ray_that_does_not_start_here_says_so_in_a_line():
    """Ray's own error when a busy machine is slow to start it is a bare Exception."""

    def init(**_):
        raise Exception("The current node timed out during startup.")

    pytest.importorskip("ray", reason="needs Ray: pip install 'assay[ray]'")
    with pytest.raises(AssayError, match=r"not start on this machine .*startup.*--engine local"):
        cluster.connect(SimpleNamespace(init=init), None)


@pytest.mark.parametrize(
    ("says", "why"),
    [
        (b"", "timed out"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "what listens there is no Ray"),
    ],
)
def test_what_listens_and_is_no_ray_is_refused_in_time(says, why, monkeypatch):
    pytest.importorskip("ray", reason="needs Ray: pip install 'assay[ray]'")
    monkeypatch.setattr(joining, "REACH_WITHIN", 0.5)
    refused = pytest.raises(AssayError, match=rf"no Ray cluster answers at .*{why}")
    with listening(says) as address, refused:
        cluster.connect(SimpleNamespace(), address)


@contextmanager
def listening(says: bytes):
    """Answer every connection with the same bytes; yields where."""
    with socket.create_server(("127.0.0.1", 0)) as head, ExitStack() as lines:

        def answer() -> None:
            with suppress(OSError):  # it is closed
                while True:
                    line = lines.enter_context(head.accept()[0])
                    line.sendall(says)

        threading.Thread(target=answer, daemon=True).start()
        yield f"127.0.0.1:{head.getsockname()[1]}"


def fail(why: str) -> None:
    raise RuntimeError(why)


def test_room_is_kept_for_the_cpus_of_each_trial(store, toy, ray):
    made = ray({"a": 3, "b": 2})
    engine = Ray(store.root, "auto")
    store.prepare()
    taken = [engine.submit(toy("walk", seed=s, epochs=1, threads=2), again=False) for s in range(3)]
    assert taken == [True, True, False]
    assert engine.submit(toy("walk", seed=9, epochs=1), again=False), "a has one CPU left"
    assert sorted(made.started) == [("a", 1), ("a", 2), ("b", 2)]
    with pytest.raises(AssayError, match="takes 4 CPUs and 0 GPUs of one node, and the largest"):
        engine.submit(toy("walk", epochs=1, threads=4), again=False)
    engine.stop()


def test_idle_workers_make_room_for_trials_of_other_threads(store, toy, ray):
    made = ray({"a": 2})
    plan = [toy("walk", seed=s, epochs=1) for s in range(2)]
    first = toy("walk", seed=5, epochs=1, needs=plan, threads=2)
    assert len(run([first], store, engine=Ray(store.root, "auto"))) == 3
    assert made.started == [("a", 1), ("a", 1), ("a", 2)]


def test_how_far_a_trial_is_stands_in_the_store(store, toy, ray):
    ray({"a": 1})
    engine, trial = Ray(store.root, "auto"), toy("walk", epochs=1)
    store.prepare()
    engine.submit(trial, again=False)
    engine.ray.wait = lambda refs, **_: ([], refs)
    folder = store.entry(trial).folder
    folder.mkdir()
    state = '{"schema": 1, "resumed": 0, "seconds": 1, "fraction": 0.5, "note": "half"}'
    (folder / "progress.json").write_text(state)
    assert engine.events(0.0) == [(trial, Message("progress", 0.5, "half"))]
    engine.stop()


def test_a_cluster_out_of_reach_is_one_line(store):
    pytest.importorskip("ray", reason="needs Ray: pip install 'assay[ray]'")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    engine = Ray(store.root, f"127.0.0.1:{port}")
    with pytest.raises(AssayError, match=f"no Ray cluster answers at '127.0.0.1:{port}'") as found:
        cluster.connect(SimpleNamespace(), engine.address)
    assert "\n" not in str(found.value)
    with pytest.raises(AssayError, match="workers must be at least 1"):
        Ray(store.root, workers=0)


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(AssayError, match=r"pip install 'assay\[ray\]'"):
        cluster.load_ray(alone=False)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The actor died because its node has died. Node Id: 7f", "its node is gone"),
        (
            "Worker unexpectedly exits. Some common causes include: (1) the process was killed by "
            "the OOM killer due to high memory usage",
            "its worker process is gone",
        ),
        ("Task was killed due to the node running low on memory.", "memory ran out on its node"),
    ],
)
def test_how_a_worker_was_lost_in_words(text, words):
    assert how_lost(Gone(text)) == words


# -- real clusters ---------------------------------------------------------------------------------


@pytest.fixture
def nodes(monkeypatch):
    """A real cluster of a head without room and of nodes with it; nothing of it is left."""
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    from ray.cluster_utils import Cluster

    made = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 0,
            "include_dashboard": False,
            "object_store_memory": 80 * 2**20,
        },
    )
    made.add = lambda cpus=1: made.add_node(num_cpus=cpus, object_store_memory=80 * 2**20)
    yield made
    made.shutdown()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and subprocess.run(["pgrep", "-x", "raylet"]).returncode == 0:
        time.sleep(0.2)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_nodes_come_and_go_and_nothing_is_lost_or_written_twice(nodes, tmp_path, toy, capsys):
    first = toy("walk", epochs=2)
    plan = [
        toy("walk", seed=seed, epochs=6, pause=1.0, needs=[first], tally=str(tmp_path / "tally"))
        for seed in range(12)
    ]
    local, store = Store(tmp_path / "local"), Store(tmp_path / "cluster")
    a = nodes.add()
    nodes.add()
    killed = []

    class Disturbed(Ray):
        """Loses a node while trials run, and gains two."""

        def events(self, seconds):
            heard = super().events(seconds)
            if not killed and (tmp_path / "tally").exists():
                time.sleep(1.0)
                killed.append(len(list(self.root.glob("trials/*/record.json"))))
                nodes.remove_node(a, allow_graceful=False)
                nodes.add()
                nodes.add()
            return heard

    results = execute(plan, store, engine=Disturbed(store.root, nodes.address))
    assert killed[0] < 13
    assert len(results) == 13
    assert not results.failures
    assert "begun again" in capsys.readouterr().err
    begun = (tmp_path / "tally").read_text().splitlines()
    assert len(begun) in (12, 13), "only the trial of the node that was killed is begun twice"
    assert len({result.record["worker"] for result in results.values()}) >= 3, "of nodes added too"
    run(plan, local)
    assert contents_of(local) == contents_of(store)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_worker_has_its_environment_and_no_torch_and_a_dead_one_is_replaced(nodes, store, toy):
    nodes.add(2)
    plan = [toy("given"), toy("given", threads=2), toy("killed"), toy("refuse"), toy("loaded")]
    results = run(plan, store, engine=Ray(store.root, nodes.address))
    assert results[plan[0]].metrics["threads"] == "1"
    assert results[plan[1]].metrics["threads"] == "2"
    assert results[plan[0]].metrics["pid"] != os.getpid()
    assert not results[plan[4]].metrics["torch"]
    assert results.failure(plan[2]).message.endswith("the last of 3 times")
    assert results.failure(plan[3]).kind == "error"


SHARDS = {
    "attack": (
        *("attack", "robust.safetensors", "--attack", "pgd", "--eps", "0.1", "--steps", "40"),
        *("--shards", "set", "--quiet", "--out"),
    ),
    "detect": (
        *("detect", "robust.safetensors", "--detector", "knn", "--also", "energy", "odin"),
        *("--reference", "digits", "--shards", "set", "--quiet", "--out"),
    ),
}
"""Commands over eight shards, to which --out's folder is added."""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("which", SHARDS)
def test_shards_are_done_on_nodes_that_come_and_go_with_the_same_bytes(
    nodes, tmp_path, monkeypatch, which
):
    from networks.trained import FOLDER

    from assay.cli import app, call
    from assay.data import load_data

    digits = load_data("digits", split="test")
    (tmp_path / "set").mkdir()
    for k in range(8):
        rows = slice(125 * k, 125 * (k + 1))
        held = {"images": digits.images[rows].numpy(), "labels": digits.labels[rows].numpy()}
        np.savez(tmp_path / "set" / f"{k}.npz", **held)
    shutil.copy(FOLDER / "robust.safetensors", tmp_path)
    first = nodes.add()
    nodes.add()
    killed = []

    class Disturbed(Ray):
        """Loses a node once two trials are done, and gains one."""

        def events(self, seconds):
            heard = super().events(seconds)
            if not killed and len(list(self.root.glob("trials/*/record.json"))) >= 2:
                killed.append(first)
                nodes.remove_node(first, allow_graceful=False)
                nodes.add()
            return heard

    monkeypatch.setattr("assay.workflows.shards.Ray", Disturbed)
    monkeypatch.chdir(tmp_path)
    assert call(app, [*SHARDS[which], "local", "--workers", "1"]) == 0
    spread = ("--engine", "ray", "--ray-address", nodes.address)
    assert call(app, [*SHARDS[which], "spread", *spread]) == 0
    assert killed
    local, ray = (json.loads((tmp_path / out / f"{which}.json").read_text()) for out in OUTS)
    assert {**local, "seconds": 0} == {**ray, "seconds": 0}
    assert local["n"] == 1000
    kept, others = (contents_of(Store(tmp_path / out)) for out in OUTS)
    assert kept == others
    assert sum(name.endswith("metrics.json") for name in kept) == {"attack": 8, "detect": 9}[which]
    if which == "detect":
        one, other = ((tmp_path / out / "scores.csv").read_bytes() for out in OUTS)
        assert one == other
        assert one.count(b"\n") == 1 + 3 * 1000


OUTS = ("local", "spread")
