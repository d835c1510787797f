"""Images that a function of the user's gives (see `called`), as a set."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from assay.data.altered import said
from assay.data.called import gave, numbered, parted, pulled
from assay.data.dataset import Dataset, content_digest
from assay.data.decode import COLOUR, GREY, brought, drops
from assay.data.metadata import extend
from assay.data.opened import Asked
from assay.data.splits import content_key
from assay.data.tables import IMAGE_COLUMNS
from assay.errors import AssayError

Pixels = NDArray[np.uint8]

KEYS = (*IMAGE_COLUMNS, "pixel_values", "inputs", "x")
"""What images are called in dicts."""
MOST_BYTES = 4 * 2**30
"""Of pixels that are held in memory."""


def called_images(spec: str, split: str, asked: Asked, at_most: int | None) -> Dataset:
    """Return the first images that a function gives.

    They are uint8 (0 to 255) or floats in [0, 1], (N, C, H, W) or (N, H, W, C) with one channel or
    three, (N, H, W), or pictures of Pillow. Floats are rounded to 8 bits.

    Raises:
        AssayError: the function fails, or gives what is no image or label; it names the batch.
    """
    keys = KEYS if asked.image_column is None else (asked.image_column,)
    parts: list[Pixels] = []
    labels: list[int | str] = []
    columns: dict[str, list[Any]] = {}
    notes: dict[str, str] = {}
    with pulled(spec, split, keys, asked.label_column, at_most) as found:
        for batch in found.batches:
            pixels = _brought(batch.where, _pixels(batch.where, batch.inputs, notes), asked)
            if parts and len(parts[0][0]) < len(pixels[0]):  # coloured among grey ones
                parts = [np.repeat(part, 3, 1) for part in parts]
            elif parts and len(parts[0][0]) > len(pixels[0]):
                pixels = np.repeat(pixels, 3, 1)
            if parts and parts[0].shape[1:] != pixels.shape[1:]:
                raise AssayError(
                    f"{batch.where} has images of {_size(pixels)}, those before are of "
                    f"{_size(parts[0])}: give a size in pixels (--size 224) or scale them"
                )
            extend(columns, batch.metadata, len(labels), len(pixels))
            parts.append(pixels)
            labels += batch.labels
            _refuse_too_many(spec, parts, len(labels), at_most)
    classes, numbers = numbered(spec, labels, found.names)
    images = np.concatenate(parts)
    if int(images.max()) == 1:
        raise AssayError(
            f"{spec} gives images that are black: the brightest pixel is 1 of 255; zeros and ones "
            "are given as floats, and floats in [0, 1] are not divided by 255 again"
        )
    digests = [content_key(image.tobytes()) for image in images] if found.whole else numbers
    rows = parted(split, digests, numbers, found, spec)
    x, y = torch.from_numpy(images[rows]), torch.tensor([numbers[row] for row in rows])
    return Dataset(
        name=spec.rpartition("/")[2],
        split=split,
        classes=classes,
        images=x,
        labels=y,
        fingerprint=content_digest(x, y, classes),
        ids=torch.tensor(rows),
        notes=(
            *gave(spec, numbers, "images", len(parts), at_most),
            *found.notes,
            *sorted(notes.values()),
        ),
        metadata={name: [values[row] for row in rows] for name, values in columns.items()},
    )


def _refuse_too_many(spec: str, parts: list[Pixels], count: int, at_most: int | None) -> None:
    each = parts[0][0].nbytes
    if each * (count if at_most is None else max(count, at_most)) > MOST_BYTES:
        raise AssayError(
            f"{spec} gives images of {_size(parts[0])}, of which {MOST_BYTES // each:,} fit into "
            f"{MOST_BYTES / 2**30:g} GiB of memory: ask for fewer, --images, or for smaller ones, "
            "--size"
        )


def _pixels(where: str, given: Any, notes: dict[str, str]) -> list[Pixels]:
    """Return each image as uint8 (C, H, W)."""
    if hasattr(given, "ndim"):
        return list(_array(where, given, notes))
    found: list[Pixels] = []
    for image in given:
        if isinstance(image, str):
            raise AssayError(f"{where} has texts, but the model takes images")
        if hasattr(image, "convert"):
            found.append(_picture(where, image, notes))
        elif hasattr(image, "ndim") and image.ndim in (2, 3):
            found += list(_array(where, image[None], notes))
        else:
            raise AssayError(
                f"{where} has {type(image).__name__} for an image: give arrays, tensors or "
                "pictures of Pillow"
            )
    if len({image.shape[0] for image in found}) > 1:  # grey among coloured ones
        found = [np.repeat(image, 3, 0) if image.shape[0] == 1 else image for image in found]
    return found


def _picture(where: str, image: Any, notes: dict[str, str]) -> Pixels:
    if image.mode not in GREY + COLOUR:
        raise AssayError(
            f"{where} has a picture of mode {image.mode}; 8 bits per channel are needed"
        )
    for cause in drops(image):
        notes.setdefault(cause, said(cause, f"pictures of {where}, and maybe of later ones,"))
    if image.mode in GREY:
        return np.asarray(image.convert("L"))[None]
    return np.asarray(image.convert("RGB")).transpose(2, 0, 1)


def _array(where: str, given: Any, notes: dict[str, str]) -> Pixels:
    """Return an array or a tensor of images as uint8 (N, C, H, W)."""
    if hasattr(given, "detach"):
        given = given.detach().cpu()
        given = (given.float() if given.is_floating_point() else given).numpy()
    values = np.asarray(given)
    shape = " × ".join(map(str, values.shape))
    if values.ndim == 3:
        values = values[:, None]
    if values.ndim != 4 or (values.shape[1] not in (1, 3) and values.shape[3] not in (1, 3)):
        raise AssayError(
            f"{where} has images of shape {shape}: wanted is (N, C, H, W) or (N, H, W, C), C = 1 "
            "or 3"
        )
    if 0 in values.shape:
        raise AssayError(f"{where} has images of shape {shape}: there is no pixel in it")
    if values.shape[1] not in (1, 3):
        values = values.transpose(0, 3, 1, 2)
        notes["layout"] = "images are read as (N, H, W, C)"
    if values.dtype == np.uint8:
        return values
    if values.dtype.kind not in "iuf":
        raise AssayError(f"{where} has images of {values.dtype}: give uint8, or floats in [0, 1]")
    return _whole(where, values, notes)


def _whole(where: str, values: NDArray[Any], notes: dict[str, str]) -> Pixels:
    """Return numbers as grey levels."""
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise AssayError(f"{where} has images with NaN or infinity")
    whole = values.dtype.kind in "iu"
    if whole and low >= 0 and high <= 255:
        return values.astype(np.uint8)
    if whole or low < -1e-4 or high > 1 + 1e-4:
        hint = (
            "divide by 255, or make them uint8"
            if low >= 0 and high <= 255
            else "leave normalising out of the data, and say --mean and --std"
        )
        raise AssayError(
            f"{where} has images of {values.dtype} from {low:.3g} to {high:.3g}: they are uint8, "
            f"or floats in [0, 1]; {hint}"
        )
    levels = np.rint(np.clip(values, 0, 1) * 255)
    if float(np.abs(levels - values * 255).max()) > 0.01:
        notes["levels"] = "images are rounded to 8 bits, as those of files are"
    rounded: Pixels = levels.astype(np.uint8)
    return rounded


def _brought(where: str, images: list[Pixels], asked: Asked) -> Pixels:
    """Return images of one size: that asked for, or else their own."""
    if asked.size is not None:
        from PIL import Image

        side = asked.size
        scaled = []
        for image in images:
            flat = image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0))
            pixels = np.asarray(brought(Image.fromarray(flat), side, side, asked.crop, asked.mode))
            scaled.append(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))
        images = scaled
    odd = next((image for image in images if image.shape != images[0].shape), None)
    if odd is not None:
        raise AssayError(
            f"{where} has images of {_size(images)} and of {_size([odd])}: give a size in pixels "
            "(--size 224) or scale them"
        )
    return np.stack(images)


def _size(images: Any) -> str:
    return "×".join(map(str, images[0].shape))
