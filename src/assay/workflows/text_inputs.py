"""A text model and its texts, as `attack` and `explain` load them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from assay.core.device import device_here
from assay.core.texts import TextClassifier
from assay.data.loadtexts import HUB, load_texts
from assay.data.textfiles import SUFFIXES
from assay.data.textset import TextSet
from assay.errors import AssayError, one_line
from assay.inputs import Inputs
from assay.models.text import load_text
from assay.models.textnet import is_text

OF_IMAGES = ("size", "weights", "mean", "std", "access", "timeout", "header")
"""Settings of inputs that a text model has none of."""


@dataclass(frozen=True)
class Loaded:
    """A text model, what is asked of it, and what there is to know of both."""

    clf: TextClassifier
    data: TextSet
    notes: tuple[str, ...]

    @property
    def texts(self) -> list[str]:
        return list(self.data.texts)


def of_texts(inputs: Inputs) -> bool:
    """Return whether the inputs are a text model, as far as names tell: a file of ours that holds
    one, a folder with a tokenizer, or data that are texts."""
    model = Path(inputs.model)
    if inputs.model.endswith(".safetensors"):
        return model.is_file() and is_text(model)
    if model.is_dir():
        return any((model / name).is_file() for name in ("tokenizer.json", "vocab.txt"))
    return inputs.data in HUB or Path(inputs.data).suffix.lower() in SUFFIXES


def loaded(inputs: Inputs) -> Loaded:
    """Return the text model and a stable random subset of its texts.

    Raises:
        AssayError: for settings of images, a model or data that cannot be read, or labels that are
            not the model's.
    """
    given = [name for name in OF_IMAGES if getattr(inputs, name) not in (None, ())]
    if given:
        flag = f"--{given[0].replace('_', '-')}"
        raise AssayError(f"{flag} is for models of images; {inputs.model} is given texts")
    if inputs.threads is not None:
        torch.set_num_threads(inputs.threads)
    data = load_texts(inputs.data, split=inputs.split)
    clf = load_text(inputs.model, classes=inputs.classes, batch_size=inputs.batch_size)
    clf.model.to(device_here(inputs.device))
    some = data if inputs.images >= len(data) else data.sample(inputs.images)
    if not len(some):
        raise AssayError(f"{data.name} ({data.split}) has no texts")
    outputs = clf.query(list(some.texts[:1])).shape[1]
    if outputs != len(data.classes):
        raise AssayError(
            f"{inputs.model} has {outputs} classes ({one_line(', '.join(clf.classes), 80)}), but "
            f"{data.name} has {len(data.classes)} ({one_line(', '.join(data.classes), 80)}): the "
            "labels do not fit its outputs"
        )
    return Loaded(clf, some, (*data.notes, *clf.notes))
