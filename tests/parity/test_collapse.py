"""A collapse as the papers describe it, on real images, and the guard that is to notice it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from .peers import benchmark


@pytest.mark.slow
def test_a_real_collapse_is_noticed_and_gone_back_from(
    shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FGSM without noise at 0.2 on 2,000 images of MNIST: about half of the validation images are
    right under ten steps after six epochs, and next to none in the seventh; the guard notices that
    in the same epoch, and what is kept is as robust as before."""
    collapse = benchmark("collapse")
    monkeypatch.setattr(collapse, "DATA", shared_data)
    notes: list[str] = []
    history = collapse.watched("mnist", "fgsm", "return", lambda _, note: notes.append(note))
    assert "catastrophic overfitting" in history.collapses[0]
    seen, best = history.collapses[0].split("under one step, ")[1].split(" under several (at best ")
    assert int(seen.rstrip("%")) < 15
    assert int(best.rstrip("%)")) > 30
    begun = [int(note.split()[1].split("/")[0]) for note in notes]
    assert all(after - before in (0, 1) for before, after in pairwise(begun))
    assert history.strong_looks[-1] > 0.3
