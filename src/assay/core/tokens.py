"""Texts as a model reads them: tokens, and which characters each of them comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from torch import Tensor

from assay.errors import AssayError, one_line

REPLACEMENT = "\ufffd"

Span = tuple[int, int]
"""Where a token begins and ends in its text: `text[start:end]`, in code points."""

Treatment = Literal["cut", "empty", "replaced"]
TREATMENTS: Mapping[Treatment, str] = {
    "cut": "longer than the model reads ({most} tokens): what comes after that was not read",
    "empty": "without a token: the model was given its marks of beginning and end alone",
    "replaced": "with half a character (a lone surrogate), which was read as U+FFFD",
}
"""What is done to texts that a model cannot take as they are; `TextClassifier.treated` counts."""


class Tokenizer(Protocol):
    """What is used of a tokenizer: a fast one of Hugging Face's, which knows its characters."""

    def __call__(self, text: list[str], **settings: Any) -> Any: ...

    def __len__(self) -> int: ...


@dataclass(frozen=True)
class Tokens:
    """Texts as a model reads them.

    Attributes:
        ids: of each text, the numbers of its tokens, marks of beginning and end included.
        spans: of each text, the (start, end) characters of each token; (0, 0) for a mark that the
            tokenizer adds. Characters that were cut off are in none.
        treated: what was done to each text that could not be taken as it is.

    >>> tokens = text_clf.tokens(["a good film"])
    >>> ["a good film"[start:end] for start, end in tokens.spans[0]]
    ['', 'a', 'good', 'film', '']
    """

    ids: tuple[tuple[int, ...], ...]
    spans: tuple[tuple[Span, ...], ...]
    treated: tuple[frozenset[Treatment], ...]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lengths(self) -> list[int]:
        """How many tokens each text has."""
        return [len(row) for row in self.ids]

    def rows(self, some: Tensor) -> Tokens:
        """Return the texts at int64 (n,)."""
        places = some.tolist()
        return Tokens(
            tuple(self.ids[row] for row in places),
            tuple(self.spans[row] for row in places),
            tuple(self.treated[row] for row in places),
        )


def tokenized(texts: list[str], tokenizer: Tokenizer, most: int, pad: int) -> Tokens:
    """Return what a tokenizer makes of texts, cut after `most` tokens; `pad` is the token of a text
    that has none at all."""
    if not texts:
        return Tokens((), (), ())
    whole = [encodable(text) for text in texts]
    encodings = tokenizer(
        whole,
        truncation=True,
        max_length=most,
        return_attention_mask=False,
        return_token_type_ids=False,
    ).encodings
    ids, spans, treated = [], [], []
    for text, read, encoding in zip(texts, whole, encodings, strict=True):
        done: set[Treatment] = {"replaced"} if read != text else set()
        if encoding.overflowing:
            done.add("cut")
        if all(encoding.special_tokens_mask):
            done.add("empty")
        ids.append(tuple(encoding.ids) or (pad,))
        spans.append(tuple(encoding.offsets) or ((0, 0),))
        treated.append(frozenset(done))
    return Tokens(tuple(ids), tuple(spans), tuple(treated))


def check_texts(x: Any) -> list[str]:
    """Return a list of strings, given one, a tuple or an array of them.

    Raises:
        AssayError: it is something else; says what was seen.
    """
    if isinstance(x, str):
        raise AssayError("texts are a list of str: for a single one give [text]")
    if isinstance(x, np.ndarray) and x.dtype.kind in "OU" and x.ndim == 1:
        x = x.tolist()
    if not isinstance(x, list | tuple):
        raise AssayError(f"texts are a list of str, not {type(x).__name__}")
    for place, text in enumerate(x):
        if not isinstance(text, str):
            raise AssayError(
                f"texts are a list of str, but number {place} is {type(text).__name__} "
                f"({one_line(repr(text), 40)})"
            )
    return [str(text) for text in x]


def encodable(text: str) -> str:
    """Return the text without halves of characters, each replaced by one other character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return "".join(REPLACEMENT if "\ud800" <= c <= "\udfff" else c for c in text)
    return text
