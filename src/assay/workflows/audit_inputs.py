"""What an audit is of, read from what its command names: a model, its data, and reference data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from assay.core.texts import TextClassifier
from assay.data import Dataset
from assay.data.called import has_parts
from assay.data.textset import TextSet
from assay.errors import AssayError, NoSplit
from assay.inputs import Inputs, Loaded, load, load_part, mark
from assay.usercode import names_function
from assay.workflows.texts import reads_texts, text_model, text_part

REFERENCE_IMAGES = 2000
"""How many images detectors are fitted on, and how many calibrated on, at most."""


@dataclass(frozen=True)
class Parts:
    """The data of an audit.

    Attributes:
        part: what the model is audited on.
        reference, calibration: images and labels that detectors are fitted on, and that their
            thresholds are set by.
        marks: the fingerprint of each whole set, by its name.
        brought: how images were brought to what the model takes: size, crop, order of colours.
        notes: what is said of them, in lines.
    """

    part: Dataset | TextSet
    reference: tuple[Any, Tensor] | None
    calibration: tuple[Any, Tensor] | None
    marks: dict[str, str]
    brought: dict[str, Any]
    notes: tuple[str, ...] = ()


def opened(inputs: Inputs) -> tuple[Dataset | TextSet, Loaded | TextClassifier]:
    """Return the data of `inputs`, all of it, and the model.

    Raises:
        AssayError: one of them cannot be used, or they do not go together.
    """
    if reads_texts(inputs):
        texts = text_part(inputs)
        return texts, text_model(inputs, texts)
    images = load_part(inputs)
    return images, load(inputs, images)


def parts_of(inputs: Inputs, data: Dataset | TextSet, reference: str | None) -> Parts:
    """Return the images of `inputs`, and, where the model is a network, what its detectors learn.

    Args:
        inputs: the model and the data.
        data: all of the data.
        reference: the part that detectors are fitted on, or None; where it is "train", they are
            calibrated on the validation split, and data without it are audited as with None, as is
            the split "all".

    Raises:
        AssayError: it cannot be read.
    """

    texts = isinstance(data, TextSet)

    def other(split: str) -> Dataset | TextSet:
        read = text_part if texts else load_part
        return read(inputs, split, at_most=REFERENCE_IMAGES)

    shared = (
        "detectors are fitted and calibrated on two thirds of the audited "
        f"{'texts' if texts else 'images'}, and score the rest"
    )
    fitted, calibration = None, None
    notes: tuple[str, ...] = ()
    marks = {f"{data.name}/{inputs.split}": data.fingerprint}
    if inputs.only_queried or (names_function(inputs.data) and not has_parts(inputs.data)):
        reference = None  # what is scored must not be fitted on
    if inputs.split == "all" and reference is not None:
        reference = None  # likewise
        notes = (f"--split all leaves nothing else to learn from: {shared}",)
    if reference is not None:
        try:
            known = other(reference)
        except AssayError as error:
            if reference != "train" or not isinstance(error, NoSplit):
                raise AssayError(
                    f"{error}; detectors are fitted on it: name another part by --reference-split, "
                    "or none"
                ) from error
            reference = None
            notes = (f"{data.name} has no train split: {shared}",)
        else:
            fitted = known.take(REFERENCE_IMAGES)
            marks[f"{data.name}/{reference}"] = known.fingerprint
    if reference == "train" and inputs.split != "validation":
        held = other("validation")  # the model was not trained on it
        calibration = held.take(REFERENCE_IMAGES)
        marks[f"{data.name}/validation"] = held.fingerprint
    side, crop = (None, None) if texts else inputs.scaling
    brought = {} if texts else {"size": side, "crop": crop, "channels": inputs.channels}
    return Parts(data.sample(inputs.images), fitted, calibration, marks, brought, notes)


def known_as(model: Loaded | TextClassifier, inputs: Inputs) -> str:
    """Return what the model is known by: of a network, its weights."""
    own: str = getattr(model, "fingerprint", "")
    return own or ("" if isinstance(model, TextClassifier) else mark(inputs, model))
