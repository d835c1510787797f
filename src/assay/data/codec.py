"""The codec that images have been through: what is generated lacks its traces unless it is too."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from assay.errors import AssayError


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
