"""The study `words`: its cells name their setting, and what its training may be given besides."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from assay.attacks.text import HotFlip, Misspell, Names, Substitute
from assay.data.textset import in_memory
from assay.stats import proportion
from assay.studies import load
from assay.studies.words import WordStudy
from assay.studies.words.page import behaviour, cell, changes, most_and_least, named
from assay.studies.words.study import AUGMENTED
from assay.tasks.augment_text import Exchange
from assay.tasks.train_text import TrainText


def test_every_cell_names_its_setting() -> None:
    assert load("words") is WordStudy
    assert named(Substitute()) == "substitute, permissive"
    assert named(HotFlip(setting="strict")) == "hotflip, strict"
    assert named(Misspell(edits=("zero-width",))) == "misspell zero-width, permissive"
    near = Substitute.parse({"substitutes": "neighbours"})
    assert named(near) == "substitute neighbours, permissive"
    assert cell("a, strict", "augmented") == "a, strict, augmented"


@pytest.mark.parametrize("preset", list(WordStudy.PRESETS))
def test_presets_are_read_and_read_back(preset: str) -> None:
    study = WordStudy.parse(WordStudy.preset_values(preset))
    assert WordStudy.from_yaml(study.to_yaml()) == study
    names = [named(attack) for attack in study.attacks]
    assert len(set(names)) == len(names)
    assert all(name.endswith(("permissive", "strict")) for name in names)


def test_changes_are_written_out() -> None:
    one = {"text": "a good film", "adversarial": "a fine film"}
    assert changes(one) == "a [good → fine] film"
    inside = {"text": "an artful work of film", "adversarial": "an artful work of art"}
    assert changes(inside) == "an artful work of [film → art]"


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        ({"names": 0.0}, "Names fools 0.0 % of the texts"),
        ({"names": 0.0, "misspell": 0.0}, "Every attack fools 0.0 % of the texts"),
        (
            {"names": 0.02, "misspell": 0.5, "hotflip": 0.3},
            "Misspell: 50.0 % of the texts are fooled; names: 2.0 %",
        ),
    ],
)
def test_the_figure_says_what_the_most_and_the_least_successful_attack_fool(
    shares: dict[str, float], said: str
) -> None:
    assert most_and_least(shares).replace("\u00a0", " ") == said


def test_behavioural_tests_are_of_each_classifier_and_of_different_texts() -> None:
    """Two seeds that meet the same four texts, and answer alike, are no eight texts."""
    study = WordStudy(seeds=2, attacks=(Names(),), exchange=Exchange())
    ids, fails = np.array([3, 5, 7, 9]), np.array([True, True, True, False])
    one = {"name": "negation", "expects": "other"}

    class Kept:
        def kept(self, name: str) -> list[SimpleNamespace]:
            wrong = ~fails if name.endswith(AUGMENTED) else fails
            arrays = {"negation_ids": ids, "negation_fails": wrong}
            return [SimpleNamespace(metrics={"behaviour": [one]}, arrays=arrays)] * study.seeds

    table = behaviour(study, Kept())  # type: ignore[arg-type]
    assert table is not None
    assert [[c.text for c in row[:2]] for row in table.rows] == [
        ["negation", "natural"],
        ["negation", "augmented"],
    ]
    for row, share in zip(table.rows, (0.75, 0.25), strict=True):
        assert row[3].estimate is not None
        assert row[3].estimate.value == share
        assert (row[3].estimate.n, row[3].estimate.of) == (2, "seeds")
        least = proportion(round(4 * share), 4, "texts")  # no narrower than of four answers
        assert row[3].estimate.low <= least.low
        assert row[4].text == "4"


def test_exchanged_words_come_beside_the_texts_and_keep_the_label() -> None:
    texts = in_memory(
        "mine", "train", ("no", "yes"), ["a great film", "the plot", ""], torch.tensor([1, 0, 0])
    )
    made = Exchange(share=1.0, copies=2).of(texts, seed=0)
    assert made.texts[:3] == texts.texts
    assert made.labels.tolist() == [1, 0, 0] * 3
    for copy in made.texts[3::3]:
        first, second, third = copy.split()
        assert (first, third in ("movie", "picture")) == ("a", True)
        assert second in ("grand", "fine", "decent")
    assert made.texts[4] == "the plot"  # which has no synonym here
    assert Exchange(share=1.0, copies=2).of(texts, seed=0).texts == made.texts
    assert made.fingerprint != texts.fingerprint


def test_a_training_without_it_keeps_its_address() -> None:
    assert "exchanged" not in TrainText().model_dump(mode="json", exclude_none=True)
