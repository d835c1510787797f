"""The codec that images have been through: what is generated lacks its traces unless it is too."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from assay.errors import AssayError

QUALITIES = range(40, 97)
"""Those that are looked for: above, saving as JPEG changes little, and below nobody distributes."""
LOOKED_AT = 16
"""Images by which the quality is found; all of a set have been through the same hands."""
CORNER = 64
"""Pixels of their sides that are looked at, a multiple of a JPEG's blocks of 8."""
GHOST = 0.5
"""At a quality that images have been through, saving them again changes less than this share of
what it does at some higher one: 0.01 to 0.45 was seen of photographs, digits and drawings that had
been JPEG of quality 45 to 95, 0.98 and more of any that had not."""
LUMA = (0.299, 0.587, 0.114)
"""What a JPEG calls brightness (ITU-R BT.601); colour is stored too coarsely to come back."""


def jpeg(images: Tensor, quality: int = 75) -> Tensor:
    """Return uint8 images (N, C, H, W), C 1 or 3, as a JPEG of that quality gives them back.

    Colour is stored at half the resolution (4:2:0), as Pillow does. A set that is distributed as
    JPEG has blocks of 8 × 8 pixels and lost frequencies in every image; a detector that was shown
    outliers without them may have found nothing but that.

    Raises:
        AssayError: for a quality that is not from 1 to 100.
    """
    if not 1 <= quality <= 100:
        raise AssayError(f"the quality of a JPEG is from 1 to 100, not {quality}")
    pixels = images.permute(0, 2, 3, 1).contiguous().numpy()
    grey = pixels.shape[3] == 1
    made = np.empty_like(pixels)
    for row, image in enumerate(pixels):
        file = io.BytesIO()
        Image.fromarray(image[..., 0] if grey else image).save(file, "JPEG", quality=quality)
        back = np.asarray(Image.open(file))
        made[row] = back[..., None] if grey else back
    return torch.from_numpy(made).permute(0, 3, 1, 2).contiguous()


def quality_of(images: Tensor) -> int | None:
    """Return the quality of the JPEG that uint8 images (N, C, H, W) have been through as they are,
    or None: they have not, or were scaled or shifted since, or nothing tells.

    The brightness of a JPEG that is saved again at its own quality hardly changes, and at a higher
    one it does (Farid 2009, "Exposing digital forgeries from JPEG ghosts"; there by a map of
    differences that somebody looks at).

    >>> images = assay.data.outliers("letters", (3, 32, 32), 20).images
    >>> assay.data.codec.quality_of(images) is None
    True
    >>> assay.data.codec.quality_of(assay.data.codec.jpeg(images, 75))
    75
    """
    if len(images) == 0 or images.shape[1] not in (1, 3):
        return None
    some = images[:: max(1, len(images) // LOOKED_AT)][:LOOKED_AT, :, :CORNER, :CORNER].float()
    weights = torch.tensor(LUMA if some.shape[1] == 3 else (1.0,)).view(1, -1, 1, 1)
    light = (some * weights).sum(1, keepdim=True).round()
    told = light.flatten(1).std(1, correction=0) > 1  # one colour is the same at any quality
    light = light[told].to(torch.uint8)
    if not len(light):
        return None
    changed = [
        float((jpeg(light, quality).float() - light).square().mean()) for quality in QUALITIES
    ]
    shares = [
        here / above if (above := max(changed[row + 1 :])) > 0 else 1.0
        for row, here in enumerate(changed[:-1])
    ]
    least = min(shares)
    return QUALITIES[shares.index(least)] if least < GHOST else None
