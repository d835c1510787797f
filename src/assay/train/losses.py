"""What a recipe's loss is, on logits."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from assay.train.recipe import LogitNorm, Loss

TINY = 1e-7
"""Added to the norm of the logits, as in the authors' code: at zero it has no gradient."""


def summed(loss: Loss, logits: Tensor, target: Tensor, smoothing: float = 0.0) -> Tensor:
    """Return the loss, summed over rows: a scalar that can be differentiated.

    Args:
        loss: which one.
        logits: float (N, K).
        target: labels int64 (N,), or shares of classes float (N, K), as mixup makes them.
        smoothing: share of each label that is spread over all classes.

    >>> from assay.train import LogitNorm
    >>> z, y = torch.tensor([[3.0, 4.0]]), torch.tensor([1])
    >>> round(float(summed(LogitNorm(temperature=1), z, y)), 4)  # softmax of (0.6, 0.8)
    0.5981
    """
    if isinstance(loss, LogitNorm):
        logits = logits.float()
        logits = logits / (loss.temperature * (logits.norm(dim=1, keepdim=True) + TINY))
    return F.cross_entropy(logits, target, reduction="sum", label_smoothing=smoothing)
