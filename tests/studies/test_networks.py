"""The trial of a network: which images it may see when, and the course's protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from assay.core.source import Source
from assay.data import load_data
from assay.models import MLP
from assay.runs.worker import Workspace
from assay.studies import networks
from assay.studies.networks import TrainNetwork
from assay.studies.skip import Skip
from assay.train import Recipe


def test_training_and_its_choices_never_see_a_test_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Source] = {}
    real = networks.fit

    def spy(classifier: Any, train: Any, validation: Any, *rest: Any, **more: Any) -> Any:
        seen.update(train=train, validation=validation)
        return real(classifier, train, validation, *rest, **more)

    monkeypatch.setattr(networks, "fit", spy)
    config = TrainNetwork(
        data="digits", network=MLP(widths=(8,)), recipe=Recipe(epochs=1), train_images=100
    )
    outcome = networks.train(config.trial(0, "cpu", "mlp"), Workspace(tmp_path))
    held = {name: load_data("digits", split=name) for name in ("train", "validation", "test")}
    assert seen["train"].fingerprint == held["train"].sample(100).fingerprint
    assert seen["validation"].fingerprint == held["validation"].fingerprint
    assert outcome.metrics["n_test"] == len(held["test"])
    pixels = [{image.numpy().tobytes() for image in part.images} for part in held.values()]
    assert sum(map(len, pixels)) == len(set.union(*pixels))


def test_the_paper_preset_is_the_course_s_protocol() -> None:
    paper = Skip.parse(Skip.preset_values("paper"))
    assert (paper.data, paper.depths, paper.widths) == ("cifar10", (2, 5, 7), (16, 32))
    cell = paper.grid()["skip [7,7]"]
    assert cell.network.model_dump(exclude={"name"}) == {
        "depths": (7, 7),
        "widths": (16, 32),
        "skip": True,
        "shortcut": "none",
        "norm": "none",
        "stem_stride": 1,
        "stage_stride": 1,
        "dropout": 0.0,
        "init": "default",
    }
    assert cell.augmentation.model_dump() == {
        "name": "simple",
        "degrees": 10.0,
        "translate": 0.05,
        "scale": (0.95, 1.05),
        "blur": (0.1, 0.5),
        "blur_p": 0.3,
    }
    recipe = cell.recipe
    assert recipe.optimizer.model_dump() == {"name": "adam", "lr": 1e-3, "weight_decay": 0.0}
    assert (recipe.schedule.name, recipe.batch_size, recipe.accumulate) == ("constant", 64, 1)
    assert (recipe.epochs, recipe.patience, recipe.precision) == (100, 15, "float32")
    assert (recipe.label_smoothing, recipe.grad_clip) == (0.0, 0.0)
