from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch
from contract.tiny import bert, text_classifier, tokenizer
from torch import nn
from torch.nn import functional as F

from assay.core.embedding import Embedding
from assay.core.lengths import by_length, padded, padding_share
from assay.core.text_embedding import blocks
from assay.core.texts import TextClassifier
from assay.core.tokens import check_texts
from assay.errors import AssayError
from assay.ood import Detector, Energy
from assay.ood.needs import Need

TEXTS = ["a good film", "", "the plot is bad but the acting was very good", "not moving", "boring"]


def loss(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(logits, y, reduction="none")


@pytest.fixture
def clf() -> TextClassifier:
    return text_classifier()


# -- answers ---------------------------------------------------------------------------------


def test_answers_are_those_of_the_model_one_text_at_a_time(clf: TextClassifier) -> None:
    """transformers' own call, text by text and so without padding."""
    with torch.no_grad():
        alone = [clf.model(**tokenizer()([t], return_tensors="pt")).logits for t in TEXTS]
    assert torch.allclose(clf.query(TEXTS), torch.cat(alone), atol=1e-5)
    assert torch.equal(clf.predict(TEXTS), torch.cat(alone).argmax(1))


def test_texts_are_evaluated_with_those_as_long_and_answered_in_order() -> None:
    few = text_classifier(batch_size=2)
    shapes: list[tuple[int, ...]] = []
    few.query(["a"])  # the check of the first batch is made
    few.model.register_forward_pre_hook(
        lambda _, __, given: shapes.append(tuple(given["input_ids"].shape)), with_kwargs=True
    )
    answers = few.query(TEXTS)
    assert shapes == [(2, 12), (2, 4), (1, 2)]
    assert torch.allclose(answers, text_classifier().query(TEXTS), atol=1e-5)


def test_a_batch_takes_as_many_as_its_tokens_allow() -> None:
    parts = list(by_length([1, 5, 2, 5, 1, 1], tokens=10))
    assert [part.tolist() for part in parts] == [[1, 3], [2, 0, 4, 5]]
    assert [len(part) for part in by_length([7, 7], tokens=3)] == [1, 1]
    assert padding_share([1, 5, 2, 5, 1, 1], parts) == pytest.approx(1 - 15 / 18)
    ids, mask = padded([[4, 5, 6], [7]], pad=9)
    assert ids.tolist() == [[4, 5, 6], [7, 9, 9]]
    assert mask.tolist() == [[True, True, True], [True, False, False]]


def test_the_model_comes_back_as_it_was(clf: TextClassifier) -> None:
    clf.model.train()
    clf.model.bert.encoder.requires_grad_(False)
    wants = [p.requires_grad for p in clf.model.parameters()]
    clf.query(TEXTS)
    clf.gradient(TEXTS, torch.zeros(5, dtype=torch.int64), loss)
    assert all(module.training for module in clf.model.modules())
    assert [p.requires_grad for p in clf.model.parameters()] == wants
    assert all(p.grad is None for p in clf.model.parameters())


def test_arrays_and_tuples_of_strings_are_taken(clf: TextClassifier) -> None:
    expected = clf.query(TEXTS)
    assert torch.equal(clf.query(tuple(TEXTS)), expected)
    assert torch.equal(clf.query(np.array(TEXTS)), expected)
    assert torch.equal(clf.query(np.array(TEXTS, dtype=object)), expected)
    assert clf.query([]).shape == (0, 2)


def test_every_text_is_a_query_and_checks_are_none(clf: TextClassifier) -> None:
    clf.query(TEXTS)
    assert clf.queries == 5
    clf.gradient(TEXTS[:2], torch.zeros(2, dtype=torch.int64), loss)
    assert clf.queries == 7
    clf.tokens(TEXTS)
    assert clf.queries == 7


# -- gradients and characters ----------------------------------------------------------------


def test_gradients_are_of_each_texts_own_tokens(clf: TextClassifier) -> None:
    y = torch.tensor([0, 1, 0, 1, 0])
    logits, slopes = clf.gradient(TEXTS, y, loss)
    assert torch.allclose(logits, clf.query(TEXTS), atol=1e-5)
    tokens = clf.tokens(TEXTS)
    for row, text in enumerate(TEXTS):
        ids = torch.tensor([tokens.ids[row]])
        values = clf.table.weight[ids].detach().requires_grad_(True)
        alone = clf.model(inputs_embeds=values, attention_mask=torch.ones_like(ids)).logits
        (slope,) = torch.autograd.grad(loss(alone, y[row : row + 1]).sum(), values)
        assert torch.allclose(slopes[row], slope[0], atol=1e-5), text


AWKWARD = [
    "cafe\u0301 good",  # a combining accent, which the tokenizer takes off
    "CAFÉ good",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 good",  # three people and two joiners, one emoji
    "\U0001f44d\U0001f3fd\U0001f44d good",
    "хорошо good",
    "非常好good",
    "a\u200bb good\u00a0film",
    "\tgood\r\n  film ",
    "ﬁlm good",  # a ligature
    "İ good",  # lower case makes two characters of it
]


@pytest.mark.parametrize("text", AWKWARD)
def test_characters_of_tokens_stay_right(clf: TextClassifier, text: str) -> None:
    tokens = clf.tokens([text])
    words = ("good", "film", "bad")
    known = {tokenizer().convert_tokens_to_ids(word): word for word in words}
    pieces = [
        (known.get(token), text[start:end])
        for token, (start, end) in zip(tokens.ids[0], tokens.spans[0], strict=True)
    ]
    assert ("good", "good") in pieces
    assert all(piece == word for word, piece in pieces if word is not None)
    starts = [start for start, end in tokens.spans[0] if end > start]
    assert starts == sorted(starts)


# -- what texts can be ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("a good film", r"for a single one give \[text\]"),
        (["good", None], r"number 1 is NoneType \(None\)"),
        (["good", 3], r"number 1 is int \(3\)"),
        ([b"good"], "number 0 is bytes"),
        (torch.zeros(2), "not Tensor"),
        (np.zeros(2), "not ndarray"),
        (None, "not NoneType"),
    ],
)
def test_what_is_no_list_of_strings_is_refused(given: Any, said: str) -> None:
    with pytest.raises(AssayError, match=said):
        check_texts(given)


def test_long_empty_and_broken_texts_are_answered_and_counted(clf: TextClassifier) -> None:
    long = "good " * 20_000
    answers = clf.query([long, "", " \n", "\ud800 good", "good"])
    assert bool(answers.isfinite().all())
    assert clf.treated == {"cut": 1, "empty": 2, "replaced": 1}
    assert clf.treatments() == (
        "1 text longer than the model reads (40 tokens): what comes after that was not read",
        "2 texts without a token: the model was given its marks of beginning and end alone",
        "1 text with half a character (a lone surrogate), which was read as U+FFFD",
    )
    tokens = clf.tokens([long, "good"])
    assert tokens.lengths == [40, 3]
    assert tokens.treated == (frozenset({"cut"}), frozenset())
    assert torch.allclose(answers[:1], clf.query(["good " * 38]), atol=1e-5)
    assert clf.treatments()[0].startswith("1 text longer"), "38 words and two marks just fit"


def test_a_text_is_cut_where_model_tokenizer_and_user_allow() -> None:
    assert text_classifier().max_length == 40  # the tokenizer's
    assert text_classifier(max_length=7).max_length == 7
    assert text_classifier(max_length=700).max_length == 40
    short = TextClassifier(bert(max_position_embeddings=24), tokenizer())
    assert short.max_length == 24
    assert bool(short.query(["good " * 100]).isfinite().all())


# -- models that do not fit ----------------------------------------------------------------------


def test_a_tokenizer_of_another_model_is_refused() -> None:
    with pytest.raises(AssayError, match=r"tokenizer has 1\d\d tokens, but the model knows 30: it"):
        TextClassifier(bert(vocab_size=30), tokenizer())


def test_a_tokenizer_that_does_not_know_its_characters_is_refused() -> None:
    class Slow:
        is_fast = False

    with pytest.raises(AssayError, match=r"Slow does not know which characters"):
        TextClassifier(bert(), Slow())  # type: ignore[arg-type]


def test_a_module_that_hides_its_table_is_refused() -> None:
    with pytest.raises(AssayError, match="Linear does not say which its embeddings"):
        TextClassifier(nn.Linear(2, 2), tokenizer())


def test_a_missing_padding_token_is_said_and_changes_no_answer(clf: TextClassifier) -> None:
    from transformers import PreTrainedTokenizerFast

    bare = PreTrainedTokenizerFast(tokenizer_object=tokenizer().backend_tokenizer)
    assert bare.pad_token_id is None
    other = TextClassifier(clf.model, bare, max_length=40)
    assert any("no padding token" in note for note in other.notes)
    assert torch.allclose(other.query(TEXTS), clf.query(TEXTS), atol=1e-5)


class Wrapped(nn.Module):
    """A BERT that is changed somewhere."""

    def __init__(self, change: str) -> None:
        super().__init__()
        self.bert, self.change = bert(), change

    def get_input_embeddings(self) -> Any:
        return self.bert.get_input_embeddings()

    def forward(self, attention_mask: torch.Tensor, **given: torch.Tensor) -> Any:
        if self.change == "unmasked":
            attention_mask = torch.ones_like(attention_mask)
        if self.change == "raises":
            raise ValueError("no such head")
        logits = self.bert(attention_mask=attention_mask, **given).logits
        if self.change == "nan":
            return logits * torch.nan
        if self.change == "states":
            return logits[:, None]
        return logits[:, :1] if self.change == "one" else logits


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("unmasked", "answer to a text changes when it is padded"),
        ("nan", "answers NaN to its first text"),
        ("states", r"returned \(1, 1, 2\) for 1 texts.*AutoModelForSequenceClassification"),
        ("one", r"returned shape \(1, 1\).*at least 2 classes"),
        ("raises", r"fails on these texts.*no such head"),
    ],
)
def test_a_model_that_does_not_keep_to_the_contract_is_refused(change: str, said: str) -> None:
    with pytest.raises(AssayError, match=said):
        TextClassifier(Wrapped(change), tokenizer()).query(TEXTS)


def test_classes_are_one_per_output() -> None:
    with pytest.raises(AssayError, match=r"2 outputs, but 3 classes are named \(a, b, c\)"):
        text_classifier(classes=("a", "b", "c")).query(TEXTS)
    unnamed = text_classifier(classes=None)
    with pytest.raises(AssayError, match="not known before the first query"):
        _ = unnamed.classes
    unnamed.query(TEXTS)
    assert unnamed.classes == ("0", "1")


def test_a_fingerprint_sees_weights_tokenizer_and_length(clf: TextClassifier) -> None:
    first = clf.fingerprint
    clf.query(["a good film"])
    assert clf.fingerprint == first, "what it was asked last is none of its own"
    assert text_classifier().fingerprint == first
    assert text_classifier(max_length=8).fingerprint != first
    with torch.no_grad():
        clf.model.classifier.bias += 1e-3
    assert clf.fingerprint != first


# -- embeddings ----------------------------------------------------------------------------------


def test_one_pass_gives_logits_features_and_layers(clf: TextClassifier) -> None:
    names = blocks(clf.model)
    assert names == ("bert.embeddings", "bert.encoder.layer.0", "bert.encoder.layer.1")
    last = names[-1]
    layers = [last, f"{last}:first", f"{last}:max", f"{last}:std", names[0]]
    e = clf.embed(TEXTS, torch.tensor([1, 0, 1, 0, 0]), layers=layers)
    assert torch.allclose(e.logits, clf.query(TEXTS), atol=1e-5)
    assert e.features is not None
    assert e.head is not None
    assert torch.allclose(e.head(e.features), e.logits, atol=1e-5)
    assert e.y is not None
    with torch.no_grad():  # by transformers, text by text
        for row, text in enumerate(TEXTS):
            given = tokenizer()([text], return_tensors="pt")
            states = clf.model(**given, output_hidden_states=True).hidden_states
            assert torch.allclose(e.layers[last][row], states[-1][0].mean(0), atol=1e-5)
            assert torch.allclose(e.layers[f"{last}:first"][row], states[-1][0, 0], atol=1e-5)
            assert torch.allclose(e.layers[f"{last}:max"][row], states[-1][0].amax(0), atol=1e-5)
            std = states[-1][0].std(0, correction=0)
            assert torch.allclose(e.layers[f"{last}:std"][row], std, atol=1e-5)
            assert torch.allclose(e.layers[names[0]][row], states[0][0].mean(0), atol=1e-5)


class Slope(Detector):
    """What needs a gradient by pixels."""

    needs: ClassVar[frozenset[Need]] = frozenset({"gradient", "inputs"})
    name: Literal["slope"] = "slope"


class Length(Detector):
    """The length of the features."""

    needs: ClassVar[frozenset[Need]] = frozenset({"features"})
    name: Literal["length"] = "length"

    def ood_score(self, e: Embedding, state: Mapping[str, torch.Tensor]) -> torch.Tensor:
        del state
        assert e.features is not None
        return e.features.norm(dim=1).double()


def test_detectors_score_texts_and_what_needs_images_says_so(clf: TextClassifier) -> None:
    e = clf.embed(TEXTS * 4, torch.tensor([1, 0, 1, 0, 0] * 4))
    for detector in (Energy(), Length()):
        assert detector.fit(e).score(e).shape == (20,)
    with pytest.raises(AssayError, match="slope needs gradient, inputs, which this embedding lack"):
        Slope().fit(e)


def test_a_layer_that_is_not_there_is_named(clf: TextClassifier) -> None:
    with pytest.raises(AssayError, match=r"did you mean 'bert.encoder.layer.1'"):
        clf.embed(TEXTS, layers=["bert.encoder.layer.7"])
    with pytest.raises(AssayError, match="one label per text"):
        clf.embed(TEXTS, torch.zeros(2))
