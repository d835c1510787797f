"""Memory that is freed, and wanted again at the next step, stays with the process meanwhile.

A training step takes tens of megabytes for its activations, and frees them at its end. Above a
threshold glibc returns them to the system, and every step pays for its pages anew: a tenth of the
processor time of training a small network.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""The names of two settings in glibc's malloc.h."""
LARGEST = 32 << 20
"""Bytes from which a block never comes from the heap; glibc allows no more."""
ALL = (1 << 31) - 1
"""Free bytes above which the end of the heap is returned: more than can be asked for."""

_holders, _lock = 0, threading.Lock()


@contextmanager
def kept() -> Iterator[None]:
    """Keep what is freed, up to 2 GB of it, and return it to the system on the way out.

    Nothing but time changes. Of several that are nested, or held by several threads, the last one
    to leave returns it. Afterwards malloc is as it makes itself once a block of 32 MB was freed.
    Where malloc is not glibc's, nothing happens.

    >>> with kept():
    ...     clf.predict(x).shape
    torch.Size([12])
    """
    global _holders
    libc = _glibc()
    if libc is None:
        yield
        return
    with _lock:
        _holders += 1
        libc.mallopt(MMAP_THRESHOLD, LARGEST)
        libc.mallopt(TRIM_THRESHOLD, ALL)
    try:
        yield
    finally:
        with _lock:
            _holders -= 1
            if not _holders:
                libc.mallopt(TRIM_THRESHOLD, 2 * LARGEST)
                libc.malloc_trim(0)


def _glibc() -> Any:
    """Return the C library where it is glibc, otherwise None."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None
