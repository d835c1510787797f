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
MOST_DRAWN = 0.1
"""The share of a split that the draws of all seeds may come to together, for their spread to say
what other images would have changed."""

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


def how_many(
    data: str, split: str, *, size: int | None = None, without: tuple[int, ...] = ()
) -> int:
    """Return how many images a split has; `without`: classes that do not count."""
    return len(_whole(data, split, size, without))


def apart(wanted: int | None, seeds: int, there_are: int) -> bool:
    """Return whether samples that so many seeds draw are of different images, but for a few.

    Each seed draws n of all N images, whatever others drew, so that two seeds share n² / N of them,
    and their spread hides what other images would have changed there: the mean over S seeds has
    (1 + (S - 1) n / N) / (1 - n / N) times the variance that it seems to have, if networks are
    equal. Up to S n = N / 10 that is 1.1 times, where the t interval covers 94 % in place of 95 %;
    at S n = N it is 2.25 times for five seeds, and 87 %.

    Args:
        wanted: how many images each seed draws; None: all.
        seeds: how many seeds draw.
        there_are: how many images they draw from.
    """
    return wanted is not None and wanted * seeds <= MOST_DRAWN * there_are


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
