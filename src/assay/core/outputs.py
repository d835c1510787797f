"""What a model returned: whether it is a tensor of logits, or of probabilities, as was declared."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from assay.core.oracle import labels
from assay.errors import AssayError

Outputs = Literal["logits", "probabilities"]
"""What a model is declared to return."""
SUM_TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-4}
"""How near to 1 a row must sum to be taken for probabilities; 1e-2 in half precision."""


def logits_in(output: Any, rows: int, classes: tuple[str, ...] | None) -> Tensor:
    """Return the tensor (rows, K) in what a model returned for `rows` images.

    Args:
        output: a tensor, or an object that has one as `logits`.
        classes: the names of the K outputs; None: any number from 2 on.

    Raises:
        AssayError: it is something else.
    """
    output = getattr(output, "logits", output)
    if isinstance(output, Tensor) and not output.is_floating_point():
        raise AssayError(
            f"the model returned {output.dtype}; logits are real numbers (float): let it "
            "return what comes before it rounds, quantises or takes the label"
        )
    if not isinstance(output, Tensor):
        raise AssayError(
            f"the model returned {type(output).__name__}; a Classifier needs a tensor of "
            "logits (N, K), or an object with a `logits` attribute"
        )
    known = "K" if classes is None else len(classes)
    if output.ndim != 2 or len(output) != rows:
        one = tuple(output.shape) == (rows,) and rows > 1
        raise AssayError(
            f"the model returned shape {tuple(output.shape)} for {rows} images; "
            f"a Classifier needs logits ({rows}, {known})"
            + ("; for two classes 0 and z, where it returned z" if one else "")
        )
    if output.shape[1] < 2:
        raise AssayError(
            "a classifier has at least 2 classes, but the model has "
            f"{output.shape[1]} outputs: let it return one logit per class (for two classes 0 "
            "and z, where it returned z)"
        )
    if classes is not None and output.shape[1] != len(classes):
        raise AssayError(
            f"the model has {output.shape[1]} outputs, but {len(classes)} classes "
            "are named; name one class per output"
        )
    return output


def could_be_probabilities(output: Tensor, declared: Outputs) -> int:
    """Return how many rows (N, K) that were declared logits could be probabilities: all that have
    an answer, or none. A single row may look so by accident.

    Raises:
        AssayError: no row has an answer, or what was declared probabilities is something else.
    """
    values = output.detach().float()
    values = values[labels(values) >= 0]  # -inf is what a class is given that is masked
    if len(values) == 0:
        raise AssayError(
            f"the model returns NaN or infinity for all of the first {len(output)} images; "
            "check its weights and its normalisation (mean, std)"
        )
    sums = values.sum(1)
    tolerance = SUM_TOLERANCE.get(output.dtype, 1e-2)
    normalised = bool((values >= 0).all() & ((sums - 1).abs() < tolerance).all())
    if declared == "probabilities" and not normalised:
        raise AssayError(
            "probabilities were declared, but outputs go down to "
            f"{float(values.min()):.4g} and rows sum to {float(sums.min()):.4g} … "
            f"{float(sums.max()):.4g}; these are logits: drop --outputs probabilities "
            '(in Python, outputs="probabilities")'
        )
    return len(values) if declared == "logits" and normalised else 0
