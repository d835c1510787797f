"""Which images a trial reads: the same for every seed, or a sample that each seed draws anew.

Where every seed meets the same sample, images are crossed with seeds, and what is concluded from
few images holds for these. Samples of each seed's own make a claim one on images in general.
"""

from __future__ import annotations

from typing import Any

from assay.config import Config
from assay.data import load_data
from assay.data.dataset import Dataset

BY_SEED = "images_by_seed"
"""The setting of a task by which each seed draws its own images."""

_samples: dict[tuple[str, int, int], Dataset] = {}
_without: dict[tuple[str, tuple[int, ...]], Dataset] = {}
_fingerprints: dict[tuple[str, tuple[int, ...], int | None, int], str] = {}


def part(
    data: str,
    split: str,
    wanted: int | None,
    seed: int = 0,
    *,
    size: int | None = None,
    without: tuple[int, ...] = (),
) -> Dataset:
    """Return a stable random subset of `wanted` images of a split; None: all of them.

    A sample is drawn once per process: many short trials use the same one.

    Args:
        size: as in `load_data`.
        without: classes whose images are left out first.
    """
    whole = _whole(data, split, size, without)
    if wanted is None:
        return whole
    key = (whole.fingerprint, wanted, seed)
    if key not in _samples:
        if len(_samples) >= 6:
            _samples.clear()
        _samples[key] = whole.sample(wanted, seed)
    return _samples[key]


def _whole(data: str, split: str, size: int | None, without: tuple[int, ...]) -> Dataset:
    """Return a split, but for some classes; what is left of the last six is kept."""
    whole = load_data(data, split=split, size=size)
    if not without:
        return whole
    key = (whole.fingerprint, without)
    if key not in _without:
        if len(_without) >= 6:
            _without.clear()
        _without[key] = whole.without(without)
    return _without[key]


def fingerprint(
    data: str,
    split: str,
    wanted: int | None,
    seed: int = 0,
    *,
    size: int | None = None,
    without: tuple[int, ...] = (),
) -> str:
    """Return the fingerprint of `part`: many seeds are planned at once, more than are held."""
    whole = load_data(data, split=split, size=size).fingerprint
    if wanted is None and not without:
        return whole
    key = (whole, without, wanted, seed)
    if key not in _fingerprints:
        drawn = part(data, split, wanted, seed, size=size, without=without)
        _fingerprints[key] = drawn.fingerprint
    return _fingerprints[key]


def how_many(data: str, split: str, *, size: int | None = None) -> int:
    """Return how many images a split has."""
    return len(load_data(data, split=split, size=size))


def apart(
    data: str, split: str, wanted: int | None, seeds: int, *, size: int | None = None
) -> bool:
    """Return whether samples that so many seeds draw are largely of different images: together they
    are no more than there are.

    Beyond that seeds share images, and their spread hides what other images would have changed.
    """
    return wanted is not None and wanted * seeds <= how_many(data, split, size=size)


def addressed(config: Config, **options: Any) -> dict[str, Any]:
    """Return the settings of a task as an address has them, as JSON.

    Results are older than `images_by_seed` and `without`: where one is none, addresses leave it
    out.
    """
    settings = config.model_dump(mode="json", **options)
    for newer in (BY_SEED, "without"):
        if settings.get(newer) is None:
            settings.pop(newer, None)
    return settings
