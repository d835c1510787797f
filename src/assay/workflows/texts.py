"""A text classifier and its texts, as commands are given them."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from assay.auditing import plausible, plausible_texts
from assay.config import digest
from assay.core.device import device_here
from assay.core.texts import TextClassifier
from assay.data.called import counted
from assay.data.classes import in_order
from assay.data.load import BUNDLED
from assay.data.load import HUB as IMAGES
from assay.data.loadtexts import HUB, load_texts
from assay.data.textfiles import SUFFIXES
from assay.data.textset import TextSet
from assay.errors import AssayError, expanded, one_line
from assay.inputs import Inputs
from assay.models.encoders import kinds_of
from assay.models.text import load_text
from assay.models.textnet import is_text
from assay.report.schema import Flag

OF_IMAGES = (
    *("size", "channels", "mean", "std", "weights", "model_args", "trust_program", "outputs"),
    *("access", "timeout", "header", "wire", "concurrency", "rate", "max_queries"),
)
"""Settings of inputs that a text model has none of."""

LOOKED_AT = 256
"""Texts by which it is seen whether a model is given what it was trained on."""


@dataclass(frozen=True)
class Loaded:
    """A text model, what is asked of it, and what there is to know of both."""

    clf: TextClassifier
    data: TextSet
    notes: tuple[str, ...]

    @property
    def texts(self) -> list[str]:
        return list(self.data.texts)


def reads_texts(inputs: Inputs) -> bool:
    """Return whether the model is a text classifier: a file that `assay train --model` wrote; a
    folder of Hugging Face's that says so or has a tokenizer; whatever is given texts by their name
    or file; or an id on the hub whose settings say so, unless the data are known to be images."""
    path = expanded(inputs.model)
    if path.suffix == ".safetensors":
        return path.is_file() and is_text(path)
    if path.is_dir():
        tokenized = any((path / name).is_file() for name in ("tokenizer.json", "vocab.txt"))
        return tokenized and not any("ForImage" in kind for kind in kinds_of(path))
    if ".py:" in inputs.model or "://" in inputs.model or path.is_file():
        return False
    if inputs.data in HUB or Path(inputs.data).suffix.lower() in SUFFIXES:
        return True
    if inputs.data in (*BUNDLED, *IMAGES) or not re.fullmatch(r"[\w.-]+/[\w.-]+", inputs.model):
        return False
    return any(kind.endswith("ForSequenceClassification") for kind in kinds_of(inputs.model))


def text_part(inputs: Inputs, split: str | None = None, *, at_most: int | None = None) -> TextSet:
    """Return a part of the texts, all of it; of what a function gives, `at_most` (None: as many as
    `inputs` says). Of its labels `classes` gives the order."""
    data = load_texts(inputs.data, split=split or inputs.split, at_most=at_most or inputs.images)
    return data if not inputs.classes else in_order(data, inputs.classes)


def text_alone(inputs: Inputs) -> TextClassifier:
    """Return the model on its device, whatever texts it is for.

    Raises:
        AssayError: it cannot be read, or a setting is of images.
    """
    for name in OF_IMAGES:
        if getattr(inputs, name) != Inputs.model_fields[name].default:
            raise AssayError(
                f"--{name.replace('_', '-')} is for models of images, but {inputs.model} reads "
                "texts"
            )
    if inputs.threads is not None:
        torch.set_num_threads(inputs.threads)
    clf = load_text(inputs.model, classes=inputs.classes or None, batch_size=inputs.batch_size)
    clf.model.to(device_here(inputs.device))
    return clf


def text_model(inputs: Inputs, data: TextSet) -> TextClassifier:
    """Return the model on its device, if it is for these texts.

    Raises:
        AssayError: likewise, or the classes are others, or in another order.
    """
    clf = text_alone(inputs)
    clf.query(list(data.texts[:1]))  # a model without named classes knows them once it has answered
    clf.treated.clear()
    known = clf.classes
    more = counted(inputs.data, data.classes) and len(known) > len(data.classes)
    if len(known) != len(data.classes) and not more:
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
            + (f": give --classes {shlex.join(known)}" if set(known) == set(data.classes) else "")
        )
    return clf


def loaded(inputs: Inputs) -> Loaded:
    """Return the text model and a stable random subset of its texts.

    Raises:
        AssayError: likewise, or the texts cannot be read.
    """
    data = text_part(inputs)
    clf = text_model(inputs, data)
    if counted(inputs.data, data.classes):
        data = replace(data, classes=clf.classes)
    some = data if inputs.images >= len(data) else data.sample(inputs.images)
    return Loaded(clf, some, (*data.notes, *clf.notes))


def as_read(given: Loaded) -> Loaded:
    """Return the same with texts that are cut to what the model reads, and a note of how many were:
    what is changed or left out elsewhere can change nothing."""
    clf, data = given.clf, given.data
    tokens = clf.tokens(given.texts)
    texts = [
        text[min((a for a, b in spans if b), default=0) : max(b for _, b in spans)]
        if "cut" in done
        else text
        for text, spans, done in zip(given.texts, tokens.spans, tokens.treated, strict=True)
    ]
    cut = sum("cut" in done for done in tokens.treated)
    if not cut:
        return given
    mark = digest([data.fingerprint, clf.max_length])
    are = "is" if cut == 1 else "are"
    note = f"{cut:,} of {len(texts):,} texts {are} cut to what the model reads"
    note += f" ({clf.max_length} tokens)"
    data = replace(data, texts=tuple(texts), fingerprint=mark)
    return Loaded(clf, data, (*given.notes, note))


def doubts(given: Loaded) -> list[str]:
    """Return the reasons to think that the model is not given what it was trained on, a line each,
    by at most `LOOKED_AT` of the texts; where one has no label, whether it answers alike twice."""
    clf, some = given.clf, given.data.sample(LOOKED_AT)
    treated = clf.treated.copy()
    if bool((given.data.labels < 0).any()):
        found: tuple[Flag, ...] = (plausible.asked_again(clf, list(some.texts)),)
    else:
        said = clf.predict(list(some.texts))
        found = plausible_texts.looked_at(clf, some.texts, some.labels, said, some.classes)
    clf.treated = treated  # they are counted where they are attacked or explained
    return plausible.warnings(found)
