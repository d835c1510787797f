"""Texts that a function of the user's gives (see `called`), as a set."""

from __future__ import annotations

from typing import Any

from assay.data.called import gave, numbered, parted, pulled
from assay.data.metadata import extend
from assay.data.splits import content_key
from assay.data.textfiles import TEXT_COLUMNS
from assay.data.textset import TextSet, in_memory
from assay.errors import AssayError, one_line

MOST_CHARACTERS = 10**9
"""Of texts that are held in memory."""


def called_texts(
    spec: str, split: str, text: str | None, label: str | None, at_most: int | None
) -> TextSet:
    """Return the first texts that a function gives.

    Raises:
        AssayError: the function fails, or gives what is no text or label; it names the batch.
    """
    keys = TEXT_COLUMNS if text is None else (text,)
    texts: list[str] = []
    labels: list[int | str] = []
    columns: dict[str, list[Any]] = {}
    characters, batches = 0, 0
    with pulled(spec, "test" if split == "all" else split, keys, label, at_most) as found:
        for batch in found.batches:
            for given in batch.inputs:
                if not isinstance(given, str):
                    raise AssayError(
                        f"{batch.where} has {one_line(_said(given), 60)} for a text: the model "
                        "reads texts"
                    )
                characters += len(given)
            extend(columns, batch.metadata, len(labels), len(batch.labels))
            texts += map(str, batch.inputs)  # `+=` would add an array up
            labels += batch.labels
            batches += 1
            if characters > MOST_CHARACTERS:
                raise AssayError(
                    f"{spec} gives more than {MOST_CHARACTERS:,} characters: ask for fewer texts, "
                    "--images"
                )
    classes, numbers = numbered(spec, labels, found.names)
    digests = [content_key(text.encode("utf-8", "surrogatepass")) for text in texts]
    rows = parted("test" if split == "all" else split, digests, numbers, found, spec)
    notes = [
        *gave(spec, numbers, "texts", batches, at_most),
        *found.notes,
    ]
    return in_memory(
        spec.rpartition("/")[2],
        split,
        classes,
        [texts[row] for row in rows],
        [numbers[row] for row in rows],
        notes,
        {name: [values[row] for row in rows] for name, values in columns.items()},
    )


def _said(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return type(value).__name__ if shape is None else f"{type(value).__name__} of {tuple(shape)}"
