"""A collapse as the papers describe it, on real images, and the guard that is to notice it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from .peers import benchmark


@pytest.mark.slow
def test_a_real_collapse_is_noticed_and_gone_back_from() -> None:
    """FGSM without noise at 16/255 on 4,000 images of CIFAR-10: it is noticed in epoch 5, an epoch
    after ten steps leave nothing right, and the end of epoch 2 is gone back to."""
    collapse = benchmark("collapse")
    if not Path(collapse.DATA).is_dir():
        pytest.skip("no CIFAR-10 in the folder ASSAY_DATA")
    notes: list[str] = []
    history = collapse.watched("fgsm", "return", lambda _, note: notes.append(note))
    assert "catastrophic overfitting" in history.collapses[0]
    assert history.collapses[0].startswith(("epoch 4", "epoch 5", "epoch 6"))
    epochs = [int(note.split()[1].split("/")[0]) for note in notes]
    assert any(after <= before - 2 for before, after in pairwise(epochs))
    assert history.strong_looks[3] > 0.03  # of the second look of epoch 2
