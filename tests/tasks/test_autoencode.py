"""The trial of the autoencoder, on real images."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from assay.data.dataset import to_float
from assay.errors import AssayError
from assay.models.autoencoder import MLPAutoencoder, load_autoencoder
from assay.runs.worker import Workspace
from assay.tasks.autoencode import Autoencoding, TrainAutoencoder, autoencode
from assay.tasks.train import TrainNetwork, split


class TestAutoencoder:
    CONFIG = TrainAutoencoder(
        data="digits",
        train_images=800,
        learning=Autoencoding(network=MLPAutoencoder(widths=(64,), code=16), epochs=30, lr=3e-3),
    )

    def test_it_reproduces_images_it_has_not_seen(self, tmp_path: Path) -> None:
        trial = self.CONFIG.trial(0, "cpu", 1)
        outcome = autoencode(trial, Workspace(tmp_path))
        metrics = outcome.metrics
        assert metrics["train_error"] < metrics["validation_error"]
        assert metrics["validation_error"] < 0.5 * metrics["mean_image_error"]
        errors = outcome.arrays["train_error"]
        assert len(errors) == 30
        assert errors[-1] < 0.3 * errors[0]
        model, data = load_autoencoder(tmp_path / "model.safetensors"), self.CONFIG.part("train")
        x = to_float(data.images)
        with torch.no_grad():
            error = float((model(x) - x).square().mean())
        assert error == pytest.approx(metrics["train_error"], rel=1e-4)

    def test_the_same_trial_gives_the_same_bytes(self, tmp_path: Path) -> None:
        short = self.CONFIG.model_copy(
            update={"learning": self.CONFIG.learning.model_copy(update={"epochs": 2})}
        )
        kept = []
        for place, seed in (("a", 0), ("b", 0), ("c", 1)):
            autoencode(short.trial(seed, "cpu", 1), Workspace(tmp_path / place))
            kept.append((tmp_path / place / "model.safetensors").read_bytes())
        assert kept[0] == kept[1]
        assert kept[0] != kept[2]

    def test_it_learns_from_the_images_that_the_classifier_gets(self) -> None:
        classifier = TrainNetwork(data="digits", train_images=800)
        wanted = split(classifier, "train").fingerprint
        assert self.CONFIG.part("train").fingerprint == wanted
        assert self.CONFIG.trial(0, "cpu", 1).data["digits/train"] == wanted

    def test_changed_data_is_noticed(self, tmp_path: Path) -> None:
        trial = self.CONFIG.trial(0, "cpu", 1)
        other = trial.model_copy(update={"data": {**trial.data, "digits/train": "0" * 64}})
        with pytest.raises(AssayError, match="has changed since"):
            autoencode(other, Workspace(tmp_path))
