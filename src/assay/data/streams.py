"""Shards of a set on the Hugging Face hub, streamed by `datasets`: never on this disk."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from functools import cached_property
from typing import Any

from assay.config import digest
from assay.data.decode import CHUNK, Encoded
from assay.data.shard import Piece, Shard
from assay.data.tables import IMAGE_COLUMNS, LABEL_COLUMNS
from assay.errors import AssayError, told

HUB = "hub:"
APART = 2**32
"""Between the first indices of two shards of a stream: more than one of them holds."""


def streamed_shards(hub_id: str, split: str) -> tuple[Shard, ...]:
    """Return the shards of a split of a set on the hub, at the revision that it has now.

    Raises:
        AssayError: there is no such set, or the hub does not answer.
    """
    try:
        hub = importlib.import_module("huggingface_hub")
        revision = str(hub.dataset_info(hub_id, timeout=10).sha)
    except ImportError as error:
        raise _missing(hub_id) from error
    except Exception as error:  # whatever its transport raises
        raise AssayError(
            f"{hub_id} is no local folder, and the Hugging Face hub did not answer for a data set "
            f"of this name ({told(error)})"
        ) from error
    where = f"{HUB}{hub_id}@{revision}:{split}"
    count = int(_opened(where).num_shards)
    return tuple(
        Shard(where, f"{k + 1} of {count}", k * APART, None, digest([where, k, count]))
        for k in range(count)
    )


def _missing(hub_id: str) -> AssayError:
    return AssayError(
        f"streaming {hub_id} needs the package datasets: pip install 'assay[data]' datasets"
    )


def _opened(where: str) -> Any:
    """Return the `datasets.IterableDataset` of a split."""
    hub_id, _, rest = where.removeprefix(HUB).partition("@")
    revision, _, split = rest.partition(":")
    try:
        datasets = importlib.import_module("datasets")
        return datasets.load_dataset(hub_id, split=split, revision=revision, streaming=True)
    except ImportError as error:
        raise _missing(hub_id) from error
    except Exception as error:  # many of its own, and those of its transport
        raise AssayError(f"{hub_id} ({split}) cannot be streamed: {told(error)}") from error


class StreamShard:
    """One shard of a stream."""

    rows = None

    def __init__(self, shard: Shard) -> None:
        number, _, count = shard.name.partition(" of ")
        self.shown = f"shard {shard.name} of {shard.where.removeprefix(HUB)}"
        self.stream = _opened(shard.where).shard(num_shards=int(count), index=int(number) - 1)

    @cached_property
    def features(self) -> dict[str, Any]:
        """Its columns: what `datasets` says of each."""
        found = self.stream.features
        if not found:
            found = self.stream._resolve_features().features
        return dict(found)

    @property
    def names(self) -> tuple[str, ...] | None:
        names = getattr(self.features[self._column("label", LABEL_COLUMNS)], "names", None)
        return None if names is None else tuple(map(str, names))

    def pieces(self, labelled: bool) -> Iterator[Piece]:
        image = self._column("image", IMAGE_COLUMNS)
        label = self._column("label", LABEL_COLUMNS) if labelled else None
        stream = self.stream
        if type(self.features[image]).__name__ == "Image":
            kind = importlib.import_module("datasets").Image
            stream = stream.cast_column(image, kind(decode=False))
        images: list[Encoded] = []
        labels: list[Any] = []
        rows = iter(stream)
        while (row := self._next(rows)) is not None:
            images.append(self._bytes(row[image]))
            labels += [] if label is None else [row[label]]
            if len(images) == CHUNK:
                yield Piece(images, labels)
                images, labels = [], []
        if images:
            yield Piece(images, labels)

    def _next(self, rows: Iterator[Any]) -> Any:
        try:
            return next(rows, None)
        except Exception as error:  # whatever its transport and its readers raise
            raise AssayError(f"{self.shown} cannot be read on: {told(error)}") from error

    def _bytes(self, value: Any) -> bytes:
        found = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(found, bytes):
            raise AssayError(f"{self.shown} has a row without the bytes of an image")
        return found

    def _column(self, kind: str, usual: tuple[str, ...]) -> str:
        found = next((name for name in usual if name in self.features), None)
        if found is None:
            raise AssayError(
                f"{self.shown} has no column of {kind}s (columns: {', '.join(self.features)}; "
                f"looked for {', '.join(usual)})"
            )
        return found
