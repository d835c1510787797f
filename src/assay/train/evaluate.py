"""How good a classifier is on a labelled source, and whether the two fit at all."""

from __future__ import annotations

import torch
from torch import Tensor

from assay.core.classifier import Classifier
from assay.core.source import Source
from assay.core.texts import TextClassifier
from assay.data.textset import TextSet
from assay.errors import AssayError
from assay.train.batches import in_memory
from assay.train.losses import summed
from assay.train.recipe import PLAIN, Loss, Recipe

TEXTS = 4096
"""Texts that are sorted by length together."""


def evaluate(
    classifier: Classifier | TextClassifier, source: Source, by: Loss = PLAIN
) -> tuple[float, float]:
    """Return the mean loss and share correct over a labelled source, in one pass, float32."""
    loss, correct, rows = 0.0, 0, 0
    with classifier.borrowed(), torch.no_grad():
        texts = isinstance(classifier, TextClassifier)
        for _, x, y in source.batches(TEXTS if texts else classifier.batch_size or 256):
            logits = classifier.query(x) if texts else classifier.trained(x)
            check_range(y, logits.shape[1], "validation")
            y = y.to(logits.device)
            loss += float(summed(by, logits, y))
            correct += int((logits.argmax(1) == y).sum())
            rows += len(y)
    if not rows:
        raise AssayError("there is nothing to evaluate on: the source is empty")
    return loss / rows, correct / rows


def check_recipe(recipe: Recipe, validation: Source | None, rivals: bool) -> None:
    """Refuse, before anything is trained, a recipe that cannot be followed."""
    for name in ("precision", "memory_format"):
        if getattr(recipe, name) == "auto":
            raise AssayError(f"recipe.{name} is 'auto'; call assay.train.resolve.resolve first")
    if recipe.patience and validation is None:
        raise AssayError(f"recipe.patience is {recipe.patience}, but there is no validation set")
    if recipe.guard is not None and not (rivals and validation is not None):
        raise AssayError(
            "recipe.guard looks at adversarial training by attacks on validation images: "
            "train against an attack, or drop the guard"
        )


def check_labels(classifier: Classifier | TextClassifier, source: Source, what: str) -> None:
    """Refuse, before anything is trained, a source that is empty or does not fit the network."""
    first = next(source.batches(2), None)
    if first is None or not len(first[0]):
        kind = "texts" if isinstance(classifier, TextClassifier) else "images"
        raise AssayError(f"there are no {what} {kind}: the source is empty")
    outputs = classifier.query(first[1]).shape[1]
    held = in_memory(source)
    labels = source.labels if isinstance(source, TextSet) else held[2] if held else first[2]
    check_range(labels, outputs, what)


def check_range(labels: Tensor, outputs: int, what: str) -> None:
    """Refuse labels that the network has no output for: on a GPU they would end the process."""
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= outputs:
        raise AssayError(
            f"the {what} labels go from {low} to {high}, but the network has {outputs} outputs, "
            f"0 to {outputs - 1}"
        )
