"""Image classifiers of Hugging Face: a folder, or an id on the hub; with their own preprocessing.

Weights are read from safetensors alone, and code that comes with a model is never run.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from assay.core.classifier import Classifier
from assay.errors import AssayError, one_line, told
from assay.hub import NotThere, Silent, snapshot
from assay.models.encoders import quietly
from assay.models.loaders.base import About, Given, Loader
from assay.models.loaders.preprocessing import Preprocess
from assay.models.loaders.processor import (
    PROCESSOR,
    Processor,
    kind_of,
    named_classes,
    read_object,
    read_processor,
)

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
OTHER_FILES = (".safetensors", ".onnx", ".pt", ".pth", ".pt2", ".bin", ".py", ".ckpt", ".h5")
LAYERS = re.compile("layer|depth|block|stage")
MOST_LAYERS, MOST_VALUES = 1000, 2**26
"""What a config may ask for, however few its weights are."""


class HuggingFace(Loader):
    """A folder with `config.json` and safetensors, or `organisation/name` on the hub."""

    name = "huggingface"
    what = "a model of Hugging Face, which says itself how it is preprocessed"
    takes = frozenset({"mean", "std", "outputs"})

    def recognises(self, spec: str) -> bool:
        if Path(spec).exists():
            return bool(kind_of(read_object(Path(spec) / "config.json")))
        return bool(HUB_ID.fullmatch(spec)) and not spec.lower().endswith(OTHER_FILES)

    def load(self, spec: str, given: Given) -> Classifier:
        """Return the classifier with the preprocessing that its processor names.

        Raises:
            AssayError: for a model that classifies no images, has no safetensors, lacks weights
                (a head, say), brings its own code, or cannot be fetched.
        """
        folder = _folder(spec)
        network, config = _network(folder, spec)
        processor = read_processor(folder)
        classes = given.classes or named_classes(config)
        notes = [f"{spec} is {type(network).__name__}"]
        if processor is None:
            notes.append(
                f"{spec} has no {PROCESSOR}: images are given as they are, but for --mean and --std"
            )
            processor = Processor()
        else:
            notes.append(f"preprocessing of {spec}: {processor}")
        return Classifier(
            _Logits(network).eval(),
            mean=processor.mean if given.mean is None else given.mean,
            std=processor.std if given.std is None else given.std,
            classes=classes,
            outputs=given.outputs,
            preprocess=Preprocess(
                side=processor.side,
                crop=processor.crop,
                mode=processor.mode,
                colour=config.get("num_channels", 3) == 3,
                blue_first=processor.blue_first,
            ),
            batch_size=given.batch_size,
            notes=notes,
        )

    def about(self, spec: str) -> About:
        folder = _folder(spec)
        processor = read_processor(folder) or Processor()
        classes = named_classes(read_object(folder / "config.json"))
        return About(classes, processor.side, processor.crop, processor.mode)

    def files(self, spec: str) -> Sequence[Path]:
        folder = _folder(spec)
        return sorted([*folder.glob("*.json"), *folder.glob("*.safetensors")])


class _Logits(nn.Module):
    """A network of Hugging Face that returns its logits."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(pixel_values=x).logits
        return logits


def _folder(spec: str) -> Path:
    """Return the local folder of a model; one on the hub is fetched, without any code."""
    if Path(spec).is_dir():
        return Path(spec)
    try:
        return snapshot(spec, "model", ["*.json", "*.safetensors"])
    except ImportError as error:
        raise AssayError(
            f"{spec} is no file or folder here, and to fetch it from the Hugging Face hub "
            "huggingface_hub is needed: pip install 'assay[hub]'"
        ) from error
    except NotThere as error:
        raise AssayError(
            f"there is no file or folder {spec}, and no model of this name on the Hugging Face "
            "hub, or it is not public"
        ) from error
    except Silent as error:
        raise AssayError(
            f"there is no file or folder {spec}, and it cannot be fetched from the Hugging Face "
            f"hub: where there is a network, hf download {spec} --local-dir FOLDER, and name the "
            f"folder here ({one_line(str(error), 120)})"
        ) from error


def _network(folder: Path, spec: str) -> tuple[nn.Module, Mapping[str, Any]]:
    """Return the network with all of its weights, and its config."""
    config = read_object(folder / "config.json")
    kind = kind_of(config)
    if "ForSequenceClassification" in kind:
        raise AssayError(f"{spec} ({one_line(kind, 60)}) classifies text, and the data are images")
    if not any(folder.glob("*.safetensors")):
        others = sorted(file.name for file in folder.iterdir() if file.suffix in (".bin", ".h5"))
        has = f", only {', '.join(others[:3])}, which may run code when read" if others else ""
        raise AssayError(
            f"{spec} has no safetensors{has}: convert it where you trust it, by "
            f"model.save_pretrained(folder, safe_serialization=True)"
        )
    try:
        from transformers import AutoModelForImageClassification
    except ImportError as error:
        raise AssayError(
            f"{spec} is a model of Hugging Face, and transformers is not installed: "
            "pip install 'assay[hub]'"
        ) from error
    _refuse_vast(folder, spec, config)
    try:
        with quietly():
            network, told_of = AutoModelForImageClassification.from_pretrained(
                folder,
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
                dtype=torch.float32,
            )
    except Exception as error:  # whatever transformers raises
        own = " It brings code of its own, which is never run." if "auto_map" in config else ""
        raise AssayError(
            f"{spec} ({one_line(kind, 60)}) cannot be loaded as an image classifier: "
            f"{told(error)}.{own}"
        ) from error
    missing = sorted(told_of["missing_keys"])
    if missing:
        raise AssayError(
            f"{spec} lacks {len(missing)} weights ({one_line(', '.join(missing), 80)}), which "
            "would be random: it was not saved as a classifier; fine-tune it first"
        )
    return network, config


def _refuse_vast(folder: Path, spec: str, config: Mapping[str, Any]) -> None:
    """Refuse a config whose network would be far larger than the weights that are there, before it
    is made: it may ask for more memory than there is, or for layers without an end.

    Raises:
        AssayError: it would.
    """
    from safetensors import SafetensorError, safe_open
    from transformers import AutoConfig, AutoModelForImageClassification

    try:
        tensors = values = 0
        for file in folder.glob("*.safetensors"):
            with safe_open(file, "pt") as opened:
                names = opened.keys()  # it cannot be iterated itself
                shapes = [opened.get_slice(name).get_shape() for name in names]
            tensors += len(shapes)
            values += sum(math.prod(shape) for shape in shapes)
    except (SafetensorError, OSError) as error:
        raise AssayError(f"{file} is not a whole safetensors file: {error}") from error
    asked = max((_layers(value) for key, value in config.items() if LAYERS.search(key)), default=0)
    if asked > max(tensors, MOST_LAYERS):
        raise AssayError(
            f"{spec}/config.json asks for {asked:,} layers, and its weights are {tensors:,} tensors"
        )
    needs = 0
    with suppress(Exception), quietly(), torch.device("meta"):  # what fails, loading says why
        make: Any = AutoModelForImageClassification.from_config
        made = make(
            AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        )
        needs = sum(one.numel() for one in made.parameters())
    if needs > max(4 * values, MOST_VALUES):
        raise AssayError(
            f"{spec}/config.json makes a network of {needs:,} values, and its weights are "
            f"{values:,}"
        )


def _layers(value: Any) -> int:
    """Return the number of layers that a setting asks for: a number, or several."""
    if isinstance(value, list):
        return sum(map(_layers, value))
    return value if isinstance(value, int) else 0
