"""Outliers: images that belong to no class of the model under test."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from assay.core.random import Rows, Stream
from assay.data import synthetic
from assay.data.codec import jpeg
from assay.data.corruptions import SEVERITIES, corrupt
from assay.data.dataset import Dataset, in_memory, to_float
from assay.data.load import BUNDLED, image_set, load_data
from assay.data.opened import Asked
from assay.data.synthetic import Shape
from assay.errors import AssayError

NoiseKind = Literal["uniform", "gaussian"]
NOISE: dict[str, NoiseKind] = {"uniform-noise": "uniform", "gaussian-noise": "gaussian"}

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, what Pillow makes grey with
CORRUPTED = tuple(f"corrupted-{severity}" for severity in SEVERITIES)
"""Images of the classes themselves under each of the corruptions in turn, by severity."""


@dataclass(frozen=True)
class Kind:
    """A kind of outlier.

    Attributes:
        probes: one sentence about what it is good for.
        make: from a shape and one generator per image to float32 (N, C, H, W), which may leave
            [0, 1]; None: it is made from images of the classes, or read.
    """

    probes: str
    make: Callable[[Shape, Rows], Tensor] | None = None


KINDS: Mapping[str, Kind] = {
    "uniform-noise": Kind(
        "The easiest outlier there is, with more detail than any photograph: what fails here fails "
        "everywhere, and what succeeds has shown nothing yet.",
        synthetic.uniform,
    ),
    "gaussian-noise": Kind(
        "Noise around mid grey: whether it is the noise that is noticed, or values at the ends.",
        synthetic.gaussian,
    ),
    "fake-data": Kind(
        "What the course called fake data: normal values wrapped into bytes, which is uniform "
        "noise under another name.",
        synthetic.fake,
    ),
    "flat": Kind(
        "One colour and nothing else: less detail than any photograph, so that a score which "
        "measures detail takes it for the most normal image of all.",
        synthetic.flat,
    ),
    "gradient": Kind(
        "A smooth slope of light, as skies have: simple, but of a photograph's low frequencies.",
        synthetic.gradient,
    ),
    "scrambled": Kind(
        "Test images cut into patches and put back in another order: colours and textures are "
        "right and objects gone, so it asks whether shape counts.",
    ),
    "shapes": Kind(
        "Eight outlines with drawn textures: objects, but none that was ever photographed."
    ),
    "letters": Kind(
        "Letters in the fonts that matplotlib ships: sharp edges and meaning, of another world.",
        synthetic.letters,
    ),
    "clothing": Kind(
        "Photographs of clothes: the same physics of light and camera, and other things in them.",
    ),
    "fashion_mnist": Kind(
        "Drawn alike with handwritten digits in size, ground and grey: the pair on which "
        "likelihoods are known to fail (Nalisnick et al. 2019).",
    ),
    "held-out": Kind(
        "The nearest ones: test images of classes that were left out of training, from the same "
        "source and through the same hands.",
    ),
    **{
        name: Kind(
            f"Test images of the classes themselves, corrupted at severity {severity} of 5 (noise, "
            "blur, weather, digital): the label still holds, so flagging them is a choice.",
        )
        for severity, name in zip(SEVERITIES, CORRUPTED, strict=True)
    },
}
"""The kinds that are known by name; any image set is one too."""

MADE_FROM_IMAGES = ("scrambled", *CORRUPTED)
"""Kinds that are made from images of the classes, which `outliers` is to be given."""


def is_read(name: str) -> bool:
    """Return whether outliers of this name are images that are read, which no codec is due; those
    that are made here, and those of classes held out, are not."""
    if name == "held-out" or name in MADE_FROM_IMAGES or name in BUNDLED:
        return False
    kind = KINDS.get(name)
    return kind is None or kind.make is None


def noise(kind: NoiseKind, shape: Shape, n: int = 1000, *, seed: int = 0) -> Dataset:
    """Return `n` images of noise of `shape` (C, H, W), labels -1: the easiest outliers there are.

    `uniform`: every value uniform in [0, 1]. `gaussian`: normal with mean 0.5 and standard
    deviation 0.25, clipped to [0, 1]. Values are rounded to the 256 grey levels, as those of any
    image are. Each image depends on its own index and the seed alone: fewer are the beginning of
    more.

    >>> assay.data.noise("uniform", (3, 8, 8), 10).images.shape
    torch.Size([10, 3, 8, 8])
    """
    if kind not in ("uniform", "gaussian"):
        raise AssayError(f"noise is 'uniform' or 'gaussian', not {kind!r}")
    return outliers(f"{kind}-noise", shape, n, seed=seed)


def outliers(
    name: str,
    shape: Shape,
    n: int = 1000,
    *,
    split: str = "test",
    size: int | None = None,
    seed: int = 0,
    cache: str | Path | None = None,
    of: Dataset | None = None,
    quality: int | None = None,
) -> Dataset:
    """Return outliers by name, brought to `shape` (C, H, W), labels -1.

    Args:
        name: one of `KINDS`, or the name of an image set, of which `n` images are taken as
            `Dataset.take` does.
        shape: what the model under test reads. Images are scaled (bilinear, antialiased); grey is
            repeated over the channels, colour becomes its luma.
        split, size, cache: for image sets, as for `load_data`; they need no labels.
        of: images of the classes, for the kinds that are made from them.
        quality: pass what is generated through a JPEG of this quality, as the images of the classes
            have been, so that no detector finds its lack; None: leave it as it is. What is read
            stays as it is too.

    Raises:
        AssayError: as `load_data` does, or for a kind that is made from images without any.

    >>> found = assay.data.outliers("letters", (3, 32, 32), 5, quality=75)
    >>> found.images.shape, found.labels.tolist()
    (torch.Size([5, 3, 32, 32]), [-1, -1, -1, -1, -1])
    """
    made = _made(name, shape, n, seed, of)
    if made is not None:
        made = made if quality is None else jpeg(made, quality)
        return in_memory(name, "test", (), made, torch.full((len(made),), -1))
    if name == "held-out":
        raise AssayError("held-out classes are images of a data set: give their subset itself")
    if name in BUNDLED:
        found = load_data(name, split=split, seed=seed)
    else:
        found = image_set(name, split, Asked(size=size, labelled=False), cache)
    found = found.sample(n, seed)
    images = fitted(found.images, shape)
    if quality is not None and not is_read(name):
        images = jpeg(images, quality)
    return in_memory(found.name, split, (), images, torch.full((len(found),), -1))


def _made(name: str, shape: Shape, n: int, seed: int, of: Dataset | None) -> Tensor | None:
    """Return generated images uint8 (N, C, H, W), or None for what is not generated."""
    make = KINDS[name].make if name in KINDS else None
    if make is None and name not in MADE_FROM_IMAGES:
        return None
    stream = Stream(seed).child("noise", NOISE.get(name, name))
    if make is not None:
        images = torch.empty(n, *shape, dtype=torch.uint8)
        for ids in torch.split(torch.arange(n), 256):
            images[ids] = _to_levels(make(shape, stream.rows(ids)))
        return images
    if of is None:
        raise AssayError(f"{name} is made from images of the classes: give of=, a data set")
    found = of.sample(n, seed)
    start, images = 0, torch.empty_like(found.images)
    for ids, x, _ in found.batches(256):
        rng = stream.rows(ids)
        made = (
            synthetic.scrambled(x, rng)
            if name == "scrambled"
            else corrupt("mixed", x, SEVERITIES[CORRUPTED.index(name)], rng)
        )
        images[start : start + len(made)] = _to_levels(made)
        start += len(made)
    return fitted(images, shape)


def fitted(images: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Return uint8 images (N, C, H, W) brought to `shape` (C', H', W'), C and C' 1 or 3."""
    channels, height, width = shape
    if tuple(images.shape[1:]) == shape:
        return images
    x = to_float(images)
    if channels == 1 and x.shape[1] == 3:
        x = (x * torch.tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
    if x.shape[2:] != (height, width):
        x = F.interpolate(x, (height, width), mode="bilinear", antialias=True)
    return _to_levels(x).expand(-1, channels, -1, -1).contiguous()


def _to_levels(x: Tensor) -> Tensor:
    return x.clamp(0, 1).mul_(255).round_().to(torch.uint8)
