"""What is in the store is whole, is found by its name, and can be trusted."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from assay.errors import AssayError
from assay.runs import entry as entries
from assay.runs.entry import Entry
from assay.runs.environment import surroundings
from assay.runs.reading import list_runs, show
from assay.runs.store import Run, Store
from assay.runs.trial import Outcome, Trial
from assay.runs.worker import Workspace, work


def silent(_: object) -> None:
    """Nobody listens to the worker."""


def finished(store: Store, trial: Trial) -> Path:
    assert work(store, trial, silent, again=False).kind == "done"
    return store.entry(trial).folder


def test_a_result_is_what_the_task_returned(store, toy):
    trial = toy("walk", seed=3, epochs=4, label="a walk")
    assert store.result(trial) is None
    folder = finished(store, trial)
    result = store.result(trial)
    assert result.trial == trial
    assert result.folder == folder == store.root / "trials" / trial.address[:12]
    expected = [np.random.default_rng([3, epoch]).normal() for epoch in range(4)]
    np.testing.assert_array_equal(result.arrays["path"], np.cumsum([0.0, *expected]))
    assert result.metrics["end"] == result.arrays["path"][-1]
    assert np.isnan(result.metrics["nothing"])
    assert result.path("model.bin").read_bytes() == result.arrays["path"].tobytes()
    with pytest.raises(AssayError, match=r"no file 'model\.pt'; it has arrays"):
        result.path("model.pt")
    assert not (folder / "checkpoint").exists()
    assert store.result(trial.address).metrics["end"] == result.metrics["end"]
    assert store.result("0" * 64) is None


def test_a_record_says_how_the_trial_was_made(store, toy):
    finished(store, trial := toy("walk", epochs=2, pause=0.05))
    record = store.result(trial).record
    assert 0.1 <= record["seconds"] < 5
    assert 10e6 < record["peak_memory"] < 100e9
    assert record["resumed"] == 0
    assert record["worker"] == os.getpid()
    assert record["versions"].keys() == {"python", "torch", "numpy"}
    assert record["versions"]["numpy"] == np.__version__
    assert record["hardware"]["memory"] > 1e8
    assert record["hardware"]["cores"] >= 1
    assert record["code"] == surroundings()["code"]
    text = (store.entry(trial).folder / "metrics.json").read_text()
    assert "seconds" not in text


def test_every_document_has_a_schema(store, toy):
    folder = finished(store, toy("walk", epochs=1))
    store.save_run("audit", store.run_folder("audit", "m", "ab" * 32).name, {"name": "m"})
    documents = [*folder.glob("*.json"), *store.root.glob("audits/*/run.json")]
    assert len(documents) == 4
    for path in documents:
        assert json.loads(path.read_text())["schema"] == 1


def test_a_trial_from_the_store_keeps_its_address_under_another_torch(store, toy):
    trial = toy("walk", epochs=1)
    finished(store, old := trial.model_copy(update={"torch": "1.0", "label": "old"}))
    assert old.address != trial.address
    assert [entry.trial.address for entry in store.trials()] == [old.address]
    assert store.result(old.address).trial.torch == "1.0"


@pytest.mark.parametrize("deep", [False, True])
def test_a_copy_with_another_seed_has_an_address_of_its_own(toy, deep):
    trial = toy("walk", epochs=1)
    before = trial.address
    other = trial.model_copy(update={"seed": 7}, deep=deep)
    assert other.address == Trial.parse(other.model_dump()).address != before
    assert other.short == other.address[:12]
    assert trial.model_copy(deep=deep).address == trial.address == before


DAMAGE = {
    "no record": lambda folder: (folder / "record.json").unlink(),
    "half a record": lambda folder: cut(folder / "record.json"),
    "no metrics": lambda folder: (folder / "metrics.json").unlink(),
    "changed metrics": lambda folder: flip(folder / "metrics.json"),
    "half the arrays": lambda folder: cut(folder / "arrays.npz"),
    "changed arrays": lambda folder: flip(folder / "arrays.npz"),
    "no model": lambda folder: (folder / "model.bin").unlink(),
    "changed model": lambda folder: flip(folder / "model.bin"),
    "a record without its time": lambda folder: (folder / "record.json").write_text(
        (folder / "record.json").read_text().replace('"seconds": ', '"minutes": ')
    ),
    "another's record": lambda folder: (folder / "record.json").write_text(
        (folder / "record.json").read_text().replace('"address": "', '"address": "0')
    ),
}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_folder_is_recognised_and_redone_with_the_same_bytes(store, toy, damage):
    trial = toy("walk", epochs=3)
    folder = finished(store, trial)
    names = ("metrics.json", "arrays.npz", "model.bin")
    before = {name: (folder / name).read_bytes() for name in names}
    DAMAGE[damage](folder)
    (folder / ".arrays.npz.1-2.tmp").write_bytes(b"left by a killed process")
    assert store.result(trial, verify=True) is None
    if damage not in ("changed arrays", "changed model"):
        assert store.result(trial) is None  # seen without reading every file
    if not damage.startswith("changed"):  # sizes are all that a list looks at
        state = "not begun" if damage == "no record" else "damaged"
        assert store.survey() == ({state: 1}, [])
    finished(store, trial)
    assert {name: (folder / name).read_bytes() for name in names} == before
    assert store.result(trial, verify=True) is not None
    assert not list(folder.glob("*.tmp"))


@pytest.mark.parametrize("worth", [0.0, 60.0])
def test_a_trial_waits_for_the_disk_if_it_took_long(store, toy, monkeypatch, worth):
    waited = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: waited.append(name_of(handle)) or real(handle))
    monkeypatch.setattr("assay.runs.entry.WORTH_WAITING_FOR", worth)
    folder = finished(store, trial := toy("walk", epochs=1))
    waited = [path for path in waited if not {"checkpoint", ".model.bin"} & set(path.split("/"))]
    files = {"trial.json", "metrics.json", "arrays.npz", "model.bin"}
    if worth:
        assert not files & {Path(path).name for path in waited}
    else:
        assert files <= {Path(path).name for path in waited}
        assert waited[-1] == str(folder)
        assert ".record.json." in waited[-2]  # after all the others
    assert store.result(trial, verify=True) is not None


def name_of(handle: int) -> str:
    return str(Path(f"/proc/self/fd/{handle}").readlink())


def test_a_checkpoint_of_another_trial_is_not_used(store, toy):
    trial, other = toy("walk", epochs=3), toy("walk", seed=1, epochs=3)
    entry = store.entry(trial)
    with entry.lock():
        Entry(other, entry.folder).begin()
    (entry.folder / "checkpoint").mkdir()
    (entry.folder / "checkpoint" / "state.npz").write_bytes(b"of another trial")
    finished(store, trial)
    assert store.result(trial).record["resumed"] == 0


def test_a_newer_store_is_left_alone(store, toy):
    folder = finished(store, trial := toy("walk", epochs=1))
    path = folder / "record.json"
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 2'))
    with pytest.raises(AssayError, match=r"newer assay \(schema 2.*upgrade"):
        store.result(trial)
    assert (folder / "metrics.json").exists()


def test_a_store_that_is_a_file_or_lies_below_one(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(AssayError, match="is a file; give the path of a folder"):
        Store(tmp_path / "file")
    with pytest.raises(AssayError, match="below a file"):
        Store(tmp_path / "file" / "runs").prepare()


def test_a_store_that_may_not_be_written(tmp_path: Path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(AssayError, match="Permission denied; choose another place"):
        Store(tmp_path / "runs").prepare()


def test_reading_makes_nothing(store):
    assert store.runs() == []
    assert list(store.trials()) == []
    with pytest.raises(AssayError, match="the store is empty"):
        store.find("skip")
    assert not store.root.exists()


def test_a_run_is_there_when_its_document_is(store):
    folder = store.run_folder("study", "skip / quick", "abcdef0123" * 6)
    assert folder == store.root / "studies" / "skip-quick-abcdef01"
    assert store.runs() == []
    store.save_run("study", folder.name, {"name": "skip", "value": float("nan")})
    (run,) = store.runs()
    assert (run.kind, run.id, run.folder) == ("study", folder.name, folder)
    assert run.document["name"] == "skip"
    assert np.isnan(run.document["value"])
    assert run.document["created"].endswith("+00:00")


def test_find_by_id_prefix_address_and_path(store, toy, tmp_path: Path):
    trial = toy("walk", epochs=1)
    folder = finished(store, trial)
    for name in ("skip-quick", "skip-smoke"):
        run_folder = store.run_folder("study", name, trial.address)
        store.save_run("study", run_folder.name, {"name": name})
    quick = f"skip-quick-{trial.address[:8]}"
    for text in (quick, "skip-q", str(store.root / "studies" / quick)):
        found = store.find(text)
        assert isinstance(found, Run)
        assert found.id == quick
    for text in (trial.address, trial.address[:12], trial.address[:6], str(folder)):
        found = store.find(text)
        assert isinstance(found, Entry)
        assert found.trial == trial
    elsewhere = Store(tmp_path / "elsewhere")
    assert elsewhere.find(str(folder / "metrics.json")).trial == trial
    with pytest.raises(AssayError, match=f"'skip' could be {quick}, skip-smoke"):
        store.find("skip")
    with pytest.raises(AssayError, match=f"no run or trial 'skpi-quick-{trial.address[:8]}'.*"
                                         f"did you mean '{quick}'"):  # fmt: skip
        store.find(f"skpi-quick-{trial.address[:8]}")
    with pytest.raises(AssayError, match="`assay list` shows"):
        store.find("zzz")


def test_a_lock_excludes_others_and_is_seen(store, toy):
    entry = store.entry(toy("walk", epochs=1))
    assert not entry.locked()
    with entry.lock() as held:
        assert held
        assert entry.locked()
        with entry.lock() as again:
            assert not again
    assert not entry.locked()


def test_outcomes_that_cannot_be_stored_are_failures(store, toy):
    message = work(store, toy("unstorable"), silent, again=False)
    assert message.kind == "failed"
    assert "curve.loss[1]: ndarray cannot stand in JSON" in message.failure.message
    assert Outcome({"a": 1}).arrays == {}


RUBBISH = {
    "empty": b"",
    "a list": b"[]",
    "nothing": b'{"schema":1}',
    "deep": b"[" * 100_000,
    "other types": b'{"schema":1,"kind":"study","trials":5,"claims":[1],"files":{"a":3}}',
    "unhashable": b'{"schema":1,"kind":["study"],"address":["a"],"files":5}',
    "newer": b'{"schema":99}',
    "a folder": None,
}


@pytest.mark.parametrize("rubbish", RUBBISH)
@pytest.mark.parametrize("name", ["trial.json", "record.json", "metrics.json", "failure.json"])
def test_one_bad_document_breaks_nothing_else_and_its_trial_is_made_again(
    store, toy, name, rubbish
):
    good = toy("walk", epochs=1, seed=1)
    finished(store, good)
    folder = finished(store, trial := toy("walk", epochs=1))
    path = folder / name
    path.unlink(missing_ok=True)
    if name == "failure.json":
        (folder / "record.json").unlink()
    if RUBBISH[rubbish] is None:
        path.mkdir()
    else:
        path.write_bytes(RUBBISH[rubbish])
    listed = list_runs(store).to_dict()
    assert sum(listed["trials"].values()) + len(listed["unreadable"]) == 2
    assert show(store, good.address).data["state"] == "finished"
    if rubbish != "newer":
        finished(store, trial)
        assert store.result(trial, verify=True) is not None


@pytest.mark.parametrize("rubbish", RUBBISH)
def test_one_bad_run_breaks_nothing_else(store, rubbish):
    for seed in range(2):
        folder = store.run_folder("study", "s", f"{seed}" * 64)
        store.save_run("study", folder.name, {"name": "s", "trials": []})
    path = folder / "run.json"
    path.unlink()
    path.mkdir() if RUBBISH[rubbish] is None else path.write_bytes(RUBBISH[rubbish])
    listed = list_runs(store).to_dict()
    assert [run["id"] for run in listed["runs"]] == ["s-00000000"]
    assert listed["unreadable"] == [str(folder)]
    assert show(store, "s-0000").data["name"] == "s"


def test_a_folder_for_checkpoints_is_made_when_it_is_asked_for(tmp_path):
    """To remove one costs milliseconds."""
    space = Workspace(tmp_path)
    assert not list(tmp_path.iterdir())
    assert space.checkpoint.is_dir()


def test_listing_reads_long_documents_whole_and_waits_for_no_pipe(store, toy, monkeypatch):
    trial = toy("walk", epochs=1)
    assert work(store, trial, lambda _: None, again=False).kind == "done"
    folder = store.entry(trial).folder
    monkeypatch.setattr(entries, "AT_ONCE", 16)
    assert entries.seems_finished(folder)
    (folder / "trial.json").unlink()
    os.mkfifo(folder / "trial.json")
    assert not entries.seems_finished(folder)
