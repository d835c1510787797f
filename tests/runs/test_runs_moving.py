"""Stores are copied and cleaned without losing, mixing or overwriting anything."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from stores import assay, bytes_of, refused, study

from assay.errors import AssayError
from assay.runs.engine import execute
from assay.runs.garbage import litter
from assay.runs.parcels import Folder, move
from assay.runs.store import Store
from assay.runs.worker import work

# -- sync --------------------------------------------------------------------------------------


def test_sync_copies_what_is_missing_once_and_byte_by_byte(full, tmp_path, capsys):
    target = tmp_path / "b"
    assert assay("sync", full.root, target) == 0
    assert "4 trials, 1 study copied, nothing there already" in capsys.readouterr().out
    assert bytes_of(target) == bytes_of(full.root)
    stamps = {path: path.stat().st_mtime_ns for path in target.rglob("*.json")}
    assert assay("sync", full.root, target) == 0
    assert "nothing copied, 4 trials, 1 study there already" in capsys.readouterr().out
    assert stamps == {path: path.stat().st_mtime_ns for path in target.rglob("*.json")}


def test_sync_copies_one_judgement_of_a_study_that_is_written_anew_meanwhile(full, tmp_path):
    """Never the page of one and the run.json of another; and what takes its log away in the moment
    in which it is finished is not called damaged."""
    (trial,) = (path.parent for path in full.root.glob("trials/*/trial.json") if first(path))
    (trial / "log.txt").write_text("")

    class Written(Folder):
        def open(self, parcel, file):
            if file == "index.html" and not judged:
                judged.append(study(full, [], "walks"))
            if file == "log.txt":
                (trial / "log.txt").unlink(missing_ok=True)
            return super().open(parcel, file)

    judged: list[str] = []
    target = Store(tmp_path / "b")
    moved = move(Written(full), Folder(target))
    assert judged
    assert len(moved.new) == 5
    assert bytes_of(target.root) == bytes_of(full.root)


def first(path: Path) -> bool:
    return path == min(path.parent.parent.glob("*/trial.json"))


def test_sync_names_what_differs_and_leaves_it(full, toy, tmp_path, capsys):
    target = Store(tmp_path / "b")
    move(Folder(full), Folder(target))
    folder = full.entry(toy("walk", seed=9, epochs=1)).folder
    theirs = target.root / "trials" / folder.name
    for name in ("metrics.json", "record.json"):  # another result at the same address
        path = theirs / name
        path.write_text(path.read_text().replace('"epochs":1', '"epochs":7'))
    record = json.loads((theirs / "record.json").read_text())
    content = (theirs / "metrics.json").read_bytes()
    record["files"]["metrics.json"] = [len(content), hashlib.sha256(content).hexdigest()]
    (theirs / "record.json").write_text(json.dumps(record))
    run = target.root / "studies" / "walks-abababab" / "run.json"
    run.write_text(run.read_text().replace('"name": "walks"', '"name": "others"'))
    before = bytes_of(target.root)
    assert assay("sync", full.root, target.root) == 1
    said = capsys.readouterr().out
    assert f"differs, and stays as it is: trials/{folder.name}" in said
    assert "differs, and stays as it is: studies/walks-abababab" in said
    assert bytes_of(target.root) == before


def test_the_same_result_with_another_record_does_not_differ(full, toy, tmp_path):
    other = Store(tmp_path / "b")
    assert work(other, toy("walk", seed=9, epochs=1), lambda _: None, again=False).kind == "done"
    moved = move(Folder(full), Folder(other))
    assert not moved.differs
    assert len(moved.there) == 1


def test_sync_leaves_out_what_is_damaged_or_worked_on(full, toy, tmp_path, capsys):
    damaged = full.entry(toy("walk", seed=9, epochs=1)).folder / "model.bin"
    damaged.write_bytes(damaged.read_bytes()[::-1])  # the same size: seen when it is read
    target = Store(tmp_path / "b")
    busy = target.entry(toy("walk", epochs=1))
    with busy.lock():
        assert assay("sync", full.root, target.root) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert f"left out, a process works on it: trials/{busy.folder.name}" in said
    assert f"left out: trials/{damaged.parent.name}/model.bin is damaged" in said
    assert not (target.root / "trials" / damaged.parent.name).exists()
    assert len(list(target.trials())) == 2


def a_study(store: Store, words: str) -> Path:
    folder = store.run_folder("study", "x-quick", "0" * 64)
    (folder / "index.html").write_text(words)
    store.save_run("study", folder.name, {"trials": []})
    return folder


@pytest.mark.parametrize("empty", [True, False])
def test_a_study_that_is_being_written_is_left_to_its_process(tmp_path, empty):
    source, target = Store(tmp_path / "a"), Store(tmp_path / "b")
    parcel = f"studies/{a_study(source, 'theirs').name}"
    folder = target.run_folder("study", "x-quick", "0" * 64)
    if not empty:
        (folder / "index.html").write_text("half of it")
    assert move(Folder(source), Folder(target)).busy == [parcel]
    assert Folder(target).keep_run(parcel, {}, Folder(source).open, replace=True) == "busy"
    page = a_study(target, "ours") / "index.html"
    assert move(Folder(source), Folder(target)).differs == [parcel]
    assert page.read_text() == "ours"


def test_a_study_that_a_killed_process_left_half_written_is_replaced(tmp_path):
    source, target = Store(tmp_path / "a"), Store(tmp_path / "b")
    folder = target.root / "studies" / a_study(source, "theirs").name
    program = (
        f"import os; from assay.runs.store import Store; s = Store({str(target.root)!r})\n"
        "(s.run_folder('study', 'x-quick', '0' * 64) / 'half.html').write_text(''); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 9
    assert (folder / "half.html").exists()
    assert move(Folder(source), Folder(target)).new == [f"studies/{folder.name}"]
    assert sorted(path.name for path in folder.iterdir()) == ["index.html", "run.json"]


def test_a_trial_that_was_begun_at_the_target_is_replaced_by_the_finished_one(full, toy, tmp_path):
    trial = toy("walk", seed=9, epochs=1)
    target = Store(tmp_path / "b")
    begun = target.entry(trial)
    with begun.lock():
        begun.begin()
    (begun.folder / "checkpoint").mkdir()
    (begun.folder / "checkpoint" / "state.npz").write_bytes(b"half of it")
    move(Folder(full), Folder(target))
    assert bytes_of(begun.folder) == bytes_of(full.entry(trial).folder)
    assert target.result(trial, verify=True) is not None


def test_sync_refuses_what_is_no_store(full, tmp_path, capsys):
    assert "there is no store" in refused(capsys, "sync", tmp_path / "none", tmp_path / "b")
    assert "the same store" in refused(capsys, "sync", full.root, full.root / ".." / "runs")
    assert not (tmp_path / "b").exists()


# -- gc ----------------------------------------------------------------------------------------


@pytest.fixture
def littered(full, toy):
    """A store with one of each kind of litter, and another that a process is writing."""
    execute([toy("crash")], full, progress=False, workers=1)
    begun = full.entry(toy("walk", seed=5, epochs=3))
    with begun.lock():
        begun.begin()
        (begun.folder / "checkpoint").mkdir()
        (begun.folder / "checkpoint" / "state.npz").write_bytes(b"x" * 1000)
    (full.root / "trials" / "953be466ba24").mkdir()
    (full.root / "studies" / ".half.0123456789ab.tmp").mkdir()
    (full.root / "studies" / ".half.0123456789ab.tmp" / "index.html").write_bytes(b"half")
    (full.root / "audits" / "m-01234567").mkdir()
    (full.root / "audits" / "m-01234567" / "report.html").write_bytes(b"half")
    return full


def test_gc_lists_by_kind_and_removes_nothing_without_yes(littered, capsys):
    before = bytes_of(littered.root)
    for words in ((), ("--dry-run",)):
        assert assay("gc", littered.root, *words, "--json") == 0
        found = json.loads(capsys.readouterr().out)
        kinds = [one["kind"] for one in found["found"]]
        assert kinds == ["leftover"] * 3 + ["failed", "unfinished", "unreferenced"]
        assert found["removed"] == []
        assert bytes_of(littered.root) == before
    assert next(one for one in found["found"] if one["kind"] == "unfinished")["bytes"] > 1000
    assay("gc", littered.root)
    assert "nothing was: --yes removes all of this" in capsys.readouterr().out
    assert "give one of them" in refused(capsys, "gc", littered.root, "--yes", "--dry-run")


def test_gc_removes_what_it_lists_and_what_studies_rest_on_stays(littered, toy, capsys):
    kept = bytes_of(littered.root / "studies" / "walks-abababab")
    assert assay("gc", littered.root, "--yes", "--only", "failed", "leftover") == 0
    assert "4 of 4 removed" in capsys.readouterr().out
    assert littered.result(toy("walk", seed=9, epochs=1)) is not None
    assert assay("gc", littered.root, "--yes") == 0
    assert "2 of 2 removed" in capsys.readouterr().out
    assert [entry.state() for entry in littered.trials()] == ["finished"] * 3  # one is only needed
    assert bytes_of(littered.root / "studies" / "walks-abababab") == kept
    assert not list(littered.root.rglob("*.tmp"))
    assay("gc", littered.root)
    assert "nothing to remove" in capsys.readouterr().out


def test_gc_leaves_what_a_process_writes_or_works_on(littered, toy, capsys):
    temporary = littered.root / "studies" / ".half.0123456789ab.tmp"
    handle = os.open(temporary, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with littered.entry(toy("walk", seed=5, epochs=3)).lock():
        assert "is being worked on" in refused(capsys, "gc", littered.root, "--yes")
        assert assay("gc", littered.root, "--yes", "--only", "leftover", "unfinished") == 0
    os.close(handle)
    assert (temporary / "index.html").exists()
    assert littered.entry(toy("walk", seed=5, epochs=3)).has_checkpoint()


def test_gc_takes_nothing_that_a_study_is_about_to_name(littered, toy, capsys, tmp_path):
    """Its trials are finished and nobody works on them, and its page is half-written."""
    half = littered.root / "audits" / "m-01234567"
    with littered.using(), littered.using():
        assert "is being worked on" in refused(capsys, "gc", littered.root, "--yes")
        others = ("--only", "leftover", "failed", "unfinished")
        assert assay("gc", littered.root, "--yes", *others) == 0
    assert littered.result(toy("walk", seed=9, epochs=1)) is not None
    assert (half / "report.html").exists()
    with move_that_stops(littered, tmp_path / "b") as target:
        assert "is being worked on" in refused(capsys, "gc", target.root, "--yes")
    assert assay("gc", littered.root, "--yes") == 0
    assert not half.exists()


def test_a_lock_that_may_not_be_opened_is_one_clear_line(tmp_path):
    """As that of another user, in a folder that both may write; root may open those."""
    store = Store(tmp_path)
    (tmp_path / "lock").mkdir()
    with pytest.raises(AssayError, match="lock"), store.using():
        pass


@contextmanager
def move_that_stops(source: Store, target: Path):
    """Copy a store, and stop when its trials have arrived and its studies have not."""
    arrived, go_on = threading.Event(), threading.Event()

    class Slow(Folder):
        def parcels(self):
            for parcel in super().parcels():
                if parcel.startswith("studies"):
                    arrived.set()
                    assert go_on.wait(60)
                yield parcel

    thread = threading.Thread(target=move, args=(Slow(source), Folder(Store(target))))
    thread.start()
    assert arrived.wait(60)
    yield Store(target)
    go_on.set()
    thread.join()


def test_a_study_that_begins_while_gc_removes_waits_for_it(littered, capsys):
    began = threading.Event()

    def begin() -> None:
        with littered.using():
            began.set()

    with littered.alone() as alone:
        assert alone
        with littered.alone() as second:
            assert not second
        thread = threading.Thread(target=begin)
        thread.start()
        assert not began.wait(0.1)
    thread.join()
    assert began.is_set()
    assert "waiting for `assay gc` to end" in capsys.readouterr().err


def test_gc_touches_only_what_has_assay_s_names_and_what_is_not_kept_elsewhere(
    littered, toy, tmp_path
):
    """Not other people's files, nor a result behind a link; nor what a sweep goes on from, and then
    no trial, since the sweep may rest on it."""
    others = [
        littered.root / "trials" / "patients" / "data.csv",
        littered.root / "audits" / "2025" / "a.pdf",
        littered.root / "other" / ".mine.0123456789ab.tmp",
        littered.root / "studies" / "mine" / ".notes.tmp",
    ]
    for path in others:
        path.parent.mkdir(parents=True)
        path.write_text("mine")
    unreferenced = littered.entry(toy("walk", seed=9, epochs=1)).folder
    elsewhere = tmp_path / "elsewhere"
    unreferenced.rename(elsewhere)
    unreferenced.symlink_to(elsewhere)
    assert assay("gc", littered.root, "--yes", "--only", "leftover", "unreferenced") == 0
    assert all(path.read_text() == "mine" for path in others)
    assert (elsewhere / "record.json").exists()
    unreferenced.unlink()
    elsewhere.rename(unreferenced)
    journal = littered.root / "studies" / "sweep-skip-quick-01234567" / "settings.journal"
    journal.parent.mkdir()
    journal.write_text("settings")
    assert assay("gc", littered.root, "--yes") == 0
    assert journal.read_text() == "settings"
    assert littered.result(toy("walk", seed=9, epochs=1)) is not None


def test_gc_finds_unreferenced_trials_beside_a_sweep_that_is_judged(littered, toy):
    trial = littered.entry(toy("walk", seed=9, epochs=1)).folder
    folder = littered.run_folder("study", "sweep-walks-quick", "0" * 64)
    (folder / "settings.journal").write_text("settings")
    assert trial not in [one.path for one in litter(littered)]
    littered.save_run("study", folder.name, {"trials": []})
    assert trial in [one.path for one in litter(littered)]
    later = (folder / "run.json").stat().st_mtime_ns + 1
    os.utime(folder / "settings.journal", ns=(later, later))  # it goes on
    assert trial not in [one.path for one in litter(littered)]


def test_gc_counts_no_trial_as_unreferenced_while_a_study_cannot_be_read(littered, capsys):
    run = littered.root / "studies" / "walks-abababab" / "run.json"
    run.write_text(run.read_text().replace('"schema": 1', '"schema": 2'))
    assert assay("gc", littered.root, "--json") == 0
    assert "unreferenced" not in capsys.readouterr().out
