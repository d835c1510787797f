"""Image classifiers of Hugging Face, made from their configs: the same logits as by their own
processor, and one line for what is no such model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from torch import nn

from assay.cli import app, call
from assay.core.crop import SCALED_FIRST
from assay.data import load_data
from assay.errors import AssayError
from assay.inputs import Inputs, load, load_part
from assay.models.loaders.huggingface import HuggingFace
from assay.models.loaders.processor import Processor, read_processor
from assay.models.loading import fingerprint, load_model

NAMES = {0: "owl", 1: "cat", 2: "dog"}
VIT = {
    "do_resize": True,
    "size": {"height": 32, "width": 32},
    "resample": 2,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.2, 0.25, 0.5],
}


def network(kind: str = "vit") -> nn.Module:
    torch.manual_seed(0)
    small: dict[str, Any] = {"num_labels": 3, "id2label": NAMES, "image_size": 32}
    if kind == "vit":
        config: Any = transformers.ViTConfig(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
            patch_size=8, **small,
        )  # fmt: skip
        return transformers.ViTForImageClassification(config).eval()
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], layer_type="basic", **small
    )
    return transformers.ResNetForImageClassification(config).eval()


def saved(folder: Path, processor: dict[str, Any] | None = VIT, kind: str = "vit") -> nn.Module:
    made: Any = network(kind)
    made.save_pretrained(folder, safe_serialization=True)
    if processor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "net"
    saved(path)
    return path


def test_the_logits_are_those_of_its_own_processor(folder: Path) -> None:
    net: Any = network()
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    processor = transformers.ViTImageProcessorPil(**VIT)
    expected = net(**processor(Image.fromarray(image), return_tensors="pt")).logits.detach()
    clf = load_model(folder)
    found = clf.query(torch.from_numpy(image).permute(2, 0, 1)[None] / 255)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert clf.classes == ("owl", "cat", "dog")
    assert "mean 0.5 0.4 0.3, std 0.2 0.25 0.5" in clf.notes[1]


@pytest.mark.parametrize("size", [(48, 64), (20, 20)])
def test_images_of_another_size_are_brought_to_its_own_differentiably(
    folder: Path, size: tuple[int, int]
) -> None:
    clf = load_model(folder)
    x = torch.rand(2, 3, *size, requires_grad=True)
    clf.logits(clf.encode(x)).sum().backward()
    assert x.grad is not None
    assert (x.grad != 0).float().mean() > 0.9
    # grey images are given to it in all three channels
    grey = torch.rand(2, 1, *size)
    torch.testing.assert_close(clf.query(grey), clf.query(grey.expand(-1, 3, -1, -1)))


def test_another_architecture_and_no_processor(tmp_path: Path) -> None:
    net: Any = saved(tmp_path / "net", None, "resnet")
    clf = load_model(tmp_path / "net", mean=(0.5,) * 3, std=(0.5,) * 3)
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(clf.query(x), net((x - 0.5) / 0.5).logits.detach())
    assert "no preprocessor_config.json" in clf.notes[1]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"size": 224}, Processor(224, None)),
        ({"size": {"shortest_edge": 256}, "do_center_crop": True, "crop_size": 224},
         Processor(224, 0.875)),
        ({"size": {"height": 256, "width": 256}, "do_center_crop": True, "crop_size": 224},
         Processor(224, -0.875)),
        ({"size": {"shortest_edge": 224}, "crop_pct": 0.875}, Processor(224, 0.875)),
        ({"size": {"shortest_edge": 384}, "crop_pct": 0.875}, Processor(384, None)),
        ({"size": {"shortest_edge": 224}, "resample": 3},
         Processor(224, SCALED_FIRST, "bicubic")),
        ({"size": {"shortest_edge": 224}, "resample": 1},
         Processor(224, SCALED_FIRST, "bicubic", instead="Lanczos")),
        ({"do_resize": False}, Processor(None)),
        ({"do_resize": False, "do_normalize": False, "do_rescale": False},
         Processor(None, std=(1 / 255,))),
        ({"do_resize": False, "image_mean": [0.5], "image_std": [0.25]},
         Processor(None, mean=(0.5,), std=(0.25,))),
        # pixels of 0 to 2 before mean and std: half of each in units of [0, 1]
        ({"do_resize": False, "rescale_factor": 2 / 255, "image_mean": [1], "image_std": [0.5]},
         Processor(None, mean=(0.5,), std=(0.25,))),
    ],
)  # fmt: skip
def test_what_a_processor_asks_for(
    said: dict[str, Any], expected: Processor, tmp_path: Path
) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    assert read_processor(tmp_path) == expected


@pytest.mark.parametrize(
    "said", [{"size": {"height": 2, "width": 3}}, {"size": "large"}, {"rescale_factor": 0},
             {"do_resize": False, "image_mean": ["a"], "image_std": [1]},
             {"size": 8, "do_center_crop": True, "crop_size": 16},
             {"do_resize": False, "do_center_crop": True, "crop_size": 16}],
)  # fmt: skip
def test_a_processor_that_cannot_be_followed(said: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    with pytest.raises(AssayError, match=r"preprocessor_config\.json cannot be understood"):
        read_processor(tmp_path)


def refused(spec: object) -> str:
    with pytest.raises(AssayError) as caught:
        load_model(str(spec))
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_a_model_without_a_head_or_safetensors_or_for_text(folder: Path, tmp_path: Path) -> None:
    net: Any = network()
    net.vit.save_pretrained(tmp_path / "base", safe_serialization=True)
    config = json.loads((tmp_path / "base" / "config.json").read_text())
    (tmp_path / "base" / "config.json").write_text(
        json.dumps({**config, "architectures": ["ViTForImageClassification"]})
    )
    assert "lacks 2 weights (classifier.bias, classifier.weight)" in refused(tmp_path / "base")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "has no safetensors, only pytorch_model.bin, which may run code" in refused(folder)
    (folder / "config.json").write_text('{"architectures": ["BertForSequenceClassification"]}')
    assert "classifies text" in refused(folder)


def test_code_that_comes_with_a_model_is_never_run(folder: Path, tmp_path: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {
        "AutoConfig": "evil.Config", "AutoModelForImageClassification": "evil.Net"}}  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'run')!r}, 'w')\n")
    assert "It brings code of its own, which is never run." in refused(folder)
    assert not (tmp_path / "run").exists()


def test_its_fingerprint_is_that_of_its_files(folder: Path) -> None:
    before = fingerprint(str(folder))
    assert fingerprint(str(folder)) == before
    (folder / "preprocessor_config.json").write_text(json.dumps({**VIT, "resample": 3}))
    assert fingerprint(str(folder)) != before


def test_names_that_are_none_of_its_own(tmp_path: Path) -> None:
    loader = HuggingFace()
    assert loader.recognises("google/vit-base-patch16-224")
    (tmp_path / "config.json").write_text('{"depth": 3}')
    for spec in ("nets/model.safetensors", "a/b/c", "model", "http://x/y", str(tmp_path)):
        assert not loader.recognises(spec), spec


def photographs(root: Path) -> Path:
    """A folder of noise: three classes, images of several sizes."""
    draw = np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 8)):
        for name in ("cat", "dog", "owl"):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                size = (40 + number, 50, 3)
                pixels = draw.integers(0, 256, size, dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{number}.png")
    return root


def test_photographs_of_all_sizes_are_brought_to_its_own_and_labels_to_its_order(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "cache"))
    root = photographs(tmp_path / "photos")
    inputs = Inputs(model=str(folder), data=str(root))
    data = load_part(inputs)
    assert data.shape == (3, 32, 32)
    assert data.classes == ("owl", "cat", "dog")
    own = load_data(root, split="test", size=32, crop=None, mode="bilinear")
    assert [data.classes[k] for k in data.labels] == [own.classes[k] for k in own.labels]
    torch.testing.assert_close(torch.as_tensor(data.images), torch.as_tensor(own.images))
    assert load(inputs, data).classes == data.classes


def test_an_audit_of_a_folder(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "cache"))
    root = photographs(tmp_path / "photos")
    few = ["--attacked", "4", "--budgets", "8/255", "--attacks", "fgsm", "--device", "cpu"]
    where = ["--out", str(tmp_path / "out"), "--store", str(tmp_path / "runs")]
    assert call(app, ["audit", str(folder), "--data", str(root), *few, *where, "--quiet"]) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert "squashed to 32 × 32" in report["title"]
    assert report["accuracy"]["overall"]["n"] == 24
    assert capsys.readouterr().out


def test_a_hub_out_of_reach_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")

    def nobody(*_: Any, **__: Any) -> Any:
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr(hub, "snapshot_download", nobody)
    with pytest.raises(AssayError, match=r"hf download some-one/net --local-dir FOLDER, and name"):
        load_model("some-one/net")
