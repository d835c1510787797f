"""The trial that looks at a trained network beside its accuracy: calibration, corruptions, outliers
by max-logit and by reconstruction, and the gradients of its loss by the image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from assay import stats
from assay.attacks.losses import cross_entropy
from assay.attacks.methods.gradient import uphill
from assay.attacks.methods.pgd import PGD
from assay.config import Config, Pixels
from assay.core.classifier import Classifier
from assay.core.random import Stream
from assay.data.codec import quality_of
from assay.data.corruptions import corrupt
from assay.data.dataset import Dataset, to_float
from assay.data.outliers import outliers
from assay.models.autoencoder import Autoencoder, load_autoencoder
from assay.runs.trial import Outcome, Trial
from assay.runs.worker import Workspace
from assay.tasks.attack import on_network, subject
from assay.train.precision import computing

TASK = "examine"

PICTURED = 8
"""Images whose gradients are kept."""


class Examining(Config):
    """What is looked at, and on how many images."""

    VERSION = 3

    images: int = Field(default=500, ge=8)
    """Test images, and as many outliers of each kind."""
    images_by_seed: bool | None = None
    """Each seed draws its own test images; none: the same for all."""
    near: str = "letters"
    """The near outliers: a kind of `assay.data.outliers`, or a data set."""
    severity: int = Field(default=3, ge=1, le=5)
    """Of the corruptions."""
    eps: Pixels = 8 / 255
    """L∞ budget with which noise is moved so that the network is sure of it."""
    steps: int = Field(default=20, ge=1)
    """Steps of that attack."""

    def trials(
        self, needs: Iterable[Trial], autoencoders: Sequence[Trial], label: str
    ) -> list[Trial]:
        """Return the trials that look at the networks that `needs` train, each beside the
        autoencoder of its seed."""
        known = {"Examining": self.VERSION, "PGD": PGD.VERSION}
        return [
            on_network(TASK, self, (need, autoencoder), known, label)
            for need, autoencoder in zip(needs, autoencoders, strict=True)
        ]


def sure(logits: Tensor, y: Tensor) -> Tensor:
    """Return the largest logit of each row: what an attacked outlier makes rise."""
    del y
    return logits.amax(1)


def examine(trial: Trial, work: Workspace) -> Outcome:
    """Look at the network that the trial needs.

    Metrics: clean accuracy, accuracy under corruptions (each image under one of them), expected
    calibration error; AUROC of max-logit (minus the largest logit) for uniform noise, for near
    outliers, and for noise that was moved within eps so that the largest logit rises; of the error
    of the autoencoder for the same (`noise_rebuilt_auroc`, ...); n; whether the network had
    collapsed. Arrays: the first images and the gradients of their loss.
    """
    config = Examining.parse(trial.config, where="trial")
    classifier, part = subject(trial, work, config.images, config.images_by_seed)
    _, x, y = next(part.batches(len(part)))
    x, y = x.to(trial.device), y.to(trial.device)
    stream = Stream(trial.seed).child("examine")
    with computing(trial.threads):
        logits = classifier.query(x)
        right = logits.argmax(1) == y
        moved = corrupt("mixed", x.cpu(), config.severity, stream.rows(range(len(x))))
        scores = -logits.amax(1).cpu().double().numpy()
        autoencoder = load_autoencoder(work.needs[1].path("model.safetensors"))
        errors, areas = misses(autoencoder, x.cpu()), {}
        for name, images in strange(config, classifier, part, trial.seed).items():
            seen = -classifier.query(images.to(trial.device)).amax(1).cpu().double().numpy()
            areas[f"{name}_auroc"] = stats.auroc(scores, seen).value
            rebuilt = stats.auroc(errors, misses(autoencoder, images))
            areas[f"{name}_rebuilt_auroc"] = rebuilt.value
        some = slice(0, PICTURED)
        held = classifier.predict(moved.to(trial.device)) == y
        with classifier.borrowed():
            _, slopes = uphill(classifier, x[some], y[some], cross_entropy)
    confidence = logits.softmax(1).amax(1).cpu().numpy()
    metrics: dict[str, Any] = {
        "clean_accuracy": float(right.double().mean()),
        "corrupted_accuracy": float(held.double().mean()),
        "ece": stats.calibration_error(confidence, right.cpu().numpy()),
        **areas,
        **dict.fromkeys(("n_clean", "n_corrupted", "n_examined"), len(x)),
        "collapsed": work.needs[0].metrics["collapsed"],
    }
    arrays = {"images": x[some].cpu().numpy(), "slopes": slopes.cpu().numpy()}
    return Outcome(metrics, {name: np.asarray(values) for name, values in arrays.items()})


def misses(autoencoder: Autoencoder, x: Tensor) -> NDArray[np.float64]:
    """Return the mean squared error of each reconstruction of images (N, C, H, W): (N,)."""
    with torch.no_grad():
        errors = (autoencoder(x) - x).square().mean((1, 2, 3))
    return np.asarray(errors.double().numpy(), np.float64)


def strange(
    config: Examining, classifier: Classifier, part: Dataset, seed: int
) -> dict[str, Tensor]:
    """Return images float32 (n, C, H, W) that belong to no class: noise, near ones, and noise that
    was attacked. What is made of them passes the codec that test images have been through."""
    n, quality = len(part), quality_of(part.images)
    noise, near = (
        to_float(
            outliers(
                kind, part.shape, n, size=part.shape[1], seed=seed, of=part, quality=quality
            ).images
        )
        for kind in ("uniform-noise", config.near)
    )
    attack = PGD(eps=config.eps, steps=config.steps, step_size=2.5 * config.eps / config.steps)
    rows = Stream(seed).child("examine", "outliers").rows(range(n))
    parts = []
    with classifier.borrowed():
        for some in torch.split(torch.arange(n), 256):
            x = noise[some].to(classifier.device)
            y = torch.zeros(len(some), dtype=torch.int64, device=x.device)
            parts.append(
                attack.perturb(
                    classifier, x, y, threat=attack.threat, loss=sure, rng=rows[some].to(x.device)
                ).cpu()
            )
    return {"noise": noise, "near": near, "attacked": torch.cat(parts)}
