"""What constraints and transformations of texts are made with and attacks cannot bring themselves:
sentence encoders, word vectors, taggers, masked language models. Configs know them by a name, which
whoever has one offers beforehand; commands and studies do.

    offer("encoder", "mine", lambda texts: my_model.encode(texts))
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, overload

import torch
from torch import Tensor
from torch.nn import functional as F

from assay.errors import AssayError

Encoder = Callable[[list[str]], Tensor]
"""Texts → float32 (N, D): the nearer in angle, the nearer in meaning."""
Tagger = Callable[[str], list[str]]
"""A text → the part of speech of each of its words, as `core.edits.words` counts them."""
Filler = Callable[[str, int, int, int], list[str]]
"""(text, start, end, count) → that many words that a masked language model expects there."""
Kind = Literal["encoder", "vectors", "tagger", "filler"]
MEASURED = 16
"""Pairs, the first it is asked about, by which a rough encoder's error is measured."""
LEAST = 2.0**-11
"""Least error that it is taken to have: what bfloat16 is off by on average."""
ALLOWANCE = 4.0
"""How many times the largest error seen is allowed for."""


@dataclass(frozen=True, eq=False)
class Vectors:
    """Words and what they mean, as directions.

    Attributes:
        words: V of them, in lower case.
        values: float32 (V, D).

    >>> from assay.attacks.text.offers import Vectors
    >>> few = Vectors(("good", "fine", "bad"), torch.tensor([[1.0, 0.1], [1.0, 0.2], [-1.0, 0.0]]))
    >>> few.nearest("good", 2, least=0.5)
    ['fine']
    """

    words: tuple[str, ...]
    values: Tensor

    def __post_init__(self) -> None:
        if self.values.shape[:1] != (len(self.words),) or self.values.ndim != 2:
            raise AssayError(
                f"{len(self.words)} words need as many vectors, (V, D), not "
                f"{tuple(self.values.shape)}"
            )
        object.__setattr__(self, "values", F.normalize(self.values.detach().float(), dim=1).cpu())
        object.__setattr__(self, "_place", {word: k for k, word in enumerate(self.words)})
        object.__setattr__(self, "_near", {})

    def cosine(self, a: str, b: str) -> float | None:
        """Return the cosine of two words; None where one has no vector."""
        place: dict[str, int] = self._place  # type: ignore[attr-defined]
        one, other = place.get(a.lower()), place.get(b.lower())
        if one is None or other is None:
            return None
        return float(self.values[one] @ self.values[other])

    def nearest(self, word: str, count: int, *, least: float = -1.0) -> list[str]:
        """Return the nearest words, at most `count`, of at least a cosine of `least`."""
        word = word.lower()
        near: dict[tuple[str, int], list[tuple[str, float]]] = self._near  # type: ignore[attr-defined]
        if (word, count) not in near:
            at = self._place.get(word)  # type: ignore[attr-defined]
            if at is None:
                return []
            top = (self.values @ self.values[at]).topk(min(count + 1, len(self.words)))
            pairs = zip(top.indices.tolist(), top.values.tolist(), strict=True)
            near[word, count] = [(self.words[k], v) for k, v in pairs if k != at][:count]
        return [other for other, cosine in near[word, count] if cosine >= least]


class Remembered:
    """A sentence encoder that encodes no text twice, and those that are new together.

    Args:
        encode: the encoder.
        rough: the same encoder, faster and less precise, which decides wherever its error cannot
            matter; none: there is none.
    """

    most = 2**16
    """Texts that it remembers."""

    def __init__(self, encode: Encoder, rough: Encoder | None = None) -> None:
        self.encode, self.rough = encode, rough
        self._known: dict[str, Tensor] = {}
        self._near: dict[str, Tensor] = {}
        self.slack = 0.0
        """How far off `roughly` may be; 0 without a rough encoder, or before it is used."""
        self.encoded = 0
        """Texts that were encoded."""
        self.screened = 0
        """Texts that were encoded roughly."""

    def __call__(self, texts: list[str]) -> Tensor:
        """Return directions of length 1: float32 (N, D)."""
        made, new = _directions(self.encode, texts, self._known, self.most)
        self.encoded += new
        return made

    def similarity(self, x: list[str], adv: list[str]) -> Tensor:
        """Return 1 - angle / π of each pair, float32 (N,): 1 the same direction, 0 the opposite."""
        return _similar(self([*x, *adv]), len(x)) if x else torch.zeros(0)

    def roughly(self, x: list[str], adv: list[str]) -> Tensor:
        """Return what `similarity` does by the rough encoder, if there is one."""
        if self.rough is None or not x:
            return self.similarity(x, adv)
        made, new = _directions(self.rough, [*x, *adv], self._near, self.most)
        self.screened += new
        near = _similar(made, len(x))
        if not self.slack:
            off = (self.similarity(x[:MEASURED], adv[:MEASURED]) - near[:MEASURED]).abs().max()
            self.slack = ALLOWANCE * max(LEAST, float(off))
        return near

    def reaches(self, x: list[str], adv: list[str], least: Tensor) -> Tensor:
        """Return which pairs are at least so similar, bool (N,): what is too near to tell roughly
        is encoded precisely."""
        near = self.roughly(x, adv)
        doubtful = ((near - least).abs() <= self.slack).nonzero()[:, 0].tolist()
        if doubtful:
            near[doubtful] = self.similarity([x[k] for k in doubtful], [adv[k] for k in doubtful])
        return near >= least


def _directions(
    encode: Encoder, texts: list[str], known: dict[str, Tensor], most: int
) -> tuple[Tensor, int]:
    """Return directions of length 1, float32 (N, D), and how many texts had to be encoded."""
    if len(known) > most:
        known.clear()
    new = list(dict.fromkeys(text for text in texts if text not in known))
    if new:
        made = F.normalize(encode(new).detach().float().cpu(), dim=1)
        known.update(zip(new, made, strict=True))
    return torch.stack([known[text] for text in texts]), len(new)


def _similar(both: Tensor, count: int) -> Tensor:
    cosine = (both[:count] * both[count:]).sum(1).clamp(-1, 1)
    return 1 - cosine.acos() / torch.pi


_OFFERED: dict[tuple[Kind, str], Any] = {}


def offer(kind: Kind, name: str, what: Any, *, rough: Encoder | None = None) -> None:
    """Let configs name `what` from here on, in place of what had the name before. Word vectors may
    be a function that returns them, which is called once somebody asks for them; an encoder may
    come with a `rough` one, which decides wherever its error cannot matter.

    >>> from assay.attacks.text.offers import offer, offered
    >>> offer("tagger", "nouns", lambda text: ["n"] * len(text.split()))
    >>> offered("tagger", "nouns")("two words")
    ['n', 'n']
    """
    _OFFERED[kind, name] = Remembered(what, rough) if kind == "encoder" else what


@overload
def offered(kind: Literal["encoder"], name: str) -> Remembered: ...
@overload
def offered(kind: Literal["vectors"], name: str) -> Vectors: ...
@overload
def offered(kind: Literal["tagger"], name: str) -> Tagger: ...
@overload
def offered(kind: Literal["filler"], name: str) -> Filler: ...
def offered(kind: Kind, name: str) -> Any:
    """Return what was offered under a name.

    Raises:
        AssayError: nothing was; names what there is.
    """
    if (kind, name) not in _OFFERED:
        there = [known for of, known in _OFFERED if of == kind]
        raise AssayError(
            f"there is no {kind} {name!r} (there is {', '.join(there) or 'none'}): offer it first, "
            f'assay.attacks.text.offers.offer("{kind}", "{name}", ...)'
        )
    found = _OFFERED[kind, name]
    if kind == "vectors" and not isinstance(found, Vectors):
        found = _OFFERED[kind, name] = found()
    return found
