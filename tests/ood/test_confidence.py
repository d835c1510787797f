"""Scores of the logits, by hand and at the ends of floating point."""

from __future__ import annotations

import math

import pytest
import torch

from assay.core.embedding import Embedding
from assay.ood import Detector, Energy, MaxLogit, MaxSoftmax


def scores(detector: Detector, logits: list[list[float]]) -> list[float]:
    e = Embedding(torch.tensor(logits), None)
    return detector.fit(e).score(e).tolist()


def test_max_softmax_by_hand() -> None:
    # e^ln2 : e^0 : e^0 = 2 : 1 : 1, so p = 1/2; equal logits: p = 1/3; ln 6: 6/8
    logits = [[math.log(2), 0, 0], [5, 5, 5], [0, math.log(6), 0]]
    assert scores(MaxSoftmax(), logits) == pytest.approx([1 / 2, 2 / 3, 1 / 4], rel=1e-6)


def test_max_logit_by_hand() -> None:
    assert scores(MaxLogit(), [[1, -2, 3.5], [-4, -1, -9]]) == [-3.5, 1.0]


def test_energy_by_hand() -> None:
    # ln(2 + 1 + 1) = ln 4; ln(3 e^5) = 5 + ln 3
    seen = scores(Energy(), [[math.log(2), 0, 0], [5, 5, 5]])
    assert seen == pytest.approx([-math.log(4), -5 - math.log(3)], rel=1e-6)


def test_certain_rows_are_still_told_apart() -> None:
    # In float32 (and for the last two in float64) all of these softmaxes round to 1.
    seen = scores(MaxSoftmax(), [[20.0, 0], [25.0, 0], [40.0, 0], [60.0, 0]])
    assert seen == pytest.approx([math.exp(-v) for v in (20, 25, 40, 60)], rel=1e-6)
    assert len(set(seen)) == 4


def test_large_logits_overflow_nothing() -> None:
    for detector in (MaxSoftmax(), MaxLogit(), Energy()):
        assert all(math.isfinite(v) for v in scores(detector, [[1e4, -1e4], [-1e4, -1.01e4]]))
