"""What attacks on texts are judged by: a sentence encoder and word vectors, offered by name.

The encoder is a frozen, pretrained one. A model that was fine-tuned from it has other weights, but
the same origin, which whoever reads a similarity must know; a model whose encoder is the very same
one is told (`same_encoder`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache, cached_property
from typing import Any

import torch
from torch import Tensor

from assay.attacks.text.offers import Vectors, offer
from assay.attacks.text.wordnet import found, wordnet
from assay.core.edits import words
from assay.core.lengths import by_length, padded
from assay.core.text_embedding import pooled
from assay.models.encoders import located, read_encoder, read_tokenizer

JUDGE = "minilm"
MOST = 128
"""Tokens of a sentence that the encoder reads."""
TOKENS = 2048


class Judge:
    """A frozen sentence encoder with its tokenizer, whose encodings of single words are vectors."""

    def __init__(self, base: str = JUDGE) -> None:
        self.base = base
        where = located(base)
        self.model = read_encoder(where).eval().requires_grad_(False)
        self.tokenizer: Any = read_tokenizer(where)
        self.pad = self.tokenizer.pad_token_id or 0

    @cached_property
    def rough(self) -> Callable[[list[str]], Tensor] | None:
        """The same in bfloat16, where the processor multiplies in it; none elsewhere."""
        able = torch.cpu.get_capabilities()
        if not (able.get("avx512_bf16") or able.get("amx_bf16")):
            return None
        narrow = copy.copy(self)
        narrow.model = copy.deepcopy(self.model).to(torch.bfloat16)
        return narrow

    def __call__(self, texts: list[str]) -> Tensor:
        """Return the mean of the last layer over each text's tokens: float32 (N, D)."""
        ids = self.tokenizer(texts, truncation=True, max_length=MOST)["input_ids"]
        order, states = [], []
        for some in by_length([len(row) for row in ids], TOKENS):
            tokens, mask = padded([ids[row] for row in some.tolist()], self.pad)
            with torch.no_grad():
                last = self.model(input_ids=tokens, attention_mask=mask.long()).last_hidden_state
            order.append(some)
            states.append(pooled(last.float(), mask, "mean"))
        return torch.cat(states)[torch.cat(order).argsort()]

    @cached_property
    def vectors(self) -> Vectors:
        """The encodings, each by itself, of the tokens that are whole words (of WordNet, where it
        is): 18,833 of MiniLM, in a quarter of a minute. A word of several tokens has none."""
        whole = sorted(
            word
            for word in self.tokenizer.get_vocab()
            if len(word) > 1 and word.isalpha() and len(words(word)) == 1
        )
        if found() is not None:
            whole = [word for word in whole if wordnet().pos(word)]
        return Vectors(tuple(whole), self(whole))


@cache
def judge(base: str = JUDGE) -> Judge:
    """Return the encoder of this name, loaded once, and offer it (also as "default") with its word
    vectors, which are made when they are needed."""
    made = Judge(base)
    for name in ("default", base):
        offer("encoder", name, made, rough=made.rough)
        offer("vectors", name, lambda: made.vectors)
    return made


def same_encoder(model: Any, own: Judge) -> bool:
    """Return whether the encoder within a text classifier has the judge's very weights: what is
    similar to the one is then similar to the other by construction."""
    inside = getattr(getattr(model, "model", None), "encoder", None)
    if inside is None:
        return False
    theirs, ours = inside.state_dict(), own.model.state_dict()
    return theirs.keys() == ours.keys() and all(torch.equal(theirs[k], ours[k]) for k in ours)
