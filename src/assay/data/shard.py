"""What a shard of an image set is, whatever it is kept in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from assay.data.decode import Encoded
from assay.data.walk import printable


@dataclass(frozen=True)
class Shard:
    """One shard of a set, not read yet.

    Attributes:
        where: the folder, or "hub:owner/name@revision" and the split after a colon.
        name: its path in the folder; of a stream, which of how many shards it is: "3 of 20".
        first: the index of its first image in the whole set. Of a stream, whose shards do not say
            how many images they have, that is its number times 2³².
        rows: how many images it has; None where only reading it tells.
        digest: SHA-256 of its content; of a stream, of its revision, split and number.
    """

    where: str
    name: str
    first: int
    rows: int | None
    digest: str

    def __str__(self) -> str:
        return printable(self.name)


@dataclass(frozen=True)
class Piece:
    """Some rows as they are kept: encoded images, or pixels uint8 (n, C, H, W); and the labels as
    they are written there, none where they were not asked for."""

    images: list[Encoded] | NDArray[Any]
    labels: Sequence[Any]


class Kept(Protocol):
    """What a shard is kept in, opened."""

    @property
    def names(self) -> tuple[str, ...] | None:
        """The classes that it declares, in the order of its labels; None where it does not."""
        ...

    @property
    def rows(self) -> int | None:
        """How many images it has; None where only reading it tells."""
        ...

    def pieces(self, labelled: bool) -> Iterator[Piece]:
        """Yield its rows, some at a time, with their labels if they are wanted."""
        ...
