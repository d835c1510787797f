"""What training asks of the processor, and that it leaves things as they were."""

from __future__ import annotations

import pytest
import torch

from assay.train.precision import computing


def state() -> tuple[bool, bool, int]:
    cudnn = torch.backends.cudnn
    return cudnn.deterministic, cudnn.benchmark, torch.get_num_threads()


def test_kernels_repeat_and_all_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    before = state()
    with computing(before[2] + 1):
        assert state() == (True, False, before[2] + 1)
    assert state() == before
