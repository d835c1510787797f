"""Mixup: every image of a batch is mixed with another one, and its label likewise."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from assay.core.random import Stream


def mixup(x: Any, y: Tensor, alpha: float, classes: int, stream: Stream) -> tuple[Any, Tensor]:
    """Return a batch as it is trained on, and its labels or, with mixup, shares of classes (B, K).

    Args:
        x: images float32 (B, C, H, W); without mixup also texts.
        y: labels int64 (B,).
        alpha: α of the Beta distribution that the share of each is drawn from, once per batch
            (Zhang et al. 2018); 0: nothing is mixed.
        classes: K.
        stream: what is drawn from.
    """
    if not alpha:
        return x, y
    draw = stream.numpy()
    share = float(draw.beta(alpha, alpha))
    other = torch.from_numpy(draw.permutation(len(x))).to(x.device)
    shares = F.one_hot(y, classes).to(torch.float32)
    return x.lerp(x[other], 1 - share), shares.lerp(shares[other], 1 - share)
