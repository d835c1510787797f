"""What an audit shows to detectors: outliers that are made, or images or texts of the user's."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor

from assay.core.embedding import Embedding
from assay.data.codec import quality_of
from assay.data.dataset import Dataset, in_memory
from assay.data.load import BUNDLED, HUB
from assay.data.loadtexts import HUB as TEXTS
from assay.data.loose import loose_images
from assay.data.outliers import KINDS, outliers
from assay.data.text_outliers import TEXT_KINDS
from assay.data.textfiles import SUFFIXES
from assay.disk import data_folders
from assay.errors import AssayError, expanded, unknown
from assay.ood.evaluation import overlap

BUILT_IN = ("uniform-noise", "gaussian-noise", "flat", "scrambled")
"""Detail without objects, no detail at all, and the test images' own detail without its order."""

CALLED = {
    "flat": "flat colours",
    "gradient": "smooth gradients",
    "scrambled": "scrambled images",
    "fashion_mnist": "Fashion-MNIST",
    "other-domain": "sentences of another domain",
    "other-language": "sentences in another language",
}
"""Names that read well in a sentence, where the kind's own does not."""


def refuse_what_is_not_there(name: str) -> None:
    """Refuse a name that no outliers can be had by.

    Raises:
        AssayError: names the nearest kind.
    """
    path = expanded(name)
    of_texts = path.is_file() and path.suffix.lower() in (*SUFFIXES, ".txt")
    there = path.is_dir() or of_texts or any((p / Path(name).name).is_dir() for p in data_folders())
    known = [*(kind for kind in KINDS if kind != "held-out"), *TEXT_KINDS]
    if (
        not there
        and name not in (*known, *BUNDLED, *HUB, *TEXTS)
        and not re.fullmatch(r"[\w.-]+/[\w.-]+", name)
    ):
        raise unknown("kind of outlier, and no folder", name, known)


def codec_of(x: Tensor) -> int | None:
    """Return the quality of the JPEG that the test images `x` (N, C, H, W) have been through."""
    return quality_of((x * 255).round().to(torch.uint8))


def outliers_named(name: str, x: Tensor, seed: int, quality: int | None = None) -> Dataset:
    """Return outliers in the shape of the test images `x` (N, C, H, W), as many if there are; what
    is generated passes through a JPEG of that quality, so that no detector finds its lack.

    Raises:
        AssayError: they cannot be read, or brought to that shape.
    """
    if name in TEXT_KINDS:
        raise AssayError(f"{name} is a kind of text, and this model reads images")
    channels, height, width = x.shape[1:]
    shape = (channels, height, width)
    side = height if height == width else None
    if name not in KINDS and expanded(name).is_dir():
        try:
            _, images, _ = loose_images(name, shape, scaled=side is not None)
        except AssayError as error:
            if "holds no images" not in str(error):
                raise
        else:
            labels = torch.full((len(images),), -1)
            return in_memory(Path(name).name, "all", (), images, labels).sample(len(x), seed)
    levels = (x * 255).round().to(torch.uint8)
    own = in_memory("test", "test", (), levels, torch.full((len(x),), -1))
    size = side if name not in BUNDLED else None
    return outliers(name, shape, len(x), size=size, seed=seed, of=own, quality=quality)


def shown(name: str) -> str:
    """Return what a kind is called in the report."""
    if name not in (*KINDS, *TEXT_KINDS):
        return Path(name).name
    return CALLED.get(name, name.replace("-", " "))


def without_twins(inside: Embedding, outside: Embedding) -> tuple[Embedding, str]:
    """Return outliers without the images that are scored as inliers too, and what was left out.

    Raises:
        AssayError: all of them are.
    """
    twins = overlap(inside, outside)
    if not twins:
        return outside, ""
    if len(twins) == len(outside):
        raise AssayError(f"all {len(outside):,} outliers are test images too: give other images")
    gone = {row for _, row in twins}
    kept = torch.tensor([row for row in range(len(outside)) if row not in gone])
    pairs = ", ".join(f"outlier {b} is test image {a}" for a, b in twins[:3])
    told = f"{len(gone):,} of {len(outside):,} are test images too and left out ({pairs}"
    return outside.rows(kept), told + (", …)" if len(twins) > 3 else ")")
