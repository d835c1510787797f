"""Orders that go by class are told from those that do not."""

from __future__ import annotations

import numpy as np
import pytest

from assay import stats

DRAW = np.random.default_rng(0)


@pytest.mark.parametrize(
    "labels",
    [
        np.arange(100),  # one of each class, sorted
        np.arange(100)[::-1],
        np.repeat([0, 1], 20),
        np.repeat([7, 2, 5, 3], 12),  # in blocks, which are not sorted
        np.concatenate([DRAW.integers(0, 5, 200), DRAW.integers(5, 10, 200)]),  # by halves
        np.repeat(DRAW.permutation(100), 3),
    ],
)
def test_by_class(labels: np.ndarray[tuple[int], np.dtype[np.int64]]) -> None:
    assert stats.by_class(labels)
    assert not stats.by_class(DRAW.permutation(labels))


@pytest.mark.parametrize(
    "labels", [[], [1], [0, 1], np.zeros(50), np.tile(np.arange(10), 20), [0] * 50 + [1]]
)
def test_not_by_class(labels: list[int]) -> None:
    assert not stats.by_class(labels)


def test_a_random_order_is_hardly_ever_taken_for_one_by_class() -> None:
    """However rare a class is: its few neighbours are no normal variable."""
    rare = [DRAW.random(n) < q for q in (0.005, 0.02, 0.1) for n in (50, 1000) for _ in range(500)]
    common = [DRAW.integers(0, k, n) for k in (2, 10) for n in (20, 200) for _ in range(500)]
    assert sum(map(stats.by_class, [*rare, *common])) == 0
