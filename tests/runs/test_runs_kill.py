"""Killed at any moment, shared between processes, interrupted: the bytes are the same."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_runs_engine import contents_of, run

from assay.runs.store import Store

PLAN = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
from assay.runs.engine import execute
from assay.runs.store import Store
from assay.runs.trial import Trial

root, workers, epochs, pause, tally = sys.argv[1:]
def walk(seed, *needs):
    config = {"epochs": int(epochs), "pause": float(pause), "tally": tally}
    return Trial(task="toy_tasks:walk", config=config, seed=seed, needs=needs)
plan = [walk(seed, walk(0)) for seed in (1, 2, 3)]
results = execute(plan, Store(root), workers=int(workers), progress=False)
print(len(results), sorted(f.message for f in results.failures.values()))
"""


@pytest.fixture
def start(python):
    """Starts processes that run the plan; none of them outlives the test."""
    *command, head = python
    started = []

    def start(root: Path, *, workers=2, epochs=6, pause=0.05, tally=""):
        words = map(str, (root, workers, epochs, pause, tally))
        process = subprocess.Popen(
            [*command, head + PLAN, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def ended(process) -> str:
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out.strip()


def alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has collected yet does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"


def gone(pids: list[int], within: float) -> bool:
    deadline = time.monotonic() + within
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not any(map(alive, pids))


def begun(tally: Path, process) -> list[int]:
    """Wait until a trial was begun, or nothing is left to do; return the ids of the workers."""
    while process.poll() is None:
        if tally.exists() and (lines := tally.read_text().splitlines()):
            return [int(line.split()[1]) for line in lines]
        time.sleep(0.01)
    return []


def checkpointed(root: Path, process) -> None:
    """Wait until some trial has a checkpoint, or nothing is left to do."""
    while process.poll() is None and not list(root.glob("trials/*/checkpoint/state.npz")):
        time.sleep(0.01)


@pytest.mark.parametrize("workers", [1, 2])
def test_kill_9_at_random_moments_gives_the_bytes_of_an_undisturbed_run(
    tmp_path: Path, start, workers
):
    settings = {"workers": workers, "epochs": 8, "pause": 0.04}
    calm, rough = tmp_path / "calm", tmp_path / "rough"
    tally = tmp_path / "tally"
    assert ended(start(calm, tally=tally, **settings)) == "4 []"
    tally.unlink()
    rng = random.Random(workers)
    for victim in ("engine", "engine", "worker"):
        tally.unlink(missing_ok=True)
        process = start(rough, tally=tally, **settings)
        pids = begun(tally, process)
        checkpointed(rough, process)
        time.sleep(rng.uniform(0, 0.2))
        if victim == "engine":
            process.kill()
            process.wait()
            assert gone(pids, within=2), "a worker went on computing after its engine was killed"
        else:
            with contextlib.suppress(ProcessLookupError, IndexError):
                os.kill(pids[-1], signal.SIGKILL)
        process.communicate(timeout=60)
    assert ended(start(rough, tally=tally, **settings)) == "4 []"
    assert contents_of(Store(rough)) == contents_of(Store(calm))
    records = [entry.result(verify=True).record for entry in Store(rough).trials()]
    assert len(records) == 4
    assert any(record["resumed"] for record in records), "nothing was interrupted"


CRASHES = """
import os
from pathlib import Path
from assay.runs.store import Store
from assay.runs.trial import Trial
from assay.runs.worker import work

base = sys.argv[1]
trial = Trial(task="toy_tasks:walk", config={"epochs": 2})
CHANGES = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree"}
left = None

def count(event, arguments):
    global left
    if left is None or event not in CHANGES or not str(arguments[0]).startswith(base):
        return
    left -= 1
    if left < 0:
        os._exit(9)

sys.addaudithook(count)

def run(root, crash_at=None):
    global left
    child = os.fork()
    if not child:
        left = crash_at
        kind = work(Store(root), trial, lambda message: None, again=False).kind
        os._exit(0 if kind == "done" else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def content(root):
    folder = Store(root).entry(trial).folder
    return {n: (folder / n).read_bytes() for n in ("metrics.json", "arrays.npz", "model.bin")}

assert run(f"{base}/calm") == 0
for number in range(1000):
    root = f"{base}/{number}"
    code = run(root, crash_at=number)
    if code == 0:
        break
    assert code == 9, code
    finished = Store(root).result(trial, verify=True)
    assert run(root) == 0, number
    assert content(root) == content(f"{base}/calm"), number
    entry = Store(root).entry(trial)
    if not finished:
        assert not list(entry.folder.rglob("*.tmp")), number
    entry.tidy()
    names = {path.name for path in entry.folder.iterdir()}
    assert names <= {"lock", "trial.json", "record.json", "log.txt", *content(root)}, names
print(number)
"""


def test_killed_before_every_single_change_of_the_disk(tmp_path: Path, python):
    *command, head = python
    done = subprocess.run(
        [*command, head + CRASHES, str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20


def test_two_processes_share_a_store_and_no_trial_runs_twice(tmp_path: Path, start):
    tally = tmp_path / "tally"
    settings = {"workers": 2, "epochs": 4, "pause": 0.05, "tally": tally}
    both = [start(tmp_path / "runs", **settings) for _ in range(2)]
    assert [ended(process) for process in both] == ["4 []", "4 []"]
    assert sorted(line.split()[0] for line in tally.read_text().splitlines()) == list("0123")


def test_workers_end_with_a_killed_engine_and_leave_the_lock(tmp_path: Path, start):
    tally = tmp_path / "tally"
    process = start(tmp_path / "runs", epochs=1000, pause=0.05, tally=tally)
    pids = begun(tally, process)
    (entry,) = Store(tmp_path / "runs").trials()
    assert entry.locked()
    process.kill()
    process.communicate()
    assert gone(pids, within=2)
    time.sleep(0.1)  # a process is called a zombie before all of its threads are gone
    assert not entry.locked()


def test_a_worker_ends_with_its_engine_where_the_kernel_does_not_see_to_it():
    orphan = (
        "import os, time\n"
        "from assay.runs.worker import end_with\n"
        "end_with(os.getppid()); print(os.getpid(), flush=True); time.sleep(60)"
    )
    parent = (
        "import subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-c', {orphan!r}], stdout=subprocess.PIPE,"
        " stderr=subprocess.DEVNULL)\n"
        "print(child.stdout.readline().decode(), flush=True)\n"
        "import os; os._exit(0)"
    )
    done = subprocess.run([sys.executable, "-c", parent], capture_output=True, text=True)
    assert gone([int(done.stdout)], within=3)


def test_ctrl_c_stops_the_workers_and_leaves_a_store_that_goes_on(tmp_path: Path, start):
    tally = tmp_path / "tally"
    process = start(tmp_path / "runs", epochs=6, pause=0.05, tally=tally)
    pids = begun(tally, process)
    checkpointed(tmp_path / "runs", process)
    os.kill(pids[0], signal.SIGINT)
    assert not gone(pids, within=0.1), "Ctrl-C stops the engine, and the engine its workers"
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers too
    _, err = process.communicate(timeout=10)
    assert err.splitlines()[-1] == "KeyboardInterrupt"
    assert err.count("Traceback") == 1
    assert gone(pids, within=2)
    assert ended(start(tmp_path / "runs", epochs=6, pause=0.05, tally=tally)) == "4 []"
    resumed = [entry.result().record["resumed"] for entry in Store(tmp_path / "runs").trials()]
    assert max(resumed) == 1


def test_a_trial_that_another_process_holds_is_waited_for_and_used(store, toy, tmp_path, start):
    tally = tmp_path / "tally"
    process = start(store.root, workers=1, epochs=20, pause=0.03, tally=tally)
    begun(tally, process)
    config = {"epochs": 20, "pause": 0.03, "tally": str(tally)}
    held, other = toy("walk", **config), toy("walk", epochs=1)
    results = run([held, other], store, workers=1)
    process.kill()
    process.communicate()
    assert list(results) == [held.address, other.address]
    assert results[held].record["worker"] != results[other].record["worker"]
    assert tally.read_text().splitlines()[0].split()[1] == str(results[held].record["worker"])


def test_a_disk_of_64_kilobytes(tmp_path: Path, toy):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("making a small disk takes root")
    try:
        store = Store(disk / "runs")
        big = toy("walk", epochs=1, label="x" * 50_000)  # its trial.json alone nearly fills it
        with pytest.raises(Exception, match="no space left on the disk"):
            run([toy("walk", epochs=2), big, big.model_copy(update={"seed": 1})], store, workers=1)
        assert not [*disk.rglob("*.tmp"), *disk.rglob("failure.json")]
    finally:
        subprocess.run(["umount", str(disk)], check=True)
