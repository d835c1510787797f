"""The trial of the autoencoder, on real images."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from assay.data import load_data
from assay.data.dataset import to_float
from assay.errors import AssayError
from assay.models.autoencoder import MLPAutoencoder, VariationalAutoencoder, load_autoencoder
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

    def test_a_variational_one_learns_too(self, tmp_path: Path) -> None:
        network = VariationalAutoencoder(widths=(8,), code=8)
        learning = Autoencoding(network=network, epochs=8, lr=5e-3)
        config = self.CONFIG.model_copy(update={"learning": learning})
        outcome = autoencode(config.trial(0, "cpu", 1), Workspace(tmp_path))
        assert outcome.metrics["validation_error"] < outcome.metrics["mean_image_error"]
        assert outcome.arrays["train_error"][-1] < outcome.arrays["train_error"][0] - 0.3


def test_left_out_classes_are_never_met() -> None:
    config = TrainAutoencoder(data="digits", without=(2, 7))
    assert "without" not in TrainAutoencoder(data="digits").trial(0, "cpu", 1).config
    assert config.part("train").classes == ("0", "1", "3", "4", "5", "6", "8", "9")
    network = TrainNetwork(data="digits", without=(2, 7), test_images=50, images_by_seed=True)
    for name in ("train", "validation", "test"):
        data = split(network, name, seed=1)
        assert data.classes == config.part("train").classes
        assert set(data.labels.tolist()) == set(range(8))
    whole = load_data("digits", split="train")
    left = split(network, "train")
    named = [left.classes[label] for label in left.labels[:50].tolist()]
    assert named == [whole.classes[whole.labels[row]] for row in left.ids[:50].tolist()]
    assert network.trial(0, "cpu", "").data["digits/train"] == config.part("train").fingerprint
    with pytest.raises(AssayError, match=r"classes \[10\] to be left out of digits, which has 10"):
        whole.without([10])
