"""The trial of a text classifier that is fine-tuned, as far as its adaptation says, and tested."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from assay import stats
from assay.config import Config
from assay.core.random import Stream
from assay.data.textset import TextSet
from assay.errors import AssayError
from assay.models.blocks import parameter_count
from assay.models.encoders import located
from assay.models.textnet import TextNetwork, save_text
from assay.runs.trial import Outcome, Trial
from assay.runs.worker import Workspace
from assay.tasks.augment_text import Exchange
from assay.tasks.texts import PARTS, part
from assay.tasks.trackers import runs_of
from assay.tasks.train import COLLAPSED
from assay.train import AdamW, Cosine, Recipe
from assay.train.fit import fit
from assay.train.precision import computing

TASK = "train-text"


class TrainText(Config):
    """A text classifier, the texts it learns from, and how."""

    VERSION = 1

    data: str = "rotten_tomatoes"
    """Data set: a name, a hub id, a folder or a file."""
    network: TextNetwork = TextNetwork()
    """The encoder, its head, and what of them is trained."""
    recipe: Recipe = Recipe(
        epochs=3,
        batch_size=32,
        optimizer=AdamW(lr=5e-5, weight_decay=0.01),
        schedule=Cosine(warmup=0.1),
        grad_clip=1.0,
    )
    """How it is trained."""
    train_texts: int | None = Field(default=None, ge=10)
    """How many training texts are used, drawn by each seed; none: all."""
    validation_texts: int | None = Field(default=None, ge=10)
    """How many validation texts it is measured on after every epoch, the same for every seed; none:
    all."""
    test_texts: int | None = Field(default=None, ge=10)
    """How many test texts it is tested on, the same for every seed; none: all."""
    exchanged: Exchange | None = None
    """Also train on copies with words exchanged (adversarial training by augmentation); none: do
    not."""
    validated: bool = True
    """Measure it on validation texts after every epoch."""
    tested: bool = True
    """Test it at the end; not where a learning rate is chosen."""
    kept: bool = True
    """Keep its weights, 91 MB of MiniLM where all are trained."""

    def trials(self, seeds: Iterable[int], device: str, label: str) -> list[Trial]:
        """Return the trials of this training with these seeds.

        Raises:
            AssayError: for a data set or an encoder that is not there.
        """
        short, base = Path(self.data).name, Path(self.network.base).name
        network = self.network.model_copy(update={"base": base})
        named = self.model_copy(update={"data": short, "network": network})
        used: tuple[type[Any], ...] = (
            *(type(self), TextNetwork, Recipe, type(self.network.adaptation)),
            *([] if self.exchanged is None else [Exchange]),
        )
        one = Trial(
            task=TASK,
            config=named.model_dump(mode="json", exclude_none=True),
            places={short: self.data, base: self.network.base},
            versions={kind.__name__: kind.VERSION for kind in used},
            device=device,
            threads=self.recipe.threads,
            label=label,
        )
        encoder = {base: located(self.network.base).digest}
        return [
            one.model_copy(
                update={
                    "seed": seed,
                    "data": encoder
                    | {f"{short}/{name}": self.part(name, seed).fingerprint for name in PARTS},
                }
            )
            for seed in seeds
        ]

    def part(self, name: str, seed: int) -> TextSet:
        """Return the texts of `train`, `validation` or `test` that a trial of this seed uses."""
        wanted = {
            "train": self.train_texts,
            "validation": self.validation_texts,
            "test": self.test_texts,
        }[name]
        found = part(self.data, name, wanted, seed if name == "train" else 0)
        if name == "train" and self.exchanged is not None:
            return self.exchanged.of(found, seed)
        return found


def settings(trial: Trial) -> TrainText:
    """Return the config of a trial, with data and encoder where they are found here."""
    config = TrainText.parse(trial.config, where="trial")
    base = config.network.base
    network = config.network.model_copy(update={"base": trial.places.get(base, base)})
    data = trial.places.get(config.data, config.data)
    return config.model_copy(update={"data": data, "network": network})


def train(trial: Trial, work: Workspace) -> Outcome:
    """Fine-tune, keep model.safetensors, and test once.

    Metrics: the history of the training; trained parameters, and all; test accuracy, loss,
    calibration error and n; whether it collapsed; what was done to texts that could not be taken as
    they are. Arrays: curves, which test texts are classified correctly, their logits, the
    confidence of each prediction, and their ids. Timings: of the training, and of the test.

    Raises:
        AssayError: for data that has changed since the trial was planned, or a loss that diverged.
    """
    config = settings(trial)
    parts = {name: config.part(name, trial.seed) for name in PARTS}
    check_unchanged(trial, parts)
    data = parts["train"]
    stream = Stream(trial.seed).child("text")
    with computing(config.recipe.threads):
        clf = config.network.classifier(data.classes, stream.child("init"), device=trial.device)
        started = time.perf_counter()
        run = runs_of(trial)
        history = fit(
            clf,
            data,
            parts["validation"] if config.validated else None,
            config.recipe,
            stream=stream.child("train"),
            checkpoint=work.checkpoint / "training.pt",
            progress=work.progress,
            trackers=run,
        )
        timings = {"training": time.perf_counter() - started}
        if history.diverged and not history.restored:
            raise AssayError(f"diverged: {history.diverged}")
        chance = 1 / len(data.classes)
        reached = history.train_accuracy[-1]
        metrics: dict[str, Any] = {
            "history": history.metrics(),
            "chance": chance,
            "parameters": parameter_count(clf.model),
            "parameters_in_all": sum(p.numel() for p in clf.model.parameters()),
            "n_train": len(data),
            "train_accuracy": reached,
            "collapsed": reached < COLLAPSED * chance,
        }
        metrics["why"] = "training accuracy stayed at chance" if metrics["collapsed"] else ""
        arrays = dict(history.arrays())
        if config.tested:
            started = time.perf_counter()
            logits = clf.query(list(parts["test"].texts))
            timings["test"] = time.perf_counter() - started
            found, more = tested(logits, parts["test"])
            metrics, arrays = metrics | found, arrays | more
            metrics["treated"] = list(clf.treatments())
    if config.kept:
        save_text(work.path("model.safetensors"), clf, config.network)
    for one in run:
        one.close(metrics, step=history.epochs)
    return Outcome(metrics, arrays, timings)


def check_unchanged(trial: Trial, parts: dict[str, TextSet]) -> None:
    """Refuse texts that are others than when the trial was planned."""
    for name, texts in parts.items():
        if texts.fingerprint not in trial.data.values():
            raise AssayError(f"{texts.name} ({name}) has changed since the trial was planned")


def tested(logits: Tensor, test: TextSet) -> tuple[dict[str, Any], dict[str, np.ndarray[Any, Any]]]:
    """Return metrics and arrays of logits (N, K) on the test texts."""
    y = test.labels
    said, p = logits.argmax(1), logits.softmax(1).amax(1)
    right = (said == y).numpy()
    return (
        {
            "test_accuracy": float(right.mean()),
            "test_loss": float(F.cross_entropy(logits, y)),
            "calibration_error": stats.calibration_error(p.numpy(), right),
            "n_test": len(right),
        },
        {
            "test_correct": right,
            "test_logits": logits.numpy(),
            "test_confidence": p.numpy(),
            "image_ids": test.ids.numpy().astype(np.int32),
        },
    )


def expected_seconds(config: TrainText) -> float:
    """Return about how long the trial takes on one core, from what one of ours was measured at: 48
    sentences a second in float32, 130 in bfloat16, three times as many forward alone."""
    rows = min(config.train_texts or math.inf, len(config.part("train", 0)))
    steps = 130.0 if config.recipe.precision == "bfloat16" else 48.0
    only_forward = config.network.adaptation.name == "head"
    rate = 3 * steps if only_forward else steps
    tests = len(config.part("test", 0)) if config.tested else 0
    held = len(config.part("validation", 0)) * config.recipe.epochs if config.validated else 0
    return rows * config.recipe.epochs / rate + (tests + held) / 150.0
