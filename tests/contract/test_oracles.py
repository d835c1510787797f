"""What every oracle, every differentiable model and every source keeps to.

The toys prove that the contracts are wide enough: text that answers with scores, an image model
that says labels alone, a text model whose gradients are taken by token embeddings, and a source
whose length nobody knows. To hold an oracle of your own to the contract, add it to the tables.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.core.classifier import Classifier
from assay.core.fast import fast_copy
from assay.core.oracle import Access, Differentiable, Encoded, Oracle, labels
from assay.core.source import Source, TensorSource
from contract.texts import SENTENCES, WordCounter
from contract.tiny import text_classifier


class Brightness:
    """A black box over images that says a label and no more."""

    classes = ("dark", "grey", "bright")
    access: Access = "labels"

    def __init__(self) -> None:
        self.queries = 0

    def query(self, x: Tensor) -> Tensor:
        self.queries += len(x)
        return (x.flatten(1).mean(1) * 3).long().clamp(max=2)


class BagOfWords:
    """A differentiable model of sentences: one embedding per word, masked mean, linear."""

    classes = ("negative", "positive")
    access: Access = "gradient"

    def __init__(self) -> None:
        draw = torch.Generator().manual_seed(0)
        self.queries = 0
        self.vectors = torch.randn(97, 5, generator=draw)
        self.weight = torch.randn(5, 2, generator=draw)

    def encode(self, x: list[str]) -> Encoded:
        words = [list(re.finditer(r"\S+", s)) for s in x]
        longest = max((len(row) for row in words), default=0)
        values, mask = torch.zeros(len(x), longest, 5), torch.zeros(len(x), longest, dtype=bool)
        for i, row in enumerate(words):
            for j, word in enumerate(row):
                values[i, j] = self.vectors[sum(map(ord, word.group())) % 97]
                mask[i, j] = True
        return Encoded(values, mask, tuple(tuple(word.span() for word in row) for row in words))

    def logits(self, e: Encoded) -> Tensor:
        assert e.mask is not None
        self.queries += len(e.values)
        weight = e.mask / e.mask.sum(1, keepdim=True).clamp(min=1)
        return (e.values * weight[:, :, None]).sum(1) @ self.weight

    def query(self, x: list[str]) -> Tensor:
        with torch.no_grad():
            return self.logits(self.encode(x))


def images() -> Tensor:
    draw = torch.Generator().manual_seed(0)
    noise = torch.rand(6, 3, 8, 8, generator=draw)
    return (torch.linspace(0, 0.9, 6).view(-1, 1, 1, 1) + 0.1 * noise).clamp(0, 1)


def classifier() -> Classifier:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Tanh(), nn.Flatten(), nn.Linear(144, 3)
    )
    return Classifier(net, mean=[0.5], std=[0.5], classes=["a", "b", "c"], batch_size=4)


def copied() -> Any:
    fast, report = fast_copy(classifier(), images())
    assert report.used, report.why
    return fast


@dataclass(frozen=True)
class Case:
    make: Callable[[], Any]
    inputs: Callable[[], Any]
    access: Access = "gradient"


ORACLES = {
    "classifier": Case(classifier, images),
    "fast copy": Case(copied, images),
    "word counter": Case(WordCounter, lambda: list(SENTENCES), "scores"),
    "brightness": Case(Brightness, images, "labels"),
    "bag of words": Case(BagOfWords, lambda: list(SENTENCES)),
    "text classifier": Case(text_classifier, lambda: list(SENTENCES)),
}
DIFFERENTIABLE = {name: case for name, case in ORACLES.items() if case.access == "gradient"}
oracles = pytest.mark.parametrize("case", ORACLES.values(), ids=ORACLES)
differentiable = pytest.mark.parametrize("case", DIFFERENTIABLE.values(), ids=DIFFERENTIABLE)


def test_the_tables_hold_what_the_contract_must_be_wide_enough_for() -> None:
    assert {case.access for case in ORACLES.values()} == {"labels", "scores", "gradient"}
    assert all(case.make().access == case.access for case in ORACLES.values())
    assert "bag of words" in DIFFERENTIABLE


# -- every oracle -----------------------------------------------------------------------------


@oracles
def test_an_answer_has_the_form_that_its_access_names(case: Case) -> None:
    oracle: Oracle[Any] = case.make()
    x = case.inputs()
    answer = oracle.query(x)
    if oracle.access == "labels":
        assert answer.dtype == torch.int64
        assert answer.shape == (len(x),)
        assert bool(((answer >= 0) & (answer < len(oracle.classes))).all())
    else:
        assert answer.dtype == torch.float32
        assert answer.shape == (len(x), len(oracle.classes))
    if oracle.access == "scores":
        assert torch.allclose(answer.sum(1), torch.ones(len(x)))
    assert not answer.requires_grad


@oracles
def test_labels_are_read_from_any_answer(case: Case) -> None:
    oracle = case.make()
    answer = oracle.query(case.inputs())
    said = labels(answer)
    assert said.dtype == torch.int64
    assert len(said.unique()) > 1, "an oracle that says one thing shows nothing here"
    assert torch.equal(said, answer if oracle.access == "labels" else answer.argmax(1))


@oracles
def test_every_row_is_counted(case: Case) -> None:
    oracle, x = case.make(), case.inputs()
    before = oracle.queries
    oracle.query(x)
    oracle.query(x[:2])
    assert oracle.queries - before == len(x) + 2


@oracles
def test_an_answer_depends_on_its_own_row_alone(case: Case) -> None:
    oracle, x = case.make(), case.inputs()
    whole = oracle.query(x)
    one_by_one = torch.cat([oracle.query(x[i : i + 1]) for i in range(len(x))])
    assert torch.allclose(one_by_one, whole, atol=1e-5)
    assert torch.allclose(oracle.query(x), whole, atol=1e-6), "the same query, another answer"


@oracles
def test_the_inputs_of_a_query_are_not_changed(case: Case) -> None:
    x, same = case.inputs(), case.inputs()
    case.make().query(x)
    assert torch.equal(x, same) if isinstance(x, Tensor) else x == same


def test_a_row_without_an_answer_has_no_label() -> None:
    nan, inf = torch.nan, torch.inf
    silent = [[nan, 1.0], [2.0, nan], [inf, 0.0], [0.0, inf], [inf, inf], [-inf, -inf], [-inf, nan]]
    assert labels(torch.tensor(silent)).tolist() == [-1] * 7
    assert labels(torch.tensor([[0.0, 1.0], [-inf, 0.0], [3.0, -inf]])).tolist() == [1, 1, 0]


# -- every differentiable model -----------------------------------------------------------------


@differentiable
def test_logits_of_the_encoding_are_what_query_answers(case: Case) -> None:
    model: Differentiable[Any] = case.make()
    x = case.inputs()
    borrowed = getattr(model, "borrowed", None)
    if borrowed is None:
        logits = model.logits(model.encode(x))
    else:
        with borrowed():
            logits = model.logits(model.encode(x))
    assert torch.allclose(logits.detach(), model.query(x), atol=1e-5)


@differentiable
def test_the_gradient_is_the_slope(case: Case) -> None:
    """Against a central difference along a random direction."""
    model, x = case.make(), case.inputs()
    getattr(model, "model", nn.Identity()).eval().requires_grad_(False)
    e = model.encode(x)
    y = torch.arange(len(x)) % len(model.classes)

    def loss(values: Tensor) -> Tensor:
        return F.cross_entropy(model.logits(Encoded(values, e.mask, e.spans)), y, reduction="none")

    values = e.values.detach().clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(loss(values).sum(), values)
    direction = torch.randn(values.shape, generator=torch.Generator().manual_seed(1))
    if e.mask is not None:
        assert bool((slope[~e.mask] == 0).all()), "padding has no say"
        assert bool((slope[e.mask].abs().sum(1) > 0).all())
    h = 1e-3
    with torch.no_grad():
        rise = (loss(e.values + h * direction) - loss(e.values - h * direction)) / (2 * h)
    expected = (slope * direction).flatten(1).sum(1)
    assert torch.allclose(rise, expected, rtol=0.03, atol=2e-3)
    assert float(expected.abs().max()) > 0.01


@differentiable
def test_an_encoding_fits_its_inputs(case: Case) -> None:
    model, x = case.make(), case.inputs()
    e = model.encode(x)
    assert len(e.values) == len(x)
    if e.mask is None:
        assert e.spans is None
        return
    assert e.spans is not None
    assert e.mask.shape == e.values.shape[:2]
    assert [int(n) for n in e.mask.sum(1)] == [len(row) for row in e.spans]
    for sentence, row in zip(x, e.spans, strict=True):
        words = re.findall(r"\S+", sentence)
        pieces = [sentence[start:end] for start, end in row if end > start]
        assert "".join(pieces) == "".join(words)
        assert len(pieces) >= len(words)


# -- every source -------------------------------------------------------------------------------


class Shards:
    """A source that is generated as it is read: its length is not known before the end."""

    length = None
    fingerprint = "5" * 64

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        count = 11
        for start in range(0, count, size):
            ids = torch.arange(start, min(start + size, count))
            x = (ids / count).view(-1, 1, 1, 1).expand(-1, 3, 4, 4)
            yield ids, x, ids % 3


class Sentences:
    """A source of text."""

    length = len(SENTENCES)
    fingerprint = "7" * 64

    def batches(self, size: int) -> Iterator[tuple[Tensor, list[str], Tensor]]:
        for start in range(0, self.length, size):
            part = SENTENCES[start : start + size]
            ids = torch.arange(start, start + len(part))
            yield ids, part, ids % 2


SOURCES: dict[str, Callable[[], Source]] = {
    "tensor": lambda: TensorSource(images(), torch.arange(6) % 3, ("a", "b", "c")),
    "unlabelled": lambda: TensorSource(images()),
    "shards": Shards,
    "sentences": Sentences,
}
sources = pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES)


def collected(source: Source, size: int) -> tuple[list[int], list[Any], list[int]]:
    ids: list[int] = []
    x: list[Any] = []
    y: list[int] = []
    for some, part, answers in source.batches(size):
        assert 0 < len(some) <= size
        assert len(some) == len(part) == len(answers)
        assert some.dtype == answers.dtype == torch.int64
        ids += some.tolist()
        x += [row.tolist() if isinstance(row, Tensor) else row for row in part]
        y += answers.tolist()
    return ids, x, y


@sources
def test_batches_hold_every_example_once_whatever_their_size(make: Callable[[], Source]) -> None:
    source = make()
    whole = collected(source, 1000)
    assert len(set(whole[0])) == len(whole[0]) > 5
    for size in (1, 4, len(whole[0])):
        assert collected(source, size) == whole
    assert source.length in (None, len(whole[0]))


@sources
def test_a_source_can_be_read_again_and_again(make: Callable[[], Source]) -> None:
    source = make()
    assert collected(source, 3) == collected(source, 3) == collected(make(), 3)
    assert source.fingerprint == make().fingerprint


def test_a_fingerprint_sees_one_pixel_one_label_and_the_order() -> None:
    x, y = images(), torch.arange(6) % 3
    changed = x.clone()
    changed[5, 2, 7, 7] += 1e-6
    relabelled = y.clone()
    relabelled[0] = 2
    made = [
        TensorSource(x, y),
        TensorSource(x),
        TensorSource(changed, y),
        TensorSource(x, relabelled),
        TensorSource(x.flip(0), y),
        TensorSource(x.view(6, 3, 4, 16), y),
    ]
    assert len({source.fingerprint for source in made}) == len(made)
    assert TensorSource(x.clone(), y.clone()).fingerprint == made[0].fingerprint
    channels_last = x.contiguous(memory_format=torch.channels_last)
    assert TensorSource(channels_last, y).fingerprint == made[0].fingerprint


def test_labels_that_do_not_fit_their_images_are_refused() -> None:
    from assay.errors import AssayError

    with pytest.raises(AssayError, match=r"6 images, labels of shape \(5,\)"):
        TensorSource(images(), torch.arange(5))
