"""Data that a function of the user's gives: in all the forms that people have them, and refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from assay.data import load_data, load_texts
from assay.data.called import has_parts, numbered
from assay.errors import AssayError

FILE = """
import numpy as np, torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, TensorDataset

x = torch.arange(6 * 3 * 8 * 8, dtype=torch.uint8).reshape(6, 3, 8, 8)
y = torch.tensor([0, 1, 2, 0, 1, 2])
PULLED = []

def endless():
    while True:
        yield x, y
        assert not PULLED.append(1)

def floats(): return x.float() / 255, y
def last(): return x.numpy().transpose(0, 2, 3, 1), y.numpy()
def whole(): return list(x.long()), y.tolist()
def pairs(): return [(x[:3], y[:3]), (x[3:], y[3:])]
def loader(): return DataLoader(TensorDataset(x, y), batch_size=4)
def shuffled(): return DataLoader(TensorDataset(x, y), batch_size=4, shuffle=True)
def pictures():
    return [{"img": Image.fromarray(i.numpy().transpose(1, 2, 0)), "label": int(k)}
            for i, k in zip(x, y)]
def dicts(): yield {"image": x, "label": y, "wet": [True, False] * 3, "odd": object()}

class Mine(Dataset):
    classes = ["cat", "dog", "eel"]
    def __len__(self): return 6
    def __getitem__(self, row): return x[row], int(y[row])

def named(split): yield x, [["cat", "dog", "eel"][k] for k in y]
def sorted_(): yield x.repeat(20, 1, 1, 1), torch.arange(120) // 40
def texts(): yield ["fine", "poor"] * 20, [1, 0] * 20
def fails(): yield x, y; raise RuntimeError("disk gone")
def needs(path): yield x, y
def nothing(): return iter(())
def none(): pass
def three(): yield x, y, y
def normal(): yield x.float() - 100, y
def wide(): yield x.float(), y
def nan(): yield torch.full((6, 3, 8, 8), float("nan")), y
def four(): yield torch.zeros(6, 4, 8, 8), y
def hot(): yield x, torch.eye(3)[y]
def halves(): yield x, y / 2
def below(): yield x, y - 1
def short(): yield x, y[:5]
def empty(): yield x[:0], y[:0]
def grows(): yield x, y; yield x[:, :, 1:], y
def keyless(): yield {"photo": x, "label": y}
def splits():
    class Rows(list): column_names = ["image"]
    return {"train": Rows(), "test": Rows()}
def too_high():
    yield x, y + 5
too_high.classes = ["a", "b"]
def cranes(): yield x, y
cranes.classes = ["crane", "dog", "crane"]
def which(): yield x, ["crane", "dog"] * 3
which.classes = cranes.classes
def huge():
    yield torch.zeros(1, 3, 1000, 1000), [0]
def scalars(): return list(x), list(y)
def numbers(): return x, list(y.numpy())
def one_grey():
    for k in range(6): yield Image.fromarray(np.full((8, 8), 9 * k, np.uint8)).convert(
        "RGB" if k % 2 else "L"), k
def hole(): yield x, y; yield None; yield x, y
class Opens:
    def __iter__(self): raise OSError("no share")
class Lengthless(Mine):
    def __len__(self): raise OSError("no index")
def identity(): yield x, y + 2**40
def ones(): yield (x > 9).long(), y
def text_rows():
    for k in range(40): yield {"text": f"{k}", "label": k % 2, "year": 2000 + k}
def text_frame():
    held = {"text": np.array(["fine", "poor"]), "label": np.array([1, 0]), "site": ["a", None]}
    return type("Frame", (), {"columns": list(held), "dtypes": [],  # as pandas and polars
                              "__getitem__": lambda self, name: held[name]})()
def text_frames(split): yield text_frame(); yield text_frame()
def text_columns():
    yield {"text": ["fine"] * 2, "label": [1, 0], "site": ["a", "b"]}
    yield {"text": ["poor"], "label": [0], "year": [2001]}
def text_arrays(): yield np.array(["fine", "poor"]), np.array([1, 0]); yield np.array(["so"]), [1]
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("called") / "mine.py"
    path.write_text(FILE)
    return path


@pytest.mark.parametrize(
    "name",
    [
        "floats",
        "last",
        "whole",
        "pairs",
        "loader",
        "pictures",
        "dicts",
        "Mine",
        "named",
        "endless",
        "scalars",
        "numbers",
    ],
)
def test_every_form_is_the_same_images_and_labels(name: str, file: Path) -> None:
    data = load_data(f"{file}:{name}", at_most=6)
    pixels = torch.arange(6 * 3 * 8 * 8, dtype=torch.uint8).reshape(6, 3, 8, 8)
    assert torch.equal(data.images, pixels)
    assert data.labels.tolist() == [0, 1, 2, 0, 1, 2]
    known = ("cat", "dog", "eel") if name in ("Mine", "named") else ("0", "1", "2")
    assert data.classes == known
    assert data.fingerprint == load_data(f"{file}:{name}", at_most=6).fingerprint
    assert "gave 6 images" in data.notes[0]
    assert "asked for no more" in data.notes[0]
    assert dict(data.metadata) == ({"wet": [True, False] * 3} if name == "dicts" else {})


def test_the_first_of_what_comes_class_by_class_are_said_to_be(file: Path) -> None:
    for name, classes in (("sorted_", "2 classes"), ("sorted_", "1 class")):
        data = load_data(f"{file}:{name}", at_most=60 if classes == "2 classes" else 30)
        assert f"the first of them, of {classes}: let it shuffle" in data.notes[1]
    assert len(load_data(f"{file}:sorted_").notes) == 1  # all of it
    assert not any(
        "first of them" in note for note in load_data(f"{file}:endless", at_most=60).notes
    )


def test_only_what_is_asked_for_is_pulled_and_a_shuffle_is_the_same_each_time(file: Path) -> None:
    assert len(load_data(f"{file}:endless", at_most=15)) == 15
    state = torch.random.get_rng_state()
    first = load_data(f"{file}:shuffled")
    assert torch.equal(state, torch.random.get_rng_state())
    torch.manual_seed(5)
    assert first.fingerprint == load_data(f"{file}:shuffled").fingerprint
    assert first.labels.tolist() != [0, 1, 2, 0, 1, 2]


def test_parts_are_given_by_name_or_cut_by_content(file: Path) -> None:
    assert has_parts(f"{file}:named")
    assert not has_parts(f"{file}:endless")
    rows = load_data(f"{file}:endless", split="train", at_most=120)
    held = load_data(f"{file}:endless", split="validation", at_most=120)
    assert len(rows) + len(held) == 120
    assert not set(rows.ids.tolist()) & set(held.ids.tolist())


def test_other_sizes_are_scaled_and_texts_are_read(file: Path) -> None:
    assert load_data(f"{file}:last", size=4).shape == (3, 4, 4)
    assert len(load_data(f"{file}:grows", size=4)) == 12
    texts = load_texts(f"{file}:texts", at_most=10)
    assert texts.texts[:2] == ("fine", "poor")
    assert (len(texts), texts.classes) == (10, ("0", "1"))
    assert load_texts(f"{file}:text_arrays", at_most=9).texts == ("fine", "poor", "so")


def test_further_columns_of_texts_are_metadata(file: Path) -> None:
    columns = load_texts(f"{file}:text_columns")
    assert columns.metadata == {"site": ["a", "b", None], "year": [None, None, 2001]}
    assert load_texts(f"{file}:text_frame").metadata == {"site": ["a", None]}
    assert load_texts(f"{file}:text_frames").labels.tolist() == [1, 0, 1, 0]
    assert load_texts(f"{file}:text_rows", at_most=3).metadata == {"year": [2000, 2001, 2002]}
    held = load_texts(f"{file}:text_rows", split="validation")
    assert held.metadata["year"] == [2000 + int(text) for text in held.texts]
    assert not load_texts(f"{file}:texts", at_most=10).metadata


def test_grey_pictures_among_coloured_ones_are_coloured(file: Path) -> None:
    data = load_data(f"{file}:one_grey")
    assert data.shape == (3, 8, 8)
    assert data.images[:, :, 0, 0].tolist() == [[9 * k] * 3 for k in range(6)]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("fails", "(batch 2) raised RuntimeError: disk gone"),
        ("needs", "is called without arguments to give batches, but missing"),
        ("nothing", "gave no batches: it ended at once"),
        ("none", "gave nothing: give (inputs, labels)"),
        ("three", "batch 1 gave a tuple of 3"),
        ("normal", "leave normalising out of the data, and say --mean and --std"),
        ("wide", "divide by 255, or make them uint8"),
        ("nan", "batch 1 has images with NaN or infinity"),
        ("four", "images of shape 6 × 4 × 8 × 8: wanted is (N, C, H, W)"),
        ("hot", "of one-hot vectors that is argmax(1)"),
        ("halves", "has the label 0.0: give class numbers"),
        ("below", "has the label -1: class numbers begin at 0"),
        ("short", "has 6 inputs, but 5 labels"),
        ("empty", "batch 1 is empty"),
        ("grows", "batch 2 has images of 3×7×8, those before are of 3×8×8"),
        ("keyless", "has no images or texts (keys: photo, label; looked for image"),
        ("splits", "gave several splits (train, test): return one"),
        ("too_high", "gives the label 7, but names 2 classes"),
        ("which", "'crane' is there twice, as class 0 and class 2"),
        ("texts", "batch 1 has texts, but the model takes images"),
        ("hole", "batch 2 gave nothing: give (inputs, labels)"),
        ("Opens", "raised OSError: no share"),
        ("Lengthless", "raised OSError: no index"),
        ("identity", "class numbers run from 0, to 99,999 at most"),
        ("ones", "the brightest pixel is 1 of 255"),
        ("huge", "of which 1,431 fit into 4 GiB of memory: ask for fewer, --images"),
    ],
)
def test_what_is_refused_is_named(name: str, said: str, file: Path) -> None:
    with pytest.raises(AssayError) as error:
        load_data(f"{file}:{name}", at_most=10_000 if name == "huge" else 100)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_names_that_are_numbers_are_in_their_order() -> None:
    assert numbered("f", ["3", "10", "2"], None) == (("2", "3", "10"), [1, 2, 0])


def test_classes_of_one_name_are_told_apart_where_labels_are_numbers(file: Path) -> None:
    data = load_data(f"{file}:cranes")
    assert data.classes == ("crane (0)", "dog", "crane (2)")
    assert sorted(set(data.labels.tolist())) == [0, 1, 2]


def test_an_audit_by_a_function(file: Path, tmp_path: Path) -> None:
    from assay.cli import app, call

    (tmp_path / "net.py").write_text(
        "from torch import nn\ndef net(): return nn.Sequential(nn.Flatten(), nn.Linear(192, 4))"
    )
    words = ["audit", f"{tmp_path}/net.py:net", "--data", f"{file}:endless", "--images", "30"]
    more = ["--out", str(tmp_path / "o"), "--store", str(tmp_path / "s"), "--quiet"]
    fast = ["--eps", "2/255"]
    assert call(app, [*words, *more, *fast]) == 0
    report = (tmp_path / "o" / "report.json").read_text()
    assert "mine.py:endless" in report


def test_an_attack_may_lead_to_a_class_that_no_label_named(file: Path, tmp_path: Path) -> None:
    from assay.cli import app, call

    net = "from torch import nn\ndef net(): return nn.Sequential(nn.Flatten(), nn.Linear(192, {}))"
    (tmp_path / "wide.py").write_text(net.format(5))
    (tmp_path / "narrow.py").write_text(net.format(2))
    data = ["--data", f"{file}:endless", "--images", "6", "--attack", "fgsm", "--eps", "9/255"]
    more = ["--attack-wrong", "--out", str(tmp_path / "o"), "--quiet", "--targets", "4"]
    assert call(app, ["attack", f"{tmp_path}/wide.py:net", *data, *more]) == 0
    assert call(app, ["attack", f"{tmp_path}/narrow.py:net", *data, *more]) == 2
