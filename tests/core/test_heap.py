"""Memory that stays with the process, and is returned."""

from __future__ import annotations

import platform
import resource
import threading
from pathlib import Path

import pytest
import torch

from assay.core import heap
from assay.core.heap import kept

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc is not glibc's")

BLOCK, BLOCKS = 1 << 20, 40
"""Floats of a block of 4 MB, and as many as exceed what malloc keeps of itself."""
PAGES = BLOCKS * BLOCK * 4 // resource.getpagesize()


def take_and_free() -> None:
    blocks = [torch.ones(BLOCK) for _ in range(BLOCKS)]
    del blocks


def faults() -> int:
    """Return how many pages the process is given when it takes and frees all blocks once more."""
    take_and_free()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    take_and_free()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def megabytes() -> float:
    """Return how much memory the process has."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def test_what_is_freed_stays_and_is_returned_by_whoever_leaves_last() -> None:
    with kept():
        with kept():
            assert faults() < PAGES / 4
            held = megabytes()
        assert megabytes() > held - 50
        assert faults() < PAGES / 4
    assert megabytes() < held - 100


def test_it_is_returned_after_an_exception() -> None:
    held = []

    def stopped() -> None:
        with kept():
            take_and_free()
            held.append(megabytes())
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        stopped()
    assert megabytes() < held[0] - 100


def test_whoever_enters_while_another_leaves_keeps_what_it_was_promised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The last to leave returns memory in two calls of C, in which other threads go on."""
    leaving, entered, settings = threading.Event(), threading.Event(), []

    class Slow:
        def mallopt(self, name: int, value: int) -> None:
            del name
            if value == 2 * heap.LARGEST:
                leaving.set()
                entered.wait(0.2)
            settings.append(value)

        def malloc_trim(self, pad: int) -> None:
            pass

    def leave() -> None:
        with kept():
            pass

    monkeypatch.setattr(heap, "_glibc", Slow)
    thread = threading.Thread(target=leave)
    thread.start()
    assert leaving.wait(60)
    with kept():
        entered.set()
        thread.join()
        assert settings[-1] == heap.ALL
