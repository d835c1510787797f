"""Over two hundred mistakes, each by the real command line: exit code 2, one line on stderr that
says what was wrong, what was seen and what to do, nothing left behind, bounded time and memory.

What single commands refuse besides stands in the tests of each.
"""

from __future__ import annotations

import os
import resource
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from assay.cli import app, call
from mistakes.files import GOOD, made
from mistakes.service import Service
from mistakes.table import TABLE

SECONDS, MEBIBYTES = 10, 600
"""What one mistake may take: of the processor, and of memory."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("mistakes"))


@pytest.fixture(scope="module")
def service() -> Iterator[str]:
    with Service() as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()
        thread.join()


def tree(*folders: Path) -> dict[str, tuple[int, int]]:
    """Every file, with its size and when it was written, but what Python keeps of modules."""
    return {
        str(path): (path.lstat().st_size, path.lstat().st_mtime_ns if path.is_file() else 0)
        for folder in folders
        for path in folder.rglob("*")
        if "__pycache__" not in str(path)
    }


def words_of(command: str, folder: Path, service: str) -> list[str]:
    said = command.replace("@", f"{folder}/").replace("$", service).replace("NET", str(GOOD))
    return shlex.split(said)


def test_the_table_is_long_enough() -> None:
    commands = [command for command, _ in TABLE]
    assert len(set(commands)) == len(commands) >= 60


@pytest.mark.parametrize(
    ("command", "words"), TABLE, ids=[c.replace(" --quiet", "")[:120] for c, _ in TABLE]
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    command: str,
    words: list[str],
    folder: Path,
    service: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ASSAY_DATA", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    before = tree(tmp_path, folder)
    started, held = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    code = call(app, words_of(command, folder, service))

    out, err = capsys.readouterr()
    assert (code, out) == (2, ""), err
    notes = [line for line in err.splitlines()[:-1] if "has no gradients" not in line]
    assert not notes, err
    last = err.splitlines()[-1]
    assert last.startswith("assay: ")
    assert "Traceback" not in err
    for word in words:
        assert word in last, last
    assert tree(tmp_path, folder) == before
    assert time.process_time() - started < SECONDS
    more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - held
    assert more < MEBIBYTES * 2**10, f"{more // 2**10} MiB"


def test_the_program_itself_says_no_more(folder: Path, tmp_path: Path) -> None:
    """A process of its own: nothing that a library prints by itself comes between."""
    before = tree(folder)
    words = words_of("audit @nets.py:Net --weights @bomb.pt --data digits", folder, "")
    found = subprocess.run(
        [sys.executable, "-m", "assay.cli", *words],
        cwd=tmp_path,
        env=os.environ | {"COLUMNS": "80"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr.startswith("assay: ")
    assert found.stderr.count("\n") == 1, found.stderr
    assert tree(folder) == before
    assert not list(tmp_path.iterdir())


def test_a_disk_that_is_full_is_one_line_too(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        found = subprocess.run(
            [sys.executable, "-m", "assay.cli", "list", "--store", str(tmp_path)],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert found.returncode == 2
    assert found.stderr == (
        "assay: [Errno 28] No space left on device: make room where it writes to\n"
    )
