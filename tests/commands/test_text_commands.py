"""`assay attack` and `assay explain` take a text model."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from browsing import chromium, opens
from contract.tiny import bert, tokenizer
from safetensors.torch import load_file

from assay.cli import app, call
from assay.workflows import over

ROWS = [
    ("<b>a good film & plot</b>", "positive"),
    ("the plot is bad and boring", "negative"),
    ("it was a very moving film", "positive"),
    ("the acting was boring", "negative"),
    ("anna is good but the film is not", "positive"),
    ("a film\u200b \u202eand", "negative"),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    made = bert()
    made.config.id2label = {0: "negative", 1: "positive"}
    made.config.label2id = {"negative": 0, "positive": 1}
    made.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("data") / "test.csv"
    file.write_text("text,label\n" + "".join(f'"{text}",{label}\n' for text, label in ROWS))
    return file


def test_attack(
    model: Path,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out"
    words = ["attack", str(model), "--data", str(data), "--attack", "misspell", "--out", str(out)]
    more = ["--share", "0.5", "--stop", "fooled", "--setting", "strict", "--attack-wrong"]
    monkeypatch.setattr("sys.argv", ["assay", *words, *more])
    assert call(app, [*words, *more]) == 0
    said, err = capsys.readouterr()
    assert "misspell, strict, on" in said
    assert said.strip().endswith(str(out))
    about = json.loads((out / "attack.json").read_text())
    assert about["setting"] == about["attack"]["setting"] == "strict"
    assert about["threat"]["per_word"] == 1
    assert set(about["after_normalising"]) == {"nfkc", "seen", "latin"}
    assert len(json.loads((out / "texts.json").read_text())) == len(ROWS)
    assert load_file(out / "arrays.safetensors")["success"].shape == (len(ROWS),)
    page = (out / "attack.html").read_text()
    assert "--setting strict --attack-wrong" in page, "what was asked, whole"
    assert doubted(page) == doubted(err) >= {"PRE-001"}
    assert "<dd>0</dd>" not in page.partition("threads")[2][:40]
    assert "<b>a" not in page
    assert not {"\u200b", "\u202e"} & set(page)
    recorded = (out / "record.json").read_bytes()
    assert call(app, [*words, *more]) == 0, "the same command reads what is there"
    assert (out / "record.json").read_bytes() == recorded
    capsys.readouterr()
    assert call(app, [*words, *more, "--seed", "1"]) == 2
    assert "seed was 0, is 1" in capsys.readouterr().err


def doubted(text: str) -> set[str]:
    """Return the codes of what speaks against model and data fitting each other."""
    return set(re.findall(r"PRE-\d+", text))


def test_bfloat16_screens(model: Path, data: Path, tmp_path: Path) -> None:
    words = ["attack", str(model), "--data", str(data), "--attack", "misspell", "--attack-wrong"]
    more = ["--precision", "bfloat16", "--out", str(tmp_path)]
    assert call(app, [*words, *more]) == 0
    about = json.loads((tmp_path / "attack.json").read_text())
    assert about["fast"]["used"] is True
    assert about["fast"]["precision"] == "bfloat16"


def test_an_attack_goes_on_where_it_was_stopped(
    model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["attack", str(model), "--data", str(data), "--attack", "misspell", "--part", "2"]
    words += ["--share", "0.5", "--attack-wrong", "--out"]
    calm, rough = tmp_path / "calm", tmp_path / "rough"
    assert call(app, [*words, str(calm)]) == 0
    write, wrote = over.write_part, list[Path]()

    def stopped(path: Path, *given: Any) -> Any:
        if len(wrote) == 1:
            raise KeyboardInterrupt
        wrote.append(path)
        return write(path, *given)

    monkeypatch.setattr(over, "write_part", stopped)
    assert call(app, [*words, str(rough)]) == 130
    assert not (rough / "attack.html").exists()
    wrote.clear()
    monkeypatch.setattr(over, "write_part", lambda *given: wrote.append(given[0]) or write(*given))
    assert call(app, [*words, str(rough)]) == 0
    assert len(wrote) == 2, "of three parts the first was there"
    for name in ("arrays.safetensors", "texts.json", "attack.json"):
        assert (calm / name).read_bytes() == (rough / name).read_bytes(), name


def test_explain(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "made" / "by it"
    words = ["explain", str(model), "--data", str(data), "--out", str(out), "--networks", "2"]
    assert call(app, words) == 0
    said = capsys.readouterr()
    assert "faithful for this model" in said.out
    assert "explaining with random weights" in said.err
    assert call(app, [*words, "--quiet"]) == 0
    about = json.loads((out / "explain.json").read_text())
    assert set(about["explainers"]) == {
        *("gradient-input", "integrated-gradients", "occlusion", "attention-rollout")
    }
    assert about["explainers"]["integrated-gradients"]["largest_gap"] >= 0
    assert load_file(out / "arrays.safetensors")["occlusion/map"].shape[0] == len(ROWS)
    page = (out / "explain.html").read_text()
    assert doubted(page) == doubted(said.err) >= {"PRE-001"}, "also of a command that is quiet"
    assert "&lt;b&gt;" in re.sub(r"</?span[^>]*>", "", page), "each word may have a colour"
    assert "<b>a" not in page
    assert "202E" in page
    assert "\u202e" not in page


def test_pages_fit_a_phone(model: Path, data: Path, tmp_path: Path) -> None:
    chromium()
    pages = {}
    for command, *more in (
        ("attack", "--attack", "misspell", "--attack-wrong"),
        ("explain", "--networks", "2"),
    ):
        out = tmp_path / command
        assert call(app, [command, str(model), "--data", str(data), *more, "--out", str(out)]) == 0
        pages[command] = (out / f"{command}.html").read_text()
    opens(tmp_path, pages)


ODD = (
    "",
    "   ",
    "Это очень хороший фильм",
    "映画はとても良い",
    "👩‍👩‍👧 loved it 👍🏽",
    "cafe\u0301 na\u0308ive film",
)


def test_texts_of_any_kind_and_length_are_taken_as_far_as_the_model_reads(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = ["the plot is very boring " * 4500, *ODD]
    rows = [{"text": text, "label": "negative"} for text in texts]
    rows.append({"text": "a good film", "label": "positive"})
    (tmp_path / "odd.jsonl").write_text("\n".join(map(json.dumps, rows)))
    common = ["--data", str(tmp_path / "odd.jsonl"), "--split", "all"]
    out = ["--out", str(tmp_path / "attacked")]
    attack = ["attack", str(model), *common, "--attack", "misspell", "--attack-wrong", *out]
    assert call(app, [*attack, "--query-budget", "30", "--stop", "fooled"]) == 0
    said = capsys.readouterr().err
    assert "1 of 8 texts is cut to what the model reads (40 tokens)" in said
    assert "2 texts of odd (all) are empty" in said
    kept = json.loads((tmp_path / "attacked" / "texts.json").read_text())
    assert max(len(str(row)) for row in kept) < 2000
    explain = ["explain", str(model), *common, "--networks", "2", "--out", str(tmp_path / "e")]
    assert call(app, explain) == 0
    page = (tmp_path / "e" / "explain.html").read_text()
    assert len(page) < 400_000
    assert "\U0001f469\u200d\U0001f467" in page


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (["--attack", "misspell", "--mean", "0.5"], "--mean is for models of images"),
        (["--attack", "misspell", "--part", "0"], "--part must be at least 1"),
        (["--attack", "misspell", "--edits", "swop"], "swop"),
        (["--attack", "misspell", "--targets", "nice"], "unknown class 'nice'"),
        (["--attack", "mispell"], "did you mean 'misspell'"),
    ],
)
def test_mistakes_are_one_line(
    model: Path,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    why: str,
) -> None:
    words = ["attack", str(model), "--data", str(data), "--out", str(tmp_path / "out"), *more]
    assert call(app, words) == 2
    said = capsys.readouterr().err
    assert why in said
    assert len(said.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()
