"""The outliers that a network is shown: made, read from a set of images, or of classes held out."""

from __future__ import annotations

import torch

from assay.data import load_data
from assay.data.dataset import Dataset
from assay.data.outliers import is_read, outliers
from assay.errors import AssayError
from assay.runs.trial import Trial
from assay.tasks.train import TrainNetwork, split

HELD_OUT = "held-out"
"""The kind that is made of the classes that a network was not trained on."""
RAW = ", not through the codec"
"""What the name of a kind ends in where its images skip the codec of the set."""


def image_set(name: str, shape: tuple[int, int, int], n: int, seed: int = 0) -> Dataset:
    """Return images of a set that is read, brought to the shape (C, H, W)."""
    return outliers(name, shape, n, size=shape[1], seed=seed)


def outside(
    network: TrainNetwork, name: str, n: int, trial: Trial, *, quality: int | None, need: Trial
) -> Dataset:
    """Return outliers of a kind for a network, drawn by the trial's seed.

    Raises:
        AssayError: for `held-out` where no class was, or a set that has changed.
    """
    test, seed = split(network, "test", need.seed), trial.seed
    if name == HELD_OUT:
        if not network.without:
            raise AssayError("no class was held out of the network: leave out 'held-out'")
        whole = load_data(network.data, split="test", size=network.size)
        return whole.subset(torch.isin(whole.labels, torch.tensor(network.without))).sample(n, seed)
    if is_read(name):
        place = trial.places.get(name, name)
        if image_set(place, test.shape, n).fingerprint != trial.data[f"{name}/outliers"]:
            raise AssayError(f"{name} has changed since the trial was planned")
        return image_set(place, test.shape, n, seed)
    return outliers(name, test.shape, n, seed=seed, of=test, quality=quality)
