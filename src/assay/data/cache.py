"""Decoded image sets on disk: one memory-mapped array per split.

    <cache>/<name>-<key>/<split>/images.npy    uint8 (N, C, H, W)
                                 labels.npy    int64 (N,)
                                 meta.json     classes, fingerprint, mean and std, sizes, origin

A split is made beside its place and renamed into it when it is whole, under a lock, so that two
processes make it once and a killed one leaves nothing that is read.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from assay.data.dataset import Dataset, channel_moments, content_digest
from assay.errors import AssayError, expanded


def cache_folder(cache: str | Path | None) -> Path:
    """Return where decoded images are kept: `cache`, `$ASSAY_CACHE`, or the user's cache."""
    if cache is not None:
        return expanded(cache)
    if os.environ.get("ASSAY_CACHE"):
        return expanded(os.environ["ASSAY_CACHE"])
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "assay"


def cached(entry: Path, split: str, name: str) -> Dataset | None:
    """Return the split that is kept in `entry`, mapped; None where there is none, or not whole."""
    folder = entry / split
    try:
        meta = json.loads((folder / "meta.json").read_text())
        # copy-on-write: torch wants a writable array, and the file stays as it is
        images = np.load(folder / "images.npy", mmap_mode="c")
        labels = np.load(folder / "labels.npy")
    except (OSError, ValueError, KeyError):  # a file that is cut short is a ValueError
        return None
    return Dataset(
        name=name,
        split=split,
        classes=tuple(meta["classes"]),
        images=torch.from_numpy(images),
        labels=torch.from_numpy(labels),
        fingerprint=meta["fingerprint"],
        ids=torch.arange(len(labels)),
        _moments=(tuple(meta["mean"]), tuple(meta["std"])),
    )


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
) -> None:
    """Complete the split in `making/split`, whose images are written, and move it into place."""
    folder = making / split
    np.save(folder / "labels.npy", labels)
    images = torch.from_numpy(np.load(folder / "images.npy", mmap_mode="c"))
    mean, std = channel_moments(images)
    meta = {
        "classes": list(classes),
        "shape": list(images.shape),
        "fingerprint": content_digest(images, torch.from_numpy(labels), classes),
        "mean": list(mean),
        "std": list(std),
        "origin": dict(origin),
    }
    (folder / "meta.json").write_text(json.dumps(meta, indent=1, ensure_ascii=False))
    place = entry / split
    if place.exists():  # not whole, otherwise nobody would have made it again
        shutil.rmtree(place)
    folder.rename(place)
