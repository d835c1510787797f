"""What an explainer of texts is: a frozen config whose author writes one method, `scores`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from assay.config import Config
from assay.core.attribution import Attribution
from assay.core.edits import words
from assay.core.lengths import by_length
from assay.core.oracle import Encoded
from assay.core.tokens import check_texts
from assay.errors import AssayError
from assay.explain.base import Targets, chosen
from assay.explain.passes import eagerly

TOKENS = 2048
"""Tokens, padding included, that are explained at a time."""

Spans = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Scores:
    """What a method says of one text.

    Attributes:
        raw: float32 (T,), signed where the method is: what each token, or word, does to the logit.
        spans: the (start, end) characters of each; (0, 0) for a mark that the tokenizer adds.
        target: the class that is explained.
        gap: by how much `raw` misses what it must add up to, of a method that is complete.
    """

    raw: Tensor
    spans: Spans
    target: int
    gap: float | None = None


@dataclass(frozen=True, repr=False)
class TokenAttribution(Attribution):
    """Which tokens of each text speak for a class. Rows are padded with zeros; `spans` says how
    many tokens each has, and which characters they are.

    Attributes:
        texts: what was explained.
        gap: float32 (N,), of a method that is complete: how far the sum of `raw` is from the
            difference of the logits that it must be, as a share of that difference. None of others.

    >>> maps = assay.explain.text.GradientInput()(text_clf, ["a good film"])
    >>> [word for word, _ in maps.words(0)]
    ['a', 'good', 'film']
    """

    texts: tuple[str, ...] = ()
    gap: Tensor | None = None

    def words(self, row: int) -> list[tuple[str, float]]:
        """Return the words of a text with the sum of what their tokens are given."""
        text = self.texts[row]
        return [(text[p.start : p.end], v) for p, v in self.by_word(row)]

    def by_word(self, row: int) -> list[tuple[Any, float]]:
        """Return the same with each word's place, as `core.edits.words` has it."""
        text, given = self.texts[row], self.raw[row].tolist()
        assert self.spans is not None
        found = []
        for piece in words(text):
            inside = [
                value
                for (start, end), value in zip(self.spans[row], given, strict=False)
                if start < end and start < piece.end and end > piece.start
            ]
            found.append((piece, float(sum(inside))))
        return found

    def html(self, row: int) -> str:
        """Return a text as HTML, with its words coloured: what speaks for the class, and against
        it. All that the text holds is escaped, and what a reader would not see is shown."""
        from assay.report.words import coloured

        given = self.by_word(row)
        return coloured(self.texts[row], [(p.start, p.end, value) for p, value in given])

    def _repr_html_(self) -> str:
        return "".join(f"<p>{self.html(row)}</p>" for row in range(min(8, len(self))))

    def plot(self, images: Tensor | None = None, columns: int = 8) -> Any:  # noqa: ARG002
        raise AssayError("texts are shown as HTML, not drawn: .html(row)")

    def to_dict(self) -> dict[str, Any]:
        gap = None if self.gap is None else float(self.gap.nan_to_num(0, 0, 0).abs().max())
        return {**super().to_dict(), "largest_gap": gap}


class TextExplainer(Config):
    """A method that says which tokens of a text speak for a class.

    To add one: derive from this, tag it with `name: Literal["..."] = "..."` and write `scores`.

    >>> assay.explain.text.WordOcclusion()(text_clf, ["a good film", ""]).empty[1].item()
    True
    """

    class_specific: ClassVar[bool] = True
    """Whether what it says depends on the class that is to be explained."""

    name: str
    """The method's name in configs."""

    def __call__(self, clf: Any, x: Sequence[str], targets: Targets = None) -> TokenAttribution:
        """Explain every text, for the class in `targets` or the predicted one.

        `values` is the positive part of `raw`, divided by its largest value in the text; a mark
        that the tokenizer adds, such as [CLS], has 0. A text without any is flagged in `empty`;
        so is one for which the method gives NaN or infinity, which `undefined` flags too.

        Args:
            clf: a `TextClassifier`, or what can be queried, as far as the method needs.
            x: the texts.
            targets: the class to explain: an int, int64 (N,), or None for the predicted class.

        Raises:
            AssayError: for what is no list of texts, or none at all; for a model that the method is
                not for; where the method is finite for none of the texts.
        """
        texts = check_texts(x)
        if not texts:
            raise AssayError("there is nothing to explain: x holds no texts")
        wanted = None if targets is None else torch.as_tensor(targets).long()
        if wanted is not None:
            wanted = wanted.expand(len(texts)) if wanted.ndim == 0 else wanted
            if wanted.shape != (len(texts),):
                raise AssayError(
                    f"targets must be one class, or one per text ({len(texts)},), got "
                    f"{tuple(wanted.shape)}"
                )
        with ExitStack() as held:
            if hasattr(clf, "borrowed"):
                held.enter_context(clf.borrowed())
            held.enter_context(eagerly())
            # a caller's no_grad or inference_mode must not reach what is explained by gradients
            held.enter_context(torch.inference_mode(False))
            held.enter_context(torch.enable_grad())
            found = self.scores(clf, texts, wanted)
        return self.finished(texts, found)

    def finished(self, texts: list[str], found: list[Scores]) -> TokenAttribution:
        """Return what `scores` gave as an attribution: padded, scaled and checked."""
        longest = max([1, *(len(one.raw) for one in found)])
        raw = torch.zeros(len(found), longest)
        named = torch.zeros(len(found), longest)
        for row, one in enumerate(found):
            raw[row, : len(one.raw)] = one.raw.detach().float().cpu()
            named[row, : len(one.raw)] = torch.tensor([float(a < b) for a, b in one.spans])
        bad = ~raw.isfinite().all(1)
        if bool(bad.all()):
            raise AssayError(
                f"{self.name} is NaN or infinite for all of {len(texts)} texts: what the model "
                "returns, or its gradients, is not finite; such attributions mean nothing"
            )
        raw = raw.masked_fill(bad[:, None], 0.0)
        values = raw.relu() * named
        top = values.amax(1)
        gaps = [one.gap for one in found if one.gap is not None]
        return TokenAttribution(
            values=values / top.clamp_min(torch.finfo(torch.float32).tiny)[:, None],
            raw=raw,
            empty=top <= 0,
            layer="",
            targets=torch.tensor([one.target for one in found]),
            spans=tuple(one.spans for one in found),
            undefined=bad if bool(bad.any()) else None,
            texts=tuple(texts),
            gap=torch.tensor(gaps) if gaps else None,
        )

    def scores(self, clf: Any, x: list[str], targets: Tensor | None) -> list[Scores]:
        """Return what the method says of each text: an author's part.

        It runs in eval mode, with frozen parameters and with gradients enabled.
        """
        raise NotImplementedError


def by_parts(
    clf: Any,
    x: list[str],
    targets: Tensor | None,
    explain: Callable[[list[str], Encoded, Tensor | None], list[Scores]],
) -> list[Scores]:
    """Return what `explain` says of encodings of all texts, those of like length together.

    Raises:
        AssayError: the model has no token embeddings.
    """
    if not (hasattr(clf, "encode") and hasattr(clf, "logits")):
        raise AssayError(
            "this explains by token embeddings, which what can only be queried does not show: give "
            "a TextClassifier, or take occlusion"
        )
    found: list[Scores | None] = [None] * len(x)
    for part in by_length([len(text) for text in x], 4 * TOKENS):
        some = [x[row] for row in part.tolist()]
        goal = None if targets is None else targets[part]
        for row, one in zip(part.tolist(), explain(some, clf.encode(some), goal), strict=True):
            found[row] = one
    return [one for one in found if one is not None]


def scored(clf: Any, e: Encoded, targets: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the logit of the class to explain (n,), and that class int64 (n,)."""
    logits = clf.logits(e)
    wanted = chosen(logits, targets)
    return logits.gather(1, wanted[:, None])[:, 0], wanted


def spans_of(e: Encoded) -> list[Spans]:
    """Return the characters of each token of each text, padding left out."""
    assert e.spans is not None
    return [tuple(row) for row in e.spans]
