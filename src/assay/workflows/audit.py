"""An audit from the command line: load, audit, keep in the store, say what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from rich.console import Console

from assay.auditing.conduct import Audit, Tick, audit
from assay.auditing.config import AuditConfig
from assay.config import digest
from assay.core.classifier import Classifier
from assay.data import Dataset, load_data
from assay.data.dataset import to_float
from assay.errors import AssayError, one_line
from assay.models.loading import load_model, saved
from assay.report.terminal import summary
from assay.runs.files import writable
from assay.runs.store import Store

FailOn = Literal["never", "fail", "undecided"]

REFERENCE_IMAGES = 2000
"""How many images detectors are fitted on, and how many calibrated on, at most."""


@dataclass(frozen=True)
class Subject:
    """What is audited, as it was named.

    Attributes:
        model: path.safetensors made by assay, or file.py:factory.
        weights: weights for a factory, or None.
        mean, std: normalisation of a factory's model, or None.
        outputs: what a factory's model returns.
        data, split, images: the data set, its part, and how many of its images.
        reference: the part that detectors are fitted on, or None.
        title: what the report is called; "" names model and data.
    """

    model: str
    data: str
    weights: Path | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    outputs: Literal["logits", "probabilities"] = "logits"
    split: str = "test"
    images: int = 1000
    reference: str | None = "train"
    title: str = ""


def run(
    subject: Subject,
    config: AuditConfig,
    *,
    store: Path,
    out: Path | None,
    fail_on: FailOn,
    quiet: bool,
    command: str,
) -> int:
    """Audit, write the report, record it in the store; return the exit code of the policy."""
    home = Store(store)
    if out is not None:
        writable(out)
    data = load_data(subject.data, split=subject.split)
    clf = load(subject, data)
    console = Console(stderr=True, quiet=quiet, highlight=False)
    with console.status("auditing") as status:

        def tick(doing: str) -> None:
            status.update(doing)
            if not console.is_terminal:
                console.print(f"  {doing}", markup=False)

        found = examine(subject, clf, data, config, command=command, progress=tick)
    page = keep(found, subject, config, home, out)
    if not quiet:
        Console(highlight=False).print(summary(found.report))
    print(page)
    return policy(found, fail_on)


def load(subject: Subject, data: Dataset, *, labelled: bool = True) -> Classifier:
    """Return the model of `subject`; the classes of a factory's model are those of the data.

    Raises:
        AssayError: for what cannot be loaded, or data that it is not for: whose labels, if they are
            used (`labelled`), are not those of a file of ours.
    """
    ours = subject.model.endswith(".safetensors")
    clf = load_model(
        subject.model,
        weights=subject.weights,
        classes=None if ours else data.classes,
        mean=subject.mean,
        std=subject.std,
        outputs=subject.outputs,
    )
    if ours:
        _fits(subject.model, clf, data, labelled)
    return clf


def _fits(model: str, clf: Classifier, data: Dataset, labelled: bool) -> None:
    channels = saved(model).in_shape[0]
    if channels != data.shape[0]:
        raise AssayError(
            f"{model} takes images of {channels} channel{'s' * (channels > 1)}, but those of "
            f"{data.name} have {data.shape[0]}"
        )
    if not labelled:
        return
    own, others = clf.classes, data.classes
    if len(own) != len(others):
        raise AssayError(
            f"{model} has {len(own)} classes ({one_line(', '.join(own), 80)}), but {data.name} has "
            f"{len(others)} ({one_line(', '.join(others), 80)}): the labels do not fit its outputs"
        )
    moved = next((name for k, name in enumerate(own) if name in others and others[k] != name), None)
    if moved is not None:
        raise AssayError(
            f"class {moved!r} has another place in {data.name} than in {model}, so the labels do "
            f"not fit its outputs, which are {one_line(', '.join(own), 120)}"
        )


def examine(
    subject: Subject,
    clf: Classifier,
    data: Dataset,
    config: AuditConfig,
    *,
    command: str,
    progress: Tick | None = None,
) -> Audit:
    """Audit the classifier on the images that `subject` asks for."""
    part = data.sample(subject.images)
    reference, calibration = None, None
    marks = {f"{data.name}/{subject.split}": data.fingerprint}
    if subject.reference is not None:
        try:
            known = load_data(subject.data, split=subject.reference)
        except AssayError as error:
            raise AssayError(
                f"{error}; detectors are fitted on it: name another part by --reference-split, or "
                "none"
            ) from error
        reference = known.take(REFERENCE_IMAGES)
        marks[f"{data.name}/{subject.reference}"] = known.fingerprint
    if subject.reference == "train" and subject.split != "validation":
        held = load_data(subject.data, split="validation")  # the model was not trained on it
        calibration = held.take(REFERENCE_IMAGES)
        marks[f"{data.name}/validation"] = held.fingerprint
    return audit(
        clf,
        to_float(part.images),
        part.labels,
        reference=reference,
        calibration=calibration,
        masks=part.masks,
        config=config,
        title=subject.title or f"{Path(subject.model).name} on {data.name}",
        command=command,
        data=marks,
        progress=progress,
    )


def keep(
    found: Audit, subject: Subject, config: AuditConfig, store: Store, out: Path | None
) -> Path:
    """Write the report to the run's folder in the store, or to `out`; run.json last."""
    made = found.report.made
    identity = {
        "model": made.model,
        "data": made.data,
        "images": subject.images,
        "config": config.model_dump(mode="json"),
        "torch": torch.__version__,
    }
    address = digest(identity)
    folder = store.run_folder("audit", subject.title or Path(subject.model).stem, address)
    page = found.save((out or folder) / "report.html")
    store.save_run(
        "audit",
        folder.name,
        {
            "name": found.report.title,
            "address": address,
            "config": identity,
            "trials": [],
            "checks": [check.model_dump(mode="json") for check in found.checks],
            "headline": found.report.summary,
            "report": str(page.absolute()),
        },
    )
    return page


def policy(found: Audit, fail_on: FailOn) -> int:
    """Return 1 if a check's verdict is one that the user does not accept."""
    refused = {
        "never": set[str](),
        "fail": {"fail"},
        "undecided": {"fail", "undecided", "not run"},
    }[fail_on]
    return int(any(check.verdict in refused for check in found.checks))
