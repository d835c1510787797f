"""Attributions of texts: by hand on a model that adds up words, and on a tiny transformer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from contract.tiny import text_classifier
from words.toys import LEXICON, Lexicon

from assay.core.oracle import Encoded
from assay.errors import AssayError
from assay.explain.text import (
    GradientInput,
    TokenIntegratedGradients,
    TokenRollout,
    WordOcclusion,
    randomised_text,
    text_explainers,
    text_faithfulness,
)

X = ["a good but awful film", "it is bad", ""]
ALL = list(text_explainers().values())
BY_HAND = [GradientInput(), TokenIntegratedGradients(steps=2, baseline="zero"), WordOcclusion()]


@pytest.mark.parametrize("explainer", BY_HAND, ids=lambda e: e.name)
def test_of_a_sum_every_word_is_given_what_it_adds(explainer: object) -> None:
    maps = explainer(Lexicon(), X, targets=1)  # type: ignore[operator]
    for row in range(2):
        for word, value in maps.words(row):
            assert value == pytest.approx(LEXICON.get(word, 0.0), abs=1e-5)
    assert maps.words(2) == []
    assert maps.empty.tolist() == [False, True, True]  # "bad" speaks against
    assert maps.values[0].max() == 1
    against = explainer(Lexicon(), X[1:2])  # type: ignore[operator]
    assert against.targets.tolist() == [0]
    assert dict(against.words(0))["bad"] == pytest.approx(2.0, abs=1e-5)


@pytest.mark.parametrize("kind", ALL, ids=lambda k: k.__name__)
def test_all_of_them_on_a_transformer_and_odd_texts(kind: type) -> None:
    clf = text_classifier()
    texts = ["a good film", "", "naïve 日本 👩‍🚀!", "film " * 100]
    before = {name: p.clone() for name, p in clf.model.named_parameters()}
    maps = kind()(clf, texts)
    assert len(maps) == len(maps.spans) == 4
    assert bool(maps.empty[1])
    assert bool(maps.raw.isfinite().all())
    assert float(maps.values.min()) >= 0
    assert float(maps.values.max()) <= 1
    for row, text in enumerate(texts):
        assert all(0 <= a <= b <= len(text) for a, b in maps.spans[row])
    alone = kind()(clf, texts[:1], targets=maps.targets[:1])
    width = len(alone.spans[0])
    assert torch.allclose(alone.raw[0], maps.raw[0, :width], atol=1e-4)
    assert all(torch.equal(p, before[name]) for name, p in clf.model.named_parameters())
    assert "film" in maps.html(0)


def test_integrated_gradients_are_complete() -> None:
    clf = text_classifier()
    explainer = TokenIntegratedGradients(steps=200)
    maps = explainer(clf, ["a good film", "the plot is bad but the acting is very good"])
    assert maps.gap is not None
    assert float(maps.gap.abs().max()) < 0.05
    coarse = TokenIntegratedGradients(steps=1)(clf, list(maps.texts)).gap
    assert coarse is not None
    assert float(coarse.abs().max()) > float(maps.gap.abs().max())


def test_rollout_by_hand() -> None:
    """One layer that attends evenly to three tokens, read at the first: (1 + 1/3) / 2, 1/6, 1/6."""

    class Even(torch.nn.Module):
        def forward(self, values: torch.Tensor) -> torch.Tensor:
            zero = values[:, None] * 0
            mixed = torch.nn.functional.scaled_dot_product_attention(zero, zero, values[:, None])
            return values + mixed[:, 0]

    class One:
        access, classes, model = "gradient", ("a", "b"), Even()

        def encode(self, x: list[str]) -> Encoded:
            spans = tuple(((0, 0), (0, 1), (2, 3)) for _ in x)
            return Encoded(torch.randn(len(x), 3, 2), torch.ones(len(x), 3).bool(), spans)

        def logits(self, e: Encoded) -> torch.Tensor:
            return self.model(e.values)[:, 0]

    maps = TokenRollout()(One(), ["a b"])
    assert maps.raw[0].tolist() == pytest.approx([2 / 3, 1 / 6, 1 / 6])


def test_faithfulness_by_hand() -> None:
    x = ["a good film", "an awful movie of the year"]
    maps = WordOcclusion()(Lexicon(), x)
    found = text_faithfulness(Lexicon(), maps)
    p = Lexicon().query([*x, "a film", "good", "an movie of the year", "awful"]).double().softmax(1)
    whole, without, alone = p[0, 1], p[2, 1], p[3, 1]
    # shares of 1, 5, 10, 20 % of three words are one word, half of them are two: good and film
    both, neither = Lexicon().query(["good film", "a"]).double().softmax(1)[:, 1]
    assert found.comprehensiveness[0] == pytest.approx(
        float(whole - (4 * without + neither) / 5), abs=1e-6
    )
    assert found.sufficiency[0] == pytest.approx(float(whole - (4 * alone + both) / 5), abs=1e-6)
    assert (found.comprehensiveness >= found.random_comprehensiveness - 1e-9).all()
    assert found.to_dict()["texts"] == 2
    anti = WordOcclusion()(Lexicon(), x, targets=1 - maps.targets)
    worse = text_faithfulness(Lexicon(), anti)
    assert worse.comprehensiveness.mean() < found.comprehensiveness.mean()


def test_random_weights_take_attributions_away_but_not_what_needs_no_weights() -> None:
    clf = text_classifier()
    texts = [
        "a good film but the plot is bad and boring",
        "the acting was very good and moving",
    ] * 3

    class Length(WordOcclusion):
        """Says how long words are, whatever the model has learnt."""

        name: str = "length"  # type: ignore[assignment]

        def scores(self, clf, x, targets):  # type: ignore[no-untyped-def]
            found = super().scores(clf, x, targets)
            return [
                type(one)(torch.tensor([float(b - a) for a, b in one.spans]), one.spans, one.target)
                for one in found
            ]

    some = {"gradient-input": GradientInput(), "length": Length()}
    maps = {name: e(clf, texts) for name, e in some.items()}
    found = randomised_text(clf, some, maps, networks=3)
    assert found["length"].correlation.value == pytest.approx(1.0)
    assert abs(found["gradient-input"].correlation.value) < 0.8
    assert found["gradient-input"].network.tolist() == [0, 0, 1, 1, 2, 2]
    assert not np.isnan(found["gradient-input"].absolute).any()


def test_mistakes() -> None:
    class Box(Lexicon):
        encode = property()  # type: ignore[assignment]

    with pytest.raises(AssayError, match="holds no texts"):
        WordOcclusion()(Lexicon(), [])
    with pytest.raises(AssayError, match="list of str"):
        WordOcclusion()(Lexicon(), "one")  # type: ignore[arg-type]
    with pytest.raises(AssayError, match="token embeddings"):
        GradientInput()(Box(), X)
    with pytest.raises(AssayError, match="targets go from 7"):
        GradientInput()(Lexicon(), X, targets=7)
    with pytest.raises(AssayError, match="one per text"):
        GradientInput()(Lexicon(), X, targets=torch.tensor([0, 1]))


def test_words_that_the_model_does_not_read_are_in_no_ranking() -> None:
    """They have an attribution of 0 whatever the weights are: alike, where nothing is."""
    clf = text_classifier(max_length=8)  # six words and two marks
    unread = " and the film was good" * 4
    texts = ["a good film but the plot", "the acting was very good and"] * 3
    explainer = GradientInput()
    found = [
        randomised_text(clf, {"it": explainer}, {"it": explainer(clf, x)}, networks=2)["it"]
        for x in (texts, [text + unread for text in texts])
    ]
    np.testing.assert_allclose(found[1].absolute, found[0].absolute, atol=1e-6)
    assert found[1].places == 6
    short, long = (
        text_faithfulness(clf, explainer(clf, x)) for x in (texts, [t + unread for t in texts])
    )
    np.testing.assert_allclose(long.comprehensiveness, short.comprehensiveness, atol=1e-6)
    np.testing.assert_allclose(long.sufficiency, short.sufficiency, atol=1e-6)


def test_words_that_are_given_the_same_are_in_a_random_order() -> None:
    """A model that decides by the first word, and an attribution that says nothing."""

    class First(Lexicon):
        def query(self, x: list[str]) -> torch.Tensor:
            return torch.tensor([[0.0, 4.0 if text.startswith("good") else -4.0] for text in x])

    class Nothing(WordOcclusion):
        def scores(self, clf, x, targets):  # type: ignore[no-untyped-def]
            found = super().scores(clf, x, targets)
            return [type(one)(one.raw * 0, one.spans, one.target) for one in found]

    texts = ["good " + "film " * 19] * 10
    found = text_faithfulness(First(), Nothing()(First(), texts))
    np.testing.assert_array_equal(found.comprehensiveness, found.random_comprehensiveness)
    np.testing.assert_array_equal(found.sufficiency, found.random_sufficiency)


def test_what_is_not_finite_is_said() -> None:
    class Broken(Lexicon):
        """Answers a text without its first word with NaN."""

        def query(self, x: list[str]) -> torch.Tensor:
            bad = torch.tensor([text.startswith("film") for text in x])
            return super().query(x).masked_fill(bad[:, None], torch.nan)

    maps = WordOcclusion()(Broken(), ["good film", "bad movie"], targets=1)
    assert maps.undefined is not None
    assert maps.undefined.tolist() == [True, False]
    assert maps.empty.tolist() == [True, True]
    assert maps.raw[0].tolist() == [0, 0]
    assert maps.raw[1].tolist() == pytest.approx([-2, -0.1])
    assert maps.to_dict()["undefined"] == 1
    with pytest.raises(AssayError, match="NaN or infinite for all of 1 texts"):
        WordOcclusion()(Broken(), ["good film"], targets=1)


def test_gradients_are_had_in_inference_mode_too() -> None:
    clf, x = text_classifier(), ["a good film"]
    with torch.inference_mode():
        inside = [kind()(clf, x, targets=1) for kind in ALL]
    for kind, maps in zip(ALL, inside, strict=True):
        torch.testing.assert_close(maps.raw, kind()(clf, x, targets=1).raw)
