"""The trial that trains an autoencoder on the training images, without their labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field, field_validator

from assay.config import Config, Number
from assay.core.random import Stream
from assay.data.dataset import Dataset, to_float
from assay.errors import AssayError
from assay.models.autoencoder import (
    AnyAutoencoder,
    Autoencoder,
    MLPAutoencoder,
    save_autoencoder,
)
from assay.runs.trial import Outcome, Trial
from assay.runs.worker import Workspace
from assay.tasks.images import addressed, fingerprint, part
from assay.train import Adam, Cosine, Recipe
from assay.train.batches import batches
from assay.train.optimizers import optimizer
from assay.train.precision import computing

TASK = "autoencode"


class Autoencoding(Config):
    """An autoencoder and how it is trained: Adam along half a cosine, on its own loss."""

    VERSION = 1

    network: AnyAutoencoder = MLPAutoencoder()
    """The architecture."""
    epochs: int = Field(default=50, ge=1)
    """Passes over the training images."""
    batch_size: int = Field(default=32, ge=1)
    """Images per step."""
    lr: Number = Field(default=1e-3, gt=0)
    """Highest learning rate."""
    # left out of addresses where it is off: it is newer than they are
    signed: bool = Field(default=False, exclude_if=lambda signed: not signed)
    """Feed it images in [-1, 1] and ask for them again, although it ends in a sigmoid: a fault of
    the course, for showing what that does."""

    @field_validator("network", mode="before")
    @classmethod
    def _of_linear_layers(cls, network: Any) -> Any:
        """Take settings without a name for those of the kind that once was the only one."""
        unnamed = isinstance(network, dict) and "name" not in network
        return {"name": "mlp", **network} if unnamed else network


class TrainAutoencoder(Config):
    """An autoencoder and the images that it learns from."""

    VERSION = 1

    data: str
    """Data set: a bundled name, a hub id or a folder."""
    learning: Autoencoding = Autoencoding()
    """The autoencoder, and how it is trained."""
    train_images: int | None = Field(default=None, ge=10)
    """How many training images are used, the same subset that a `TrainNetwork` gets; none: all."""
    images_by_seed: bool | None = None
    """Each seed draws that subset anew, as a `TrainNetwork` does; none: the same for every seed."""
    without: tuple[int, ...] | None = None
    """Leave out every image of these classes, as a `TrainNetwork` does; none: all are there."""

    def trial(self, seed: int, device: str, threads: int) -> Trial:
        """Return the trial of this autoencoder with this seed.

        Raises:
            AssayError: for a data set that is not there.
        """
        short = Path(self.data).name
        return Trial(
            task=TASK,
            config=addressed(self.model_copy(update={"data": short})),
            seed=seed,
            data={f"{short}/{name}": self.fingerprint(name, seed) for name in PARTS},
            places={short: self.data},
            versions={
                kind.__name__: kind.VERSION
                for kind in (TrainAutoencoder, Autoencoding, type(self.learning.network))
            },
            device=device,
            threads=threads,
            label="autoencoder",
        )

    def part(self, name: str, seed: int = 0) -> Dataset:
        """Return the images that this seed uses as `train` or `validation`."""
        return part(self.data, name, *self._drawn(name, seed), without=self.without or ())

    def fingerprint(self, name: str, seed: int = 0) -> str:
        """Return the fingerprint of `part`."""
        return fingerprint(self.data, name, *self._drawn(name, seed), without=self.without or ())

    def _drawn(self, name: str, seed: int) -> tuple[int | None, int]:
        """Return how many images are used, and by which seed they are drawn."""
        wanted = self.train_images if name == "train" else None
        return wanted, seed if self.images_by_seed else 0


PARTS = ("train", "validation")


def autoencode(trial: Trial, work: Workspace) -> Outcome:
    """Train on the training images without their labels, and keep model.safetensors.

    Metrics: the mean squared error per pixel, in [0, 1], on the training images, on the validation
    images, and there of the mean training image, which knows nothing of what it is to reproduce.
    Arrays: the training loss of every epoch, which is that error where the autoencoder is not
    variational.
    """
    config = TrainAutoencoder.parse(trial.config, where="trial")
    config = config.model_copy(update={"data": trial.places.get(config.data, config.data)})
    parts = {name: config.part(name, trial.seed) for name in PARTS}
    for name, images in parts.items():
        if images.fingerprint != trial.data[f"{trial.config['data']}/{name}"]:
            raise AssayError(f"{config.data} ({name}) has changed since the trial was planned")
    data, validation = parts["train"], parts["validation"]
    with computing(trial.threads):
        stream = Stream(trial.seed).child("autoencoder")
        model = config.learning.network.build(data.shape, stream.child("init")).to(trial.device)
        curve = learn(model, data, config.learning, stream.child("train"), work.progress)
        mean = to_float(data.images).mean(0)
        from_mean = [(x - mean).square().mean((1, 2, 3)) for _, x, _ in validation.batches(500)]
        metrics = {
            "train_error": reconstruction_error(model, data, signed=config.learning.signed),
            "validation_error": reconstruction_error(
                model, validation, signed=config.learning.signed
            ),
            "mean_image_error": float(torch.cat(from_mean).mean()),
            "n_train": len(data),
            "n_validation": len(validation),
        }
        save_autoencoder(work.path("model.safetensors"), model, config.learning.network, data.shape)
    return Outcome(metrics, {"train_error": np.array(curve)})


def learn(
    model: Autoencoder,
    data: Dataset,
    learning: Autoencoding,
    stream: Stream,
    progress: Callable[[float, str], None] | None = None,
) -> list[float]:
    """Train `model` in place to reproduce the images; return the mean loss per epoch. `progress` is
    told after each what share is done, and with what loss."""
    model.train()
    device = next(model.parameters()).device
    adam = optimizer(Recipe(optimizer=Adam(lr=learning.lr)), list(model.parameters()))
    schedule, errors = Cosine(), []
    steps = -(-len(data) // learning.batch_size)
    for epoch in range(learning.epochs):
        total = torch.zeros((), device=device)
        drawn = stream.child("code", epoch + 1)
        for step, (ids, images, _) in enumerate(
            batches(data, learning.batch_size, stream.child("order", epoch + 1))
        ):
            factor = schedule.factor(epoch * steps + step, learning.epochs * steps)
            adam.param_groups[0]["lr"] = learning.lr * factor
            x = to_float(images.to(device))
            x = 2 * x - 1 if learning.signed else x
            loss = model.loss(x, drawn.rows(ids).to(device))
            adam.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            adam.step()
            total += loss.detach() * len(x)
        errors.append(float(total) / len(data))
        if progress is not None:
            progress((epoch + 1) / learning.epochs, f"epoch {epoch + 1}, loss {errors[-1]:.4f}")
    model.eval()
    return errors


def reconstruction_error(model: Autoencoder, data: Dataset, *, signed: bool = False) -> float:
    """Return the mean squared error per pixel of the images, in [0, 1] or [-1, 1], once decoded."""
    device = next(model.parameters()).device
    total = 0.0
    with torch.no_grad():
        for _, x, _ in data.batches(500):
            x = 2 * x.to(device) - 1 if signed else x.to(device)
            total += float((model(x) - x).square().mean((1, 2, 3)).sum())
    return total / len(data)
