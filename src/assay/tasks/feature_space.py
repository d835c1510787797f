"""Augmentation in a learned feature space (DeVries & Taylor 2017, "Dataset Augmentation in
Feature Space").

An autoencoder learns, without labels, to encode the training images; new examples of a class are
made between or beyond the codes of known ones. The paper either classifies the new codes
themselves, or decodes them into input space and trains an ordinary classifier on what comes out
(its figure 1c). We decode, so that the classifier is the same as without augmentation, and is
tested on images as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from assay.config import Config, Number
from assay.core.random import Rows
from assay.data.augment import Share
from assay.data.dataset import Dataset
from assay.errors import AssayError
from assay.models.autoencoder import Autoencoder
from assay.tasks.autoencode import Autoencoding


class FeatureSpace(Config):
    """New training images, decoded from between, beyond or around the codes of known ones.

    With c the code of an image, o that of one of its nearest neighbours of the same class and λ
    the strength: interpolate is c + λ (o - c), extrapolate c + λ (c - o), noise c + λ σ z, with z
    standard normal and σ the standard deviation of each feature over the training set (the paper's
    equations 2, 3 and 1, where λ of the noise is called γ). The paper adds a new image for each of
    10 neighbours; here one neighbour is drawn anew in every epoch, so that an epoch is as long as
    without augmentation. The images that are not chosen stay as they are: not even decoded.
    """

    VERSION = 2  # what augments next draws numbers of its own

    method: Literal["noise", "interpolate", "extrapolate"] = "extrapolate"
    """Where new codes come from; the paper's best is extrapolate."""
    strength: Number = Field(default=0.5, ge=0)
    """How far: λ of interpolate (at most 1) and extrapolate, γ of noise; 0.5 in the paper."""
    neighbours: int = Field(default=10, ge=1)
    """Among how many nearest codes of the same class the other one is drawn; 10 in the paper."""
    share: Share = 0.5
    """Which share of the images of an epoch are new ones, on average."""
    learning: Autoencoding = Autoencoding()
    """The autoencoder that the codes are those of."""

    @model_validator(mode="after")
    def _stays_between(self) -> Self:
        if self.method == "interpolate" and self.strength > 1:
            raise ValueError(f"interpolate ends at the neighbour, strength 1, not {self.strength}")
        return self

    def fitted(self, model: Autoencoder, data: Dataset) -> NewImages:
        """Encode the training set and find every image's neighbours, once.

        Raises:
            AssayError: for a class of a single image, which has no neighbour.
        """
        device = next(model.parameters()).device
        with torch.no_grad():
            codes = torch.cat([model.encode(x.to(device)) for _, x, _ in data.batches(500)])
        order = data.ids.argsort()
        codes, labels = codes[order.to(device)], data.labels[order]
        neighbours, counts = nearest_of_class(codes.cpu(), labels, self.neighbours)
        alone = (counts == 0).nonzero()[:, 0]
        if self.method != "noise" and len(alone):
            name = data.classes[int(labels[alone[0]])]
            raise AssayError(
                f"{data.name} has a single training image of class {name!r}, which has no "
                f"neighbour to {self.method} with; use more images, or method noise"
            )
        return NewImages(
            self,
            model,
            data.ids[order].to(device),
            codes,
            codes.std(0),
            neighbours.to(device),
            counts.to(device),
        )


@dataclass(frozen=True)
class NewImages:
    """A fitted `FeatureSpace`: what `fit` takes as `augment`.

    Attributes:
        settings: how new codes are made.
        model: the autoencoder.
        ids: int64 (N,), rising: which images of the data set the codes are those of.
        codes: float32 (N, D).
        spread: float32 (D,), the standard deviation of each feature.
        neighbours: int64 (N, k), rows of `codes`, nearest first.
        counts: int64 (N,), how many of the k there are.
    """

    settings: FeatureSpace
    model: Autoencoder
    ids: Tensor
    codes: Tensor
    spread: Tensor
    neighbours: Tensor
    counts: Tensor

    def __call__(self, x: Tensor, rng: Rows) -> Tensor:
        """Return the images with some replaced by new ones of their class: (N, C, H, W)."""
        chosen = rng.uniform() < self.settings.share
        own = rng.repeat(1)  # so that what comes after draws other numbers
        x = x.clone()
        x[chosen] = self.draw(own[chosen])
        return x

    def draw(self, rng: Rows) -> Tensor:
        """Return a new image for each row: float32 (N, C, H, W) in [0, 1]."""
        with torch.no_grad():
            return self.model.decode(self.draw_codes(rng))

    def draw_codes(self, rng: Rows) -> Tensor:
        """Return a new code for each row: float32 (N, D).

        Raises:
            AssayError: for a row that is none of the images that were encoded.
        """
        row = torch.searchsorted(self.ids, rng.ids).clamp_max(len(self.ids) - 1)
        if not bool((self.ids[row] == rng.ids).all()):
            raise AssayError("these images are not those whose neighbours are known")
        code, strength = self.codes[row], self.settings.strength
        if self.settings.method == "noise":
            return code + strength * self.spread * rng.normal(self.spread.shape)
        which = (rng.uniform() * self.counts[row]).long()
        away = self.codes[self.neighbours[row, which]] - code
        return code + strength * (away if self.settings.method == "interpolate" else -away)


def nearest_of_class(codes: Tensor, labels: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return each code's nearest neighbours (Euclidean) of the same class, itself left out.

    Args:
        codes: (N, D).
        labels: int64 (N,).
        k: how many are wanted.

    Returns:
        Rows of `codes`, nearest first, int64 (N, k); how many of them there are, int64 (N,): a
        small class has fewer, and its last places are 0.
    """
    found = torch.zeros(len(codes), k, dtype=torch.int64)
    counts = torch.zeros(len(codes), dtype=torch.int64)
    for label in set(labels.tolist()):
        members = (labels == label).nonzero()[:, 0]
        count = min(k, len(members) - 1)
        counts[members] = count
        for part in torch.split(members, 1024):  # a large class's table of distances is large
            distance = torch.cdist(codes[part], codes[members])
            distance[part[:, None] == members] = torch.inf
            nearest = distance.topk(count, largest=False).indices
            found[part, :count] = members[nearest]
    return found, counts
