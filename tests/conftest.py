"""What all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets (cifar10, mnist), or a skip that says how to give it."""
    for candidate in (os.environ.get("ASSAY_DATA", ""), str(ROOT.parent / "shared" / "data")):
        if candidate and (Path(candidate) / "cifar10").is_dir():
            return Path(candidate)
    pytest.skip("no real data: set ASSAY_DATA to a folder that holds cifar10/ and mnist/")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("cuda"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")
