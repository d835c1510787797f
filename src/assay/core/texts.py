"""A classifier of texts, wrapped: strings in, logits out, its tokenizer inside."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from assay.core.borrowed import borrowed
from assay.core.lengths import by_length, padded
from assay.core.memory import Tally, in_parts
from assay.core.oracle import Access, Encoded, Loss, gradient_by, labels
from assay.core.source import Source, as_bytes
from assay.core.tokens import (
    TREATMENTS,
    Tokenizer,
    Tokens,
    Treatment,
    check_texts,
    tokenized,
)
from assay.core.user_code import user_code
from assay.errors import AssayError, distinct, one_line

if TYPE_CHECKING:
    from assay.core.embedding import Embedding, Reader

MOST_TOKENS = 512
"""Where texts are cut if neither model nor tokenizer says so."""
TOKENS = 2048
"""Tokens, padding included, that are evaluated at a time on a CPU: more are not faster there."""
TOKENS_ON_A_GPU = 2**16
PADDING = 4
"""Padding by which it is seen, once, that the answer to a text does not depend on it."""


class TextClassifier:
    """A model of texts, its tokenizer and the names of its classes; differentiable.

    Args:
        model: any module that is called as those of Hugging Face are: `model(input_ids=...,
            attention_mask=...)`, or `inputs_embeds=` in place of the ids, gives logits (N, K) or an
            object with `logits`; `get_input_embeddings()` gives its table of tokens.
        tokenizer: the model's own, a fast one of Hugging Face's.
        classes: names of the outputs; None names them by number at the first query.
        max_length: tokens after which a text is cut, where model and tokenizer allow so many; None
            takes what they allow.
        batch_size: most texts evaluated at a time; None chooses by their length.
        notes: what was understood when it was loaded, a line each, for whoever reads the report.

    Texts are evaluated with those that are as long, and answered in their own order: there is next
    to no padding, and what there is the mask hides, which is seen once. The model is used in eval
    mode with frozen parameters, and comes back as it was. Texts that are too long, empty or broken
    are answered all the same, and counted in `treated`.

    Raises:
        AssayError: for a tokenizer with more tokens than the model, or one that does not know its
            characters; for what is not a list of strings; for a model whose answers depend on
            padding, that answers NaN to all of its first batch, or whose number of outputs is 1, or
            not that of `classes`; for whatever the model raises.

    >>> text_clf.query(["a good film", ""]).shape
    torch.Size([2, 2])
    >>> text_clf.treatments()
    ('1 text without a token: the model was given its marks of beginning and end alone',)
    """

    outputs: Literal["logits"] = "logits"

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Tokenizer,
        *,
        classes: Sequence[str] | None = None,
        max_length: int | None = None,
        batch_size: int | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        for name, value in (("batch_size", batch_size), ("max_length", max_length)):
            if value is not None and value < 1:
                raise AssayError(f"{name} is at least 1, or None, not {value}")
        if not getattr(tokenizer, "is_fast", False):
            raise AssayError(
                f"{type(tokenizer).__name__} does not know which characters its tokens come from: "
                "give a fast tokenizer of Hugging Face's, one with a tokenizer.json"
            )
        self.model = model
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        self.table = _table(model)
        """The embeddings of the tokens; row t of its weight (V, D) is that of token t."""
        if len(tokenizer) > self.table.num_embeddings:
            raise AssayError(
                f"the tokenizer has {len(tokenizer):,} tokens, but the model knows "
                f"{self.table.num_embeddings:,}: it is another model's, or tokens were added to it "
                "(model.resize_token_embeddings)"
            )
        allowed = _longest(model, tokenizer)
        self.max_length = allowed if max_length is None else min(max_length, allowed)
        pad = getattr(tokenizer, "pad_token_id", None)
        self.pad = 0 if pad is None else int(pad)
        missing = "the tokenizer has no padding token: token 0 pads, which the mask hides"
        self.notes = (*notes, *([missing] if pad is None else []))
        self.treated: Counter[Treatment] = Counter()
        self.tally = Tally()
        named = None if classes is None else distinct(map(str, classes), "classes of the model")
        self._classes = named
        self._checked = False

    @property
    def access(self) -> Access:
        return "gradient"

    @property
    def queries(self) -> int:
        return self.tally.queries

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names. Unnamed ones are numbers, known after the first query."""
        if self._classes is None:
            raise AssayError("the classes are not known before the first query; pass classes=")
        return self._classes

    @property
    def device(self) -> torch.device:
        first = next(chain(self.model.parameters(), self.model.buffers()), None)
        return first.device if first is not None else torch.device("cpu")

    @property
    def fingerprint(self) -> str:
        """A digest of modules, weights, tokenizer and length, as 64 hexadecimal digits."""
        about = json.loads(self.tokenizer.backend_tokenizer.to_str())  # type: ignore[attr-defined]
        for used in ("truncation", "padding"):  # of its last call, not of its own
            about.pop(used, None)
        sha = hashlib.sha256(f"{self.max_length} {self.pad} {json.dumps(about)}".encode())
        for name, module in self.model.named_modules():
            sha.update(f"{name}{type(module).__qualname__}{module.extra_repr()}".encode())
        for key, tensor in sorted(self.model.state_dict().items()):
            sha.update(f"{key}{tuple(tensor.shape)}{tensor.dtype}".encode())
            sha.update(as_bytes(tensor.view(torch.int16) if tensor.element_size() == 2 else tensor))
        return sha.hexdigest()

    def __repr__(self) -> str:
        known = f"{len(self._classes)} classes" if self._classes else "classes not yet known"
        return f"TextClassifier({type(self.model).__name__}, {known}, {self.max_length} tokens)"

    # -- querying ----------------------------------------------------------------------------

    def __call__(self, x: Sequence[str]) -> Tensor:
        """Return logits float32 (N, K), as `query` does."""
        return self.query(x)

    def query(self, x: Sequence[str] | NDArray[Any]) -> Tensor:
        """Return logits float32 (N, K) on the CPU, without gradients."""
        texts = check_texts(x)
        if not texts:
            return torch.zeros((0, len(self.classes)))
        tokens = self.tokens(texts)
        self.note(tokens)
        answers: list[Tensor] = []
        with self.borrowed(), torch.no_grad():
            order = list(self.parts(tokens))
            for some in order:
                ids, mask = padded([tokens.ids[row] for row in some.tolist()], self.pad)
                answers.append(
                    in_parts(self.asked, len(some), ids, mask, tally=self.tally, in_vain=False)
                )
        return torch.cat(answers)[torch.cat(order).argsort()].cpu()

    def predict(self, x: Sequence[str] | NDArray[Any]) -> Tensor:
        """Return the predicted class of every text, int64 (N,); -1 where it has no answer."""
        return labels(self.query(x))

    def encode(self, x: Sequence[str]) -> Encoded:
        """Return the embeddings of the tokens (N, T, D) by which gradients are taken, where there
        is a token (N, T), and the characters of each, padding left out."""
        tokens = self.tokens(check_texts(x))
        self.note(tokens)
        return self.embedded(tokens)

    def embedded(self, tokens: Tokens) -> Encoded:
        """Return the encoding of texts that are tokens already, in one batch."""
        ids, mask = padded(tokens.ids, self.pad)
        with torch.no_grad():
            values = self.table(ids.to(self.device))
        return Encoded(values, mask.to(self.device), tokens.spans)

    def logits(self, e: Encoded) -> Tensor:
        """Return logits float32 (N, K), differentiable by `e.values`; one pass, no splitting.

        The model runs in the mode it is in: callers that query it many times hold `borrowed()`.
        """
        if e.mask is None:
            raise AssayError("these are no texts: their encoding has no mask of tokens")
        self.tally.queries += len(e.values)
        return self._answered(e.mask, inputs_embeds=e.values)

    def gradient(self, x: Sequence[str], y: Tensor, loss: Loss) -> tuple[Tensor, list[Tensor]]:
        """Return logits (N, K), and of each text d loss / d embedding (T, D) of its own tokens.

        Args:
            x: the texts.
            y: int64 (N,), what the loss is given.
            loss: (logits, y) → one loss per row.
        """
        tokens = self.tokens(check_texts(x))
        self.note(tokens)
        logits = torch.zeros((len(tokens), len(self.classes)))
        slopes: list[Tensor] = [torch.empty(0)] * len(tokens)
        with self.borrowed():
            for some in self.parts(tokens):
                e = self.embedded(tokens.rows(some))
                answer, slope = gradient_by(self, e, y[some].to(self.device), loss)
                logits[some] = answer.cpu()
                for place, row in enumerate(some.tolist()):
                    slopes[row] = slope[place, : len(tokens.ids[row])].cpu()
        return logits, slopes

    def trained(self, x: list[str]) -> Tensor:
        """Return logits float32 (N, K), differentiable by the weights, in the model's own mode."""
        ids, mask = padded(self.tokens(x).ids, self.pad)
        return self._answered(mask, input_ids=ids)

    def embed(
        self,
        data: Source | Sequence[str],
        y: Tensor | None = None,
        *,
        layers: Sequence[str] = (),
        readers: Iterable[Reader] = (),
    ) -> Embedding:
        """Return features and logits of every text, in one pass.

        Args:
            data: texts, or a source of them.
            y: labels int64 (N,) of texts; a source brings its own.
            layers: names of further modules, each with the statistic over a text's own tokens to
                keep: "encoder.layer.3" (the mean), ":first" (the mark of beginning, CLS), ":max",
                ":std".
            readers: what the embedding is for, such as a list of detectors.
        """
        from assay.core.text_embedding import embed_texts

        return embed_texts(self, data, y, layers=layers, readers=readers)

    @contextmanager
    def borrowed(self) -> Iterator[nn.Module]:
        """Hold the model in eval mode with frozen parameters; put it back on the way out."""
        with borrowed(self.model) as model:
            yield model

    # -- tokens --------------------------------------------------------------------------------

    def tokens(self, texts: list[str]) -> Tokens:
        """Return the texts as the model reads them; nothing is evaluated or counted."""
        return tokenized(texts, self.tokenizer, self.max_length, self.pad)

    def parts(self, tokens: Tokens) -> Iterator[Tensor]:
        """Yield which texts are evaluated together, int64 (n,), the longest first."""
        most = TOKENS if self.device.type == "cpu" else TOKENS_ON_A_GPU
        return by_length(tokens.lengths, most, self.batch_size)

    def note(self, tokens: Tokens) -> None:
        """Count what was done to the texts of a query."""
        for done in tokens.treated:
            self.treated.update(done)

    def treatments(self) -> tuple[str, ...]:
        """Return what was done to texts that could not be taken as they are, a line each, with how
        many it was done to since the model was made."""
        return tuple(
            f"{self.treated[kind]:,} text{'s' * (self.treated[kind] > 1)} "
            + said.format(most=f"{self.max_length:,}")
            for kind, said in TREATMENTS.items()
            if self.treated[kind]
        )

    # -- evaluating ------------------------------------------------------------------------------

    def asked(self, ids: Tensor, mask: Tensor) -> Tensor:
        if not self._checked:
            self._check(ids, mask)
        self.tally.queries += len(ids)
        return self._answered(mask, input_ids=ids)

    def _answered(self, mask: Tensor, **given: Tensor) -> Tensor:
        """Return logits (N, K) of ids or embeddings, checked by their shape."""
        mask = mask.to(self.device)
        given = {name: tensor.to(self.device) for name, tensor in given.items()}
        with user_code(mask, "the model", "texts"):
            output = self.model(attention_mask=mask.long(), **given)
        logits = getattr(output, "logits", output)
        rows = len(mask)
        if not (isinstance(logits, Tensor) and logits.is_floating_point() and logits.ndim == 2):
            said = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise AssayError(
                f"the model returned {said} for {rows} texts; a TextClassifier needs logits "
                f"({rows}, K): give a model with a classification head, "
                "AutoModelForSequenceClassification"
            )
        if logits.shape[1] < 2 or len(logits) != rows:
            raise AssayError(
                f"the model returned shape {tuple(logits.shape)} for {rows} texts; a "
                f"TextClassifier needs logits ({rows}, K) of at least 2 classes"
            )
        if self._classes is None:
            self._classes = tuple(str(k) for k in range(logits.shape[1]))
        if logits.shape[1] != len(self._classes):
            raise AssayError(
                f"the model has {logits.shape[1]} outputs, but {len(self._classes)} classes are "
                f"named ({one_line(', '.join(self._classes), 80)}); name one class per output"
            )
        return logits.float()

    def _check(self, ids: Tensor, mask: Tensor) -> None:
        """Refuse, once, a model that answers NaN, or otherwise where there is padding."""
        with torch.no_grad():
            room = max(1, min(int(mask[0].sum()), self.max_length - PADDING))
            one = ids[:1, :room]
            plain = self._answered(torch.ones_like(one, dtype=torch.bool), input_ids=one)
            wide = min(room + PADDING, self.max_length)
            ids, mask = padded([one[0].tolist(), [self.pad] * wide], self.pad)
            beside = self._answered(mask, input_ids=ids)[:1]
        if not bool((labels(plain) >= 0).all()):
            raise AssayError("the model answers NaN to its first text: check its weights")
        eps = max(torch.finfo(p.dtype).eps for p in self.model.parameters())
        allowed = 1e4 * eps * plain.abs().amax().clamp_min(1.0)
        if not bool(((plain - beside).abs() <= allowed).all()):
            raise AssayError(
                "the model's answer to a text changes when it is padded: it must not look at what "
                "attention_mask hides (a decoder needs model.config.pad_token_id)"
            )
        self._checked = True


def _table(model: nn.Module) -> nn.Embedding:
    """Return the model's embeddings of tokens.

    Raises:
        AssayError: it does not say which they are.
    """
    ask = getattr(model, "get_input_embeddings", None)
    table = ask() if callable(ask) else None
    if not isinstance(table, nn.Embedding):
        raise AssayError(
            f"{type(model).__name__} does not say which its embeddings of tokens are: give a model "
            "of Hugging Face's, or a module with get_input_embeddings()"
        )
    return table


def _longest(model: nn.Module, tokenizer: Any) -> int:
    """Return how many tokens the model reads: as many as it has places for, and its tokenizer
    allows."""
    most = [int(getattr(tokenizer, "model_max_length", MOST_TOKENS))]
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            # RoBERTa counts from behind its padding token
            first = 0 if module.padding_idx is None else module.padding_idx + 1
            most.append(module.num_embeddings - first)
    return min(most) if min(most) < 10**6 else MOST_TOKENS
