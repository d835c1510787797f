"""A store to move, and the commands that move it."""

from __future__ import annotations

from pathlib import Path

from assay.cli import app, call
from assay.runs.store import Store


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
