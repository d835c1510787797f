"""The trial of a network: which images it may see when, and the course's protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from assay.core.source import Source
from assay.data import load_data
from assay.models import MLP
from assay.runs.worker import Workspace
from assay.tasks import train as trained
from assay.tasks.train import TrainNetwork
from assay.tasks.train_time import expected_seconds
from assay.train import Recipe


def test_training_and_its_choices_never_see_a_test_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Source] = {}
    real = trained.fit

    def spy(classifier: Any, train: Any, validation: Any, *rest: Any, **more: Any) -> Any:
        seen.update(train=train, validation=validation)
        return real(classifier, train, validation, *rest, **more)

    monkeypatch.setattr(trained, "fit", spy)
    config = TrainNetwork(
        data="digits", network=MLP(widths=(8,)), recipe=Recipe(epochs=1), train_images=100
    )
    outcome = trained.train(config.trial(0, "cpu", "mlp"), Workspace(tmp_path))
    held = {name: load_data("digits", split=name) for name in ("train", "validation", "test")}
    assert seen["train"].fingerprint == held["train"].sample(100).fingerprint
    assert seen["validation"].fingerprint == held["validation"].fingerprint
    assert outcome.metrics["n_test"] == len(held["test"])
    pixels = [{image.numpy().tobytes() for image in part.images} for part in held.values()]
    assert sum(map(len, pixels)) == len(set.union(*pixels))


def test_the_expected_time_is_that_of_the_recipes_precision(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    computed: list[torch.dtype] = []
    build = MLP.build

    def spied(self: MLP, *args: Any) -> torch.nn.Module:
        model = build(self, *args)
        model[-1].register_forward_hook(lambda *seen: computed.append(seen[2].dtype))  # type: ignore[index, union-attr]
        return model

    monkeypatch.setattr(MLP, "build", spied)
    for precision in ("float32", "bfloat16"):
        config = TrainNetwork(
            data="digits", network=MLP(widths=(8,)), recipe=Recipe(precision=precision)
        )
        assert expected_seconds(config, "cpu", probe_steps=1) > 0
    assert computed == [torch.float32, torch.bfloat16]
