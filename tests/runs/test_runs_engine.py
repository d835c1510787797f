"""Every trial of a plan is run once, whatever happens to the others."""

from __future__ import annotations

import io
import os
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from engines import Here
from rich.console import Console

from assay.errors import AssayError
from assay.runs import local as local_module
from assay.runs.display import Live
from assay.runs.engine import execute
from assay.runs.entry import Failure
from assay.runs.local import Local, ending
from assay.runs.results import Results
from assay.runs.store import Store
from assay.runs.worker import Message, load_task, work


@contextmanager
def closing(local: Local):
    """Stop an engine at the end, also when the test fails."""
    try:
        yield local
    finally:
        local.stop()


def run(plan, store, **settings):
    return execute(plan, store, progress=False, **settings)


def test_needs_run_first_and_once_and_are_read(store, toy, tmp_path):
    tally = tmp_path / "tally"
    first = toy("walk", epochs=2, label="first", tally=str(tally))
    plan = [toy("walk", seed=seed, epochs=2, needs=[first], label="second") for seed in (1, 2)]
    results = run(plan, store, workers=2)
    assert list(results) == [first.address, *(trial.address for trial in plan)]
    assert not results.failures
    start = results[first].metrics["end"]
    for trial in plan:
        assert results[trial].arrays["path"][0] == start
        assert results[trial.address].trial == trial
    assert len(tally.read_text().splitlines()) == 1
    again = run(plan, store)
    assert list(again) == list(results)
    assert len(tally.read_text().splitlines()) == 1


def test_a_plan_is_asked_again_when_all_it_asked_for_has_ended(store, toy):
    asked = []

    def plan(done: Results):
        asked.append(len(done))
        trials = [toy("walk", seed=seed, epochs=1) for seed in range(2)]
        if len(done) >= 2:  # a third seed because of what the first two found
            assert all(trial in done for trial in trials)
            trials.append(toy("walk", seed=int(done[trials[0]].metrics["epochs"]) + 10, epochs=1))
        return trials

    results = run(plan, store, workers=1)
    assert asked == [0, 2, 3]
    assert [trial.seed for trial in results.trials.values()] == [0, 1, 11]
    assert len(results) == 3


@pytest.mark.parametrize("workers", [1, 2])
def test_failures_are_kept_with_their_reason_and_stop_no_other_trial(store, toy, workers):
    broken = toy("crash", label="broken")
    trials = {
        "crash": broken,
        "needs": toy("walk", epochs=1, needs=[broken]),
        "killed": toy("killed"),
        "refuse": toy("refuse"),
        "missing": toy("walks"),
        "walk": toy("walk", epochs=1),
    }
    results = run(list(trials.values()), store, workers=workers)
    assert list(results) == [trials["walk"].address]
    told = {name: results.failure(trial) for name, trial in trials.items()}
    assert told["walk"] is None
    assert (told["crash"].kind, told["crash"].message) == (
        "exception",
        "ValueError: loss is not finite at step 3",
    )
    assert "toy_tasks.py" in told["crash"].traceback
    assert (told["refuse"].kind, told["refuse"].message) == (
        "error",
        "the labels do not fit; give 10 classes",
    )
    assert told["killed"].kind == "died"
    assert "signal 9" in told["killed"].message
    assert told["killed"].traceback == "memory is running out"
    assert told["missing"].message == "task 'toy_tasks:walks': toy_tasks has no function 'walks'"
    assert told["needs"].kind == "needs"
    assert told["needs"].message.startswith("it needs broken, which failed: ValueError")
    assert store.failure(broken) == told["crash"]
    assert not (store.entry(broken).folder / "half.bin").exists()
    with pytest.raises(AssayError, match="broken has no result: ValueError"):
        results.need(broken)
    assert results.need(trials["walk"]) is results[trials["walk"]]


def test_a_failed_trial_is_run_again_only_on_request(store, toy, tmp_path, monkeypatch):
    repaired = tmp_path / "repaired"
    trial = toy("crash", repaired=str(repaired))
    assert trial.address in run([trial], store).failures
    repaired.touch()
    with monkeypatch.context() as patch:
        patch.setattr(Local, "_start", lambda *_: pytest.fail("a worker was started for nothing"))
        assert trial.address in run([trial], store).failures
    message = work(
        store, trial, print, again=False
    )  # a worker that waited for the lock sees it too
    assert message.kind == "failed"
    assert message.failure == store.failure(trial)
    assert run([trial], store, rerun_failed=True)[trial].metrics == {"ok": True}
    assert store.failure(trial) is None
    assert not (store.entry(trial).folder / "failure.json").exists()


def test_a_trial_whose_process_died_is_run_again_in_any_case(store, toy):
    trial = toy("killed")
    assert run([trial], store).failures[trial.address].kind == "died"
    entry = store.entry(trial)
    mark = (entry.folder / "failure.json").stat().st_mtime_ns
    run([trial], store)
    assert (entry.folder / "failure.json").stat().st_mtime_ns > mark


def test_a_full_disk_stops_everything_and_fails_no_trial(store, toy):
    trials = [toy("full"), toy("sleep", seconds=30)]
    start = time.monotonic()
    with pytest.raises(AssayError, match=r"no space left .* goes on from here"):
        run(trials, store, workers=2)
    assert time.monotonic() - start < 10
    for trial in trials:
        assert store.failure(trial) is None
        assert store.result(trial) is None
    assert not (store.entry(trials[0]).folder / "half.bin").exists()


def test_workers_are_kept_and_have_the_threads_of_their_trials(store, toy):
    trials = [toy("given", seed=seed, threads=1 + seed % 2) for seed in range(4)]
    results = run(trials, store, workers=1)
    assert [results[trial].metrics["threads"] for trial in trials] == ["1", "2", "1", "2"]
    kept = {results[trial].metrics["trim"] for trial in trials}
    assert kept == {os.environ.get("MALLOC_TRIM_THRESHOLD_", str(2**32))}, "memory stays mapped"
    results = run([toy("given", seed=seed) for seed in range(10, 13)], store, workers=1)
    assert len({result.metrics["pid"] for result in results.values()}) == 1
    assert os.getpid() not in {result.metrics["pid"] for result in results.values()}


def test_what_a_task_prints_is_in_its_log(store, toy, capfd):
    trial = toy("given")
    run([trial], store)
    assert (store.entry(trial).folder / "log.txt").read_text() == "hello from the task\n"
    assert capfd.readouterr().out == ""


def test_as_many_trials_at_a_time_as_the_cores_hold(store, toy, monkeypatch):
    monkeypatch.setattr(local_module, "cores", lambda: 4)
    with closing(Local(store.root)) as local:
        wide, narrow = toy("sleep", seconds=30, threads=3), toy("sleep", seconds=30)
        wider = toy("sleep", seconds=30, threads=64)
        assert local.submit(wide, again=False)
        assert not local.submit(wide, again=False)
        assert local.submit(narrow, again=False)
        assert not local.submit(narrow, again=False)
        gpu = narrow.model_copy(update={"device": "cuda"})
        assert not local.submit(gpu, again=False)
    assert all(hand.process.poll() is not None for hand in local.hands)
    with closing(Local(store.root)) as local:  # more threads than cores: alone, but not never
        assert local.submit(wider, again=False)
        assert not local.submit(narrow, again=False)


def test_the_same_bytes_with_one_worker_and_two(tmp_path, toy):
    first = toy("walk", epochs=3)
    plan = [toy("walk", seed=seed, epochs=3, needs=[first]) for seed in range(4)]
    contents = []
    for workers in (1, 2):
        store = Store(tmp_path / str(workers))
        run(plan, store, workers=workers)
        contents.append(contents_of(store))
    assert contents[0] == contents[1]
    assert len(contents[0]) == 5 * 3


def lose(*_: object, **__: object) -> Message:
    """What an engine says of a trial that is never heard of again."""
    return Message("died", note="its machine was taken away")


def test_the_same_bytes_on_another_engine(tmp_path, toy):
    first = toy("walk", epochs=3)
    plan = [toy("walk", seed=seed, epochs=3, needs=[first]) for seed in range(3)]
    local, other = Store(tmp_path / "local"), Store(tmp_path / "other")
    run(plan, local)
    engine = Here(other.root)
    results = run(plan, other, engine=engine)
    assert contents_of(local) == contents_of(other)
    assert engine.taken == [first, *plan]
    assert engine.stopped
    assert {result.record["worker"] for result in results.values()} == {os.getpid()}


def test_what_another_engine_says_is_what_happens(store, toy):
    trials = {"refuse": toy("refuse"), "walk": toy("walk", epochs=1), "lost": toy("walk", epochs=2)}
    engine = Here(store.root, do=lambda *args, **settings: losing.pop(0)(*args, **settings))
    losing = [lose, work, work]
    results = run([trials["lost"], trials["refuse"], trials["walk"]], store, engine=engine)
    assert list(results) == [trials["walk"].address]
    assert results.failure(trials["refuse"]).kind == "error"
    assert results.failure(trials["lost"]).kind == "died"
    assert "its machine was taken away" in store.failure(trials["lost"]).message
    again = run(trials.values(), store, engine=Here(store.root))
    assert trials["lost"] in again, "what died is run again in any case"
    assert again.failure(trials["refuse"]) is not None


def test_an_engine_is_stopped_also_when_the_plan_fails(store, toy):
    engine = Here(store.root)

    def plan(done: Results):
        if len(done):
            raise KeyboardInterrupt
        return [toy("walk", epochs=1)]

    with pytest.raises(KeyboardInterrupt):
        run(plan, store, engine=engine)
    assert engine.stopped
    full = Here(store.root)
    with pytest.raises(AssayError, match="no space left"):
        run([toy("full")], store, engine=full)
    assert full.stopped


def contents_of(store: Store) -> dict[str, bytes]:
    names = ("metrics.json", "arrays.npz", "model.bin")
    return {
        f"{path.parent.name}/{path.name}": path.read_bytes()
        for path in (store.root / "trials").rglob("*")
        if path.name in names
    }


def test_trials_of_another_torch_are_not_run_as_if_they_were_not(store, toy):
    with pytest.raises(AssayError, match=r"of torch 1\.0, but .* is installed"):
        run([toy("walk", epochs=1).model_copy(update={"torch": "1.0"})], store)


def test_tasks_are_named_by_module_and_function():
    for name, message in {
        "walk": "nor 'module:function'",
        "__main__:walk": "nor 'module:function'",
        "toy_taskz:walk": "there is no module 'toy_taskz'",
        "toy_tasks:wlak": "has no function 'wlak'",
    }.items():
        with pytest.raises(AssayError, match=message):
            load_task(name)


def test_wrong_numbers_of_workers_are_refused(store, toy):
    with pytest.raises(AssayError, match="at least 1, got 0"):
        run([toy("walk", epochs=1)], store, workers=0)


def test_workers_that_cannot_start_are_one_line(store, toy, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(AssayError, match="could not start: it ended with exit code 1"):
        run([toy("walk", epochs=1)], store)


def test_a_worker_killed_while_it_starts_costs_its_trial_alone(store, toy, monkeypatch):
    starting = Local._start
    kills = iter([True])

    def start(self, threads):
        hand = starting(self, threads)
        if next(kills, False):
            hand.process.kill()
        return hand

    monkeypatch.setattr(Local, "_start", start)
    first, second = toy("walk", epochs=1), toy("walk", epochs=2)
    results = run([first, second], store, workers=1)
    assert second in results
    assert first in results or results.failure(first).kind == "died"  # as early as it was killed
    assert len(run([first, second], store, workers=1)) == 2


def test_a_worker_that_dies_after_the_record_was_written_has_finished(store, toy, monkeypatch):
    told = Local.events

    def events(self, seconds):
        return [
            (trial, Message("died") if message.kind == "done" else message)
            for trial, message in told(self, seconds)
        ]

    monkeypatch.setattr(Local, "events", events)
    trial = toy("walk", epochs=1)
    assert trial in run([trial], store)


def test_a_worker_that_nobody_listens_to_ends_and_fails_no_trial(store, toy):
    trial = toy("walk", epochs=1000, pause=0.01)
    with closing(Local(store.root, 1)) as local:
        assert local.submit(trial, again=False)
        (hand,) = local.hands
        while hand.connection.recv().kind != "progress":
            pass
        hand.connection.close()
        assert hand.process.wait(timeout=10) == 1
    assert store.failure(trial) is None


def test_the_ending_of_a_process_in_words():
    assert "memory ran out" in ending(-9)
    assert ending(-11) == "it ended by signal 11 (SIGSEGV)"
    assert ending(3) == "it ended with exit code 3"


def test_a_few_plain_lines_where_there_is_no_terminal(store, toy, capsys):
    trials = [toy("walk", seed=seed, epochs=1, label="walk") for seed in range(3)]
    execute([*trials, toy("refuse", label="no")], store)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "assay: 4 trials: 0 done already, 4 to do"
    assert "assay: no (seed 0) failed: the labels do not fit; give 10 classes" in lines
    assert lines[-1].startswith("assay: 4/4 ")
    assert len(lines) <= 4
    execute(trials, store)
    assert capsys.readouterr().err == "assay: 3 trials: 3 done already, 0 to do\n"


def test_the_live_display_shows_what_runs_as_it_is_called(toy):
    display = Live()
    trial, other = toy("walk", label="skip [b]"), toy("walk", seed=1)

    def shown() -> str:
        display.tick()
        console = Console(file=io.StringIO(), width=100)
        console.print(display.progress.get_renderable())
        return console.file.getvalue()

    display.plan(there=0, to_do=[trial, other], failed=0)
    display.begin(trial)
    display.begin(other)
    display.update(trial, 0.5, "epoch [3]")
    display.held(other)
    assert "skip [b] (seed 0)" in shown()
    assert "epoch [3]" in shown()
    assert "another process works on it" in shown()
    display.end(trial, Failure("died", "it was killed"))
    assert "skip" not in shown()
    assert "1/2, 1 failed" in shown()


def test_results_behave_as_a_mapping(store, toy):
    trial = toy("walk", epochs=1)
    results = run([trial], store)
    assert trial in results
    assert trial.address in results
    assert toy("walk", epochs=2) not in results
    assert results.get(toy("walk", epochs=2)) is None
    assert [np.isfinite(result.metrics["end"]) for result in results.values()] == [True]
    with pytest.raises(AssayError, match="has not been run"):
        results.need(toy("walk", epochs=2))


def test_several_processes_that_torchrun_started_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(AssayError, match="one of several that torchrun"):
        execute([], Store(tmp_path / "runs"))
    assert not (tmp_path / "runs").exists()
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert len(execute([], Store(tmp_path / "runs"))) == 0
