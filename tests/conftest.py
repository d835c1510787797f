"""What all tests share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from assay import Classifier

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets (cifar10, mnist), or a skip that says how to give it."""
    for candidate in (os.environ.get("ASSAY_DATA", ""), str(ROOT.parent / "shared" / "data")):
        if candidate and (Path(candidate) / "cifar10").is_dir():
            return Path(candidate)
    pytest.skip("no real data: set ASSAY_DATA to a folder that holds cifar10/ and mnist/")


@pytest.fixture(scope="session")
def digit_nets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Classifier]:
    """Two CNNs of one architecture, trained on the bundled digits in seconds: `natural`, and
    `robust`, against PGD at 0.1 in Linf (where about three in four images stand, of natural none).
    """
    from assay.attacks import PGD
    from assay.models import CNN
    from assay.models.loading import load_model
    from assay.runs.worker import Workspace
    from assay.tasks.train import TrainNetwork, train
    from assay.train import AdamW, OneCycle, Recipe

    found = {}
    for name, adversary in (("natural", None), ("robust", PGD(eps=0.1, steps=3))):
        config = TrainNetwork(
            data="digits",
            network=CNN(
                depths=(1, 1),
                widths=(8, 16),
                skip=True,
                norm="batch",
                init="he",
                stem_stride=2,
                stage_stride=2,
            ),
            recipe=Recipe(epochs=3, batch_size=50, optimizer=AdamW(lr=1e-2), schedule=OneCycle()),
            adversary=adversary,
            train_images=3000,
            train_tested=False,
        )
        work = Workspace(tmp_path_factory.mktemp(name))
        train(config.trial(0, "cpu", name), work)
        found[name] = load_model(work.path("model.safetensors"))
    return found


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("cuda"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")
