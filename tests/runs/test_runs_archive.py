"""What is packed comes back whole, and an archive that is not as it says leaves no trace."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import tarfile
import tracemalloc
from pathlib import Path

import pytest
from stores import assay, bytes_of, refused, study

from assay.errors import AssayError
from assay.runs import archive as archives
from assay.runs.archive import Archive
from assay.runs.store import Store


@pytest.fixture
def packed(full, tmp_path):
    path = tmp_path / "walks.tar"
    assert assay("export", "walks", path, "--store", full.root) == 0
    return path


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


def of_documents(path: Path, names: list[str], content: bytes) -> Path:
    """Write an archive whose every file is this document."""
    mark = [len(content), hashlib.sha256(content).hexdigest()]
    parcels: dict[str, dict[str, list]] = {}
    for name in names:
        parcel, _, file = name.rpartition("/")
        parcels.setdefault(parcel, {})[file] = mark
    manifest = json.dumps({"schema": 1, "parcels": parcels}).encode()
    with gzip.open(path, "wb", 1) as out, tarfile.open(fileobj=out, mode="w|") as new:
        for name, held in (("manifest.json", manifest), *((name, content) for name in names)):
            info = tarfile.TarInfo(name)
            info.size = len(held)
            new.addfile(info, io.BytesIO(held))
    return path


@pytest.mark.parametrize("shelf", ["studies", "trials"])
def test_of_the_documents_of_an_archive_few_are_in_memory_at_once(tmp_path, monkeypatch, shelf):
    monkeypatch.setattr(archives, "LONGEST_DOCUMENT", 10**6)
    names = [f"studies/x-{k:08x}/run.json" for k in range(24)]
    if shelf == "trials":  # all of one kind first, so that no trial is whole before the last
        names = [f"trials/{k:012x}/{n}.json" for n in ("trial", "record") for k in range(24)]
    content = b'{"schema": 1, "kind": "study"}'.ljust(10**6)
    path = of_documents(tmp_path / "long.tar.gz", names, content)
    tracemalloc.start()
    if shelf == "studies":
        assert len(list(Archive(path).parcels())) == 24
    else:
        with pytest.raises(AssayError, match=r"the documents of .* are far apart: refused"):
            Archive(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 12e6


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
