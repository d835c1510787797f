"""What is done about decoded images that were damaged, changed or copied in the cache."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.data import imageset as imageset_module
from assay.data import load_data

Image = pytest.importorskip("PIL.Image")


@pytest.fixture
def entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of a set of two images, of levels 1 and 2, in the split train of ./imgs."""
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ASSAY_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    for level, kind in enumerate(("cat", "dog"), 1):
        Path(f"imgs/train/{kind}").mkdir(parents=True)
        Image.new("L", (3, 3), level).save(f"imgs/train/{kind}/1.png")
    load_data("imgs", split="train")
    (found,) = (tmp_path / "cache").glob("*/train")
    return found


def patched(path: str, *, at: int, content: bytes) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        with (folder / path).open("r+b") as file:
            file.seek(at, os.SEEK_END if at < 0 else os.SEEK_SET)
            file.write(content)

    return damage


def told(**changes: Any) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        meta = json.loads((folder / "meta.json").read_text())
        (folder / "meta.json").write_text(json.dumps(meta | changes))

    return damage


def written(path: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / path).write_bytes(content) and None


def array(path: str, values: np.ndarray[Any, Any]) -> Callable[[Path], None]:
    return lambda folder: np.save(folder / path, values)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a pixel": patched("images.npy", at=-1, content=b"\x09"),
    "images of another type": array("images.npy", np.ones((2, 1, 3, 3), np.int8)),
    "images of another shape": array("images.npy", np.ones((2, 3, 3), np.uint8)),
    "more images": array("images.npy", np.ones((3, 1, 3, 3), np.uint8)),
    "a header": patched("images.npy", at=0, content=b"garbage"),
    "no images": lambda folder: (folder / "images.npy").unlink(),
    "labels swapped": array("labels.npy", np.array([1, 0])),
    "labels of another type": array("labels.npy", np.array([0, 4.94e-324])),  # the same bytes
    "objects": array("labels.npy", np.array([0, "x"], dtype=object)),
    "classes swapped": told(classes=["dog", "cat"]),
    "classes that are no list": told(classes=7),
    "another mean": told(mean=[0.5]),
    "another fingerprint": told(fingerprint="0" * 64),
    "notes that are no text": told(notes=[7]),
    "no seal": told(seal=None, notes=None),
    "another shape agreed on": told(agreed={"shape": [3, 3, 3], "notes": []}),
    "a list": written("meta.json", b"[]"),
    "a number": written("meta.json", b"7"),
    "half of it": written("meta.json", b'{"classes": ["cat"'),
    "nothing": written("meta.json", b""),
    "bytes that are no text": written("meta.json", b"\xff\xfe"),
    "very deep": written("meta.json", b"[" * 100_000),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_what_is_damaged_is_made_again(case: str, entry: Path) -> None:
    good = load_data("imgs", split="train")
    expected = (good.images.clone(), good.labels, good.classes, good.notes, good.mean)
    DAMAGE[case](entry)
    again = load_data("imgs", split="train")
    assert (again.images == expected[0]).all()
    assert (again.labels == expected[1]).all()
    assert (again.classes, again.notes, again.mean) == expected[2:]
    assert again.fingerprint == good.fingerprint


@pytest.mark.parametrize("copy", [shutil.copytree, shutil.move])
@pytest.mark.usefixtures("entry")
def test_a_copy_of_the_cache_serves(
    copy: Callable[[Path, Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy(tmp_path / "cache", tmp_path / "copy")
    monkeypatch.setattr(imageset_module, "_make", None)
    data = load_data("imgs", split="train", cache=tmp_path / "copy")
    assert data.images[:, 0, 0, 0].tolist() == [1, 2]


@pytest.mark.usefixtures("entry")
def test_an_untouched_cache_is_not_read_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assay.data.cache.content_digest", None)
    assert len(load_data("imgs", split="train")) == 2


@pytest.mark.parametrize("name", ["x" * 250, "a b", "🐈" * 50, "é'\"", "..a", "-"])
def test_sets_of_any_name_are_kept(name: str, entry: Path, tmp_path: Path) -> None:
    Path("imgs").rename(name)
    assert len(load_data(name, split="train")) == 2
    assert load_data(tmp_path / name, split="train").name == name
    assert all(path.name.isascii() for path in entry.parent.parent.iterdir())
