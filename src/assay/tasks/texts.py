"""Which texts a trial reads: all of a split, or a sample that each seed draws."""

from __future__ import annotations

from assay.core.random import Stream
from assay.data.loadtexts import load_texts
from assay.data.textset import TextSet

PARTS = ("train", "validation", "test")

_whole: dict[tuple[str, str], TextSet] = {}


def part(data: str, split: str, wanted: int | None = None, seed: int = 0) -> TextSet:
    """Return `wanted` texts of a split, drawn by the seed; None: all of them.

    What one seed draws fewer of is the beginning of what it draws more of.
    """
    key = (data, split)
    if key not in _whole:
        if len(_whole) >= 6:
            _whole.clear()
        _whole[key] = load_texts(data, split=split)
    whole = _whole[key]
    if wanted is None:
        return whole
    return whole.sample(wanted, Stream(seed).child("texts", split).integer() % 2**31)
