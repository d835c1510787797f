"""Image classifiers of Hugging Face: a folder, or an id on the hub; with their own preprocessing.

Weights are read from safetensors alone, and code that comes with a model is never run.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from assay.core.classifier import Classifier
from assay.disk import read_small
from assay.errors import AssayError, one_line, told
from assay.models.encoders import quietly
from assay.models.loaders.base import About, Given, Loader
from assay.models.loaders.preprocessing import Preprocess

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
OTHER_FILES = (".safetensors", ".onnx", ".pt", ".pth", ".pt2", ".bin", ".py", ".ckpt", ".h5")
RESAMPLING = {
    0: "nearest",
    1: "bicubic",
    2: "bilinear",
    3: "bicubic",
    4: "bilinear",
    5: "bilinear",
    "nearest": "nearest",
    "bilinear": "bilinear",
    "bicubic": "bicubic",
}
"""Pillow's numbers for ways of interpolation, in torch's names; Lanczos, box and Hamming (1, 4, 5),
which torch lacks, are taken as what is nearest."""
LAYERS = re.compile("layer|depth|block|stage")
MOST_LAYERS, MOST_VALUES = 1000, 2**26
"""What a config may ask for, however few its weights are."""
LARGEST = 4096
"""Pixels of the side of the largest images that are asked for."""
CROPPED_BELOW = 384
"""ConvNeXt's processor crops images below this size, and squashes larger ones."""


class HuggingFace(Loader):
    """A folder with `config.json` and safetensors, or `organisation/name` on the hub."""

    name = "huggingface"
    what = "a model of Hugging Face, which says itself how it is preprocessed"
    takes = frozenset({"mean", "std", "outputs"})

    def recognises(self, spec: str) -> bool:
        if Path(spec).exists():
            return bool(_kind(_read(Path(spec) / "config.json")))
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
        classes = given.classes or _classes(config)
        notes = [f"{spec} is {type(network).__name__}"]
        if processor is None:
            notes.append(
                f"{spec} has no preprocessor_config.json: images are given as they are, but for "
                "--mean and --std"
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
            ),
            batch_size=given.batch_size,
            notes=notes,
        )

    def about(self, spec: str) -> About:
        folder = _folder(spec)
        processor = read_processor(folder) or Processor()
        classes = _classes(_read(folder / "config.json"))
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


# -- its preprocessing ------------------------------------------------------------------------


@dataclass(frozen=True)
class Processor:
    """What a `preprocessor_config.json` asks for, in units of [0, 1].

    Attributes:
        side, crop, mode: as in `Preprocess`.
        mean, std: per channel; None: nothing is taken off, nothing divided.
    """

    side: int | None = None
    crop: float | None = 1.0
    mode: str = "bilinear"
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __str__(self) -> str:
        parts = []
        if self.side is not None:
            how = "squashed" if self.crop is None else "its middle square scaled"
            if self.crop is not None and self.crop < 0:
                how = f"squashed, of which the middle {-100 * self.crop:.1f} % is kept, cropped"
            elif self.crop is not None and self.crop < 1:
                how = f"the middle {100 * self.crop:.1f} % of its shorter side scaled"
            parts.append(f"the image, {how} to {self.side} × {self.side}")
        parts += [f"mean {_listed(self.mean)}", f"std {_listed(self.std)}"]
        return ", ".join(parts)


def read_processor(folder: Path) -> Processor | None:
    """Return the preprocessing in a folder's `preprocessor_config.json`; None if there is none.

    Pixel values v of 0 to 255 are multiplied by a factor f (1/255 as a rule) before mean and std:
    (f v - mean) / std = (x - mean / 255 f) / (std / 255 f) of x = v / 255.

    Raises:
        AssayError: for sizes that are not those of a square, or numbers that are none.
    """
    path = folder / "preprocessor_config.json"
    if not path.is_file():
        return None
    said = _read(path)
    if not said:
        raise AssayError(
            f"{path} is empty, or no JSON object, so preprocessing is not known: fetch it again"
        )
    try:
        side, crop = _sized(said)
        if side is not None and not 1 <= side <= LARGEST:
            raise ValueError(f"images of {side} × {side} pixels")
        if said.get("do_pad", False):
            raise ValueError("it pads images, which is not known here")
        if said.get("resample", 2) not in RESAMPLING:
            known = ", ".join(map(str, RESAMPLING))
            raise ValueError(f"interpolation {said['resample']!r}; known are {known}")
        mode = RESAMPLING[said.get("resample", 2)]
        factor = 255 * float(said.get("rescale_factor", 1 / 255))
        factor = factor if said.get("do_rescale", True) else 255.0
        mean: tuple[float, ...] | None = None
        std: tuple[float, ...] | None = None
        if said.get("do_normalize", True) and said.get("image_mean") is not None:
            mean = tuple(round(float(value) / factor, 9) for value in said["image_mean"])
            std = tuple(round(float(value) / factor, 9) for value in said["image_std"])
        elif abs(factor - 1) > 1e-6:
            std = (1 / factor,)
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise AssayError(f"{path} cannot be understood: {told(error)}") from error
    return Processor(side, crop, mode, mean, std)


def _sized(said: Mapping[str, Any]) -> tuple[int | None, float | None]:
    """Return the side that images are brought to, and the crop before (None: squashed)."""
    cut = _pixels(said.get("crop_size")) if said.get("do_center_crop") else None
    if not said.get("do_resize", True):
        return cut, 1.0
    size = said.get("size", said.get("crop_size"))
    if size is None:
        return cut, 1.0
    shorter = isinstance(size, Mapping) and "shortest_edge" in size
    side = _pixels(size)
    if shorter and said.get("crop_pct") is not None:  # as ConvNeXt's processor has it
        return (side, float(said["crop_pct"])) if side < CROPPED_BELOW else (side, None)
    squashed = isinstance(size, Mapping) and not shorter
    if cut is not None and cut < side:
        return cut, -cut / side if squashed else cut / side
    if cut is not None and cut > side:
        raise ValueError(f"it crops to {cut} pixels what it has scaled to {side}")
    return side, 1.0 if shorter else None


def _pixels(size: Any) -> int:
    if isinstance(size, Mapping):
        if "shortest_edge" in size:
            return int(size["shortest_edge"])
        if not {"height", "width"} <= set(size):
            raise ValueError(
                f"a size by {one_line(', '.join(map(str, size)), 60)}; known here are height and "
                "width, and shortest_edge"
            )
        height, width = int(size["height"]), int(size["width"])
        if height != width:
            raise ValueError(f"images of {height} × {width} pixels; only squares are known here")
        return height
    return int(size)


# -- its files --------------------------------------------------------------------------------


def _folder(spec: str) -> Path:
    """Return the local folder of a model; one on the hub is fetched, without any code."""
    if Path(spec).is_dir():
        return Path(spec)
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise AssayError(
            f"{spec} is no file or folder here, and to fetch it from the Hugging Face hub "
            "huggingface_hub is needed: pip install 'assay[hub]'"
        ) from error
    try:
        return Path(snapshot_download(spec, allow_patterns=["*.json", "*.safetensors"]))
    except Exception as error:  # whatever a network may bring
        raise AssayError(
            f"there is no file or folder {spec}, and it cannot be fetched from the Hugging Face "
            f"hub: where there is a network, hf download {spec} --local-dir FOLDER, and name the "
            f"folder here ({one_line(told(error), 120)})"
        ) from error


def _network(folder: Path, spec: str) -> tuple[nn.Module, Mapping[str, Any]]:
    """Return the network with all of its weights, and its config."""
    config = _read(folder / "config.json")
    kind = _kind(config)
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


def _classes(config: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return the names of the outputs; None where they are numbered alone."""
    names = config.get("id2label")
    if not isinstance(names, Mapping):
        return None
    try:
        found = tuple(str(names[key]) for key in sorted(names, key=int))
    except ValueError:
        return None
    numbered = all(name == f"LABEL_{number}" for number, name in enumerate(found))
    return None if numbered or len(found) < 2 else found


def _kind(config: Mapping[str, Any]) -> str:
    """Return the architecture that a config names, or its type; "" where it names neither."""
    kinds = config.get("architectures")
    named = kinds[0] if isinstance(kinds, list) and kinds else config.get("model_type", "")
    return named if isinstance(named, str) else ""


def _read(path: Path) -> Mapping[str, Any]:
    """Return a JSON file as an object; nothing where it is none."""
    if not path.is_file():
        return {}
    try:
        found = json.loads(read_small(path, 2**20))
    except (AssayError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _listed(values: Sequence[float] | None) -> str:
    return "none" if values is None else " ".join(f"{value:.4g}" for value in values)
