from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from assay.data import load_texts
from assay.data.textset import in_memory
from assay.errors import AssayError

ROWS: list[tuple[str, ...]] = [
    ("a good film", "pos"),
    ("bad, very bad", "neg"),
    ('so "so"', "neg"),
    ("line\nbreak", "pos"),
]


def write(
    path: Path, rows: list[tuple[str, ...]], columns: tuple[str, ...] = ("text", "label")
) -> Path:
    """Write the rows in the format of the file's suffix."""
    import csv

    import pyarrow as pa
    import pyarrow.parquet as pq

    kind = path.suffix
    path.parent.mkdir(exist_ok=True)
    if kind in (".csv", ".tsv"):
        with path.open("w", newline="", encoding="utf-8") as opened:
            writer = csv.writer(opened, delimiter="\t" if kind == ".tsv" else ",")
            writer.writerows([columns, *rows])
    elif kind == ".jsonl":
        lines = [json.dumps(dict(zip(columns, row, strict=True))) for row in rows]
        path.write_text("\n".join(lines) + "\n\n")
    else:
        table = pa.table({name: [row[k] for row in rows] for k, name in enumerate(columns)})
        pq.write_table(table, path)
    return path


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_every_format_gives_the_same_set(tmp_path: Path, kind: str) -> None:
    found = load_texts(write(tmp_path / f"test.{kind}", ROWS))
    assert found.texts == tuple(text for text, _ in ROWS)
    assert found.classes == ("neg", "pos")
    assert found.labels.tolist() == [1, 0, 0, 1]
    other = load_texts(write(tmp_path / "test.csv", ROWS))
    assert found.fingerprint == other.fingerprint


def test_columns_are_found_by_name_or_named(tmp_path: Path) -> None:
    file = write(tmp_path / "test.csv", ROWS, ("Review", "Sentiment"))
    assert len(load_texts(file)) == 4
    odd = write(tmp_path / "odd_test.csv", ROWS, ("said", "mood"))
    with pytest.raises(AssayError, match=r"no column that is called text \(columns: said, mood;"):
        load_texts(odd)
    with pytest.raises(AssayError, match=r"rename it to text, or .* load_texts\(text_column="):
        load_texts(odd)
    many = [(f"text {k}", str(k)) for k in range(1001)]
    with pytest.raises(AssayError, match=r"no label; rename the column of labels to label, or "):
        load_texts(write(tmp_path / "many_test.csv", many))
    assert len(load_texts(odd, text_column="said", label_column="mood")) == 4
    with pytest.raises(AssayError, match="did you mean 'mood'"):
        load_texts(odd, text_column="said", label_column="moods")


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_labels_that_are_numbers_are_in_their_order(tmp_path: Path, kind: str) -> None:
    rows = [(f"text {k}", str(k)) for k in (3, 10, 2)]
    found = load_texts(write(tmp_path / f"test.{kind}", rows))
    assert (found.classes, found.labels.tolist()) == (("2", "3", "10"), [1, 2, 0])


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_further_columns_are_metadata(tmp_path: Path, kind: str) -> None:
    rows = [(text, label, site) for (text, label), site in zip(ROWS, "abca", strict=True)]
    found = load_texts(write(tmp_path / f"test.{kind}", rows, ("text", "label", "site")))
    assert found.metadata == {"site": ["a", "b", "c", "a"]}
    assert found.subset([2, 0]).metadata == {"site": ["c", "a"]}
    plain = load_texts(write(tmp_path / "test.csv", ROWS))
    assert not plain.metadata
    assert found.fingerprint == plain.fingerprint, "known by its texts and labels, as ever"


def test_metadata_keeps_to_its_text(tmp_path: Path) -> None:
    rows = [(f"text {k}", "pos" if k % 2 else "neg", str(k)) for k in range(200)]
    file = write(tmp_path / "mine.csv", rows, ("text", "label", "row"))
    write(tmp_path / "two" / "train.csv", rows[:100], ("text", "label", "row"))
    write(tmp_path / "two" / "test.csv", rows[100:], ("text", "label", "row"))
    held = [load_texts(file, split=split) for split in ("train", "validation", "test", "all")]
    held += [load_texts(tmp_path / "two", split=s) for s in ("train", "validation", "all")]
    for part in (*held, held[0].sample(30)):
        assert [f"text {row}" for row in part.metadata["row"]] == list(part.texts)
    write(tmp_path / "two" / "train-2.csv", ROWS, ("text", "label"))
    assert load_texts(tmp_path / "two", split="all").metadata["row"].count(None) == len(ROWS)


def test_values_that_are_none_or_no_single_one_are_missing(tmp_path: Path) -> None:
    lines = [{"text": "a", "label": 0, "site": None, "tags": ["x"]}, {"text": "b", "label": 1}]
    lines.append({"text": "c", "label": 1, "site": "s", "size": 0.5})
    (tmp_path / "test.jsonl").write_text("\n".join(map(json.dumps, lines)))
    found = load_texts(tmp_path / "test.jsonl").metadata
    assert found == {"site": [None, None, "s"], "size": [None, None, 0.5]}


def test_a_folder_has_a_file_for_each_split(tmp_path: Path) -> None:
    many = [(f"text {k}", "pos" if k % 2 else "neg") for k in range(100)]
    write(tmp_path / "train.csv", many)
    write(tmp_path / "test-00000.csv", ROWS)
    assert len(load_texts(tmp_path, split="test")) == 4
    train, held = (load_texts(tmp_path, split=s) for s in ("train", "validation"))
    assert len(train) + len(held) == 100
    assert 6 <= len(held) <= 14
    assert not set(train.texts) & set(held.texts)
    assert "no validation split" in train.notes[0]
    assert len(load_texts(tmp_path, split="all")) == 104


def test_a_file_that_names_no_split_is_parted_by_content(tmp_path: Path) -> None:
    many = [(f"text {k}", "pos" if k % 2 else "neg") for k in range(300)]
    parts = [
        load_texts(write(tmp_path / "mine.csv", many), split=split)
        for split in ("train", "validation", "test")
    ]
    assert sum(map(len, parts)) == 300
    assert len({text for part in parts for text in part.texts}) == 300
    assert [10 < len(part) < 60 for part in parts] == [False, True, True]
    again = load_texts(write(tmp_path / "mine.csv", many[::-1]), split="test")
    assert set(again.texts) == set(parts[2].texts), "not by order"
    assert "parted by content" in parts[0].notes[-1]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("test.csv", "", "is empty"),
        ("test.csv", "text,label\n", "no rows below its header"),
        ("test.csv", "text,label,label\nfine,a,b\n", "has two columns 'label': keep one"),
        ("test.csv", "text,label\nfine, \n", "row 1 of .* has no label in column 'label' .1 of 1"),
        ("test.jsonl", '{"text": "a", "label": NaN}\n', "row 1 of .* has no label"),
        ("test.jsonl", '{"text": "a", "label": ["b"]}\n', "row 1 of .* a label is a name or a"),
        ("test.csv", "text,label\nfine,\n", "row 1 of .* has no label in column 'label' .1 of 1"),
        ("test.csv", "text,label\na,b,c\n", "row 1 of .* not as many fields"),
        ("test.csv", "text,label\nfine\n", "row 1 of .* not as many fields"),
        ("test.csv", 'text,label\n"fine,1\n', "cannot be read"),
        ("test.csv", "text,label\nfine,1\nso,1\n", "has 1 class; a classifier needs two"),
        ("test.jsonl", '{"text": "a", "label": 1}\n{nope}\n', "line 2 of .* is not JSON"),
        ("test.jsonl", "[1]\n", "line 1 of .* is no object"),
        (
            "test.jsonl",
            '{"text": 3, "label": 1}\n',
            "row 1 of .* has no text in .*, but 3",
        ),
        ("test.jsonl", '{"text": "a", "label": null}\n', "row 1 of .* has no label"),
        ("test.parquet", "nonsense", "test.parquet cannot be read"),
        ("test.txt", "fine", "holds no texts that can be read: give .arrow, .csv"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(
    tmp_path: Path, name: str, content: str, said: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(AssayError, match=said) as refused:
        load_texts(tmp_path / name)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_utf8_is_said(tmp_path: Path) -> None:
    (tmp_path / "test.csv").write_bytes("text,label\ncafé,1\n".encode("latin-1"))
    with pytest.raises(AssayError, match=r"is not UTF-8 .* save it as UTF-8"):
        load_texts(tmp_path / "test.csv")
    (tmp_path / "test.csv").write_bytes("\ufefftext,label\ncafé,1\nx,0\n".encode())
    assert load_texts(tmp_path / "test.csv").texts[0] == "café"


def test_long_and_empty_texts_are_kept(tmp_path: Path) -> None:
    rows = [("x" * 200_000, "1"), ("", "0"), (" ", "0")]
    found = load_texts(write(tmp_path / "test.csv", rows))
    assert [len(text) for text in found.texts] == [200_000, 0, 1]
    assert found.notes == ("2 texts of test (test) are empty",)


def test_names_that_are_nothing_are_said(tmp_path: Path) -> None:
    with pytest.raises(AssayError, match="known by name: rotten_tomatoes"):
        load_texts("roten")
    with pytest.raises(AssayError, match="did you mean 'test'"):
        load_texts("rotten_tomatoes", split="tests")
    with pytest.raises(AssayError, match="holds no texts: looked for"):
        load_texts(tmp_path)
    write(tmp_path / "train.csv", ROWS)
    with pytest.raises(AssayError, match="has no split 'test', but train"):
        load_texts(tmp_path)


def test_a_set_is_a_source_that_can_be_sampled() -> None:
    whole = in_memory("made", "test", ("a", "b"), [f"t{k}" for k in range(50)], [0, 1] * 25)
    ten, five = whole.sample(10, seed=3), whole.sample(5, seed=3)
    assert ten.texts[:5] == five.texts
    assert ten.texts != whole.sample(10, seed=4).texts
    assert [whole.texts[i] for i in ten.ids.tolist()] == list(ten.texts)
    assert ten.labels.tolist() == [int(i) % 2 for i in ten.ids]
    assert ten.fingerprint != five.fingerprint != whole.fingerprint
    assert whole.subset(torch.arange(50) < 3).texts == ("t0", "t1", "t2")
    ids = [int(i) for some, _, _ in whole.batches(7) for i in some]
    assert ids == list(range(50))
    with pytest.raises(AssayError, match="rows from 50 to 50 requested of made"):
        whole.subset([50])


def test_rotten_tomatoes_is_read(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not (shared_data / "rotten_tomatoes").is_dir():
        pytest.skip("no rotten_tomatoes/ there")
    monkeypatch.setenv("ASSAY_DATA", str(shared_data))
    sizes = [len(load_texts("rotten_tomatoes", split=s)) for s in ("train", "validation", "test")]
    assert sizes == [8530, 1066, 1066]
    by_id = load_texts("cornell-movie-review-data/rotten_tomatoes")
    assert by_id.classes == ("negative", "positive")
    assert int(by_id.labels.sum()) == 533
