"""What a trained network is tested for: accuracy, what stands under attack, what is certified."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from assay.attacks import Attack, run
from assay.certify import ibp
from assay.core.classifier import Classifier
from assay.core.oracle import Encoded
from assay.data.dataset import Dataset
from assay.train import IBP


def robustness(
    attack: Attack, classifier: Classifier, x: Tensor, y: Tensor, seed: int
) -> dict[str, Any]:
    """Return the metrics of how many of the images remain robust under the attack, in float32."""
    found = run(attack, classifier, x, y, stop="fooled", seed=seed).robust_accuracy
    return {"robust_accuracy": found.value, "n_robust": found.n}


def certified(loss: IBP, classifier: Classifier, data: Dataset) -> np.ndarray[Any, Any]:
    """Return which images interval bounds certify at the radius of the loss, bool (N,)."""
    found = [ibp(classifier, x, y, eps=loss.eps).certified for _, x, y in data.batches(500)]
    return torch.cat(found).numpy()


def evaluate(
    classifier: Classifier, data: Dataset
) -> tuple[float, np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the mean cross-entropy, which images are classified correctly, bool (N,), and the
    probability of each image's predicted class, float32 (N,)."""
    total, right, confidence = 0.0, [], []
    with classifier.borrowed(), torch.no_grad():
        for _, x, y in data.batches(500):
            logits = classifier.logits(Encoded(x)).cpu()
            total += float(F.cross_entropy(logits, y, reduction="sum"))
            right.append((logits.argmax(1) == y).numpy())
            confidence.append(logits.softmax(1).amax(1).numpy())
    return total / max(1, len(data)), np.concatenate(right), np.concatenate(confidence)
