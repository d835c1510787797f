"""Names of classes: those of a model's outputs beside those of a data set."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

import torch

from assay.config import digest
from assay.data.dataset import Dataset
from assay.data.textset import TextSet
from assay.data.walk import listed

Labelled = TypeVar("Labelled", Dataset, TextSet)


def in_order(data: Labelled, classes: Sequence[str]) -> Labelled:
    """Return the data with labels that count `classes`, the names of a model's outputs; as it is
    where these are not its own."""
    place = places(classes, data.classes)
    if place is None or tuple(classes) == data.classes:
        return data
    found = torch.tensor(place)
    known = data.labels >= 0
    moved = place != list(range(len(place)))
    said = (
        f"labels of {data.name} are numbered in the order of the model's outputs: "
        f"{listed(list(classes), 10)}"
    )
    return replace(
        data,
        classes=tuple(classes),
        labels=torch.where(known, found[data.labels.clamp(min=0)], data.labels),
        fingerprint=digest([data.fingerprint, list(classes)]),
        notes=(*data.notes, said) if moved else data.notes,
    )


def by_name(names: Iterable[str]) -> tuple[str, ...]:
    """Return names of classes in the order in which they are numbered: of the alphabet, or that of
    numbers where all are numbers, as whoever trained on such labels counted them.

    >>> by_name({"dog", "cat"}), by_name({"10", "2", "1"})
    (('cat', 'dog'), ('1', '2', '10'))
    """
    found = set(names)
    numbers = all(name.isascii() and name.isdecimal() for name in found)
    width = max(map(len, found), default=0)
    return tuple(sorted(found, key=lambda name: (name.zfill(width) if numbers else "", name)))


def places(outputs: Sequence[str], classes: Sequence[str]) -> list[int] | None:
    """Return which output each class is, by name; None where they are not the same names.

    >>> places(["Tabby_cat", "dog, hound"], ["dog", "tabby cat"])
    [1, 0]
    """
    own = [_plain(name) for name in outputs]
    theirs = [_plain(name) for name in classes]
    if sorted(own) != sorted(theirs) or len(set(own)) < len(own):
        exact = sorted(outputs) == sorted(classes) and len(set(outputs)) == len(outputs)
        return [list(outputs).index(name) for name in classes] if exact else None
    return [own.index(name) for name in theirs]


def _plain(name: str) -> str:
    """Return a name as it is compared: its first synonym, in small letters, without signs."""
    return re.sub(r"[\W_]+", " ", name.partition(",")[0].casefold()).strip()
