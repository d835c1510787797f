"""The risk of what is kept, by hand."""

from __future__ import annotations

import pytest

from assay import stats
from assay.errors import AssayError


def test_risk_and_coverage_by_hand() -> None:
    coverage, risk = stats.risk_coverage([0.4, 0.1, 0.3, 0.2], [1, 0, 0, 1])
    assert coverage.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert risk == pytest.approx([0, 1 / 2, 1 / 3, 1 / 2])
    assert stats.aurc([0.4, 0.1, 0.3, 0.2], [1, 0, 0, 1]) == pytest.approx(4 / 12)
    # with one score for all, any order: the share of mistakes throughout
    assert stats.aurc([1, 1, 1, 1], [1, 0, 0, 0]) == pytest.approx(0.25)


def test_what_cannot_be_ranked_is_refused() -> None:
    with pytest.raises(AssayError, match="2 scores, 1 mistakes"):
        stats.aurc([0.1, 0.2], [1])
