"""Image classifiers of Hugging Face in every architecture that people bring, tiny and from config:
their own processor is followed, a layer is explained, and detectors have features."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

import assay
from assay.cli import app, call
from assay.core.classifier import Classifier
from assay.data.decode import decode
from assay.errors import AssayError
from assay.models.loaders.huggingface import HuggingFace
from assay.models.loading import load_model

SIDE, CLASSES = 32, 3
COMMON: dict[str, Any] = {
    "num_labels": CLASSES,
    "id2label": {0: "owl", 1: "cat", 2: "dog"},
    "image_size": SIDE,
}
TOKENS: dict[str, Any] = {
    **COMMON, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 16, "patch_size": 8,
}  # fmt: skip
SQUARE = {"height": SIDE, "width": SIDE}
Made = tuple[Any, Any]


def resnet() -> Made:
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", **COMMON
    )
    processor = transformers.ConvNextImageProcessorPil(
        size={"shortest_edge": SIDE}, crop_pct=0.875, resample=3
    )
    return transformers.ResNetForImageClassification(config), processor


def vit() -> Made:
    processor = transformers.ViTImageProcessorPil(size=SQUARE)
    return transformers.ViTForImageClassification(transformers.ViTConfig(**TOKENS)), processor


def deit() -> Made:
    processor = transformers.DeiTImageProcessorPil(
        size={"height": 36, "width": 36}, crop_size=SQUARE, resample=3
    )
    return transformers.DeiTForImageClassification(transformers.DeiTConfig(**TOKENS)), processor


def convnext() -> Made:
    config = transformers.ConvNextConfig(
        hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], patch_size=2, **COMMON
    )
    processor = transformers.ConvNextImageProcessorPil(size={"shortest_edge": SIDE}, crop_pct=0.875)
    return transformers.ConvNextForImageClassification(config), processor


def swin() -> Made:
    config = transformers.SwinConfig(
        embed_dim=8, depths=[1, 1], num_heads=[2, 2], window_size=4, patch_size=4, **COMMON
    )
    return transformers.SwinForImageClassification(config), transformers.ViTImageProcessorPil(
        size=SQUARE, resample=3, image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225]
    )


def mobilenet() -> Made:
    config = transformers.MobileNetV2Config(depth_multiplier=0.1, min_depth=4, **COMMON)
    processor = transformers.MobileNetV2ImageProcessorPil(
        size={"shortest_edge": 36}, crop_size=SQUARE
    )
    return transformers.MobileNetV2ForImageClassification(config), processor


MADE: dict[str, Callable[[], Made]] = {
    f.__name__: f for f in (resnet, vit, deit, convnext, swin, mobilenet)
}
LAYERS = {
    "resnet": "network.resnet.encoder.stages.1",
    "vit": "network.vit.layers.1.layernorm_before",
    "deit": "network.deit.layers.1.layernorm_before",
    "convnext": "network.convnext.encoder.stages.3",
    "swin": "network.swin.layernorm",
    "mobilenet": "network.mobilenet_v2.layer.12.expand_1x1",
}
"""What Grad-CAM explains: the last layer with places, before they are averaged."""
WIDTHS = {"resnet": 16, "vit": 16, "deit": 16, "convnext": 16, "swin": 16, "mobilenet": 1280}
"""How many features the head reads."""
NO_ATTENTION = {
    "resnet": "no self-attention was seen",
    "convnext": "no self-attention was seen",
    "mobilenet": "no self-attention was seen",
    "swin": "it is within windows",
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of each, as `save_pretrained` writes them."""
    made = {}
    for name, make in MADE.items():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network, processor = make()
        made[name] = tmp_path_factory.mktemp(name)
        network.save_pretrained(made[name], safe_serialization=True)
        processor.save_pretrained(made[name])
    return made


def photograph(height: int, width: int) -> Image.Image:
    """Smooth, and different everywhere."""
    rough = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(rough).resize((width, height), Image.Resampling.BICUBIC)


def tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255


def normalised(clf: Classifier, x: torch.Tensor) -> torch.Tensor:
    """What the network is given of images in [0, 1]."""
    assert clf.preprocess is not None
    assert clf.mean is not None
    assert clf.std is not None
    return (clf.preprocess(x) - clf.mean[:, None, None]) / clf.std[:, None, None]


@pytest.mark.parametrize("name", MADE)
def test_the_logits_are_those_of_the_network_on_what_its_processor_makes(
    name: str, folders: dict[str, Path]
) -> None:
    network = transformers.AutoModelForImageClassification.from_pretrained(folders[name]).eval()
    _, processor = MADE[name]()
    processor.do_resize = processor.do_center_crop = False  # it has the size already
    image = photograph(SIDE, SIDE)
    given = processor(image, return_tensors="pt")["pixel_values"]
    clf = load_model(folders[name])
    torch.testing.assert_close(normalised(clf, tensor(image)), given, atol=1e-4, rtol=0)
    with torch.no_grad():
        expected = network(pixel_values=given).logits
    torch.testing.assert_close(clf.query(tensor(image)), expected, atol=1e-4, rtol=1e-4)
    assert clf.classes == ("owl", "cat", "dog")


@pytest.mark.parametrize("size", [(48, 48), (40, 40), (64, 81)])
@pytest.mark.parametrize("name", MADE)
def test_photographs_are_scaled_and_cropped_as_by_its_own_processor(
    name: str, size: tuple[int, int], folders: dict[str, Path]
) -> None:
    """But for its rounding to 256 grey levels, which has no gradient."""
    _, processor = MADE[name]()
    image, clf = photograph(*size), load_model(folders[name])
    assert clf.std is not None
    given = processor(image, return_tensors="pt")["pixel_values"]
    off = 255 * clf.std[:, None, None] * (normalised(clf, tensor(image)) - given)
    assert off.abs().max() < 1.2
    assert off.abs().mean() < 0.4


@pytest.mark.parametrize("name", ["resnet", "vit", "deit", "swin"])
def test_photographs_in_a_folder_are_read_as_by_its_own_processor(
    name: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    _, processor = MADE[name]()
    processor.do_normalize = False
    image = photograph(90, 131)
    image.save(tmp_path / "one.png")
    given = 255 * processor(image, return_tensors="pt")["pixel_values"][0]
    about = HuggingFace().about(str(folders[name]))
    content = (tmp_path / "one.png").read_bytes()
    found = decode([content], 3, SIDE, SIDE, True, about.crop, about.mode)[0][0]
    assert (torch.as_tensor(found).float() - given).abs().max() <= 1


@pytest.mark.parametrize("name", MADE)
def test_a_layer_is_explained_and_detectors_have_features(
    name: str, folders: dict[str, Path]
) -> None:
    clf, x = load_model(folders[name]), torch.rand(4, 3, SIDE, SIDE)
    maps = assay.explain.GradCAM()(clf, x)
    assert maps.layer == LAYERS[name]
    assert maps.values.shape == (4, SIDE, SIDE)
    assert not maps.empty.all()
    if name in NO_ATTENTION:
        with pytest.raises(AssayError, match=NO_ATTENTION[name]):
            assay.explain.AttentionRollout()(clf, x)
    else:
        assert assay.explain.AttentionRollout()(clf, x).values.shape == (4, SIDE, SIDE)
    seen = clf.embed(x)
    assert seen.features is not None
    assert seen.features.shape == (4, WIDTHS[name])
    assert seen.head is not None
    folded = seen.features @ seen.head.weight.T + seen.head.bias
    torch.testing.assert_close(folded, seen.logits, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", MADE)
def test_it_is_audited(
    name: str, folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for k, kind in enumerate(("cat", "dog", "owl")):
        for split in ("train", "test"):
            place = tmp_path / "photographs" / split / kind
            place.mkdir(parents=True)
            for n in range(12):
                rough = np.random.default_rng([k, n]).integers(0, 256, (6, 6, 3), dtype=np.uint8)
                Image.fromarray(rough).resize((60, 50)).save(place / f"{n}.png")
    words = ["audit", str(folders[name]), "--data", str(tmp_path / "photographs")]
    words += [
        "--store",
        str(tmp_path / "runs"),
        "--out",
        str(tmp_path / "report"),
        "--eps",
        "4/255",
    ]
    assert call(app, words) == 0, capsys.readouterr().err
    assert (tmp_path / "report" / "report.html").is_file()
