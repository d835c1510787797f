"""Occlusion of words: what is lost without each; needs no more than queries."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from assay.core.edits import replaced, words
from assay.explain.base import chosen
from assay.explain.text.base import Scores, TextExplainer


class WordOcclusion(TextExplainer):
    """What the logit of the class loses without each word (Li et al. 2016, "Understanding neural
    networks through representation erasure"): z(x) - z(x without the word).

    Any model that can be queried for scores or logits will do; of scores it is their logarithm.

    >>> maps = assay.explain.text.WordOcclusion()(text_clf, ["a good film"])
    >>> len(maps.spans[0])
    3
    """

    name: Literal["occlusion"] = "occlusion"
    """The method's name in configs."""
    instead: Literal["nothing", "unknown"] = "nothing"
    """What stands in a word's place: nothing, or the word [UNK]."""

    def scores(self, clf: Any, x: list[str], targets: Tensor | None) -> list[Scores]:
        new = "[UNK]" if self.instead == "unknown" else None
        counts = [len(words(text)) for text in x]
        without = [
            replaced(text, {k: new}) for text, n in zip(x, counts, strict=True) for k in range(n)
        ]
        with torch.no_grad():
            answer = clf.query([*x, *without]).float().cpu()
        if clf.access == "scores":
            answer = answer.clamp_min(1e-12).log()
        wanted = chosen(answer[: len(x)], targets)
        found, at = [], len(x)
        for row, (text, n) in enumerate(zip(x, counts, strict=True)):
            k = int(wanted[row])
            raw = answer[row, k] - answer[at : at + n, k]
            spans = tuple((piece.start, piece.end) for piece in words(text))
            found.append(Scores(raw, spans, k))
            at += n
        return found
