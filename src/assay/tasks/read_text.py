"""The trial of a classical classifier on frozen features, or on counted words: scikit-learn's."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from assay.config import Config, Number
from assay.core.random import Stream
from assay.errors import AssayError
from assay.runs.trial import Outcome, Trial
from assay.runs.worker import Workspace
from assay.tasks.text_features import FILE, Layer, Pooling, read_features
from assay.tasks.texts import PARTS, part
from assay.tasks.train_text import check_unchanged, tested

TASK = "read-text"

Positive = Annotated[Number, Field(gt=0)]


class Logistic(Config):
    """Logistic regression on standardised features, its penalty chosen on validation."""

    name: Literal["logistic"] = "logistic"
    """The classifier."""
    grid: tuple[Positive, ...] = (0.001, 0.01, 0.1, 1.0)
    """Inverse penalties C that are tried."""

    def made(self, value: float, seed: int) -> Any:
        """Return the classifier with one setting of the grid."""
        from sklearn.linear_model import LogisticRegression

        return _scaled(LogisticRegression(C=value, max_iter=500, random_state=seed))


class LinearSVM(Config):
    """A linear support vector machine on standardised features (squared hinge loss)."""

    name: Literal["svm"] = "svm"
    """The classifier."""
    grid: tuple[Positive, ...] = (0.00003, 0.0003, 0.003)
    """Inverse penalties C that are tried."""

    def made(self, value: float, seed: int) -> Any:
        """Return the classifier with one setting of the grid."""
        from sklearn.svm import LinearSVC

        return _scaled(LinearSVC(C=value, dual=False, random_state=seed))


class Forest(Config):
    """A random forest (Breiman 2001), the size of its leaves chosen on validation."""

    name: Literal["forest"] = "forest"
    """The classifier."""
    trees: int = Field(default=200, ge=1)
    """How many trees."""
    grid: tuple[int, ...] = (1, 5)
    """Least numbers of texts in a leaf that are tried."""

    def made(self, value: float, seed: int) -> Any:
        """Return the classifier with one setting of the grid."""
        from sklearn.ensemble import RandomForestClassifier

        return RandomForestClassifier(
            n_estimators=self.trees, min_samples_leaf=int(value), random_state=seed, n_jobs=1
        )


class WordCounts(Config):
    """TF-IDF of words and pairs of words, and logistic regression: the floor without an encoder."""

    name: Literal["tf-idf"] = "tf-idf"
    """The classifier."""
    grid: tuple[Positive, ...] = (0.3, 1.0, 3.0, 10.0)
    """Inverse penalties C that are tried."""

    def made(self, value: float, seed: int) -> Any:
        """Return the classifier with one setting of the grid."""
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\S+")
        return make_pipeline(words, LogisticRegression(C=value, max_iter=500, random_state=seed))


Reader = Annotated[Logistic | LinearSVM | Forest | WordCounts, Field(discriminator="name")]


class ReadText(Config):
    """A classical classifier, what it reads of a text, and how many texts it learns from."""

    VERSION = 1

    data: str = "rotten_tomatoes"
    """Data set: a name, a hub id, a folder or a file."""
    reader: Reader = Logistic()
    """The classifier."""
    layer: Layer = -1
    """The layer whose features it reads: 0 the embeddings, then the blocks from 1; -1 the last; or
    all, side by side."""
    pooling: Pooling = "mean"
    """What of them: the mean over the text's tokens, or the first (CLS)."""
    train_texts: int | None = Field(default=None, ge=10)
    """How many training texts are used, drawn by each seed; none: all."""
    validation_texts: int | None = Field(default=None, ge=10)
    """How many validation texts, the same for every seed; none: all."""
    test_texts: int | None = Field(default=None, ge=10)
    """How many test texts, the same for every seed; none: all."""

    def trials(
        self, seeds: Iterable[int], features: Trial | None, label: str, threads: int = 1
    ) -> list[Trial]:
        """Return the trials with these seeds; `features` is that of `TextFeatures`, if it reads
        any."""
        short = Path(self.data).name
        named = self.model_copy(update={"data": short})
        return [
            Trial(
                task=TASK,
                config=named.model_dump(mode="json", exclude_none=True),
                seed=seed,
                needs=() if features is None else (features,),
                places={short: self.data},
                data={f"{short}/{name}": self.texts(name, seed).fingerprint for name in PARTS},
                versions={"ReadText": self.VERSION, type(self.reader).__name__: 1},
                threads=threads,
                label=label,
            )
            for seed in seeds
        ]

    def texts(self, name: str, seed: int) -> Any:
        """Return the texts of a split that a trial of this seed uses."""
        wanted = {
            "train": self.train_texts,
            "validation": self.validation_texts,
            "test": self.test_texts,
        }
        return part(self.data, name, wanted[name], seed if name == "train" else 0)


def read(trial: Trial, work: Workspace) -> Outcome:
    """Fit at every setting of the grid, keep the best on validation, and test that one once.

    Metrics and arrays: as those of a fine-tuned classifier, where the classifier gives
    probabilities; what was chosen, and the validation accuracy of each setting. Timings: of fitting
    the chosen one, and of the whole grid.
    """
    config = ReadText.parse(trial.config, where="trial")
    config = config.model_copy(update={"data": trial.places.get(config.data, config.data)})
    parts = {name: config.texts(name, trial.seed) for name in PARTS}
    check_unchanged(trial, parts)
    x = {name: _inputs(config, texts, name, work) for name, texts in parts.items()}
    y = {name: texts.labels.numpy() for name, texts in parts.items()}
    seed = Stream(trial.seed).child("reader").integer() % 2**31
    began = time.perf_counter()
    scores, fitted, seconds = [], [], []
    for done, value in enumerate(config.reader.grid):
        work.progress(done / len(config.reader.grid), f"{config.reader.name} at {value:g}")
        started = time.perf_counter()
        model = config.reader.made(value, seed).fit(x["train"], y["train"])
        seconds.append(time.perf_counter() - started)
        scores.append(float((model.predict(x["validation"]) == y["validation"]).mean()))
        fitted.append(model)
    best = max(range(len(scores)), key=lambda place: (scores[place], -place))
    metrics, arrays = _tested(fitted[best], x["test"], parts["test"])
    classes = len(parts["train"].classes)
    metrics |= {
        "chosen": float(config.reader.grid[best]),
        "validation_accuracies": scores,
        "chance": 1 / classes,
        "parameters": _count(fitted[best]),
        "n_train": len(parts["train"]),
        "collapsed": False,
        "why": "",
    }
    timings = {"fitting": seconds[best], "grid": time.perf_counter() - began}
    return Outcome(metrics, arrays, timings)


def _inputs(config: ReadText, texts: Any, name: str, work: Workspace) -> Any:
    """Return the texts themselves, or their features float32 (N, D)."""
    if isinstance(config.reader, WordCounts):
        return list(texts.texts)
    if not work.needs:
        raise AssayError(f"{config.reader.name} reads features, but the trial needs none")
    kept = read_features(work.needs[0].path(FILE), config.layer, config.pooling)[name]
    place = {row: at for at, row in enumerate(kept["ids"].tolist())}
    rows = torch.tensor([place[row] for row in texts.ids.tolist()])
    return kept["x"][rows].numpy()


def _tested(model: Any, x: Any, test: Any) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    if hasattr(model, "predict_proba"):
        p = np.asarray(model.predict_proba(x), dtype=np.float64)
        logits: Tensor = torch.from_numpy(np.log(np.maximum(p, 1e-12))).float()
        return tested(logits, test)
    right = np.asarray(model.predict(x)) == test.labels.numpy()
    return (
        {"test_accuracy": float(right.mean()), "n_test": len(right)},
        {"test_correct": right, "image_ids": test.ids.numpy().astype(np.int32)},
    )


def _count(model: Any) -> int:
    """Return how many numbers a linear model has learned, or how many leaves a forest has."""
    last = model[-1] if isinstance(model, Sequence) or hasattr(model, "steps") else model
    if hasattr(last, "coef_"):
        return int(last.coef_.size + last.intercept_.size)
    return int(sum(tree.get_n_leaves() for tree in last.estimators_))


def _scaled(model: Any) -> Any:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), model)
