"""Decoded image sets on disk: one memory-mapped array per split.

    <cache>/<name>-<key>/<split>/images.npy    uint8 (N, C, H, W)
                                 labels.npy    int64 (N,)
                                 meta.json     classes, fingerprint, mean and std, sizes, origin,
                                               notes, and a seal over all of this
                                 columns.json  what else is known of each image, where there is
                                               anything

A split is made beside its place and renamed into it when it is whole, under a lock, so that two
processes make it once and a killed one leaves nothing that is read.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from assay.config import digest
from assay.data.dataset import Dataset, channel_moments, content_digest
from assay.errors import AssayError


def cached(entry: Path, split: str, name: str) -> Dataset | None:
    """Return the split that is kept in `entry`, mapped; None where there is none, or not whole.

    What was changed since it was made (the seal over meta.json and the files' sizes and times is
    broken) is read whole, and given only if it is still what its fingerprint says.
    """
    folder = entry / split
    meta = kept_meta(entry, split)
    if meta is None:
        return None
    try:
        images, labels = _arrays(folder)
        columns = _columns(folder, meta["columns"])
    except (OSError, ValueError, LookupError):  # it went, or was changed, since
        return None
    return Dataset(
        name=name,
        split=split,
        classes=tuple(meta["classes"]),
        images=images,
        labels=labels,
        fingerprint=meta["fingerprint"],
        ids=torch.arange(len(labels)),
        notes=tuple(meta["notes"]),
        metadata=columns,
        _moments=(tuple(meta["mean"]), tuple(meta["std"])),
    )


def kept_meta(entry: Path, split: str) -> dict[str, Any] | None:
    """Return what meta.json says of a split that is whole; None where it is not."""
    folder = entry / split
    try:
        meta = json.loads((folder / "meta.json").read_text("utf-8"))
        if meta["seal"] == _seal(folder, meta):
            return dict(meta)
        images, labels = _arrays(folder)
        # a copy of the cache has other times: everything that the file says is worked out again
        again = _content(images, labels, tuple(meta["classes"]))
        shape = meta["agreed"]["shape"] == list(images.shape[1:])
        if not shape or any(meta[key] != value for key, value in again.items()):
            return None
        if not all(isinstance(note, str) for note in (*meta["notes"], *meta["agreed"]["notes"])):
            return None
        return dict(meta)
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None


def _arrays(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mapped images and the labels of a split.

    Raises:
        ValueError: for arrays of another kind, or files that are cut short.
    """
    # copy-on-write: torch wants a writable array, and the file stays as it is
    images = np.load(folder / "images.npy", mmap_mode="c")
    labels = np.load(folder / "labels.npy")
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError("images.npy holds no images")
    if labels.dtype != np.int64 or labels.shape != images.shape[:1]:
        raise ValueError("labels.npy holds no label per image")
    return torch.from_numpy(images), torch.from_numpy(labels)


def _columns(folder: Path, seen: str) -> dict[str, list[Any]]:
    """Return what columns.json holds, if it is what it was: `seen` is its digest, "" for none.

    Raises:
        ValueError: it is not.
    """
    if not seen:
        return {}
    text = (folder / "columns.json").read_bytes()
    if hashlib.sha256(text).hexdigest() != seen:
        raise ValueError("columns.json was changed")
    return dict(json.loads(text))


def _content(
    images: torch.Tensor, labels: torch.Tensor, classes: tuple[str, ...]
) -> dict[str, Any]:
    mean, std = channel_moments(images)
    return {
        "classes": list(classes),
        "shape": list(images.shape),
        "fingerprint": content_digest(images, labels, classes),
        "mean": list(mean),
        "std": list(std),
    }


def _seal(folder: Path, meta: Mapping[str, Any]) -> str:
    """Return a digest of meta.json, and of size and times of the files that it is about."""
    stats = [(folder / name).stat() for name in ("images.npy", "labels.npy")]
    stamps = [[stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns] for stat in stats]
    return digest([{key: value for key, value in meta.items() if key != "seal"}, stamps])


@contextmanager
def writing(entry: Path) -> Iterator[Path]:
    """Hold the lock of `entry`, and give a folder to make splits in; what is left there is removed.

    Raises:
        AssayError: where the cache cannot be written, or the disk is full.
    """
    from filelock import FileLock

    advice = "set ASSAY_CACHE (or cache=) to another folder"
    try:
        entry.mkdir(parents=True, exist_ok=True)
        lock = FileLock(entry / "lock")
        lock.acquire()
    except OSError as error:
        raise AssayError(
            f"decoded images are kept in {entry.parent}, which cannot be written "
            f"({error.strerror}); {advice}"
        ) from error
    try:
        for left in entry.glob("making-*"):  # by a process that was killed: we hold the lock
            shutil.rmtree(left, ignore_errors=True)
        making = entry / f"making-{os.getpid()}"
        making.mkdir()
        try:
            yield making
        finally:
            shutil.rmtree(making, ignore_errors=True)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise AssayError(f"the disk that holds {entry.parent} is full; {advice}") from error
    finally:
        lock.release()


def start_array(path: Path, shape: tuple[int, ...]) -> Any:
    """Open `path` for a uint8 array of `shape` that is written from front to back."""
    file = path.open("wb")
    np.lib.format.write_array_header_1_0(
        file, {"descr": "|u1", "fortran_order": False, "shape": shape}
    )
    return file


def finish(
    making: Path,
    entry: Path,
    split: str,
    *,
    labels: np.ndarray[Any, Any],
    classes: tuple[str, ...],
    origin: Mapping[str, Any],
    notes: Sequence[str],
    agreed: Mapping[str, Any],
    columns: Mapping[str, Sequence[Any]],
) -> None:
    """Complete the split in `making/split`, whose images are written, and move it into place."""
    folder = making / split
    np.save(folder / "labels.npy", labels)
    seen = ""
    if columns:
        text = json.dumps({name: list(values) for name, values in columns.items()}).encode()
        (folder / "columns.json").write_bytes(text)
        seen = hashlib.sha256(text).hexdigest()
    meta = _content(*_arrays(folder), classes) | {
        "origin": dict(origin),
        "notes": list(notes),
        "columns": seen,
        "agreed": {key: list(value) for key, value in agreed.items()},
    }
    meta["seal"] = _seal(folder, meta)
    (folder / "meta.json").write_text(json.dumps(meta, indent=1, ensure_ascii=False), "utf-8")
    place = entry / split
    if place.exists():  # not whole, otherwise nobody would have made it again
        shutil.rmtree(place)
    folder.rename(place)
