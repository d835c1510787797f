"""An audit of a text classifier: the chapters that it has, and the reasons of those it has not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from contract.tiny import bert, text_classifier, tokenizer

from assay import audit
from assay.auditing.texts import text_outliers
from assay.cli import app, call
from assay.data.textset import TextSet, in_memory
from assay.errors import AssayError
from assay.report.record import NotRun

CLASSES = ("negative", "positive")


def films(count: int = 60) -> TextSet:
    words = ["the", "film", "is", "good", "bad", "and", "plot", "boring"]
    texts = [
        " ".join(words[(k * 5 + j * (1 + k % 3)) % 8] for j in range(3 + k % 7))
        for k in range(count)
    ]
    return in_memory("films", "test", CLASSES, texts, [k % 2 for k in range(count)])


def test_what_looks_at_no_pixel_is_measured_and_the_rest_says_why() -> None:
    clf, data = text_classifier(), films()
    found = audit(clf, data).report
    right = int((clf.predict(list(data.texts)) == data.labels).sum())
    assert not isinstance(found.accuracy, NotRun)
    assert found.accuracy.overall.value == pytest.approx(right / 60)
    assert found.accuracy.overall.of == "texts"
    assert not isinstance(found.calibration, NotRun)
    assert not isinstance(found.ood, NotRun)
    assert {row.outliers for row in found.ood.results} == {"shuffled words", "random tokens"}
    verdicts = {check.code: check.verdict for check in found.checks}
    assert verdicts["ROB-001"] == verdicts["EXP-001"] == "not run"
    assert isinstance(found.robustness, NotRun)
    assert found.robustness.not_run == "it looks at pixels, and this model reads texts"
    assert "of the texts as they are" in found.summary


def test_outliers_are_made_of_the_same_words_and_lengths() -> None:
    from assay.auditing.config import AuditConfig
    from assay.auditing.texts import text_evidence

    clf, data = text_classifier(), films()
    evidence = text_evidence(
        clf, data.texts, data.labels, None, None, AuditConfig(), lambda _: None
    )
    made = text_outliers(evidence)
    for text, shuffled in zip(data.texts, made["shuffled words"], strict=True):
        assert sorted(text.split()) == sorted(shuffled.split())
    assert made["shuffled words"] != list(data.texts)
    assert len(set(made["random tokens"])) > 50
    assert text_outliers(evidence) == made, "drawn from the audit's seed"


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        (["a"] * 10, [0] * 10, "at least 20 texts, got 10"),
        (["a"] * 30, [0] * 29, "one label per text"),
        (["a"] * 30, [2] * 30, "labels go up to 2, but the model has 2 outputs"),
        (["a"] * 29 + [None], [0] * 30, "number 29 is NoneType"),
        ("a good film", [0], "for a single one"),
        (torch.zeros(30, 3, 8, 8), [0] * 30, "not Tensor"),
    ],
)
def test_what_does_not_fit_is_refused(x: object, y: list[int], said: str) -> None:
    with pytest.raises(AssayError, match=said):
        audit(text_classifier(), x, torch.tensor(y))  # type: ignore[arg-type]


def test_the_command_audits_a_folder_of_hugging_face(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bert(id2label={0: "negative", 1: "positive"}).save_pretrained(tmp_path / "model")
    tokenizer().save_pretrained(tmp_path / "model")
    rows = [f'"{t}",{CLASSES[y]}' for t, y in zip(films().texts, films().labels, strict=True)]
    (tmp_path / "films_test.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    command = ["audit", str(tmp_path / "model"), "--data", str(tmp_path / "films_test.csv")]
    command += ["--reference-split", "none", "--store", str(tmp_path / "runs"), "--quiet"]
    assert call(app, [*command, "--out", str(tmp_path / "out")]) == 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert "shuffled words" in page
    assert call(app, [*command, "--size", "32"]) == 2
    assert "--size goes with images" in capsys.readouterr().err
