"""`assay detect`: fit a detector or load one, score images or texts, say which are outliers."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field

from assay.config import Config, Number
from assay.core.classifier import Classifier
from assay.core.embedding import Embedding
from assay.data import Dataset
from assay.data.dataset import in_memory
from assay.data.loose import loose_images
from assay.data.textfiles import plain_texts
from assay.disk import writable, write_atomic
from assay.errors import AssayError, expanded
from assay.inputs import Inputs, load_network, load_part
from assay.ood import AnyDetector, FittedDetector
from assay.ood.neighbours import KNN
from assay.runs.display import say
from assay.workflows.texts import text_alone, text_model, text_part

FIELDS = ("score", "threshold", "decision")
DIGITS = 7
"""Significant digits of a score in CSV: those of float32, in which models answer."""


class DetectConfig(Config):
    """What scores images or texts, and where its threshold lies."""

    detector: AnyDetector = KNN()
    """What gives an input an OOD score: the higher, the more unlike the training data."""
    tpr: Number = Field(default=0.95, gt=0, lt=1)
    """The share of fresh inliers that the threshold lets through."""
    fitted_on: int = Field(default=5000, ge=1)
    """Reference images, or texts, that it is fitted on, and as many that the threshold is set by,
    at most."""
    autoencoder_epochs: int = Field(default=10, ge=1)
    """Passes over those images by which the autoencoder learns, of a detector that reads what one
    makes of an image: reconstruction, evidence-bound."""


def run(
    inputs: Inputs,
    config: DetectConfig,
    what: Path,
    *,
    texts: bool = False,
    save: Path | None,
    load: Path | None,
    lines: Literal["csv", "json"],
    out: Path | None,
    quiet: bool,
) -> int:
    """Score images or texts, write a line for each, and keep the detector.

    Args:
        inputs: the model, and as its data the reference; "" with `load`.
        config: the detector and its threshold, where none is loaded.
        what: the folder of images, or the file of texts.
        texts: whether it is texts.
        save: a file to keep the fitted detector in.
        load: one that was kept.
        lines: how they are written.
        out: a file for the lines; None prints them.
        quiet: say nothing besides.

    Raises:
        AssayError: for a model, a detector or images that cannot be used; nothing is written then.
    """
    for path in (save, out):
        if path is not None:
            writable(path.parent)
    names: Sequence[str]
    notes: tuple[str, ...] = ()
    if load is not None and texts:
        fitted, names, e = loaded_on_texts(load, inputs, what)
    elif load is not None:
        fitted, names, e, notes = _loaded(load, inputs, what)
    elif inputs.data and texts:
        fitted, names, e = fitted_on_texts(inputs, config, what)
    elif inputs.data:
        fitted, names, e, notes = _fitted(inputs, config, what)
    else:
        raise AssayError(
            "a detector learns what the training data looks like: give --reference DATA, or "
            "--load a detector that was kept by --save"
        )
    scores = fitted.score(e).tolist()
    kind = "text" if texts else "image"
    text = "".join(written(kind, names, scores, fitted.threshold, lines))
    for path in (save, out):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
    if save is not None:
        fitted.save(save)
    if out is not None:
        write_atomic(out, text.encode())
    else:
        sys.stdout.write(text)
    for note in () if quiet else (*notes, *told(kind, fitted, scores)):
        say(note)
    return 0


def written(
    kind: str,
    names: Sequence[str],
    scores: list[float],
    threshold: float,
    lines: Literal["csv", "json"],
) -> Iterator[str]:
    """Yield a line for each image or text (`kind`), as CSV after a header, or as JSON."""

    def row(values: tuple[object, ...]) -> str:
        file = io.StringIO()
        csv.writer(file, lineterminator="\n").writerow(cells(values))
        return file.getvalue()

    if lines == "csv":
        yield row((kind, *FIELDS))
    for name, score in zip(names, scores, strict=True):
        values = (name, score, threshold, "outlier" if score > threshold else "inlier")
        found = dict(zip((kind, *FIELDS), values, strict=True))
        yield json.dumps(found) + "\n" if lines == "json" else row(values)


def cells(values: tuple[object, ...]) -> list[object]:
    """Return what CSV says of a row's values, for people to read too: of a score no more digits
    than mean something. JSON, for programs, has all of them."""
    return [f"{value:.{DIGITS}g}" if isinstance(value, float) else value for value in values]


def told(kind: str, fitted: FittedDetector, scores: list[float]) -> Iterator[str]:
    """Yield what was found and what to know of it, a line each."""
    above = sum(score > fitted.threshold for score in scores)
    yield (
        f"{above:,} of {len(scores):,} {kind}s score above the threshold of "
        f"{fitted.detector.name}, {fitted.threshold:.6g}"
    )
    through = fitted.lets_through
    yield (
        f"of fresh inliers it lets {100 * through.value:.1f} % through, 95 % interval "
        f"{100 * through.low:.1f} to {100 * through.high:.1f} ({through.n:,} calibrated it)"
    )
    yield from fitted.notes


def refuse_validation(inputs: Inputs) -> None:
    """Refuse to fit a detector on the split that its threshold is set by."""
    if inputs.split == "validation":
        raise AssayError(
            "the threshold is set on the validation split, so the detector is fitted on another: "
            "--reference-split train"
        )


def refuse_another(path: Path, fitted: FittedDetector, fingerprint: str) -> None:
    """Refuse a detector that was kept for another model."""
    if fitted.about["model"] != fingerprint:
        raise AssayError(
            f"{path} was fitted on another model, or on this one with other weights or another "
            "preprocessing; scores of two models are not comparable: fit it again with --reference"
        )


Scored = tuple[FittedDetector, tuple[str, ...], Embedding, tuple[str, ...]]
"""A detector, the images it is to score by name and embedded, and what to know of the data."""


def _fitted(inputs: Inputs, config: DetectConfig, folder: Path) -> Scored:
    """Fit a detector on reference data, and read the images in their shape."""
    known = load_part(inputs, at_most=config.fitted_on).sample(config.fitted_on)
    clf = load_network(inputs, known)
    refuse_validation(inputs)
    held = load_part(inputs, "validation", at_most=config.fitted_on).sample(config.fitted_on)
    names, images = _images(inputs, folder, known.shape, clf)
    notes = tuple(dict.fromkeys((*known.notes, *held.notes, *images.notes)))
    readers = [config.detector]
    e, held_out = (clf.embed(part, readers=readers) for part in (known, held))
    about = {
        "model": clf.fingerprint,
        "shape": " ".join(map(str, known.shape)),
        "classes": json.dumps(clf.classes),
        "reference": f"{known.name} ({known.split}), {len(known):,} images",
    }
    if "autoencoder" not in config.detector.reads():
        fitted = config.detector.fit(e, calibrate=held_out, tpr=config.tpr)
        fitted = replace(fitted, about=about)
        return fitted, names, clf.embed(images, readers=[fitted]), notes
    from assay.tasks.reconstructing import trained, with_its_autoencoder

    model, network = trained(config.detector, known, config.autoencoder_epochs, str(clf.device))
    e, held_out = e.with_autoencoder(model), held_out.with_autoencoder(model)
    fitted = config.detector.fit(e, calibrate=held_out, tpr=config.tpr)
    fitted = with_its_autoencoder(replace(fitted, about=about), model, network)
    return fitted, names, clf.embed(images, readers=[fitted]).with_autoencoder(model), notes


def _loaded(path: Path, inputs: Inputs, folder: Path) -> Scored:
    """Read a detector that was kept, and the images in the shape that it is for."""
    fitted = FittedDetector.load(expanded(path))
    if fitted.about.get("reads") == "texts":
        raise AssayError(f"{path} was fitted on texts: give what it is to score by --texts FILE")
    if not {"model", "shape", "classes"} <= fitted.about.keys():
        raise AssayError(
            f"{path} does not say which model it is for: make it by assay detect --save, or use it "
            "from Python, by FittedDetector.load"
        )
    _ = fitted.threshold
    channels, height, width = map(int, fitted.about["shape"].split())
    shape = (channels, height, width)
    empty = torch.zeros(1, *shape, dtype=torch.uint8), torch.full((1,), -1)
    clf = load_network(
        inputs,
        in_memory("images", "all", json.loads(fitted.about["classes"]), *empty),
        labelled=False,
    )
    refuse_another(path, fitted, clf.fingerprint)
    names, images = _images(inputs, folder, shape, clf)
    e = clf.embed(images, readers=[fitted])
    if "autoencoder" in fitted.detector.reads():
        from assay.tasks.reconstructing import autoencoder_of

        e = e.with_autoencoder(autoencoder_of(fitted, path).to(clf.device))
    return fitted, names, e, images.notes


def _images(
    inputs: Inputs, folder: Path, shape: tuple[int, int, int], clf: Classifier
) -> tuple[tuple[str, ...], Dataset]:
    side, crop = inputs.scaling
    if side is not None and shape[1:] != (side, side):
        raise AssayError(
            f"--size {side} is not the size that the detector was fitted at, {shape[1]}×{shape[2]}"
        )
    names, images, notes = loose_images(
        folder, shape, scaled=side is not None, crop=crop, mode=inputs.interpolation
    )
    labels = torch.full((len(images),), -1)
    found = in_memory(folder.name, "all", clf.classes, images, labels)
    return names, replace(found, notes=notes)


def fitted_on_texts(
    inputs: Inputs, config: DetectConfig, file: Path
) -> tuple[FittedDetector, list[str], Embedding]:
    """Fit a detector on reference texts, and read and embed those to score."""
    if "inputs" in config.detector.reads():
        raise AssayError(
            f"{config.detector.name} looks at images themselves, and these are texts: take a "
            "detector that reads logits or features, such as knn"
        )
    texts = plain_texts(file)
    known = text_part(inputs, at_most=config.fitted_on)
    refuse_validation(inputs)
    held = text_part(inputs, "validation", at_most=config.fitted_on).sample(config.fitted_on)
    clf = text_model(inputs, known)
    known = known.sample(config.fitted_on)
    readers = [config.detector]
    e, held_out = (clf.embed(part, readers=readers) for part in (known, held))
    fitted = config.detector.fit(e, calibrate=held_out, tpr=config.tpr)
    about = {
        "model": clf.fingerprint,
        "reads": "texts",
        "reference": f"{known.name} ({known.split}), {len(known):,} texts",
    }
    fitted = replace(fitted, about=about)
    return fitted, texts, clf.embed(texts, readers=[fitted])


def loaded_on_texts(
    path: Path, inputs: Inputs, file: Path
) -> tuple[FittedDetector, list[str], Embedding]:
    """Read a detector that was kept, and read and embed the texts to score."""
    fitted = FittedDetector.load(expanded(path))
    if fitted.about.get("reads") != "texts":
        raise AssayError(f"{path} was not fitted on texts by assay detect: fit it by --reference")
    _ = fitted.threshold
    texts, clf = plain_texts(file), text_alone(inputs)
    refuse_another(path, fitted, clf.fingerprint)
    return fitted, texts, clf.embed(texts, readers=[fitted])
