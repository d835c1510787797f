"""The ways of making a classifier of a pretrained encoder, as cells of the study."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from assay.config import Config, Number
from assay.models.adaptation import AnyAdaptation, BitFit, Full, Head, LoRA
from assay.tasks.read_text import Forest, LinearSVM, Logistic, Reader, WordCounts
from assay.tasks.text_features import Layer

FULL, LORA, HEAD = "full fine-tuning", "LoRA", "head alone"
FROZEN, LAYERED, SVM, TREES, COUNTS = (
    "frozen + logistic regression",
    "all frozen layers + logistic regression",
    "frozen + linear SVM",
    "frozen + random forest",
    "TF-IDF + logistic regression",
)

Rate = Annotated[Number, Field(gt=0)]


class Tuned(Config):
    """A way of fine-tuning, and the learning rates it is tried at."""

    title: str
    """What it is called."""
    adaptation: AnyAdaptation
    """What is trained."""
    rates: tuple[Rate, ...] = Field(min_length=1)
    """Learning rates, of which validation chooses; rising."""


def everything() -> tuple[Tuned, ...]:
    """Return all ways of fine-tuning: those of `few`, LoRA of other sizes, and BitFit."""
    full, lora, head = few()
    return (
        full,
        lora,
        Tuned(title="LoRA, rank 2", adaptation=LoRA(rank=2), rates=lora.rates),
        Tuned(title="LoRA, rank 32", adaptation=LoRA(rank=32), rates=lora.rates),
        Tuned(title="LoRA of attention", adaptation=LoRA(layers="attention"), rates=lora.rates),
        Tuned(title="BitFit", adaptation=BitFit(), rates=(5e-4, 1e-3, 3e-3, 1e-2)),
        head,
    )


def few() -> tuple[Tuned, Tuned, Tuned]:
    """Return what the claims are about, and the head alone."""
    return (
        Tuned(title=FULL, adaptation=Full(), rates=(3e-5, 1e-4, 3e-4, 1e-3)),
        Tuned(title=LORA, adaptation=LoRA(), rates=(3e-4, 1e-3, 3e-3, 1e-2)),
        Tuned(title=HEAD, adaptation=Head(), rates=(3e-3, 1e-2, 3e-2)),
    )


READERS: dict[str, Reader] = {
    FROZEN: Logistic(),
    LAYERED: Logistic(grid=(0.0001, 0.0003, 0.001, 0.003, 0.01)),
    SVM: LinearSVM(),
    TREES: Forest(),
    COUNTS: WordCounts(),
}
"""Classical classifiers, on frozen features but for the last."""
READS: dict[str, Layer] = {LAYERED: "all"}
"""Which layer's features they read; the last one's where none is named."""
