"""How a folder of images is understood: one row per layout."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from assay.data import Dataset, load_data, outliers
from assay.data import walk as walk_module
from assay.data.walk import walk
from assay.errors import AssayError

Image = pytest.importorskip("PIL.Image")


@pytest.fixture(autouse=True)
def own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test has a cache and a working directory of its own, and no data folders."""
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ASSAY_DATA", raising=False)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def draw(path: Path | str, level: int = 0, size: tuple[int, int] = (3, 3), mode: str = "L") -> Path:
    """Write an image, all of one grey level that says in the data set which image it is."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    color = level if mode == "L" else (level,) * 3
    Image.new(mode, size, color).save(path)
    return path


def tree(*paths: str) -> None:
    """Draw an image at each path, of the level of its place in the list."""
    for level, path in enumerate(paths):
        draw(f"imgs/{path}", level)


def levels(data: Dataset) -> dict[str, list[int]]:
    """Return the levels of the images of each class."""
    found: dict[str, list[int]] = {name: [] for name in data.classes}
    for image, label in zip(data.images, data.labels.tolist(), strict=True):
        found[data.classes[label]].append(int(image.max()))
    return found


def bytes_name() -> None:
    tree("train/dog/1.png")
    folder = Path(os.fsdecode(b"imgs/train/caf\xe9"))
    folder.mkdir()
    draw("one.png", 7).rename(folder / "1.png")


def linked_class() -> None:
    tree("train/cat/1.png")
    draw("elsewhere/dogs/1.png", 5)
    Path("imgs/train/dog").symlink_to(Path("elsewhere/dogs").absolute())


def linked_to_itself() -> None:
    tree("train/cat/1.png", "train/dog/1.png")
    Path("imgs/train/one").symlink_to(".")
    Path("imgs/train/two").symlink_to(".")
    Path("imgs/three").symlink_to("..")


def decoy(*paths: str) -> Callable[[], None]:
    """Return what makes folders that a pattern would find, beside the one that is meant."""

    def make() -> None:
        for level, path in enumerate(paths):
            draw(path, level)

    return make


def metadata() -> None:
    tree("train/cat/1.png", "train/dog/1.png")
    Path("imgs/train/metadata.csv").write_text("file_name,width\ncat/1.png,3\n")


def labels_beside(text: str, name: str = "metadata.csv") -> Callable[[], None]:
    def make() -> None:
        tree("train/1.png", "train/2.png", "train/3.png")
        Path("imgs/train", name).write_text(text)

    return make


def labels_in_parquet() -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    tree("train/1.png", "train/2.png", "train/3.png")
    said = {"file_name": [f"{k}.png" for k in (1, 2, 3)], "label": ["cat", "dog", "cat"]}
    pq.write_table(pa.table({**said, "night": [True, False, True]}), "imgs/train/metadata.parquet")


def empty_class() -> None:
    tree(
        "train/ant/1.png", "train/bee/1.png", "train/cat/1.png", "test/ant/1.png", "test/cat/1.png"
    )
    Path("imgs/test/dog").mkdir()
    Path("imgs/train/dog").mkdir()


# what makes the folder, its name, the split; the levels of each class, and what is said
UNDERSTOOD: dict[str, tuple[Callable[[], None] | tuple[str, ...], str, str, object, str]] = {
    "splits, then classes": (
        ("train/cat/1.png", "train/dog/1.png", "test/cat/1.png", "test/dog/1.png"),
        "imgs",
        "test",
        {"cat": [2], "dog": [3]},
        "",
    ),
    "classes called like splits": (
        ("train/1.png", "val/1.png", "test/1.png", "test-tube/1.png"),
        "imgs",
        "train",
        {"test": [2], "test-tube": [3], "train": [0], "val": [1]},
        "test, train, val in imgs is read as a class",
    ),
    "classes called like splits, in splits: train": (
        ("train/train/1.png", "train/test/1.png", "test/train/1.png", "test/test/1.png"),
        "imgs",
        "train",
        {"test": [1], "train": [0]},
        "",
    ),
    "classes called like splits, in splits: test": (
        ("train/train/1.png", "train/test/1.png", "test/train/1.png", "test/test/1.png"),
        "imgs",
        "test",
        {"test": [3], "train": [2]},
        "",
    ),
    "a split in capitals": (
        ("Train/cat/1.png", "Train/dog/1.png", "Test/cat/1.png", "Test/dog/1.png"),
        "imgs",
        "test",
        {"cat": [2], "dog": [3]},
        "",
    ),
    "the other split in capitals": (
        ("Train/cat/1.png", "Train/dog/1.png", "TEST/cat/1.png", "TEST/dog/1.png"),
        "imgs",
        "train",
        {"cat": [0], "dog": [1]},
        "",
    ),
    "no splits": (
        tuple(f"{kind}/{i}.png" for kind in ("cat", "dog") for i in range(10)),
        "imgs",
        "train",
        20,
        "imgs has no folders train/ and test/: all of it is train",
    ),
    "what is held out is said": (
        tuple(f"{kind}/{i}.png" for kind in ("cat", "dog") for i in range(10)),
        "imgs",
        "validation",
        20,
        "imgs has no validation split: 2 of the 20 images of train are held out for it",
    ),
    "deeper folders": (
        ("train/cat/indoor/1.png", "train/cat/2.png", "train/dog/out/far/1.png"),
        "imgs",
        "train",
        {"cat": [1, 0], "dog": [2]},
        "",
    ),
    "one class": (
        ("train/cat/1.png", "train/cat/2.png"),
        "imgs",
        "train",
        {"cat": [0, 1]},
        "imgs has one class only: cat",
    ),
    "a file called train.png": (
        ("cat/train.png", "cat/test.png", "dog/val.png", "train.png"),
        "imgs",
        "train",
        {"cat": [1, 0], "dog": [2]},
        "1 image beside the folders of imgs: not read (train.png)",
    ),
    "metadata.csv": (metadata, "imgs", "train", {"cat": [0], "dog": [1]}, ""),
    "labels in a metadata.csv": (
        labels_beside("file_name,width,label\n2.png,3,cat\n1.png,3,dog\n./3.png,3,cat\n"),
        "imgs",
        "train",
        {"cat": [1, 2], "dog": [0]},
        "labels are those of train/metadata.csv (3 images)",
    ),
    "labels in a metadata.jsonl": (
        labels_beside(
            "".join(f'{{"file_name": "{k}.png", "label": {k % 2}}}\n' for k in (1, 2, 3)),
            "metadata.jsonl",
        ),
        "imgs",
        "train",
        {"0": [1], "1": [0, 2]},
        "labels are those of train/metadata.jsonl (3 images)",
    ),
    "a metadata.jsonl with a line separator in a text": (
        labels_beside(
            "".join(
                f'{{"file_name": "{k}.png", "label": {k % 2}, "said": "a\u2028b"}}\n'
                for k in (1, 2, 3)
            ),
            "metadata.jsonl",
        ),
        "imgs",
        "train",
        {"0": [1], "1": [0, 2]},
        "labels are those of train/metadata.jsonl (3 images)",
    ),
    "labels in a metadata.parquet": (
        labels_in_parquet,
        "imgs",
        "train",
        {"cat": [0, 2], "dog": [1]},
        "labels are those of train/metadata.parquet (3 images)",
    ),
    "a class that is empty in one split": (
        empty_class,
        "imgs",
        "test",
        {"ant": [3], "bee": [], "cat": [4]},
        "no image of bee in test",
    ),
    "a class that is empty in all": (
        empty_class,
        "imgs",
        "train",
        {"ant": [0], "bee": [1], "cat": [2]},
        "dog holds no image in any split: not a class",
    ),
    "the folder of one split": (
        ("train/cat/1.png", "train/dog/1.png", "test/cat/1.png", "test/dog/1.png"),
        "imgs/test",
        "test",
        {"cat": [2], "dog": [3]},
        "imgs/test is read as the split test alone; give the folder above it for all splits",
    ),
    "another folder beside splits": (
        ("train/cat/1.png", "test/cat/1.png", "extra/cat/1.png", "train/dog/1.png"),
        "imgs",
        "train",
        {"cat": [0], "dog": [3]},
        "imgs is read by its splits (test, train): extra is not read",
    ),
    "a bracket": (
        decoy("set[12]/a/1.png", "set[12]/b/1.png", "set1/c/1.png", "set2/c/1.png"),
        "set[12]",
        "train",
        {"a": [0], "b": [1]},
        "",
    ),
    "a question mark": (
        decoy("what?/a/1.png", "what?/b/1.png", "whats/c/1.png"),
        "what?",
        "train",
        {"a": [0], "b": [1]},
        "",
    ),
    "a chain of addresses": (
        decoy("a::b/a/1.png", "a::b/b/1.png"),
        "a::b",
        "train",
        {"a": [0], "b": [1]},
        "",
    ),
    "odd classes": (
        (
            "train/*/1.png",
            "train/[ab]/1.png",
            "train/a b/1.png",
            'train/it\'s "so"/1.png',
            "train/🐈/1.png",
        ),
        "imgs",
        "train",
        {"*": [0], "[ab]": [1], "a b": [2], 'it\'s "so"': [3], "🐈": [4]},
        "",
    ),
    "bytes that are no text": (bytes_name, "imgs", "train", {"caf\\xe9": [7], "dog": [0]}, ""),
    "a linked class": (linked_class, "imgs", "train", {"cat": [0], "dog": [5]}, ""),
    "links in a circle": (
        linked_to_itself,
        "imgs",
        "train",
        {"cat": [0], "dog": [1]},
        "three, train/one, train/two leads back to a folder above it: not followed",
    ),
}


@pytest.mark.parametrize("case", UNDERSTOOD)
def test_folders_are_understood(case: str) -> None:
    make, name, split, expected, said = UNDERSTOOD[case]
    make() if callable(make) else tree(*make)
    data = load_data(name, split=split)
    notes = "\n".join(data.notes)
    if isinstance(expected, int):
        parts = [load_data(name, split=split) for split in ("train", "validation")]
        seen = [image.max().item() for part in parts for image in part.images]
        assert sorted(seen) == list(range(expected))
    else:
        assert levels(data) == expected
        assert list(data.classes) == sorted(data.classes), "numbered in alphabetical order"
    assert said in notes
    if said == "" and name == "imgs":
        assert data.notes == ()
    assert load_data(name, split=split).notes == data.notes  # from the cache too
    assert data.subset([0]).notes == data.notes


def two_shown_alike() -> None:
    bytes_name()
    draw("imgs/train/caf\\xe9/1.png")


def sizes_between_splits() -> None:
    tree("train/cat/1.png", "train/dog/1.png", "test/dog/1.png")
    draw("imgs/test/cat/1.png", size=(5, 4))


def unreadable_test() -> None:
    tree("train/cat/1.png", "train/dog/1.png", "test/dog/1.png")
    Path("imgs/test/dog/1.png").write_bytes(b"no image")


def postscript() -> None:
    tree("train/cat/1.png", "train/dog/1.png")
    Path("imgs/train/dog/2.png").write_text(
        "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 3 3\nshowpage\n"
    )


def no_file() -> None:
    tree("train/cat/1.png")
    os.mkfifo("imgs/train/cat/2.png")
    Path("imgs/train/cat/3.png").symlink_to("/dev/zero")
    Path("imgs/train/cat/4.png").symlink_to("nothing")


LABELS = "file_name,label\n1.png,cat\n2.png,dog\n"
REFUSED: dict[str, tuple[Callable[[], None] | tuple[str, ...], str, str]] = {
    "two readings": (
        ("train/steam/1.png", "bus/1.png"),
        "imgs",
        r"imgs can be read in two ways: train may be a split, or a class beside bus; if splits, .*",
    ),
    "a folder too far up": (
        ("inner/train/cat/1.png", "inner/test/cat/1.png"),
        "imgs",
        "imgs holds one folder, whose folders are splits: give imgs/inner",
    ),
    "a split and something else": (
        ("train/cat/1.png", "more/cat/1.png"),
        "imgs",
        r"two ways: train may be a split, or a class beside more; .* if classes, move all of them",
    ),
    "one split twice": (
        ("val/cat/1.png", "Validation/cat/1.png"),
        "imgs",
        r"imgs has Validation/ and val/, which both mean validation: keep one",
    ),
    "one split in two cases": (
        ("train/cat/1.png", "Train/cat/1.png"),
        "imgs",
        r"imgs has Train/ and train/, which both mean train",
    ),
    "a flat folder": (
        ("1.png", "2.png"),
        "imgs",
        r"imgs holds 2 images and no folders, so they have no labels: wanted is one folder per",
    ),
    "flat splits": (
        ("train/1.png", "test/2.png"),
        "imgs",
        r"imgs holds 2 images directly in test, train, so they have no labels: .* into a folder",
    ),
    "a flat test beside train": (
        ("train/cat/1.png", "test/2.png"),
        "imgs",
        r"imgs has no labels: its test images lie in no folders of classes",
    ),
    "metadata of a file elsewhere": (
        labels_beside(LABELS + "../../../x.png,dog\n"),
        "imgs",
        r"train/metadata.csv in imgs names the file '../../../x.png', which is none of those",
    ),
    "metadata of some images": (
        labels_beside(LABELS),
        "imgs",
        r"imgs/train/3.png has no label, or none of the 2 classes \(1 of 3 rows\)",
    ),
    "metadata without labels": (
        labels_beside("file_name,width\n1.png,3\n"),
        "imgs",
        r"images directly in train, so they have no labels: wanted is one folder per class",
    ),
    "metadata that is no text": (
        labels_beside('{"file_name": ', "metadata.jsonl"),
        "imgs",
        r"imgs/train/metadata.jsonl cannot be read: JSONDecodeError",
    ),
    "one split asked for another": (
        ("train/cat/1.png", "test/cat/1.png"),
        "imgs/train",
        r"imgs/train has no split 'test', but train and validation",
    ),
    "a name that is near": (
        ("train/cat/1.png",),
        "imgz",
        r"no such folder: 'imgz': did you mean 'imgs'",
    ),
    "a name that is near, below": (
        ("train/cat/1.png", "test/cat/1.png"),
        "imgs/tets",
        r"no such folder: 'imgs/tets': did you mean 'imgs/test'\?",
    ),
    "no name": (("train/cat/1.png",), "", r"the name of the data set is empty"),
    "shown alike": (two_shown_alike, "imgs", r"two classes that are shown as caf\\xe9: rename one"),
    "a file": (
        ("train/cat/1.png",),
        "imgs/train/cat/1.png",
        r"imgs/train/cat/1.png is a file: give the folder it is in",
    ),
    "sizes that differ between splits": (
        sizes_between_splits,
        "imgs",
        r"differ in size: imgs/test/cat/1.png is 4×5, imgs/test/dog/1.png 3×3 .*--size 224",
    ),
    "an image of another split": (
        unreadable_test,
        "imgs",
        r"imgs/test/dog/1.png cannot be read as an image: it is not an image in a known format",
    ),
    "a program": (postscript, "imgs", r"imgs/train/dog/2.png cannot be read .* known format"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_folders_are_refused(case: str) -> None:
    make, name, message = REFUSED[case]
    make() if callable(make) else tree(*make)
    split = (
        "test" if case in ("a flat test beside train", "one split asked for another") else "train"
    )
    with pytest.raises(AssayError, match=message) as raised:
        load_data(name, split=split)
    assert "\n" not in str(raised.value)


def test_what_is_no_file_is_never_opened() -> None:
    no_file()
    data = load_data("imgs", split="train")
    assert len(data) == 1
    assert "train/cat/2.png, train/cat/3.png, train/cat/4.png is no file: not read" in data.notes


def test_splits_that_are_the_same_files_are_told() -> None:
    tree("test/cat/1.png", "test/dog/1.png", "train/cat/1.png", "train/dog/1.png")
    Path("imgs/val").symlink_to("test")
    assert "2 images are the same files in test and validation" in load_data("imgs").notes


def test_unlabelled_splits_are_outliers() -> None:
    tree("train/1.png", "test/2.png", "test/3.png")
    found = outliers("imgs", (1, 3, 3), 10)
    assert sorted(image.max().item() for image in found.images) == [1, 2]


@pytest.mark.parametrize("name", ["/", "../../../../../../../../.."])
def test_a_disk_is_no_image_set(name: str) -> None:
    start = time.perf_counter()
    with pytest.raises(AssayError, match=r" is no image set: of the first [\d,]+ entries below it"):
        load_data(name)
    assert time.perf_counter() - start < 60  # seconds where nothing else runs


@pytest.mark.parametrize(("most", "glance"), [(1000, 10**9), (10**9, 1000)])
def test_a_walk_ends(most: int, glance: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk_module, "MOST", most)
    monkeypatch.setattr(walk_module, "GLANCE", glance)
    Path("imgs").mkdir()
    for index in range(1000):
        Path(f"imgs/{index}.txt").touch()
    with pytest.raises(AssayError, match=r"imgs is no image set: of the first 1,000 entries"):
        load_data("imgs")


def test_links_between_folders_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk_module, "GLANCE", 1000)
    for name in "abcdefghij":
        Path(f"imgs/{name}").mkdir(parents=True)
    for name in "abcdefghij":
        for other in "abcdefghij":
            if name != other:
                Path(f"imgs/{name}/{other}").symlink_to(f"../{other}")
    with pytest.raises(AssayError, match="is no image set"):  # otherwise 10! paths
        load_data("imgs")


# -- sizes, colours, orientation -----------------------------------------------------------------


def test_sizes_are_scaled_and_said() -> None:
    tree("train/cat/1.png", "train/dog/1.png", "test/dog/1.png")
    draw("imgs/test/cat/1.png", 9, size=(8, 4))
    data = load_data("imgs", size=3)
    assert data.images.shape == (2, 1, 3, 3)
    said = "1 images are brought to 3×3 pixels: the middle square is scaled"
    assert data.notes == (said,)
    assert load_data("imgs", split="train", size=3).notes == (said,)  # a split decoded later


@pytest.mark.parametrize("size", [0, -1, 5000, 10**9])
def test_sizes_that_make_no_sense_are_refused(size: int) -> None:
    tree("train/cat/1.png")
    with pytest.raises(AssayError, match=rf"size is a number of pixels from 1 to 4096, not {size}"):
        load_data("imgs", size=size)


def test_bundled_sets_are_not_scaled() -> None:
    with pytest.raises(AssayError, match=r"--size 32 .* digits stay as they are, 28 × 28"):
        load_data("digits", size=32)
    assert len(load_data("digits", size=28)) == 1000


@pytest.mark.parametrize(("grey", "colour"), [("train", "test"), ("test", "train")])
def test_grey_and_colour_mixed_between_splits_fit_one_network(grey: str, colour: str) -> None:
    for split, mode in ((grey, "L"), (colour, "RGB")):
        for kind in ("cat", "dog"):
            draw(f"imgs/{split}/{kind}/1.png", 5, mode=mode)
    for split in ("train", "test"):
        data = load_data("imgs", split=split)
        assert data.shape == (3, 3, 3)
        assert (data.images == 5).all()
        assert data.notes == (f"grey images among coloured ones are made coloured: 2 of {grey}",)


UPRIGHT = np.arange(6, dtype=np.uint8).reshape(2, 3)


@pytest.mark.parametrize("end", ["png", "tiff", "webp"])
@pytest.mark.parametrize(
    ("orientation", "seen"),
    [
        (1, UPRIGHT),
        (2, UPRIGHT[:, ::-1]),
        (3, UPRIGHT[::-1, ::-1]),
        (4, UPRIGHT[::-1]),
        (5, UPRIGHT.T),
        (6, np.rot90(UPRIGHT, -1)),
        (7, UPRIGHT[::-1, ::-1].T),
        (8, np.rot90(UPRIGHT)),
        (0, UPRIGHT),
        (9, UPRIGHT),
        (65535, UPRIGHT),
    ],
)
def test_orientations(orientation: int, seen: np.ndarray, end: str) -> None:
    image = Image.fromarray(UPRIGHT)
    exif = image.getexif()
    exif[0x0112] = orientation
    more = {"lossless": True} if end == "webp" else {}
    for kind in ("cat", "dog"):
        Path(f"imgs/train/{kind}").mkdir(parents=True)
        image.save(f"imgs/train/{kind}/1.{end}", exif=exif, **more)
    data = load_data("imgs", split="train")
    assert data.images.shape[2:] == seen.shape
    assert (data.images[0, 0].numpy() == seen).all()


def test_the_cache_notices_what_was_swapped() -> None:
    draw("imgs/train/cat/1.bmp", 0)
    draw("imgs/train/dog/1.bmp", 1)
    cat, dog = Path("imgs/train/cat/1.bmp"), Path("imgs/train/dog/1.bmp")
    for path in (cat, dog):
        os.utime(path, ns=(0, 0))
    assert cat.stat().st_size == dog.stat().st_size
    assert levels(load_data("imgs", split="train")) == {"cat": [0], "dog": [1]}
    cat.rename("other.png")
    dog.rename(cat)
    Path("other.png").rename(dog)
    assert levels(load_data("imgs", split="train")) == {"cat": [1], "dog": [0]}


def test_the_cache_notices_what_a_link_leads_to() -> None:
    linked_class()
    assert levels(load_data("imgs", split="train"))["dog"] == [5]
    draw("elsewhere/dogs/1.png", 6)
    assert levels(load_data("imgs", split="train"))["dog"] == [6]


def test_folders_that_all_link_to_one_another_are_refused_before_a_million_paths(
    tmp_path: Path,
) -> None:
    names = [f"class{i}" for i in range(8)]  # 109,600 paths
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").touch()
        for other in names:
            if other != name:
                (tmp_path / name / f"to {other}").symlink_to(tmp_path / other)
    with pytest.raises(AssayError, match=r"links lead to one folder by more than 1,000 paths, "):
        walk(tmp_path, frozenset({".png"}))


def test_labels_that_are_numbers_are_in_their_order_and_folders_in_that_of_the_alphabet() -> None:
    labels_beside("file_name,label\n1.png,10\n2.png,9\n3.png,0\n")()
    data = load_data("imgs", split="train")
    assert (data.classes, data.labels.tolist()) == (("0", "9", "10"), [2, 1, 0])
    for name in ("2", "10"):
        draw(f"folders/test/{name}/1.png", 0)
    assert load_data("folders").classes == ("10", "2")  # as torchvision's ImageFolder has them


def test_columns_of_metadata_go_with_their_images() -> None:
    tree("test/cat/1.png", "test/dog/2.png", "train/cat/3.png", "train/dog/4.png")
    Path("imgs/test/metadata.csv").write_text(
        "file_name,site,age\ndog/2.png,b,41\ncat/1.png,a,\nelse/9.png,c,3\n"
    )
    for _ in range(2):  # decoded, and from the cache
        data = load_data("imgs", split="test")
        assert data.metadata == {"site": ["a", "b"], "age": [None, "41"]}
        assert data.subset([1]).metadata == {"site": ["b"], "age": ["41"]}
        assert load_data("imgs", split="train").metadata == {}
    (columns,) = Path(os.environ["ASSAY_CACHE"]).rglob("columns.json")
    columns.write_text("{}")
    assert load_data("imgs", split="test").metadata == data.metadata, "what was changed is not read"
