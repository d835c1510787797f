"""A text classifier and its texts, as commands are given them."""

from __future__ import annotations

from pathlib import Path

import torch

from assay.core.device import device_here
from assay.core.texts import TextClassifier
from assay.data.loadtexts import load_texts
from assay.data.textset import TextSet
from assay.errors import AssayError, one_line
from assay.inputs import Inputs
from assay.models.encoders import located
from assay.models.text import load_text
from assay.models.textnet import is_text


def reads_texts(model: str) -> bool:
    """Return whether a model is a text classifier: a file that `assay train --model` wrote, or a
    folder of Hugging Face's that says so."""
    path = Path(model).expanduser()
    if path.suffix == ".safetensors":
        return path.is_file() and is_text(path)
    if not (path / "config.json").is_file() or not (path / "tokenizer.json").is_file():
        return False
    kinds = located(path).config.get("architectures") or []
    return any(str(kind).endswith("ForSequenceClassification") for kind in kinds)


def text_part(inputs: Inputs, split: str | None = None) -> TextSet:
    """Return a part of the texts, all of it."""
    return load_texts(inputs.data, split=split or inputs.split)


def text_model(inputs: Inputs, data: TextSet) -> TextClassifier:
    """Return the model on its device, if it is for these texts.

    Raises:
        AssayError: a setting goes with images alone, or the classes are others.
    """
    usual = Inputs(model=inputs.model, data=inputs.data)
    alone = ("size", "channels", "mean", "std", "weights", "access", "timeout", "wire")
    for name in (*alone, "concurrency", "rate", "max_queries"):
        if getattr(inputs, name) != getattr(usual, name):
            raise AssayError(
                f"--{name.replace('_', '-')} goes with images, but {inputs.model} reads texts"
            )
    if inputs.threads is not None:
        torch.set_num_threads(inputs.threads)
    clf = load_text(inputs.model, classes=inputs.classes or None, batch_size=inputs.batch_size)
    clf.query([""])  # a model without named classes knows them once it has answered
    known = clf.classes
    if len(known) != len(data.classes):
        raise AssayError(
            f"{inputs.model} has {len(known)} classes ({one_line(', '.join(known), 80)}), but "
            f"{data.name} has {len(data.classes)} ({one_line(', '.join(data.classes), 80)}): the "
            "labels do not fit its outputs"
        )
    moved = next(
        (c for k, c in enumerate(known) if c in data.classes and data.classes[k] != c), None
    )
    if moved is not None:
        raise AssayError(
            f"class {moved!r} has another place in {data.name} than in {inputs.model}, so the "
            f"labels do not fit its outputs, which are {one_line(', '.join(known), 120)}"
        )
    clf.model.to(device_here(inputs.device))
    return clf
