"""Two halves: every row in one of them, every class in both, whatever the order."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from assay.core.embedding import Embedding
from assay.core.halves import halves


@given(st.lists(st.integers(-1, 4), max_size=60))
def test_every_class_of_two_rows_is_in_both_halves(labels: list[int]) -> None:
    y = torch.tensor(labels, dtype=torch.int64)
    one, other = halves(len(y), y)
    assert sorted([*one.tolist(), *other.tolist()]) == list(range(len(y)))
    assert len(one) - len(other) == len(y) % 2
    for label in y.unique():
        counts = [int((y[half] == label).sum()) for half in (one, other)]
        assert abs(counts[0] - counts[1]) <= 1


@pytest.mark.parametrize("period", [2, 3, 4, 10])
def test_what_takes_turns_is_in_both_halves_without_labels(period: int) -> None:
    """600 rows, of which a half has 600 / period of each kind, give or take 5 σ."""
    turns = torch.arange(600) % period
    for half in halves(600):
        assert (turns[half].bincount(minlength=period) - 300 / period).abs().max() < 5 * 8


def test_an_embedding_is_halved_by_its_labels_or_else_by_its_predictions() -> None:
    logits = torch.eye(2).repeat(2, 1)  # predicted 0, 1, 0, 1
    for half in Embedding(logits, None).halves():
        assert sorted(half.predictions.tolist()) == [0, 1]
    for half in Embedding(logits, None, y=torch.tensor([0, 0, 1, 1])).halves():
        assert half.y is not None
        assert half.y.tolist() == [0, 1]
