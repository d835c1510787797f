"""Batches that do not fit in memory are halved, and the smaller size is kept.

A system that promises more memory than it has never says no: it kills. So where one row is large,
what one takes is measured first, and no more rows are evaluated together than there is memory for.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from assay.errors import AssayError, told

Answer = TypeVar("Answer", Tensor, tuple[Tensor, Tensor])

SAID = ("out of memory", "can't allocate memory", "DefaultCPUAllocator", "not enough memory")
"""What a RuntimeError says when it was memory: torch has a class of its own for CUDA alone."""

LARGE = 2**16
"""Values of a row from which on it is measured: an image of 3 × 148 × 148."""
TEXT = ("text", "shorter texts")
"""What rows without height and width are, and what to take where one is too large."""
SHARE = 0.5
"""How much of the memory that is available a batch may take."""


@dataclass
class Tally:
    """What a model has answered so far, and how many rows of each kind it has memory for."""

    queries: int = 0
    """Rows that were evaluated."""
    fits: dict[tuple[str, tuple[int, ...]], int] = field(default_factory=dict)
    """By kind of evaluation and shape of a row: rows at a time, once more of them did not fit."""
    takes: dict[tuple[str, tuple[int, ...]], int | None] = field(default_factory=dict)
    """Likewise: bytes that one large row takes at its peak; None where that is not known."""


def in_parts(
    function: Callable[..., Answer],
    rows: int,
    *tensors: Tensor,
    tally: Tally | None = None,
    kind: str = "query",
    in_vain: bool = True,
) -> Answer:
    """Return `function(*tensors)`, computed `rows` rows at a time, or fewer where memory ends.

    A part that does not fit is halved and evaluated again; the rest goes on in the smaller size.
    Of large rows on a CPU one is tried first: fewer are evaluated at a time where memory is short.

    Args:
        function: takes the same rows of every tensor, and returns a tensor, or a pair of them,
            with one row for each.
        rows: most rows at a time, at least 1.
        tensors: each (N, ...).
        tally: of the model that is evaluated. Its queries are put back after a part that did not
            fit, and the size that fits is kept in it for later calls. None: for this call only.
        kind: what `rows` may differ by, besides the shape of a row: a gradient takes more memory
            than a query.
        in_vain: whether `function` may be called once more than its answers are needed, to measure
            a large row: not where it keeps what it sees, or where calls are somebody else's.

    Raises:
        AssayError: a single row does not fit; names its shape.
    """
    tally = Tally() if tally is None else tally
    first = tensors[0]
    key = (kind, tuple(first.shape[1:]))
    size = min(rows, tally.fits.get(key, rows))
    large = len(first) > 1 and first[0].numel() >= LARGE and first.device.type == "cpu"
    if in_vain and size > 1 and large:
        size = min(size, _affordable(function, tensors, tally, key))
    parts: list[Answer] = []
    start = 0
    while not parts or start < len(first):  # an empty batch is evaluated too, once
        before = tally.queries
        refused = ""
        try:
            parts.append(function(*(tensor[start : start + size] for tensor in tensors)))
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            refused = told(error)[:200]
            if len(first) - start <= 1 or size == 1:
                what, less = ("image", "smaller images") if len(key[1]) == 3 else TEXT
                raise AssayError(
                    f"a single {what} of shape {key[1]} does not fit in memory ({refused}): take "
                    f"{less}, or a machine or a device with more memory"
                ) from error
        if refused:  # only here has the exception let go of what was computed
            tally.queries = before
            size = max(1, min(size, len(first) - start) // 2)
            tally.fits[key] = size
        else:
            start += size
    return _joined(parts)


def _affordable(
    function: Callable[..., Any],
    tensors: tuple[Tensor, ...],
    tally: Tally,
    key: tuple[str, tuple[int, ...]],
) -> int:
    """Return how many rows there is memory for, from the peak of one, which is measured once."""
    if key not in tally.takes:
        before = tally.queries
        try:
            tally.takes[key] = peak_of(lambda: function(*(tensor[:1] for tensor in tensors)))
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            return 1  # asked again, it is said
        finally:
            tally.queries = before
    one, free = tally.takes[key], available()
    return sys.maxsize if not one or free is None else max(1, int(SHARE * free / one))


def peak_of(call: Callable[[], Any]) -> int | None:
    """Call, and return by how many bytes this process grew at most; None where the system, which is
    not Linux, does not say. What the call returns is let go."""
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts from what is held now
        before = _kilobytes("/proc/self/status", "VmRSS")
    except OSError:
        before = None
    call()
    after = None if before is None else _kilobytes("/proc/self/status", "VmHWM")
    return None if before is None or after is None else 1024 * max(0, after - before)


def available() -> int | None:
    """Return the bytes that can still be had, of the machine and of the group that this process is
    confined to; None where the system does not say."""
    free = _kilobytes("/proc/meminfo", "MemAvailable")
    if free is None:
        return None
    group = Path("/sys/fs/cgroup")
    try:
        limit = int((group / "memory.max").read_text())
        used = int((group / "memory.current").read_text())
        held = (group / "memory.stat").read_text().split()
        cached = int(held[held.index("inactive_file") + 1])  # given up when it is needed
    except (OSError, ValueError):  # no group, or one without a limit ("max")
        return 1024 * free
    return min(1024 * free, max(0, limit - used + cached))


def _kilobytes(path: str, name: str) -> int | None:
    """Return a number from a file of the system with lines such as "VmRSS:  1024 kB"."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return None
    found = (line.split()[1] for line in lines if line.startswith(f"{name}:"))
    number = next(found, None)
    return None if number is None else int(number)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether `error` says that memory could not be had, on any device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in SAID)


def _joined(parts: list[Answer]) -> Answer:
    if isinstance(parts[0], Tensor):
        return torch.cat(parts)
    if len(parts) == 1:
        return parts[0]
    left, right = zip(*parts, strict=True)
    return torch.cat(left), torch.cat(right)
