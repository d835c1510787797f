"""Image sets in parquet and arrow files: what other libraries write, and what nobody should."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from assay.data import load_data, load_texts
from assay.data.shard_files import TableShard
from assay.errors import AssayError, numbered_apart

Image = pytest.importorskip("PIL.Image")
pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


@pytest.fixture(autouse=True)
def own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test has a cache and a working directory of its own, and no data folders."""
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ASSAY_DATA", raising=False)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def png(level: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (3, 3), level).save(file, "PNG")
    return file.getvalue()


def images(*levels: int) -> list[dict[str, Any]]:
    return [{"bytes": png(level), "path": None} for level in levels]


def named(*paths: str) -> Any:
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    return pa.array([{"bytes": None, "path": path} for path in paths], kind)


def write(path: str, **columns: Any) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


def labelled(*labels: str, kind: Any) -> Any:
    return pa.array(labels).cast(kind)


# -- what is understood --------------------------------------------------------------------------

TEXTS = {
    "string": pa.string(),
    "large_string": pa.large_string(),
    "string_view": pa.string_view(),
    "dictionary": pa.dictionary(pa.int32(), pa.string()),
}


@pytest.mark.parametrize("kind", TEXTS)
def test_labels_in_words_of_every_kind(kind: str) -> None:
    write(
        "set/test.parquet", image=images(1, 2, 3), label=labelled("b", "a", "b", kind=TEXTS[kind])
    )
    data = load_data("set")
    assert (data.classes, data.labels.tolist()) == (("a", "b"), [1, 0, 1])


def test_labels_of_pandas() -> None:
    pandas = pytest.importorskip("pandas")
    Path("set").mkdir()
    frame = pandas.DataFrame({"image": [png(1), png(2)], "label": ["b", "a"]})
    frame.to_parquet("set/test.parquet")
    assert load_data("set").labels.tolist() == [1, 0]
    frame.astype({"label": "category"}).to_parquet("set/test.parquet")
    assert load_data("set").labels.tolist() == [1, 0]


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view()])
def test_images_as_bytes_of_every_kind(kind: Any) -> None:
    write("set/test.parquet", image=pa.array([png(1), png(2)], kind), label=[1, 0])
    assert load_data("set").images[:, 0, 0, 0].tolist() == [1, 2]


def test_kinds_of_text_may_differ_between_splits() -> None:
    write("set/train.parquet", image=images(1), label=labelled("b", kind=pa.large_string()))
    write("set/test.parquet", image=images(1), label=labelled("a", kind=pa.string()))
    assert load_data("set", split="train").labels.tolist() == [1]


def test_texts_that_are_numbers_are_classes_in_their_order() -> None:
    write(
        "set/test.parquet", image=images(1, 2, 3), label=labelled("3", "10", "2", kind=pa.string())
    )
    data = load_data("set")
    assert (data.classes, data.labels.tolist()) == (("2", "3", "10"), [1, 2, 0])


def broken_arrow(path: str, *, by: int = 1, **columns: Any) -> None:
    """Write an Arrow stream whose first column ends `by` bytes after what there is of it."""
    table = pa.table(columns)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with pa.ipc.new_stream(path, table.schema) as file:
        file.write_table(table)
    offsets = table.column(0).combine_chunks().buffers()[1].to_pybytes()[: 4 * (len(table) + 1)]
    whole = Path(path).read_bytes()
    assert whole.count(offsets) == 1
    end = int.from_bytes(offsets[-4:], "little") + by
    Path(path).write_bytes(whole.replace(offsets, offsets[:-4] + end.to_bytes(4, "little")))


def test_an_arrow_file_that_points_outside_of_itself_is_refused() -> None:
    # pyarrow would hand out what lies behind it in memory, or end the process
    column = pa.array([png(0), png(9), png(99)], pa.binary())
    broken_arrow("set/train.arrow", image=column, label=[0, 1, 0])
    with pytest.raises(AssayError, match=r"train.arrow cannot be read as an image set: .*out of"):
        load_data("set", split="train")
    with pytest.raises(AssayError, match=r"train.arrow cannot be read as an image set: .*out of"):
        list(TableShard(Path("set"), "train.arrow").pieces(labelled=True))


def test_an_arrow_file_of_texts_that_points_outside_of_itself_is_refused() -> None:
    broken_arrow("texts.arrow", text=["fine", "bad", "good"], label=["a", "b", "a"])
    with pytest.raises(AssayError, match=r"texts.arrow cannot be read: ArrowInvalid"):
        load_texts("texts.arrow", split="all")


def test_arrow_files_as_datasets_keeps_them() -> None:
    for split in ("train", "test"):
        Path(f"set/{split}").mkdir(parents=True)
        table = pa.table({"image": [png(1), png(2)] * 100, "label": [0, 1] * 100})
        with pa.ipc.new_stream(f"set/{split}/data-00000-of-00001.arrow", table.schema) as file:
            file.write_table(table)
    assert load_data("set").images[:, 0, 0, 0].tolist() == [1, 2] * 100


SPLITS: dict[str, tuple[dict[str, int], str, list[int]]] = {
    "as the hub has them": (
        {"data/train-00000-of-00001.parquet": 1, "data/test-00000-of-00001.parquet": 2},
        "test",
        [2],
    ),
    "in folders": ({"train/0000.parquet": 1, "test/0000.parquet": 2}, "test", [2]),
    "several files": (
        {"test-00001-of-00002.parquet": 2, "test-00000-of-00002.parquet": 1},
        "test",
        [1, 2],
    ),
    "in capitals": ({"Train.parquet": 1, "TEST.parquet": 2}, "train", [1]),
    "within a name": ({"pets_test.parquet": 1, "pets_train.parquet": 2}, "test", [1]),
    "words that are like it": ({"latest.parquet": 1, "contest.parquet": 2}, "train", [2, 1]),
    "beside another": ({"test.parquet": 1, "more.parquet": 2}, "test", [1]),
    "in brackets": ({"test[1].parquet": 1, "test1.parquet": 2}, "test", [2, 1]),
}


@pytest.mark.parametrize("case", SPLITS)
def test_the_split_of_a_table(case: str) -> None:
    files, split, expected = SPLITS[case]
    for path, level in files.items():
        write(f"set/{path}", image=images(level), label=["a"])
    assert load_data("set", split=split).images[:, 0, 0, 0].tolist() == expected


def test_files_that_name_no_split_are_told() -> None:
    write("set/one.parquet", image=images(1), label=["a"])
    data = load_data("set", split="train")
    assert "no file of set names a split (train.parquet, …): all of it is train" in data.notes
    write("set/test.parquet", image=images(1), label=["a"])
    assert "one.parquet in set names no split: not read" in load_data("set").notes


def test_a_row_may_name_an_image_of_the_folder() -> None:
    Path("set/pictures").mkdir(parents=True)
    Path("set/pictures/one.png").write_bytes(png(7))
    write("set/test.parquet", image=named("pictures/one.png"), label=["a"])
    assert load_data("set").images.unique().tolist() == [7]
    Path("set/pictures/one.png").write_bytes(png(8))  # and the cache notices
    assert load_data("set").images.unique().tolist() == [8]


@pytest.mark.parametrize("address", ["../other/*.parquet", "http://localhost:9/test.parquet"])
def test_a_card_is_not_followed(address: str) -> None:
    write("other/test.parquet", image=images(1), label=["a"])
    write("set/test.parquet", image=images(2), label=["a"])
    card = f"---\nconfigs:\n- config_name: default\n  data_files:\n  - {address}\n---\n# A set\n"
    Path("set/README.md").write_text(card)
    data = load_data("set")
    assert data.images.unique().tolist() == [2]
    assert data.notes == ("README.md says which files to read (data_files): it is not followed",)


# -- what is refused -----------------------------------------------------------------------------


def names(path: str) -> Callable[[], None]:
    def make() -> None:
        Path("secret.png").write_bytes(png(1))
        write("set/test.parquet", image=named(path), label=["a"])

    return make


def no_rows() -> None:
    write("set/test.parquet", image=pa.array([], pa.binary()), label=pa.array([], pa.string()))


def no_rows_here() -> None:
    write("set/train.parquet", image=images(1), label=["a"])
    write("set/test.parquet", image=named()[:0], label=pa.array([], pa.string()))


def truncated() -> None:
    write("set/test.parquet", image=images(1, 2), label=["a", "b"])
    path = Path("set/test.parquet")
    path.write_bytes(path.read_bytes()[:-20])


def garbled() -> None:
    write("set/test.parquet", image=images(*range(200)), label=["a"] * 200)
    path = Path("set/test.parquet")
    content = bytearray(path.read_bytes())
    content[10:400] = bytes(390)
    path.write_bytes(content)


def nested() -> None:
    write("set/test.parquet", data=[{"image": images(1)[0], "label": "a"}])


def lists() -> None:
    write("set/test.parquet", image=[images(1, 2)], label=["a"])


def columns_that_differ() -> None:
    write("set/train.parquet", image=images(1), label=["a"])
    write("set/test.parquet", image=images(1), label=[0])


def column_that_misses() -> None:
    write("set/train.parquet", image=images(1), label=["a"])
    write("set/test.parquet", image=images(1), name=["a"])


def two_sets() -> None:
    write("set/small/test.parquet", image=images(1), label=["a"])
    write("set/large/test.parquet", image=images(1), label=["a"])


def two_splits() -> None:
    write("set/train/test.parquet", image=images(1), label=["a"])


def no_value() -> None:
    write("set/test.parquet", image=images(1, 2), label=["a", None])


NOT_OPENED = r"names the file '.*', which is none of those in set: not opened"
NO_IMAGES = r"set has no column of images \(columns: "

REFUSED: dict[str, tuple[Callable[[], None], str]] = {
    "a file above": (names("../secret.png"), NOT_OPENED),
    "a device": (names("/dev/zero"), NOT_OPENED),
    "a system file": (names("/etc/passwd"), NOT_OPENED),
    "an address": (names("http://localhost:9/1.png"), NOT_OPENED),
    "a way out and back": (names("x/../../secret.png"), NOT_OPENED),
    "a hidden file": (names(".secret.png"), NOT_OPENED),
    "no end of a name": (names("\0"), NOT_OPENED),
    "no name": (names(""), r"row 0 of set \(test\) cannot be read as an image: there is none"),
    "no rows": (no_rows, r"set \(test\) holds no images: it has no rows"),
    "no rows in one split": (no_rows_here, r"set \(test\) holds no images: it has no rows"),
    "truncated": (truncated, r"set/test.parquet cannot be read as an image set: ArrowInvalid"),
    "garbled": (garbled, r"set/test.parquet cannot be read as an image set: "),
    "nested": (nested, NO_IMAGES + r"data; "),
    "lists": (lists, r"column 'image' of set holds no images: list<"),
    "labels of two kinds": (
        columns_that_differ,
        r"set/train.parquet differs from set/test.parquet in column 'label': text, not number",
    ),
    "no such column": (column_that_misses, r"has no column of labels|'label': not there, not text"),
    "two sets": (two_sets, r"more than one set \(test is in large, small\): give one of these"),
    "two splits": (two_splits, r"can be of the splits test and train"),
    "a row without a label": (no_value, r"row 1 of set \(test\) has no label"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_tables_are_refused(case: str) -> None:
    make, message = REFUSED[case]
    make()
    with pytest.raises(AssayError, match=message) as raised:
        load_data("set")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("metadata", [b"{", b"[1]", b'{"info": {"features": []}}', b"[" * 100_000])
def test_odd_declarations_say_nothing(metadata: bytes) -> None:
    Path("set").mkdir()
    table = pa.table({"image": images(1, 2), "label": ["b", "a"]})
    table = table.replace_schema_metadata({"huggingface": metadata})
    pq.write_table(table, "set/test.parquet")
    assert load_data("set").classes == ("a", "b")


@pytest.mark.parametrize("names", [["a", 1], "ab", None, {"a": 0}])
def test_odd_class_names_say_nothing(names: Any) -> None:
    import json

    Path("set").mkdir()
    table = pa.table({"image": images(1, 2), "label": [7, 5]})
    features = {"label": {"names": names, "_type": "ClassLabel"}}
    meta = json.dumps({"info": {"features": features}})
    pq.write_table(table.replace_schema_metadata({"huggingface": meta}), "set/test.parquet")
    assert load_data("set").classes == ("5", "7")


def test_classes_of_one_name_are_told_apart_by_their_numbers() -> None:
    """ImageNet has two cranes; which of them a row shows its number says."""
    import json

    Path("set").mkdir()
    table = pa.table({"image": images(1, 2), "label": [2, 0]})
    features = {"label": {"names": ["crane", "dog", "crane"], "_type": "ClassLabel"}}
    meta = json.dumps({"info": {"features": features}})
    pq.write_table(table.replace_schema_metadata({"huggingface": meta}), "set/test.parquet")
    data = load_data("set")
    assert data.classes == ("crane (0)", "dog", "crane (2)")
    assert data.labels.tolist() == [2, 0]
    with pytest.raises(AssayError, match=r"'a \(0\)' is there twice"):
        numbered_apart(("a", "a", "a (0)"))


def test_further_columns_are_metadata() -> None:
    boxes = pa.array([[1, 2], [3]])
    write(
        "set/test.parquet",
        image=images(0, 9),
        label=[1, 0],
        site=["a", None],
        w=[1.5, 2.0],
        b=boxes,
    )
    assert load_data("set", split="test").metadata == {"site": ["a", None], "w": [1.5, 2.0]}
