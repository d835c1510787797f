"""An audit of a text classifier: the chapters that it has, and the reasons of those it has not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from contract.tiny import bert, text_classifier, tokenizer

from assay import audit
from assay.auditing.config import AuditConfig
from assay.auditing.texts import text_evidence, text_outliers
from assay.cli import app, call
from assay.data.textset import TextSet, in_memory
from assay.errors import AssayError
from assay.report.audit_page import render_audit
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
    assert {row.outliers for row in found.ood.results} == {
        *("sentences of another domain", "sentences in another language"),
        *("shuffled words", "random tokens"),
    }
    verdicts = {check.code: check.verdict for check in found.checks}
    assert verdicts["ROB-001"] == verdicts["EXP-001"] == "not run"
    assert isinstance(found.robustness, NotRun)
    assert found.robustness.not_run == (
        "it looks at pixels, and this model reads texts; assay attack changes their words"
    )
    assert found.kind == "texts"
    cut = found.made.config["inputs"]["tokens"]
    page = render_audit(found)
    assert f"cut after {cut} tokens" in page
    of_images = ("Attacked images", "Images that fool it")  # headings of what was not run
    body = re.sub("|".join(of_images), "", page[page.index("<body") :])
    said = re.sub(
        r"<(pre|script).*?</\1>|<svg.*?</svg>|data:image/[^\"]*", "", body, flags=re.DOTALL
    )
    assert not re.findall(r"[^<>]{0,40}(?<!-)\bimages?\b[^<>]{0,40}", said)
    assert ">images<" not in body, "nor in a figure"
    assert "of the texts as they are" in found.summary


def outliers_of(data: TextSet, **settings: object) -> dict[str, list[str] | AssayError]:
    config = AuditConfig.parse(settings)
    evidence = text_evidence(
        text_classifier(), data.texts, data.labels, None, None, {}, config, lambda _: None
    )
    return text_outliers(evidence)


def test_outliers_are_made_of_the_same_words_and_lengths() -> None:
    data = films()
    made: dict[str, Any] = outliers_of(data)
    for text, shuffled in zip(data.texts, made["shuffled words"], strict=True):
        assert sorted(text.split()) == sorted(shuffled.split())
    assert made["shuffled words"] != list(data.texts)
    assert len(set(made["random tokens"])) > 50
    assert outliers_of(data) == made, "drawn from the audit's seed"
    for kind in ("sentences of another domain", "sentences in another language"):
        assert len(set(made[kind])) == len(data), "none twice"
    assert not set(outliers_of(data, seed=1)["random tokens"]) & set(made["random tokens"])


def test_outliers_of_ones_own_leave_out_test_texts(tmp_path: Path) -> None:
    data, file = films(), tmp_path / "mail.txt"
    file.write_text("\n".join(["dear sir", "", data.texts[3], "kind regards", "dear sir"]))
    made = outliers_of(data, outliers=(str(file), "shuffled-words", "flat"))
    assert sorted(made["mail.txt"]) == ["dear sir", "kind regards"]  # type: ignore[type-var]
    assert len(made["shuffled words"]) == len(data)  # type: ignore[arg-type]
    assert "flat is a kind of image" in str(made["flat colours"])
    file.write_text(data.texts[3])
    (told,) = outliers_of(data, outliers=(str(file),)).values()
    assert "are test texts too" in str(told)
    with pytest.raises(AssayError, match="did you mean 'shuffled-words'"):
        AuditConfig.parse({"outliers": ("shufled-words",)})


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
    assert "--size is for models of images" in capsys.readouterr().err
