"""Stores are copied, cleaned and packed without losing, mixing or overwriting anything."""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import io
import json
import os
import shutil
import tarfile
import threading
import tracemalloc
from contextlib import contextmanager
from pathlib import Path

import pytest

from assay.cli import app, call
from assay.errors import AssayError
from assay.runs.archive import Archive
from assay.runs.engine import execute
from assay.runs.parcels import Folder, move
from assay.runs.store import Store
from assay.runs.worker import work


def bytes_of(root: Path) -> dict[str, bytes]:
    """Return every file below a folder but locks and empty logs."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name != "lock"
    }


def study(store: Store, trials, name: str = "walks") -> str:
    folder = store.run_folder("study", name, "ab" * 32)
    (folder / "index.html").write_text("<p>the page</p>")
    store.save_run("study", folder.name, {"name": name, "trials": [t.address for t in trials]})
    return folder.name


@pytest.fixture
def full(store, toy):
    """A store with a study of two trials, the trial that both need, and one of nobody's."""
    need = toy("walk", epochs=1)
    walks = [toy("walk", seed=seed, epochs=2, needs=[need]) for seed in (1, 2)]
    for trial in (need, *walks, toy("walk", seed=9, epochs=1)):
        assert work(store, trial, lambda _: None, again=False).kind == "done"
    study(store, walks)
    return store


@pytest.fixture
def packed(full, tmp_path):
    path = tmp_path / "walks.tar"
    assert assay("export", "walks", path, "--store", full.root) == 0
    return path


def assay(*words: object) -> int:
    return call(app, [str(word) for word in words])


def refused(capsys, *words: object) -> str:
    """Return the one line by which a command refuses."""
    capsys.readouterr()
    assert assay(*words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    return said.err


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


def test_gc_counts_no_trial_as_unreferenced_while_a_study_cannot_be_read(littered, capsys):
    run = littered.root / "studies" / "walks-abababab" / "run.json"
    run.write_text(run.read_text().replace('"schema": 1', '"schema": 2'))
    assert assay("gc", littered.root, "--json") == 0
    assert "unreferenced" not in capsys.readouterr().out


# -- export and import -------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".tar", ".tar.gz", ".tgz"])
def test_an_archive_holds_a_run_and_all_that_it_rests_on(full, tmp_path, ending, capsys):
    path, again, back = tmp_path / f"a{ending}", tmp_path / f"b{ending}", Store(tmp_path / "back")
    assert assay("export", "walks", path, "--store", full.root) == 0
    assert "3 trials, 1 study" in capsys.readouterr().out
    assert assay("export", full.root / "studies" / "walks-abababab", again) == 0
    assert path.read_bytes() == again.read_bytes()
    assert assay("import", path, "--store", back.root) == 0
    there = bytes_of(back.root)
    assert there.items() <= bytes_of(full.root).items()
    assert len(list(back.trials())) == 3
    assert back.find("walks").document["trials"]
    assert assay("import", path, "--store", back.root) == 0
    assert bytes_of(back.root) == there


def test_a_trial_is_exported_with_what_it_needs(full, toy, tmp_path):
    need = toy("walk", epochs=1)
    trial = toy("walk", seed=2, epochs=2, needs=[need])
    assert assay("export", trial.short, tmp_path / "t.tar", "--store", full.root) == 0
    names = set(Archive(tmp_path / "t.tar").parcels())
    assert names == {f"trials/{one.short}" for one in (need, trial)}


def test_export_refuses_what_cannot_be(full, packed, tmp_path, capsys):
    store = ("--store", full.root)
    assert "no run or trial 'wlaks'" in refused(capsys, "export", "wlaks", packed, *store)
    assert "end it in .tar" in refused(capsys, "export", "walks", tmp_path / "w.zip", *store)
    assert "is there already" in refused(capsys, "export", "walks", packed, *store)
    (model, *_) = full.root.rglob("model.bin")
    model.write_bytes(model.read_bytes()[::-1])
    gone = tmp_path / "gone.tar"
    assert "damaged" in refused(capsys, "export", model.parent.name, gone, *store)
    assert not gone.exists()


def rewritten(packed: Path, change) -> Path:
    """Return an archive of which each member was changed: (name, content) -> members."""
    path = packed.with_name("changed.tar")
    with tarfile.open(packed) as old, tarfile.open(path, "w") as new:
        for member in old:
            for info, content in change(member, old.extractfile(member).read()):
                info.size = len(content)
                new.addfile(info, io.BytesIO(content))
    return path


def renamed(info: tarfile.TarInfo, name: str) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.mode = info.mode
    return made


def link(kind: bytes):
    def change(info, content):
        if info.name.endswith("index.html"):
            made = tarfile.TarInfo(info.name)
            made.type, made.linkname = kind, "/etc/passwd"
            yield made, b""
        else:
            yield info, content

    return change


def outside(name: str):
    def change(info, content):
        if info.name == "manifest.json":
            content = content.replace(b'"index.html"', json.dumps(name).encode())
        if info.name.endswith("index.html"):
            info = renamed(info, f"studies/walks-abababab/{name}")
        yield info, content

    return change


def added(*names: str):
    """Files of one byte in the study, that the manifest names too."""

    def change(info, content):
        if info.name == "manifest.json":
            document = json.loads(content)
            mark = [1, hashlib.sha256(b"x").hexdigest()]
            document["parcels"]["studies/walks-abababab"].update(dict.fromkeys(names, mark))
            content = json.dumps(document).encode()
        if info.name.endswith("index.html"):
            for name in names:
                yield renamed(info, f"studies/walks-abababab/{name}"), b"x"
        yield (renamed(info, info.name), content)

    return change


def sparse(info, content):
    """A file of a terabyte of which nothing is in the archive, as newer tars write it."""
    if info.name.endswith("index.html"):
        info = renamed(info, info.name)
        info.pax_headers = {
            "GNU.sparse.major": "0",
            "GNU.sparse.minor": "1",
            "GNU.sparse.name": info.name,
            "GNU.sparse.realsize": str(10**12),
            "GNU.sparse.map": f"0,{len(content)}",
        }
    yield info, content


def parcel_called(name: str):
    def change(info, content):
        if info.name == "manifest.json":
            content = content.replace(b"studies/walks-abababab", name.encode())
        yield renamed(info, info.name.replace("studies/walks-abababab", name)), content

    return change


def flipped(info, content):
    yield info, content[::-1] if info.name.endswith("index.html") else content


def longer(info, content):
    yield info, content + b"x" if info.name.endswith("index.html") else content


def missing(info, content):
    if not info.name.endswith("index.html"):
        yield info, content


def twice(info, content):
    yield info, content
    if info.name.endswith("index.html"):
        yield renamed(info, info.name), content


def more(info, content):
    yield info, content
    if info.name.endswith("index.html"):
        yield renamed(info, "trials/more.json"), b"{}"


def no_manifest(info, content):
    if info.name != "manifest.json":
        yield info, content


def another_address(info, content):
    """A trial that gives itself another seed, with a checksum that fits."""
    if info.name == "manifest.json":
        MANIFEST[:] = [content]
        return
    if info.name.endswith("trial.json"):
        old, content = content, content.replace(b'"seed": 1', b'"seed": 8')
        marks = (hashlib.sha256(one).hexdigest().encode() for one in (old, content))
        MANIFEST[0] = MANIFEST[0].replace(*marks)
    yield info, content


MANIFEST: list[bytes] = []


def with_its_manifest(path: Path, content: bytes) -> None:
    """Put a manifest before all else."""
    with tarfile.open(path) as old:
        members = [(member, old.extractfile(member).read()) for member in old]
    first = tarfile.TarInfo("manifest.json")
    first.size = len(content)
    with tarfile.open(path, "w") as new:
        for info, held in ((first, content), *members):
            new.addfile(info, io.BytesIO(held))


BAD = {
    "checksum": (flipped, "is damaged"),
    "size": (longer, "bytes, not"),
    "missing": (missing, "is missing"),
    "twice": (twice, "or twice"),
    "not in the manifest": (more, "not in its manifest"),
    "no manifest": (no_manifest, "does not begin with"),
    "a file and a folder": (added("z", "z/y"), "z as file and as folder"),
    "a long name": (added("n" * 240), "a name of over 200 bytes"),
    "sparse": (sparse, "no plain file"),
    "old sparse": (link(tarfile.GNUTYPE_SPARSE), "no plain file"),
    "symlink": (link(tarfile.SYMTYPE), "no plain file"),
    "hard link": (link(tarfile.LNKTYPE), "no plain file"),
    "device": (link(tarfile.CHRTYPE), "no plain file"),
    "pipe": (link(tarfile.FIFOTYPE), "no plain file"),
    "parent": (outside("../../../up.html"), "refused"),
    "absolute": (outside("/tmp/up.html"), "refused"),
    "backslash": (outside("..\\up.html"), "refused"),
    "lock": (parcel_called("trials/../../x"), "no name of a trial"),
    "hidden": (parcel_called("studies/.x"), "no name of a trial"),
    "wrong kind": (parcel_called("audits/walks-abababab"), "not what its own files say"),
    "another address": (another_address, "not what its own files say"),
}


@pytest.mark.parametrize("kind", BAD)
def test_an_archive_that_is_not_as_it_says_leaves_no_trace(packed, tmp_path, kind, capsys):
    change, said = BAD[kind]
    before = bytes_of(tmp_path / "runs")
    path = rewritten(packed, change)
    if change is another_address:
        with_its_manifest(path, MANIFEST[0])
    assert said in refused(capsys, "import", path, "--store", tmp_path / "new")
    assert not (tmp_path / "new").exists()
    assert bytes_of(tmp_path / "runs") == before


def header(kind: bytes, size: int) -> bytes:
    """Return the header of a member that says that it is so long."""
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


def endless_holes() -> bytes:
    """Return the header of a file whose list of holes goes on, and the beginning of that list."""
    block = bytearray(header(tarfile.GNUTYPE_SPARSE, 0))
    block[482] = 1  # "it goes on": once in the header, and in each block of the list
    block[148:156] = b" " * 8
    block[148:156] = f"{sum(block):06o}\0 ".encode()
    entry = (b"%011o\0" % 1) * 2
    return bytes(block) + 40_000 * (entry * 21 + b"\1" + b"\0" * 7)


BOMBS = {
    "pax": lambda: header(tarfile.XHDTYPE, 6 * 2**30) + bytes(2**25),
    "a long name": lambda: header(tarfile.GNUTYPE_LONGNAME, 6 * 2**30) + bytes(2**25),
    "a negative length": lambda: header(tarfile.XHDTYPE, -512),
    "holes": endless_holes,
}


@pytest.mark.parametrize("kind", BOMBS)
@pytest.mark.parametrize("packed_too", [True, False])
def test_no_header_of_an_archive_decides_how_much_memory_it_gets(
    tmp_path, capsys, kind, packed_too
):
    path = tmp_path / "bomb.tar"
    path.write_bytes(gzip.compress(BOMBS[kind](), 1) if packed_too else BOMBS[kind]())
    tracemalloc.start()
    said = refused(capsys, "import", path, "--store", tmp_path / "new")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "a header without a sensible length" in said
    assert peak < 10e6
    assert not (tmp_path / "new").exists()


def test_an_archive_that_the_disk_has_no_room_for_leaves_no_trace(
    packed, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 8, 1000))
    said = refused(capsys, "import", packed, "--store", tmp_path / "new")
    assert "has room for 0.0 GB" in said
    assert not (tmp_path / "new").exists()


def test_nothing_in_a_record_commands_the_terminal(full, capsys):
    path = full.root / "studies" / "walks-abababab" / "run.json"
    document = json.loads(path.read_text())
    document["headline"] = document["name"] = "a\x1b[2Jb\x9b31mc\rd"
    path.write_text(json.dumps(document))
    for words in (["list"], ["show", "walks-abababab"]):
        assert assay(*words, "--store", full.root) == 0
        said = capsys.readouterr().out
        assert "a[2Jb31mcd" in said
        assert not {"\x1b", "\x9b", "\r"} & set(said)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.98])
@pytest.mark.parametrize("ending", [".tar", ".tar.gz"])
def test_an_archive_that_was_cut_short_leaves_no_trace(full, tmp_path, capsys, share, ending):
    whole, cut = tmp_path / f"a{ending}", tmp_path / f"cut{ending}"
    assay("export", "walks", whole, "--store", full.root)
    content = whole.read_bytes().rstrip(b"\0")
    cut.write_bytes(content[: int(share * len(content))])
    refused(capsys, "import", cut, "--store", tmp_path / "new")
    assert not (tmp_path / "new").exists()
    refused(capsys, "import", tmp_path, "--store", tmp_path / "new")


def test_import_names_what_differs_and_leaves_it(packed, tmp_path, capsys):
    target = Store(tmp_path / "b")
    study(target, [], "walks")
    before = bytes_of(target.root)
    assert assay("import", packed, "--store", target.root) == 1
    assert "differs, and stays as it is: studies/walks-abababab" in capsys.readouterr().out
    assert before.items() <= bytes_of(target.root).items()
    assert len(list(target.trials())) == 3
