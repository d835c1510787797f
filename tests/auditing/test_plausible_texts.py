"""What looks right of a text model and is not, in both directions, on made-up answers."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from contract.tiny import bert, text_classifier, tokenizer
from torch import Tensor

from assay import audit
from assay.auditing import plausible, plausible_texts
from assay.auditing.config import AuditConfig
from assay.auditing.plausible_texts import looked_at
from assay.auditing.registry import Accuracy
from assay.cli import app, call
from assay.core.texts import TextClassifier
from assay.core.tokens import Tokens
from assay.data.textset import in_memory
from assay.workflows.texts import Loaded, as_read, doubts

CLASSES = ("negative", "positive")


class Knows:
    """A model that says positive where a text holds "good", as its tokenizer reads it."""

    max_length = 12

    def __init__(self, *, cased: bool, knows: str = "good") -> None:
        self.cased, self.knows, self.treated = cased, knows, Counter[str]()

    def tokens(self, texts: list[str]) -> Tokens:
        read = [text if self.cased else text.lower() for text in texts]
        ids = tuple(tuple(map(ord, text)) for text in read)
        cut = tuple(frozenset(["cut"] if len(text.split()) > 12 else []) for text in read)
        return Tokens(ids, ids, cut)  # type: ignore[arg-type]

    def predict(self, texts: list[str]) -> Tensor:
        self.treated["cut"] += 1
        said = [self.knows in (text if self.cased else text.lower()) for text in texts]
        return torch.tensor(said).long()


def films(count: int = 100, made: Any = str) -> list[str]:
    return [made(f"film {k} is {'good' if k % 2 else 'bad'}") for k in range(count)]


LABELS = torch.arange(100) % 2


def up(clf: Any, texts: list[str], reference: tuple[str, ...] = ()) -> dict[str, str]:
    """Return the flags that are up, and what they say."""
    said = clf.predict(texts)
    found = looked_at(cast(TextClassifier, clf), texts, LABELS, said, CLASSES, reference)
    assert {"PRE-001", "PRE-004", "PRE-005"} <= {flag.code for flag in found}
    assert all("image" not in flag.title + flag.detail for flag in found)
    return {flag.code: flag.detail for flag in found if flag.raised}


def test_a_right_model_raises_no_alarm() -> None:
    clf = Knows(cased=True)
    assert up(clf, films()) == {}
    assert clf.treated == Counter(cut=1), "what was tried besides is not counted"


@pytest.mark.parametrize(
    ("made", "knows", "mended"),
    [
        (str.upper, "good", "100 with small letters alone"),
        (str, "Film", ""),  # all positive: no form is right more often than a coin
        (lambda text: text.replace("good", "go&#111;d<br />"), "good", "marks of HTML taken out"),
    ],
)
def test_another_form_of_the_texts_is_named(made: Any, knows: str, mended: str) -> None:
    flags = up(Knows(cased=True, knows=knows), films(made=made))
    assert ("PRE-004" in flags) is bool(mended)
    assert mended.replace("100", "64") in flags.get("PRE-004", "")
    assert "PRE-001" in flags


def test_a_tokenizer_that_sees_no_capitals_is_asked_nothing_more() -> None:
    clf = Knows(cased=False)
    assert up(clf, films(made=str.upper)) == {}
    assert clf.treated == Counter(cut=1)


def test_classes_in_another_order() -> None:
    flags = up(Knows(cased=True, knows="bad"), films())
    assert flags["PRE-005"].endswith("it would be --classes positive negative")
    assert flags["PRE-001"].startswith("0 of 100 texts are right")
    assert "--weights" not in flags["PRE-001"]


@pytest.mark.parametrize(("some", "raised"), [(5, False), (6, True)])
def test_copies_known_texts_and_long_ones_are_counted(some: int, raised: bool) -> None:
    copied = films()
    copied[:some] = ["  Film 99 IS good"] * some
    long = films()
    long[:some] = [f"{text} {'and ' * 10}" for text in long[:some]]
    flags = up(Knows(cased=False), films(), (*films(some, str.upper), "another"))
    assert ("PRE-010" in flags) is raised
    assert not raised or flags["PRE-010"].startswith("6 of 100 texts are reference texts")
    flags = up(Knows(cased=False), long)
    assert ("PRE-009" in flags) is raised
    assert not raised or flags["PRE-009"].startswith("6 of 100 texts are cut after 12 tokens")
    flags = up(Knows(cased=False), copied)
    assert ("PRE-007" in flags) is raised
    assert not raised or flags["PRE-007"].startswith("6 of 100 texts are copies")


def test_the_report_of_texts_has_the_flags() -> None:
    texts = ["the film is good", "the plot is bad and boring"] * 20
    only = AuditConfig(sections=(Accuracy(),))
    found = audit(text_classifier(), texts, torch.arange(40) % 2, config=only)
    raised = {flag.code for flag in found.report.flags if flag.raised}
    assert "PRE-007" in raised
    assert any("texts are copies" in line for line in plausible.warnings(found.report.flags))


def test_commands_say_it_first_and_the_flag_that_is_named_mends_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bert(id2label={0: "LABEL_0", 1: "LABEL_1"}).save_pretrained(tmp_path / "m")
    tokenizer().save_pretrained(tmp_path / "m")
    clf = text_classifier()
    words = ["the", "film", "is", "good", "bad", "and", "plot", "boring", "very", "acting"]
    texts = [f"{a} {b} {c}" for a in words for b in words[:4] for c in words[4:8]]
    said = clf.predict(texts).tolist()
    if not 0 < sum(said) < len(said):
        pytest.skip("the made-up model has but one answer")
    named = ("positive", "negative")  # what the outputs mean, which the model does not say
    rows = [f'"{text}",{named[k]}' for text, k in zip(texts, said, strict=True)]
    (tmp_path / "test.csv").write_text("\n".join(["text,label", *rows]))
    line = ["attack", str(tmp_path / "m"), "--data", str(tmp_path / "test.csv"), "--split", "test"]
    line += ["--attack", "misspell", "--share", "0.1", "--stop", "fooled", "--no-progress"]
    line += ["--images", "160"]
    assert call(app, [*line, "--query-budget", "1", "--out", str(tmp_path / "o")]) == 0
    err = capsys.readouterr().err
    assert "PRE-005" in err
    assert "it would be --classes positive negative" in err
    mended = ["--classes", "positive", "negative", "--query-budget", "1"]
    assert call(app, [*line, *mended, "--out", str(tmp_path / "p")]) == 0
    err = capsys.readouterr().err
    assert "PRE-" not in err


def test_each_code_means_one_thing() -> None:
    sources = (Path(module.__file__).read_text() for module in (plausible, plausible_texts))
    codes = re.findall(r'Flag\(\s*code="(PRE-\d+)"', "".join(sources))
    assert sorted(codes) == [f"PRE-{number:03}" for number in range(1, 11)]


@pytest.mark.parametrize(("side", "kept"), [("right", "the plot is"), ("left", "a good film")])
def test_a_long_text_is_cut_to_what_the_model_reads_on_either_side(
    side: str, kept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clf = text_classifier()
    monkeypatch.setattr(clf.tokenizer, "truncation_side", side)  # other tests have the same one
    long = "the plot is " + "very boring " * 90 + "a good film"
    data = in_memory("made up", "test", CLASSES, ["a film", long], [0, -1])
    read = as_read(Loaded(clf, data, ()))
    assert read.texts[0] == "a film"
    assert kept in read.texts[1]
    assert len(read.texts[1]) < 300
    assert clf.tokens(read.texts).ids == clf.tokens(data.texts).ids
    assert read.notes == ("1 of 2 texts is cut to what the model reads (40 tokens)",)
    assert not doubts(read), "labels are not there, and it answers alike twice"
    clf.model.train()
    object.__setattr__(clf, "query", lambda texts: torch.rand(len(texts), 2))
    assert [line[:7] for line in doubts(read)] == ["PRE-008"]
