"""What a folder says of its model: `preprocessor_config.json`, and the classes in `config.json`.

Models of Hugging Face have both, and so have the ONNX files that are exported from them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.core.crop import SCALED_FIRST
from assay.disk import read_small
from assay.errors import AssayError, numbered_apart, one_line, told

PROCESSOR = "preprocessor_config.json"
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
LACKED = {1: "Lanczos", 4: "box", 5: "Hamming"}
LARGEST = 4096
"""Pixels of the side of the largest images that are asked for."""
CROPPED_BELOW = 384
"""ConvNeXt's processor crops images below this size, and squashes larger ones."""


@dataclass(frozen=True)
class Processor:
    """What a `preprocessor_config.json` asks for, in units of [0, 1].

    Attributes:
        side, crop, mode: as in `Preprocess`.
        mean, std: per channel; None: nothing is taken off, nothing divided.
        blue_first: whether the order of colours is turned round, as MobileViT's does.
        instead: of the interpolation that it asks for, where torch lacks that and `mode` is what
            is nearest to it; "" where it is followed.
    """

    side: int | None = None
    crop: float | None = 1.0
    mode: str = "bilinear"
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    blue_first: bool = False
    instead: str = ""

    def __str__(self) -> str:
        parts = []
        if self.side is not None:
            how = "squashed" if self.crop is None else "its middle square scaled"
            if self.crop is not None and self.crop < 0:
                how = f"squashed, of which the middle {-100 * self.crop:.1f} % is kept, cropped"
            elif self.crop is not None and self.crop < SCALED_FIRST:
                how = f"the middle {100 * self.crop:.1f} % of its shorter side scaled"
            way = f"{self.mode}, which is nearest to {self.instead}" if self.instead else self.mode
            parts.append(f"the image, {how} to {self.side} × {self.side} ({way})")
        parts += ["its colours in the order blue, green, red"] if self.blue_first else []
        parts += [f"mean {_listed(self.mean)}", f"std {_listed(self.std)}"]
        return ", ".join(parts)


def read_processor(folder: Path) -> Processor | None:
    """Return the preprocessing in a folder's `preprocessor_config.json`; None if there is none.

    Pixel values v of 0 to 255 are multiplied by a factor f (1/255 as a rule) before mean and std:
    (f v - mean) / std = (x - mean / 255 f) / (std / 255 f) of x = v / 255.

    Raises:
        AssayError: for sizes that are not those of a square, or numbers that are none.
    """
    path = folder / PROCESSOR
    if not path.is_file():
        return None
    said = read_object(path)
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
        instead = LACKED.get(said.get("resample", 2), "")
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
    flipped = bool(said.get("do_flip_channel_order", False))
    return Processor(side, crop, mode, mean, std, flipped, instead)


def _sized(said: Mapping[str, Any]) -> tuple[int | None, float | None]:
    """Return the side that images are brought to, and the crop before (None: squashed)."""
    cut = _pixels(said.get("crop_size")) if said.get("do_center_crop") else None
    if not said.get("do_resize", True):
        if cut is not None:
            raise ValueError("it crops images that it does not scale, which is not known here")
        return None, 1.0
    size = said.get("size", said.get("crop_size"))
    if size is None:
        return cut, SCALED_FIRST
    shorter = isinstance(size, Mapping) and "shortest_edge" in size
    side = _pixels(size)
    if shorter and said.get("crop_pct") is not None:  # as ConvNeXt's processor has it
        share = min(float(said["crop_pct"]), SCALED_FIRST)
        return (side, share) if side < CROPPED_BELOW else (side, None)
    squashed = isinstance(size, Mapping) and not shorter
    if cut is not None and cut < side:
        return cut, -cut / side if squashed else cut / side
    if cut is not None and cut > side:
        raise ValueError(f"it crops to {cut} pixels what it has scaled to {side}")
    return side, SCALED_FIRST if shorter else None


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


def named_classes(config: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return the names of the outputs; None where they are numbered alone. Those that are there
    twice, as ImageNet's cranes, have their number beside them."""
    names = config.get("id2label")
    if not isinstance(names, Mapping):
        return None
    try:
        found = tuple(str(names[key]) for key in sorted(names, key=int))
    except ValueError:
        return None
    found = numbered_apart(found)
    numbered = all(name == f"LABEL_{number}" for number, name in enumerate(found))
    return None if numbered or len(found) < 2 else found


def kind_of(config: Mapping[str, Any]) -> str:
    """Return the architecture that a config names, or its type; "" where it names neither."""
    kinds = config.get("architectures")
    named = kinds[0] if isinstance(kinds, list) and kinds else config.get("model_type", "")
    return named if isinstance(named, str) else ""


def read_object(path: Path) -> Mapping[str, Any]:
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
