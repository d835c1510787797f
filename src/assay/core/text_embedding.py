"""One pass over texts: logits, what the head reads, and what each layer makes of a text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from assay.core.embedding import NO_HEAD, Embedding, Reader, module_and_statistic
from assay.core.head import Head, plain_head, watching
from assay.core.lengths import padded
from assay.core.source import Source
from assay.core.tokens import Tokens, check_texts
from assay.errors import AssayError

if TYPE_CHECKING:
    from assay.core.texts import TextClassifier

TextStatistic = Literal["mean", "first", "max", "std"]
"""What is kept of a layer's channel: its mean over the text's own tokens, its value at the first
(the mark of beginning: CLS), its largest, or its standard deviation (as a population's)."""
STATISTICS: tuple[TextStatistic, ...] = ("mean", "first", "max", "std")

AT_ONCE = 4096
"""Texts that are sorted by length together."""


def blocks(model: nn.Module) -> tuple[str, ...]:
    """Return the names of a transformer's layers, the sum of its embeddings first.

    >>> from assay.core.text_embedding import blocks
    >>> blocks(text_clf.model)
    ('bert.embeddings', 'bert.encoder.layer.0', 'bert.encoder.layer.1')
    """
    stacks = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList)
    ]
    if not stacks:
        return ()
    name, stack = max(stacks, key=lambda found: len(found[1]))
    first = [n for n, _ in model.named_modules() if n.rpartition(".")[2] == "embeddings"]
    return (*first[:1], *(f"{name}.{place}" for place in range(len(stack))))


def embed_texts(
    classifier: TextClassifier,
    data: Source | Sequence[str],
    y: Tensor | None = None,
    *,
    layers: Sequence[str] = (),
    readers: Iterable[Reader] = (),
) -> Embedding:
    """Return the embedding of texts, in their order; see `TextClassifier.embed`.

    It has neither source nor oracle: what a detector does with the images of one, it cannot do
    with texts, and is refused.

    Raises:
        AssayError: for a layer that does not exist (the nearest name is given), or no texts.
    """
    modules = dict(classifier.model.named_modules())
    wanted = {layer: module_and_statistic(layer, modules, STATISTICS) for layer in layers}
    lacks: dict[str, str] = {}
    for reader in readers:
        with suppress(Exception):  # whatever another package's detector may raise
            for layer in reader.layers_of(classifier.model):
                try:
                    wanted[layer] = module_and_statistic(layer, modules, STATISTICS)
                except AssayError as error:
                    lacks[layer] = str(error)
    pass_ = _Pass(classifier, wanted)
    for texts, labels in _texts(data, y):
        pass_.take(texts, labels)
    return pass_.embedding(lacks)


class _Pass:
    """What a pass has kept so far."""

    def __init__(
        self,
        classifier: TextClassifier,
        wanted: Mapping[str, tuple[nn.Module, TextStatistic]],
    ) -> None:
        self.classifier, self.wanted = classifier, wanted
        self.logits: list[Tensor] = []
        self.features: list[Tensor] = []
        self.layers: dict[str, list[Tensor]] = {layer: [] for layer in wanted}
        self.labels: list[Tensor] = []
        self.head: tuple[nn.Linear, Head] | None = None

    def take(self, texts: list[str], labels: Tensor) -> None:
        """Evaluate texts, those of like length together, and keep them in their order."""
        clf = self.classifier
        tokens = clf.tokens(texts)
        clf.note(tokens)
        order = list(clf.parts(tokens))
        back = torch.cat(order).argsort()
        logits: list[Tensor] = []
        features: list[Tensor] = []
        layers: dict[str, list[Tensor]] = {layer: [] for layer in self.wanted}
        with (
            clf.borrowed(),
            torch.no_grad(),
            watching(clf.model) as linear,
            _kept(self.wanted) as seen,
        ):
            for some in order:
                answer, mask = self._asked(tokens.rows(some), seen)
                logits.append(answer.cpu())
                if not self.logits and not features:
                    self.head = plain_head(linear.reads, answer)
                    linear.only(self.head and self.head[0])
                if self.head is not None:
                    read = linear.reads.get(self.head[0])
                    if read is not None and self.head[1].reproduces(read.values, answer, read.eps):
                        features.append(read.values.float().cpu())
                    else:  # seen so in the first batch by accident
                        self.head = None
                for layer in self.wanted:
                    layers[layer].append(seen.pooled(layer, mask))
        self.logits.append(torch.cat(logits)[back])
        if self.head is not None:
            self.features.append(torch.cat(features)[back])
        for layer, parts in layers.items():
            self.layers[layer].append(torch.cat(parts)[back])
        self.labels.append(labels)

    def _asked(self, tokens: Tokens, seen: _Seen) -> tuple[Tensor, Tensor]:
        seen.outputs.clear()
        ids, mask = padded(tokens.ids, self.classifier.pad)
        return self.classifier.asked(ids, mask), mask

    def embedding(self, lacks: dict[str, str]) -> Embedding:
        if not self.logits:
            raise AssayError("there is nothing to embed: there are no texts")
        y = torch.cat(self.labels)
        head = None if self.head is None else self.head[1]
        if head is None:
            lacks["head"] = NO_HEAD
        return Embedding(
            logits=torch.cat(self.logits),
            features=None if head is None else torch.cat(self.features),
            layers={layer: torch.cat(parts) for layer, parts in self.layers.items()},
            head=None if head is None else Head(head.weight.cpu(), head.bias.cpu()),
            y=None if bool((y < 0).all()) else y,
            lacks=lacks,
        )


class _Seen:
    """What layers have given in the last forward pass."""

    def __init__(self, wanted: Mapping[str, tuple[nn.Module, TextStatistic]]) -> None:
        self.wanted = wanted
        self.outputs: dict[nn.Module, Tensor] = {}

    def keep(self, module: nn.Module, _: Any, output: Any) -> None:
        given = output[0] if isinstance(output, tuple) and output else output
        if isinstance(given, Tensor):
            self.outputs[module] = given.detach()

    def pooled(self, layer: str, mask: Tensor) -> Tensor:
        """Return a statistic (N, D) of a layer's output (N, T, D) over the tokens of each text; of
        an output (N, D) it is the output itself.

        Raises:
            AssayError: the layer gave none of these, or was not used.
        """
        module, statistic = self.wanted[layer]
        output = self.outputs.get(module)
        if output is None or output.ndim not in (2, 3) or len(output) != len(mask):
            raise AssayError(
                f"layer {layer!r} gives no tensor (texts, tokens, channels): name another layer"
            )
        return (output if output.ndim == 2 else pooled(output, mask, statistic)).float().cpu()


def pooled(states: Tensor, mask: Tensor, statistic: TextStatistic) -> Tensor:
    """Return a statistic (N, D) of states (N, T, D) over the tokens that the mask (N, T) shows."""
    if statistic == "first":
        return states[:, 0]
    shown = mask.to(states.device)[:, :, None]
    if statistic == "max":
        return states.masked_fill(~shown, -torch.inf).amax(1)
    count = shown.sum(1).clamp_min(1)
    mean = (states * shown).sum(1) / count
    if statistic == "mean":
        return mean
    return (((states - mean[:, None]) * shown).pow(2).sum(1) / count).sqrt()


@contextmanager
def _kept(wanted: Mapping[str, tuple[nn.Module, TextStatistic]]) -> Iterator[_Seen]:
    seen = _Seen(wanted)
    modules = {module for module, _ in wanted.values()}
    handles = [module.register_forward_hook(seen.keep) for module in modules]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _texts(data: Source | Sequence[str], y: Tensor | None) -> Iterator[tuple[list[str], Tensor]]:
    """Yield texts and labels, so many at a time that there are enough of each length."""
    if hasattr(data, "batches"):
        for _, texts, labels in data.batches(AT_ONCE):
            yield check_texts(texts), labels
        return
    texts = check_texts(data)
    labels = torch.full((len(texts),), -1) if y is None else torch.as_tensor(y)
    if labels.shape != (len(texts),):
        raise AssayError(f"one label per text: {len(texts)} texts, {tuple(labels.shape)} labels")
    for start in range(0, len(texts), AT_ONCE):
        yield texts[start : start + AT_ONCE], labels[start : start + AT_ONCE]
