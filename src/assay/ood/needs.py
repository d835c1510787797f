"""What a detector may read of an embedding, and whether an embedding has it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from assay.core.embedding import Embedding
from assay.core.head import Head
from assay.errors import AssayError

if TYPE_CHECKING:
    from assay.ood.base import Detector

Need = Literal["logits", "features", "head", "layers", "gradient", "inputs", "autoencoder"]
"""What a detector reads: parts of an `Embedding`; `gradient` its oracle, `inputs` its source. Both
are had again by `Embedding.batches`. An `autoencoder` is handed in, by `with_autoencoder`."""


def required(detector: Detector, e: Embedding, layers: Sequence[str] | None = None) -> Embedding:
    """Return an embedding with no layers but those that a detector reads, if it has all of them.

    Args:
        detector: what reads.
        e: what is read.
        layers: those that it was fitted on; None: those that it names.

    Raises:
        AssayError: something is missing; it says what, why, and what to do.
    """
    reads = detector.reads()
    held = {
        "logits": True,
        "features": e.features is not None,
        "head": e.head is not None,
        "layers": True,
        "gradient": e.oracle is not None,
        "inputs": e.source is not None,
        "autoencoder": e.autoencoder is not None,
    }
    missing = sorted(need for need in reads if not held[need])
    if missing == ["autoencoder"]:
        raise AssayError(
            f"{detector.name} needs an autoencoder that learned from the training images: hand it "
            "in with embedding.with_autoencoder(model)"
        )
    if missing:
        why = f" ({e.lacks['head']})" if "head" in e.lacks and e.head is None else ""
        raise AssayError(
            f"{detector.name} needs {', '.join(missing)}, which this embedding lacks{why}; "
            "use a detector that reads the logits, such as max-logit"
        )
    if "layers" not in reads:
        return replace(e, layers={})
    if layers is None:
        layers = tuple(e.layers) if e.oracle is None else detector.layers_of(e.oracle.model)
    for layer in layers:
        if layer not in e.layers:
            raise AssayError(
                f"{detector.name} reads layer {layer!r}, which this embedding lacks: "
                + e.lacks.get(layer, "embed(..., readers=[detector]) keeps what a detector reads")
            )
    if not layers:
        raise AssayError(f"{detector.name} reads layers, but names none of this model's")
    return replace(e, layers={layer: e.layers[layer] for layer in layers})


def features_of(e: Embedding) -> Tensor:
    """Return the features (N, D) of an embedding that was seen to have some."""
    assert e.features is not None
    return e.features


def head_of(e: Embedding) -> Head:
    """Return the head of an embedding that was seen to have one."""
    assert e.head is not None
    return e.head


def check_numbers(detector: Detector, e: Embedding) -> None:
    """Refuse to learn from rows that hold no numbers.

    Raises:
        AssayError: says how many, and which is the first.
    """
    reads, broken = detector.reads(), torch.zeros(len(e), dtype=torch.bool)
    if "logits" in reads:
        broken |= e.logits.isnan().any(1)
    if "features" in reads:
        broken |= ~features_of(e).isfinite().all(1)
    if bool(broken.any()):
        raise AssayError(
            f"{detector.name} cannot learn from NaN or infinity: {int(broken.sum())} of {len(e)} "
            f"rows have some in what it reads (the first is row {int(broken.int().argmax())})"
        )
