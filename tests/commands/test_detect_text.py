"""assay detect on texts: a line for every text, a detector that is kept, mistakes in one line."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from contract.tiny import bert, tokenizer

from assay.cli import app, call

WORDS = ["the", "film", "is", "good", "bad", "and", "plot", "boring"]
ODD = "qzx 93 jv, wq! 7 kk"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, reference data in three splits, and a file to score."""
    root = tmp_path_factory.mktemp("texts")
    made = bert(id2label={0: "negative", 1: "positive"})
    made.save_pretrained(root / "model")
    tokenizer().save_pretrained(root / "model")
    (root / "films").mkdir()
    for place, split in enumerate(("train", "validation")):
        rows = [
            f"{' '.join(WORDS[(k * 5 + j * (1 + k % 3) + place) % 8] for j in range(4 + k % 5))}"
            f",{'negative' if k % 2 else 'positive'}"
            for k in range(40)
        ]
        (root / "films" / f"{split}.csv").write_text("\n".join(["text,label", *rows]))
    (root / "inbox.csv").write_text(f'id,text\n1,the film is good\n2,"{ODD}"\n')
    return root


def detect(folder: Path, *tokens: str | Path) -> int:
    return call(app, ["detect", str(folder / "model"), *map(str, tokens)])


def test_a_line_for_every_text_and_a_kept_detector_says_the_same(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inbox, kept = ("--texts", folder / "inbox.csv"), tmp_path / "knn.safetensors"
    reference = ("--reference", folder / "films", "--detector", "knn", "--detector.k", "3")
    assert detect(folder, *inbox, *reference, "--save", kept) == 0
    out, err = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["text"] for row in rows] == ["the film is good", ODD]
    like, unlike = (float(row["score"]) for row in rows)
    assert like < unlike
    above = [float(row["score"]) > float(row["threshold"]) for row in rows]
    assert [row["decision"] == "outlier" for row in rows] == above
    assert f"{sum(above)} of 2 texts score above the threshold of knn" in err
    assert detect(folder, *inbox, "--load", kept, "--lines", "json", "--quiet") == 0
    again = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    printed = [float(row["score"]) for row in rows]
    assert [line["score"] for line in again] == pytest.approx(printed, rel=1e-6)
    assert [list(line) for line in again] == [["text", "score", "threshold", "decision"]] * 2

    (tmp_path / "lines.txt").write_text(f"the film is good\n\n{ODD}\n")
    plain = ("--texts", tmp_path / "lines.txt", "--load", kept, "--lines", "json", "--quiet")
    assert detect(folder, *plain) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == again


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (["--reference", "films"], "say what is to be scored"),
        (["--texts", "inbox.csv", "--images", "."], "say what is to be scored"),
        (["--texts", "inbox.csv"], "give --reference DATA, or --load"),
        (["--texts", "none.csv", "--reference", "films"], "none.csv is no file: give"),
        (["--texts", "model/config.json", "--reference", "films"], "holds no texts that can be"),
        (["--texts", "inbox.csv", "--reference", "films", "--size", "8"], "for models of images"),
        (
            ["--texts", "inbox.csv", "--reference", "films", "--reference-split", "validation"],
            "fitted on another",
        ),
    ],
)
def test_mistakes_are_one_line(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tokens: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(folder)
    tokens = ["./films" if token == "films" else token for token in tokens]
    assert detect(folder, *tokens) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
