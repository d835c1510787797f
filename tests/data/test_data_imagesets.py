"""Image sets from folders: what is read, kept, held out and refused."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from assay.data import decode as decode_module
from assay.data import imageset as imageset_module
from assay.data import load_data, outliers
from assay.data.splits import content_key, held_out
from assay.disk import cache_folder
from assay.errors import AssayError

CIFAR10_TEST = "6eddf1b0858f0242742e73bf97a63361a28dee8f4d709d729046a9c462b2d862"

Image = pytest.importorskip("PIL.Image")
pq = pytest.importorskip("pyarrow.parquet")
pa = pytest.importorskip("pyarrow")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has a cache of its own and no data folders but those it names."""
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ASSAY_DATA", raising=False)
    return tmp_path / "cache"


def pixels(seed: int, *shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def png(array: np.ndarray[Any, Any]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def image_folder(root: Path, counts: dict[str, int], *shape: int) -> Path:
    """Write `root`/`class`/`i`.png, i from 0 to count; shape (H, W) or (H, W, 3)."""
    seed = 0
    for kind, count in counts.items():
        (root / kind).mkdir(parents=True)
        for index in range(count):
            (root / kind / f"{index:03}.png").write_bytes(png(pixels(seed, *shape)))
            seed += 1
    return root


def parquet(path: Path, columns: dict[str, list[Any]], features: Any = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns)
    if features is not None:
        meta = {"info": {"features": features}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(meta)})
    pq.write_table(table, path)


def encoded(arrays: list[np.ndarray[Any, Any]]) -> list[dict[str, Any]]:
    return [{"bytes": png(array), "path": "image.png"} for array in arrays]


# -- what is read ----------------------------------------------------------------------------


def test_cifar10_is_what_pillow_decodes(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_DATA", str(shared_data))
    data = load_data("cifar10", split="test")
    assert data.images.shape == (10_000, 3, 32, 32)
    assert data.labels.bincount().tolist() == [1000] * 10
    assert data.classes[:3] == ("airplane", "automobile", "bird")
    table = pq.read_table(shared_data / "cifar10" / "test-00000-of-00001.parquet")
    assert (table["label"].to_numpy() == data.labels.numpy()).all()
    for row in (0, 127, 128, 4711, 9999):  # the ends of chunks among them
        image = Image.open(io.BytesIO(table["img"][row]["bytes"].as_py()))
        assert (np.asarray(image).transpose(2, 0, 1) == data.images[row].numpy()).all()
    assert data.fingerprint == CIFAR10_TEST
    assert load_data("uoft-cs/cifar10").fingerprint == data.fingerprint  # by its last part


def test_an_image_folder_without_splits_gives_train_and_validation(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "pets", {"cat": 30, "dog": 20}, 6, 5, 3)
    train, validation = load_data(root, split="train"), load_data(root, split="validation")
    assert train.classes == ("cat", "dog")
    assert train.labels.bincount().tolist() == [27, 18]
    assert validation.labels.bincount().tolist() == [3, 2]
    seen = [{image.numpy().tobytes() for image in data.images} for data in (train, validation)]
    assert len(seen[0]) == 45
    assert not seen[0] & seen[1]
    expected = {pixels(seed, 6, 5, 3).transpose(2, 0, 1).tobytes() for seed in range(50)}
    assert seen[0] | seen[1] == expected
    with pytest.raises(
        AssayError, match=r"pets has no split 'test', but train and validation; in a"
    ):
        load_data(root)


def test_a_set_keeps_the_validation_split_it_has(tmp_path: Path) -> None:
    image_folder(tmp_path / "pets" / "train", {"cat": 30, "dog": 20}, 4, 4, 3)
    image_folder(tmp_path / "pets" / "val", {"cat": 3, "dog": 4}, 4, 4, 3)
    assert len(load_data(tmp_path / "pets", split="train")) == 50
    assert load_data(tmp_path / "pets", split="validation").labels.bincount().tolist() == [3, 4]


def test_copies_of_one_image_do_not_leave_training() -> None:
    keys = np.r_[np.full(40, 7), np.arange(100, 140)].astype(np.int64)
    labels = np.repeat([0, 1], 40)
    chosen = held_out(keys, labels)
    assert (chosen[:40].sum(), chosen[40:].sum()) == (0, 4)
    pair = held_out(np.r_[[1, 1], np.arange(10, 18)].astype(np.int64), np.zeros(10, dtype=np.int64))
    assert pair.sum() == 2, "a pair is at most two tenths, and stays together"


def test_whatever_a_reader_raises_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet(tmp_path / "odd/test.parquet", {"image": encoded([pixels(1, 6, 6, 3)]), "label": [0]})

    def bomb(*_: Any, **__: Any) -> Any:
        raise Image.DecompressionBombError("too many pixels")

    monkeypatch.setattr(Image, "open", bomb)
    with pytest.raises(AssayError, match=r"row 0 of .*odd.* cannot be read .*too many pixels"):
        load_data(tmp_path / "odd")


def test_held_out_images_depend_on_content_alone() -> None:
    labels = np.array([0] * 40 + [1] * 25 + [2] * 4)
    keys = np.array([content_key(bytes([i])) for i in range(len(labels))])
    chosen = held_out(keys, labels)
    assert [int(chosen[labels == label].sum()) for label in range(3)] == [4, 2, 0]
    order = np.random.default_rng(0).permutation(len(labels))
    assert (held_out(keys[order], labels[order]) == chosen[order]).all()
    # a copy of an image goes where the image goes
    for row in np.flatnonzero(labels < 2):
        more = held_out(np.append(keys, keys[row]), np.append(labels, labels[row]))
        assert more[-1] == more[row]


def test_columns_are_found_and_can_be_named(tmp_path: Path) -> None:
    arrays = [pixels(seed, 5, 5) for seed in range(12)]
    columns = {
        "id": list(range(12)),
        "photo": encoded(arrays),
        "coarse_label": [i % 2 for i in range(12)],
        "fine_label": [i % 3 for i in range(12)],
    }
    features = {
        "id": {"dtype": "int64", "_type": "Value"},
        "photo": {"_type": "Image"},
        "coarse_label": {"names": ["a", "b"], "_type": "ClassLabel"},
        "fine_label": {"names": ["x", "y", "z"], "_type": "ClassLabel"},
    }
    parquet(tmp_path / "set" / "test.parquet", columns, features)
    data = load_data(tmp_path / "set")
    assert data.classes == ("x", "y", "z")
    assert data.images.shape == (12, 1, 5, 5)
    coarse = load_data(tmp_path / "set", label_column="coarse_label")
    assert coarse.labels.tolist() == [0, 1] * 6
    with pytest.raises(AssayError, match=r"unknown label column .*'fine': did you mean"):
        load_data(tmp_path / "set", label_column="fine")
    with pytest.raises(AssayError, match=r"column 'id' of .* holds no images"):
        load_data(tmp_path / "set", image_column="id")


def test_words_and_odd_numbers_become_classes_alike_in_all_splits(tmp_path: Path) -> None:
    arrays = [pixels(seed, 5, 5) for seed in range(4)]
    words = {"train": ["owl", "bat", "cat", "bat"], "test": ["owl", "owl", "cat", "owl"]}
    for split, labels in words.items():
        parquet(tmp_path / f"words/{split}.parquet", {"image": encoded(arrays), "label": labels})
    data = load_data(tmp_path / "words")
    assert data.classes == ("bat", "cat", "owl")
    assert data.labels.tolist() == [2, 2, 1, 2]
    columns = {"image": encoded(arrays), "labels": [5, 10, 5, 7]}
    parquet(tmp_path / "numbers/test.parquet", columns)
    data = load_data(tmp_path / "numbers")
    assert data.classes == ("5", "7", "10")
    assert data.labels.tolist() == [0, 2, 0, 1]


def test_grey_images_among_coloured_ones_are_made_coloured(tmp_path: Path) -> None:
    grey, colour = pixels(0, 5, 5), pixels(1, 5, 5, 3)
    columns = {"image": encoded([grey, colour]), "label": [0, 1]}
    parquet(tmp_path / "mixed/test.parquet", columns)
    data = load_data(tmp_path / "mixed")
    assert (data.images[0].numpy() == grey).all()
    assert (data.images[1].numpy() == colour.transpose(2, 0, 1)).all()


def test_sizes_that_differ_are_told_and_can_be_scaled(tmp_path: Path) -> None:
    flat = np.full((4, 8, 3), 200, dtype=np.uint8)
    flat[:, :2] = flat[:, 6:] = 0  # what lies outside the middle square
    columns = {"image": encoded([flat, pixels(1, 6, 6, 3), flat]), "label": [0, 1, 0]}
    parquet(tmp_path / "sizes/test.parquet", columns)
    with pytest.raises(
        AssayError,
        match=r"row 0 of .* is 4×8, row 1 of .* 6×6 \(2 of 4×8, 1 of 6×6\); .*size=224",
    ):
        load_data(tmp_path / "sizes")
    data = load_data(tmp_path / "sizes", size=6)
    assert data.images.shape == (3, 3, 6, 6)
    assert (data.images[0] == 200).all()  # the middle square, scaled
    assert (data.images[1].numpy() == pixels(1, 6, 6, 3).transpose(2, 0, 1)).all()


def test_a_photo_is_turned_upright(tmp_path: Path) -> None:
    image = Image.fromarray(pixels(0, 6, 4))
    exif = image.getexif()
    exif[0x0112] = 6  # turn a quarter clockwise to see it upright
    image_folder(tmp_path / "photos/test", {"a": 1, "b": 1}, 4, 6)
    image.save(tmp_path / "photos/test/a/000.png", exif=exif)
    data = load_data(tmp_path / "photos")
    assert (data.images[0, 0].numpy() == np.rot90(pixels(0, 6, 4), -1)).all()


# -- what is kept ----------------------------------------------------------------------------


def test_the_second_load_decodes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = image_folder(tmp_path / "pets", {"cat": 10, "dog": 10}, 4, 4, 3)
    first = load_data(root, split="train")

    def broken(*_: Any) -> Any:
        raise AssertionError("decoded again")

    monkeypatch.setattr(imageset_module, "_open", broken)
    again = load_data(root, split="train")
    assert torch.equal(again.images, first.images)
    assert again.to_dict() == first.to_dict()
    assert len(load_data(root, split="validation")) == 2  # made with train
    # and another file, other columns or another size are another set
    (root / "cat" / "more.png").write_bytes(png(pixels(99, 4, 4, 3)))
    with pytest.raises(AssertionError):
        load_data(root, split="train")


def test_the_fingerprint_kept_is_that_of_the_content(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "pets", {"cat": 10, "dog": 10}, 4, 4, 3)
    data = load_data(root, split="train")
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", str(root), str(copy)], check=True)
    assert load_data(copy, split="train").fingerprint == data.fingerprint
    from assay.data.dataset import content_digest

    assert content_digest(data.images, data.labels, data.classes) == data.fingerprint
    assert data.mean == pytest.approx((data.images.double() / 255).mean((0, 2, 3)).tolist())


def test_images_are_mapped_and_the_file_cannot_be_changed_through_them(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "pets", {"cat": 10, "dog": 10}, 4, 4, 3)
    data = load_data(root, split="train")
    data.images.zero_()
    assert load_data(root, split="train").images.any()


def test_a_damaged_entry_is_made_again(tmp_path: Path, own_cache: Path) -> None:
    root = image_folder(tmp_path / "pets", {"cat": 10, "dog": 10}, 4, 4, 3)
    data = load_data(root, split="train")
    expected = data.images.clone()
    (path,) = own_cache.glob("*/train/images.npy")
    path.write_bytes(path.read_bytes()[:-7])
    assert torch.equal(load_data(root, split="train").images, expected)


def test_two_processes_make_a_set_once_and_leave_home_alone(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = image_folder(tmp_path / "pets", {"cat": 200, "dog": 200}, 8, 8, 3)
    (tmp_path / "home").mkdir()
    code = (
        "import sys, time; from assay.data import load_data; from assay.data import imageset as m\n"
        "made = m._make\n"
        "m._make = lambda *a: (print('making', flush=True), time.sleep(1), made(*a))\n"
        "print(load_data(sys.argv[1], split='train').fingerprint)"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "XDG_"))}
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(root)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment | {"HOME": str(tmp_path / "home")},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "making\n"
    monkeypatch.setattr(imageset_module, "_make", None)  # we must wait for what the other makes
    fingerprint = load_data(root, split="train").fingerprint
    assert process.communicate(timeout=60)[0].split() == [fingerprint]
    (entry,) = own_cache.iterdir()
    assert not list(entry.glob("making-*"))
    assert list((tmp_path / "home").rglob("*")) == []  # nor does the library keep a copy there


def test_a_killed_build_leaves_nothing_that_is_read(tmp_path: Path, own_cache: Path) -> None:
    root = image_folder(tmp_path / "pets", {"cat": 150, "dog": 150}, 8, 8, 3)
    code = (
        "import sys, time; from assay.data import load_data; from assay.data import imageset as m\n"
        "m.finish = lambda *a, **k: (print('half', flush=True), time.sleep(60))\n"
        "load_data(sys.argv[1], split='train')"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(root)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "half\n"
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    (entry,) = own_cache.iterdir()
    assert list(entry.glob("making-*"))
    assert not (entry / "train").exists()
    start = time.perf_counter()
    assert len(load_data(root, split="train")) == 270
    assert time.perf_counter() - start < 30  # the lock went with the process
    assert not list(entry.glob("making-*"))


def test_a_full_disk_is_told_and_leaves_nothing(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = image_folder(tmp_path / "pets", {"cat": 10, "dog": 10}, 4, 4, 3)

    class Full(io.BytesIO):
        def write(self, _: Any) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(imageset_module, "start_array", lambda *_: Full())
    with pytest.raises(AssayError, match=r"disk that holds .*cache is full; set ASSAY_CACHE"):
        load_data(root, split="train")
    (entry,) = own_cache.iterdir()
    assert [path.name for path in entry.iterdir()] in ([], ["lock"])


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "pets", {"cat": 10, "dog": 10}, 4, 4, 3)
    (tmp_path / "file").write_text("")
    with pytest.raises(AssayError, match=r"cannot be written .*cache="):
        load_data(root, split="train", cache=tmp_path / "file")


def test_where_the_cache_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_folder(tmp_path) == tmp_path
    assert cache_folder(None) == tmp_path / "cache"
    monkeypatch.delenv("ASSAY_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_folder(None) == Path("/xdg/assay")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder(None) == Path.home() / ".cache" / "assay"


# -- many images -----------------------------------------------------------------------------


def test_workers_answer_in_order_and_name_the_row() -> None:
    arrays = [pixels(seed, 3, 3) for seed in range(40)]
    images = [png(array) for array in arrays]
    chunks = [(images[i : i + 7], 1, 3, 3, False) for i in range(0, 40, 7)]
    answers = decode_module.in_order("decode", iter(chunks))
    out = np.concatenate([decoded for decoded, _ in answers])
    assert (out[:, 0] == np.stack(arrays)).all()
    images[33] = images[33][:50]
    chunks = [(images[i : i + 7], 1, 3, 3, False) for i in range(0, 40, 7)]
    with pytest.raises(decode_module.Unreadable) as raised:
        list(decode_module.in_order("decode", iter(chunks)))
    assert raised.value.args[0] == 33


# -- what is refused -------------------------------------------------------------------------


def refuse_corrupt(root: Path) -> None:
    good = encoded([pixels(seed, 5, 5) for seed in range(3)])
    good[1] = {"bytes": good[1]["bytes"][:60], "path": None}
    parquet(root / "test.parquet", {"image": good, "label": [0, 1, 0]})


def refuse_not_an_image(root: Path) -> None:
    rows = [*encoded([pixels(0, 5, 5)]), {"bytes": b"hello", "path": None}]
    parquet(root / "test.parquet", {"image": rows, "label": [0, 1]})


def refuse_missing_image(root: Path) -> None:
    rows = [*encoded([pixels(0, 5, 5)]), None]
    parquet(root / "test.parquet", {"image": rows, "label": [0, 1]})


def refuse_deep(root: Path) -> None:
    rows = [{"bytes": png(np.arange(25, dtype=np.uint16).reshape(5, 5)), "path": None}]
    parquet(root / "test.parquet", {"image": rows, "label": [0]})


def refuse_unlabelled(root: Path) -> None:
    rows = encoded([pixels(0, 5, 5)] * 2)
    features = {
        "image": {"_type": "Image"},
        "label": {"names": ["a", "b"], "_type": "ClassLabel"},
    }
    parquet(root / "test.parquet", {"image": rows, "label": [1, -1]}, features)


def refuse_no_label_column(root: Path) -> None:
    parquet(root / "test.parquet", {"image": encoded([pixels(0, 5, 5)]), "caption": [1.5]})


def refuse_text(root: Path) -> None:
    parquet(root / "test.parquet", {"text": ["good", "bad"], "label": [1, 0]})


def refuse_other_files(root: Path) -> None:
    root.mkdir()
    (root / "a.txt").write_text("no image")
    (root / "b.txt").write_text("no image")


def refuse_empty(root: Path) -> None:
    root.mkdir()


def refuse_broken_parquet(root: Path) -> None:
    root.mkdir()
    (root / "test.parquet").write_bytes(b"PAR1 and nothing more")


REFUSED = {
    refuse_corrupt: r"row 1 of .*set \(test\) cannot be read as an image: ",
    refuse_not_an_image: r"row 1 of .*cannot be read as an image: it is not an image",
    refuse_missing_image: r"row 1 of .*cannot be read as an image: there is none in this row",
    refuse_deep: r"row 0 of .*mode I;16; 8 bits per channel",
    refuse_unlabelled: r"row 1 of .* has no label, or none of the 2 classes \(1 of 2 rows\)",
    refuse_no_label_column: r"no column of labels \(columns: image, caption; .*label_column=",
    refuse_text: r"no column of images \(columns: text, label; .*image_column=",
    refuse_other_files: r"holds no images, but 2 .txt",
    refuse_empty: r"holds no images: it is empty",
    refuse_broken_parquet: r"cannot be read as an image set: ",
}


@pytest.mark.parametrize("make", REFUSED, ids=lambda make: make.__name__)
def test_what_cannot_be_used_is_told_in_one_line(make: Any, tmp_path: Path) -> None:
    make(tmp_path / "set")
    with pytest.raises(AssayError, match=REFUSED[make]) as raised:
        load_data(tmp_path / "set")
    assert "\n" not in str(raised.value)
    assert not list((tmp_path / "cache").glob("*/[!l]*"))  # but for the lock


def test_a_set_too_small_to_hold_out_from(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "pets", {"cat": 4, "dog": 3}, 4, 4, 3)
    assert len(load_data(root, split="train")) == 7
    with pytest.raises(AssayError, match=r"too few images \(7\) to hold some out"):
        load_data(root, split="validation")


def test_unknown_names_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image_folder(tmp_path / "data" / "flowers", {"rose": 10, "lily": 10}, 4, 4, 3)
    monkeypatch.setenv("ASSAY_DATA", f"{tmp_path / 'none'}{os.pathsep}{tmp_path / 'data'}")
    assert len(load_data("flowers", split="train")) == 18
    with pytest.raises(AssayError, match="no such folder: 'flower': did you mean 'flowers'"):
        load_data("flower")
    monkeypatch.delenv("ASSAY_DATA")
    monkeypatch.chdir(tmp_path)  # ./data is always looked in
    assert len(load_data("some-one/flowers", split="validation")) == 2
    with pytest.raises(AssayError, match=r"flowers/rose/000.png is a file: give the folder"):
        load_data(tmp_path / "data" / "flowers" / "rose" / "000.png")


def test_the_hub_out_of_reach_says_how_to_give_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")

    def nobody(*_: Any, **__: Any) -> Any:
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr(hub, "dataset_info", nobody)
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(AssayError, match=r"mnist is not in a local folder.*folder mnist/ and set"):
        load_data("mnist")


def test_the_hub_is_asked_by_a_process_that_has_imported_nothing_of_it(tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    line = "from assay.data.hub import fetched\nfetched('some-one/pets')"
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    ended = subprocess.run([sys.executable, "-c", line], env=env, capture_output=True, text=True)
    assert "AssayError: some-one/pets is not in a local folder, and" in ended.stderr


def test_a_set_of_the_hub_is_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")
    root = image_folder(tmp_path / "snapshots" / "5ab1e", {"cat": 10, "dog": 20}, 4, 4)
    asked = []

    def fetch(
        name: str, *, repo_type: str, allow_patterns: list[str], local_files_only: bool
    ) -> str:
        assert (repo_type, local_files_only) == ("dataset", False)
        assert {"*.png", "*.PNG", "*.parquet"} <= set(allow_patterns)
        assert not {"*.py", "*.md", "*.eps"} & set(allow_patterns)
        asked.append(name)
        return str(root)

    monkeypatch.setattr(hub, "dataset_info", lambda *_, **__: None)
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "snapshot_download", fetch)
    data = load_data("some-one/pets", split="train")
    assert asked == ["some-one/pets"]
    assert data.labels.bincount().tolist() == [9, 18]
    assert data.name == "pets"


@pytest.mark.parametrize("offline", ["1", "0"])
def test_what_was_fetched_is_there_without_a_network(tmp_path: Path, offline: str) -> None:
    """As the hub's own library keeps it once it has fetched a branch."""
    pytest.importorskip("huggingface_hub")
    repo = tmp_path / "hub" / "datasets--some-one--pets"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text("a" * 40)
    image_folder(repo / "snapshots" / ("a" * 40), {"cat": 3}, 4, 4)
    line = "from assay.data.hub import fetched\nprint(*fetched('some-one/pets'))"
    unreachable = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_DISABLE_TELEMETRY": "1"}
    env = {**os.environ, **unreachable, "HF_HUB_OFFLINE": offline, "HF_HOME": str(tmp_path)}
    ended = subprocess.run([sys.executable, "-c", line], env=env, capture_output=True, text=True)
    assert str(repo / "snapshots" / ("a" * 40)) in ended.stdout, ended.stderr
    assert f"'revision': '{'a' * 40}'" in ended.stdout


def test_a_folder_without_labels_is_a_set_of_outliers(tmp_path: Path) -> None:
    root = tmp_path / "found"
    root.mkdir()
    for index in range(20):
        (root / f"{index:02}.png").write_bytes(png(pixels(index, 6, 6, 3)))
    with pytest.raises(AssayError, match="20 images and no folders, so they have no labels"):
        load_data(root, split="train")
    data = outliers(str(root), (3, 6, 6), 100, split="train")
    assert (data.labels == -1).all()
    expected = {pixels(seed, 6, 6, 3).transpose(2, 0, 1).tobytes() for seed in range(20)}
    seen = {image.numpy().tobytes() for image in data.images}
    assert len(seen) == 18  # two are held out for validation
    assert seen < expected
