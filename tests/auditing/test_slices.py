"""Kinds of images: found where the model is worse there, and not where it is not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from contract.tiny import text_classifier
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.proportion import confint_proportions_2indep

from assay import stats
from assay.auditing.checks import Value
from assay.auditing.conduct import audit
from assay.auditing.config import AuditConfig
from assay.auditing.evidence import Evidence
from assay.auditing.section import Measured
from assay.auditing.sections.slices import Slice, Slices, said, significant, tree_leaves
from assay.auditing.seen import of_images, of_texts
from assay.auditing.texts import TextEvidence
from assay.core.blackbox import BlackBox
from assay.data.textset import in_memory
from assay.errors import AssayError


def audited(wrong_in_the_dark: float, seed: int = 0, n: int = 600) -> object:
    """Images of one brightness each, and a model that is wrong on 10 % of the bright ones, and on
    so many of the dark ones."""
    draw = np.random.default_rng(seed)
    bright = draw.uniform(0.1, 0.9, n)
    y = draw.integers(0, 2, n)
    rate = np.where(bright < 0.4, wrong_in_the_dark, 0.1)
    said = np.where(draw.uniform(size=n) < rate, 1 - y, y)
    x = torch.from_numpy(bright).float()[:, None, None, None].expand(n, 3, 4, 4).contiguous()
    answers = iter(torch.from_numpy(said))
    model = BlackBox(
        lambda rows: np.array([int(next(answers)) for _ in rows]), classes=2, access="labels"
    )
    evidence = Evidence(model, x, torch.from_numpy(y), AuditConfig())
    return Slices().measure(evidence)


def test_a_kind_of_images_on_which_it_is_worse_is_found_and_named() -> None:
    found = audited(0.6)
    value = found.values["SLI-001"]  # type: ignore[attr-defined]
    assert value.detail.startswith("brightness ≤ ")
    assert value.estimate.low > 0.2
    chapter = found.chapters["slices"]  # type: ignore[attr-defined]
    assert "% of images with brightness ≤" in chapter.title
    assert chapter.name == "Slices"
    rows = {row[0].text: row[-1].text for row in chapter.tables[0].rows}
    assert rows[value.detail] == "worse"
    assert rows["class 0"] == "not known to be"


def test_classes_that_take_turns_are_both_there_in_either_half() -> None:
    y = torch.arange(400) % 2
    model = BlackBox(lambda rows: np.ones(len(rows), int), classes=2, access="labels")
    found = Slices().measure(Evidence(model, torch.rand(400, 3, 4, 4), y, AuditConfig()))
    assert found.chapters["slices"].title == (  # type: ignore[union-attr]
        "Right on 0.0 % of class 0, on 100.0 % of the rest"
    )


def test_where_there_is_none_none_is_called_so() -> None:
    called, covered = 0, 0
    for seed in range(40):
        found = audited(0.1, seed)
        rows = found.chapters["slices"].tables[0].rows  # type: ignore[attr-defined]
        called += any(row[-1].text == "worse" for row in rows)
        estimate = found.values["SLI-001"].estimate  # type: ignore[attr-defined]
        covered += estimate.low <= 0 <= estimate.high
    assert called <= 6, "5 % of audits, where nothing is to be found: P(more than 6 of 40) < 0.4 %"
    assert covered >= 33, "the slice is chosen on other images than it is tried on"


def test_properties_by_hand() -> None:
    flat = torch.full((1, 3, 4, 4), 0.25)
    edge = torch.zeros(1, 3, 4, 4)
    edge[..., 2:] = 1.0
    red = torch.zeros(1, 3, 4, 4)
    red[:, 0] = 0.6
    found = of_images(torch.cat([flat, edge, red]))
    np.testing.assert_allclose(found["brightness"], [0.25, 0.5, 0.2], rtol=1e-6)
    np.testing.assert_allclose(found["colour"], [0, 0, 0.6], atol=1e-7)
    # two columns of four differ from their surroundings by a third
    np.testing.assert_allclose(found["sharpness"], [0, 1 / 6, 0], atol=1e-6)
    assert "colour" not in of_images(torch.rand(2, 1, 4, 4))


def test_the_heading_says_what_was_found() -> None:
    dark, seven = Slice("brightness ≤ 0.4", 8, 20, 45, 50), Slice("class 7", 12, 20, 45, 50)
    assert said([], 12, "images") == "None of 12 kinds of images is known to be worse than the rest"
    alone = said([seven], 12, "images")
    assert alone == "Right on 60.0 % of class 7, on 90.0 % of the rest"
    assert said([seven, dark], 12, "images") == (
        "Right on 40.0 % of images with brightness ≤ 0.4, on 90.0 % of the rest; 2 of 12 kinds are "
        "worse"
    )


def test_a_slice_by_hand() -> None:
    one = Slice("dark", 8, 20, 45, 50)
    assert one.gap.value == pytest.approx(0.9 - 0.4)
    assert one.p < 1e-4
    assert Slice("bright", 18, 20, 45, 50).p > 0.5
    assert significant([0.001, 0.02, 0.04, 0.9]) == [True, True, False, False]


def test_too_few_images_or_nothing_wrong() -> None:
    with pytest.raises(AssayError, match="give more images"):
        audited(0.5, n=30)
    everything = np.ones(200, dtype=bool)
    table = {"brightness": np.random.default_rng(0).random(200)}
    assert tree_leaves(table, everything, everything, 2) == {}


@given(st.integers(0, 60), st.integers(1, 60), st.integers(0, 60), st.integers(1, 60))
def test_the_interval_of_a_difference_is_statsmodels(
    a: int, more_a: int, b: int, more_b: int
) -> None:
    ours = stats.independent_difference(a, a + more_a, b, b + more_b, "images")
    low, high = confint_proportions_2indep(a, a + more_a, b, b + more_b, method="newcomb")
    assert (ours.low, ours.high) == pytest.approx((low, high), abs=1e-9)
    assert ours.low <= ours.value <= ours.high


def test_metadata_of_images_makes_slices() -> None:
    draw = np.random.default_rng(0)
    n = 400
    phone, y = draw.uniform(size=n) < 0.4, draw.integers(0, 2, n)
    right = draw.uniform(size=n) < np.where(phone, 0.4, 0.95)
    said = torch.from_numpy(np.where(right, y, 1 - y))
    x = torch.rand(n, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    place = {x[row].numpy().tobytes(): int(said[row]) for row in range(n)}
    model = BlackBox(
        lambda rows: [place[row.tobytes()] for row in rows], classes=2, access="labels"
    )
    metadata = {"camera": ["phone" if one else "slr" for one in phone]}
    config = AuditConfig(sections=(Slices(),))
    found = audit(model, x, torch.from_numpy(y), metadata=metadata, config=config)
    (check,) = found.checks
    assert check.title.endswith("(camera = phone)")
    assert check.verdict == "fail"
    with pytest.raises(AssayError, match="metadata 'camera' has 3 values for 400 images"):
        audit(model, x, torch.from_numpy(y), metadata={"camera": ["a"] * 3}, config=config)


WORDS = ["the", "film", "is", "good", "bad", "and", "plot", "boring", "very", "moving"]


def sentences(n: int, seed: int = 0) -> tuple[list[str], np.ndarray]:
    """Texts of 3 to 12 words, and which of them have the word "not"."""
    draw = np.random.default_rng(seed)
    negated = draw.uniform(size=n) < 0.4
    drawn = (draw.choice(WORDS, draw.integers(3, 12)) for _ in range(n))
    return [
        " ".join(["Not,", *words] if no else words)
        for words, no in zip(drawn, negated, strict=True)
    ], negated


def test_metadata_of_texts_makes_slices() -> None:
    clf, draw, n = text_classifier(), np.random.default_rng(0), 400
    texts, _ = sentences(n)
    forum = draw.uniform(size=n) < 0.4
    right = torch.from_numpy(draw.uniform(size=n) < np.where(forum, 0.4, 0.95))
    said = clf.predict(texts)
    y = torch.where(right, said, 1 - said)
    source = ["forum" if one else "press" for one in forum]
    data = in_memory("mine", "test", clf.classes, texts, y, (), {"source": source})
    found = audit(clf, data, config=AuditConfig(sections=(Slices(),))).report
    (check,) = found.checks
    assert check.title == "gap between the worst kind of texts and the rest (source = forum)"
    assert check.verdict == "fail"
    assert check.advice.startswith("collect and train on more texts")
    assert found.answer == "**Much worse on some kinds of texts**."
    chapter = found.more["slices"]
    assert "% of texts with source = forum" in chapter.title  # type: ignore[union-attr]
    assert "image" not in chapter.model_dump_json()
    even = in_memory("mine", "test", clf.classes, texts, y, (), {"source": source[::-1]})
    found = audit(clf, even, config=AuditConfig(sections=(Slices(),))).report
    rows = found.more["slices"].tables[0].rows  # type: ignore[union-attr]
    assert {row[-1].text for row in rows if row[0].text.startswith("source")} == {"not known to be"}


@dataclass(frozen=True, eq=False)
class Scripted(TextEvidence):
    """Texts, and which of them are answered right, whatever the model."""

    right: torch.Tensor | None = None

    @property
    def answer(self) -> torch.Tensor:
        return self.y

    @property
    def correct(self) -> torch.Tensor:
        assert self.right is not None
        return self.right


def scripted(wrong_of_the_negated: float, seed: int = 0) -> Measured:
    texts, negated = sentences(600, seed)
    draw = np.random.default_rng((seed, 1))
    right = draw.uniform(size=600) >= np.where(negated, wrong_of_the_negated, 0.1)
    y = torch.from_numpy(draw.integers(0, 2, 600))
    model: Any = BlackBox(lambda _: y.numpy(), classes=2, access="labels")
    x: Any = texts
    return Slices().measure(Scripted(model, x, y, AuditConfig(), right=torch.from_numpy(right)))


def test_a_word_by_which_texts_are_answered_wrong_is_found() -> None:
    value = scripted(0.6).values["SLI-001"]
    assert isinstance(value, Value)
    assert value.detail.startswith("“not”")
    assert value.estimate.low > 0.15


def test_no_word_is_called_worse_where_none_is() -> None:
    called, covered = 0, 0
    for seed in range(30):
        found = scripted(0.1, seed)
        rows = found.chapters["slices"].tables[0].rows  # type: ignore[union-attr]
        called += any(row[-1].text == "worse" for row in rows)
        value = found.values["SLI-001"]
        assert isinstance(value, Value)
        covered += value.estimate.low <= 0 <= value.estimate.high
    assert called <= 5, "5 % of audits: P(more than 5 of 30) < 0.4 %"
    assert covered >= 25, "the slice is chosen on other texts than it is tried on"


def test_what_is_seen_of_texts_by_hand() -> None:
    found = of_texts(["Good film, good plot", "a BAD film", "", "it's a film", "so a film"])
    assert found["words"].tolist() == [4, 3, 0, 3, 3]
    assert found["“film”"].tolist() == [True, True, False, True, True]
    assert found["“bad”"].tolist() == [False, True, False, False, False]
    everywhere = of_texts(["the one", "the two"] * 20)
    assert "“the”" not in everywhere
    rare = of_texts(["one", "two"] * 20 + ["three"])
    assert "“three”" not in rare


def test_counts_are_split_between_whole_numbers() -> None:
    year = np.repeat([2001, 2002, 2003], 100)
    leaves = tree_leaves({"year": year}, year < 2002, np.ones(300, dtype=bool), 1)
    assert set(leaves) == {"year ≤ 2001", "year > 2001"}
