"""What is seen of images and of texts without knowing what they show or say: what a tree splits by
to find the kinds of them on which a model is worse.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from assay.core.edits import words

Seen = Mapping[str, NDArray[Any]]
"""By name a value for each, (N,): float64, int64 for what is counted, or bool for what is there."""

COMMON = 0.05
"""Of texts the share, at least, that has a word which makes kinds of them, and that has it not."""
MOST_WORDS = 50
"""Words that make kinds, at most: those in most texts."""


def of_images(x: Tensor) -> Seen:
    """Return what is seen of each image (N, C, H, W) in [0, 1]: brightness, contrast, sharpness,
    and colour where there is any."""
    grey = x.mean(1, keepdim=True)
    around = F.avg_pool2d(F.pad(grey, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    found = {
        "brightness": grey.mean((1, 2, 3)),
        "contrast": grey.std((1, 2, 3)),
        "sharpness": (grey - around).abs().mean((1, 2, 3)),
    }
    if x.shape[1] == 3:
        found["colour"] = (x.amax(1) - x.amin(1)).mean((1, 2))
    return {name: values.double().numpy() for name, values in found.items()}


def of_texts(texts: Sequence[str]) -> Seen:
    """Return what is seen of each text: how many words it has, and which of the common ones.

    >>> seen = of_texts(["Not good", "fine", "a fine film"])
    >>> seen["words"].tolist(), seen["“fine”"].tolist()
    ([2, 1, 3], [False, True, True])
    """
    read = [[text[piece.start : piece.end].lower() for piece in words(text)] for text in texts]
    inside = Counter(word for one in read for word in dict.fromkeys(one))
    least, most = COMMON * len(texts), (1 - COMMON) * len(texts)
    common = [word for word, count in inside.most_common() if least <= count <= most]
    has = [set(one) for one in read]
    return {"words": np.array([len(one) for one in read])} | {
        f"“{word}”": np.array([word in one for one in has]) for word in common[:MOST_WORDS]
    }
