"""The trial of the study of outliers: what every detector says of images near and far."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field, field_validator

from assay import stats
from assay.config import Config, Number
from assay.core.classifier import Classifier
from assay.core.embedding import Embedding, Reconstructs
from assay.core.images import digests
from assay.data.dataset import Dataset, to_float
from assay.data.outliers import CORRUPTED, is_read, outliers
from assay.errors import AssayError
from assay.models.autoencoder import Autoencoder, load_autoencoder
from assay.models.loading import load_model
from assay.ood import AnyDetector, Detector, FittedDetector
from assay.ood.confidence import MaxSoftmax
from assay.runs.trial import Outcome, Trial
from assay.runs.worker import Workspace
from assay.tasks.course_detect import as_the_course
from assay.tasks.outside import RAW, image_set, outside
from assay.tasks.train import settings, split
from assay.train.precision import computing

TASK = "detect"
SHOWN = 2
"""Images of each kind that are kept beside their reconstructions."""
FOOLED = 8
"""Outliers that each detector finds the most normal, at most two of a kind, that are kept."""


def uncorrupted(kinds: Iterable[str]) -> list[str]:
    """Return the kinds of outliers whose label does not hold any more: all but corruptions.

    Raises:
        ValueError: there is none.
    """
    found = [kind for kind in kinds if kind not in CORRUPTED]
    if not found:
        raise ValueError(
            "of corrupted images the label holds: name one kind that is no corruption too, such as "
            "uniform-noise"
        )
    return found


class ScoreOutliers(Config):
    """Which detectors, and which outliers."""

    VERSION = 1

    detectors: tuple[AnyDetector, ...] = Field(default=(MaxSoftmax(),), min_length=1)
    """The detectors; their settings are those of their papers, and never chosen by outliers."""
    outliers: tuple[str, ...] = Field(default=("uniform-noise",), min_length=1)
    """Kinds of outliers: names that are known, image sets, or `held-out`, the classes that the
    network was not trained on."""
    raw: tuple[str, ...] = ()
    """Those of them that are also shown without the codec that the set went through."""
    quality: int | None = 75
    """Quality of the JPEG that generated outliers pass through; none: they do not."""
    fitted_on: int = Field(default=5000, ge=50)
    """How many training images detectors learn from."""
    calibrated_on: int = Field(default=2000, ge=20)
    """How many validation images thresholds are set by."""
    inside: int = Field(default=2000, ge=20)
    """How many test images of the classes are scored, at most."""
    outside: int = Field(default=1000, ge=20)
    """How many outliers of each kind, at most."""
    tpr: Number = Field(default=0.95, gt=0, lt=1)
    """Share of images of the classes that a threshold lets through."""

    @field_validator("outliers")
    @classmethod
    def _not_corruptions_alone(cls, kinds: tuple[str, ...]) -> tuple[str, ...]:
        uncorrupted(kinds)
        return kinds

    def trials(
        self, needs: Sequence[tuple[Trial, ...]], label: str, size: int, channels: int
    ) -> list[Trial]:
        """Return the trials that score what each of these networks makes of outliers.

        Args:
            needs: for each trial the network's, then those of autoencoders.
            label: what people call them.
            size, channels: of the network's images: what outliers are brought to.

        Raises:
            AssayError: for a set of images that is not there.
        """
        names = {name: Path(name).name for name in self.outliers}
        read = {name: short for name, short in names.items() if is_read(name)}
        data = {
            f"{short}/outliers": image_set(name, (channels, size, size), self.outside).fingerprint
            for name, short in read.items()
        }
        used = [type(self), *dict.fromkeys(type(one) for one in self.detectors)]
        config = self.model_copy(
            update={"outliers": tuple(names.values()), "raw": tuple(names[n] for n in self.raw)}
        )
        return [
            Trial(
                task=TASK,
                config=config.model_dump(mode="json"),
                seed=network.seed,
                needs=(network, *autoencoders),
                data=network.data | data,
                places={**network.places, **{short: name for name, short in read.items()}},
                versions={kind.__name__: kind.VERSION for kind in used},
                device=network.device,
                threads=network.threads,
                label=label,
            )
            for network, *autoencoders in needs
        ]


@dataclass(frozen=True)
class Scorer:
    """A row of the tables: a detector, and which autoencoder it is handed.

    Attributes:
        name: what it is called: "reconstruction (ssim), variational".
        detector: its settings.
        autoencoder: the name of its autoencoder's kind; empty: it reads none.
    """

    name: str
    detector: Detector
    autoencoder: str


def scorers(detectors: Sequence[Detector], autoencoders: Sequence[str]) -> list[Scorer]:
    """Return the rows of a list of detectors; those by an autoencoder have one for each kind, and
    one that does not have what they need (a bound on the evidence) none."""
    found = []
    for detector in detectors:
        plain = type(detector).model_fields
        set_here = [
            str(value)
            for key, value in detector
            if key != "name" and value != plain[key].get_default(call_default_factory=True)
        ]
        name = f"{detector.name} ({', '.join(set_here)})" if set_here else detector.name
        if "autoencoder" not in detector.reads():
            found.append(Scorer(name, detector, ""))
            continue
        for kind in autoencoders:
            if detector.name == "evidence-bound" and kind != "variational":
                continue
            apart = f", {kind}" if detector.name != "evidence-bound" and kind != "conv" else ""
            found.append(Scorer(name + apart, detector, kind))
    return found


def detect(trial: Trial, work: Workspace) -> Outcome:
    """Fit every detector on training images, set its threshold, and score test images and outliers.

    Metrics: the network's accuracy on the test images used (`accuracy`, `n`), and whether it had
    collapsed; by detector and kind `auroc`, `aupr_in`, `aupr_out`, `fpr95` (outliers taken for
    inliers where 95 % of those are kept) and `flagged` (counts at the threshold; also of the test
    images, under "in"); by detector `aurc` and `threshold`; `failed`, the detectors that could not
    be used, with the reason; `duplicates`, outliers that are pixel for pixel test or training
    images; `counts` of each kind; `course`, the two AUROCs with its preprocessing.

    Arrays: `scores_in` and `scores_KIND` float32 (detectors, images), in the order of the metric
    `detectors`; `correct`; `image_ids`; images that fool most, and images with reconstructions.

    Raises:
        AssayError: for data that has changed since the trial was planned, or when no detector can
            be used.
    """
    config = ScoreOutliers.parse(trial.config, where="trial")
    with computing(trial.threads):
        bench = _Bench(trial, work, config)
        return bench.outcome()


class _Bench:
    """The network and its autoencoders, the images, and what is found of them."""

    def __init__(self, trial: Trial, work: Workspace, config: ScoreOutliers) -> None:
        self.trial, self.work, self.config = trial, work, config
        need, trained = trial.needs[0], work.needs[0]
        self.need, self.network = need, settings(need)
        self.classifier = load_model(trained.path("model.safetensors"))
        self.classifier.model.to(trial.device)
        self.autoencoders: dict[str, Autoencoder] = {}
        for other, result in zip(trial.needs[1:], work.needs[1:], strict=True):
            learning = other.config["learning"]
            name = "signed" if learning.get("signed") else learning["network"]["name"]
            self.autoencoders[name] = load_autoencoder(result.path("model.safetensors")).to(
                trial.device
            )
        self.parts = {name: self.images(name) for name in ("train", "validation", "test")}
        self.rows = scorers(config.detectors, [n for n in self.autoencoders if n != "signed"])
        self.failed: dict[str, str] = {}

    def images(self, name: str) -> Dataset:
        data = split(self.network, name, self.need.seed)
        if data.fingerprint != self.need.data[f"{self.need.config['data']}/{name}"]:
            raise AssayError(
                f"{self.need.config['data']} ({name}) has changed since the trial was planned"
            )
        wanted = {
            "train": self.config.fitted_on,
            "validation": self.config.calibrated_on,
            "test": self.config.inside,
        }
        return data.sample(min(wanted[name], len(data)), self.trial.seed)

    def outside(self, name: str, quality: int | None) -> Dataset:
        """Return the outliers of a kind, drawn by the trial's seed."""
        return outside(
            self.network, name, self.config.outside, self.trial, quality=quality, need=self.need
        )

    def kinds(self) -> Iterator[tuple[str, Dataset]]:
        for name in self.config.outliers:
            yield name, self.outside(name, self.config.quality)
        for name in self.config.raw:
            yield name + RAW, self.outside(name, None)

    def embed(self, data: Dataset, classifier: Classifier | None = None) -> Embedding:
        return (classifier or self.classifier).embed(data, readers=self.config.detectors)

    def handed(self, e: Embedding, row: Scorer) -> Embedding:
        if not row.autoencoder:
            return e
        found: Reconstructs = self.autoencoders[row.autoencoder]
        return e.with_autoencoder(found)

    def fit(self) -> dict[str, FittedDetector]:
        """Return what could be fitted and calibrated, by row; the others say why not."""
        train, validation = self.embed(self.parts["train"]), self.embed(self.parts["validation"])
        fitted = {}
        for row in self.rows:
            try:
                fitted[row.name] = row.detector.fit(
                    self.handed(train, row),
                    calibrate=self.handed(validation, row),
                    tpr=self.config.tpr,
                )
            except AssayError as error:
                self.failed[row.name] = str(error)
        return fitted

    def outcome(self) -> Outcome:
        fitted = self.fit()
        inside = self.embed(self.parts["test"])
        scores: dict[str, dict[str, np.ndarray[Any, Any]]] = {"in": {}}
        self.score(fitted, inside, scores["in"])
        pictures: dict[str, Dataset] = {}
        seen = self.known()
        duplicates: dict[str, int] = {}
        everything = list(self.kinds())
        for place, (name, data) in enumerate(everything):
            self.work.progress(place / len(everything), f"{len(data)} of {name}")
            scores[name] = {}
            self.score(fitted, self.embed(data), scores[name])
            duplicates[name] = sum(one in seen for one in digests(data.images))
            pictures[name] = data
        there = [row.name for row in self.rows if all(row.name in own for own in scores.values())]
        if not there:
            raise AssayError(f"no detector can be used: {'; '.join(self.failed.values())}")
        correct = (inside.predictions == self.parts["test"].labels).numpy()
        metrics: dict[str, Any] = {
            "detectors": there,
            "kinds": list(pictures),
            "counts": {"in": len(inside), **{name: len(data) for name, data in pictures.items()}},
            "accuracy": float(correct.mean()),
            "n": len(correct),
            "collapsed": self.work.needs[0].metrics["collapsed"],
            "failed": self.failed,
            "duplicates": {name: count for name, count in duplicates.items() if count},
            "threshold": {name: fitted[name].cut for name in there},
            "aurc": {name: stats.aurc(scores["in"][name], ~correct) for name in there},
            "flagged": {
                name: {
                    kind: int((own[name] > fitted[name].threshold).sum())
                    for kind, own in scores.items()
                }
                for name in there
            },
            **_judged(scores, there),
        }
        if "signed" in self.autoencoders:
            metrics["course"] = as_the_course(
                self.classifier, self.autoencoders, self.parts["test"], self.fake_data()
            )
        arrays = {
            f"scores_{name}": np.stack([own[one] for one in there]).astype(np.float32)
            for name, own in scores.items()
        }
        arrays |= {"correct": correct, "image_ids": self.parts["test"].ids.numpy()}
        arrays |= self.fooling(scores, there, pictures) | self.reconstructed(pictures)
        return Outcome(metrics, arrays)

    def score(self, fitted: dict[str, FittedDetector], e: Embedding, into: dict[str, Any]) -> None:
        for row in self.rows:
            if row.name in self.failed:
                continue
            try:
                into[row.name] = fitted[row.name].score(self.handed(e, row)).cpu().numpy()
            except AssayError as error:
                self.failed[row.name] = str(error)

    def known(self) -> set[bytes]:
        """Return the digests of all images of the classes, trained on or tested."""
        found: set[bytes] = set()
        for name in ("train", "test"):
            images = split(self.network, name, self.need.seed).images
            found.update(digests(images))
        return found

    def fake_data(self) -> Dataset:
        """Return the outliers that the course tested with."""
        shape, seed = self.parts["test"].shape, self.trial.seed
        return outliers("fake-data", shape, self.config.outside, seed=seed)

    def fooling(
        self,
        scores: dict[str, dict[str, np.ndarray[Any, Any]]],
        there: Sequence[str],
        pictures: dict[str, Dataset],
    ) -> dict[str, np.ndarray[Any, Any]]:
        """Return for each detector the outliers it finds the most normal: uint8 (D, F, C, H, W),
        and of which kind (an index) each is; corruptions, whose label holds, are left out."""
        kinds = uncorrupted(name for name in pictures if RAW not in name)
        images, which = [], []
        for one in there:
            ranked = sorted(
                (float(scores[name][one][row]), kinds.index(name), int(row))
                for name in kinds
                for row in np.argsort(scores[name][one], kind="stable")[:SHOWN]
            )[:FOOLED]
            images.append(
                torch.stack([pictures[kinds[kind]].images[row] for _, kind, row in ranked])
            )
            which.append([list(pictures).index(kinds[kind]) for _, kind, _ in ranked])
        few = min(map(len, which))
        return {
            "fooling_images": torch.stack([one[:few] for one in images]).numpy(),
            "fooling_kinds": np.array([one[:few] for one in which]),
        }

    def reconstructed(self, pictures: dict[str, Dataset]) -> dict[str, np.ndarray[Any, Any]]:
        """Return two images of each kind, test images first, and what autoencoders make of them."""
        some = {"in": self.parts["test"], **{n: d for n, d in pictures.items() if RAW not in n}}
        x = torch.cat([to_float(data.images[:SHOWN]) for data in some.values()])
        found = {"shown_images": x.numpy()}
        with torch.no_grad():
            for name, model in self.autoencoders.items():
                if name != "signed":
                    found[f"shown_{name}"] = model(x.to(self.trial.device)).cpu().numpy()
        return found


def _judged(
    scores: dict[str, dict[str, np.ndarray[Any, Any]]], there: Sequence[str]
) -> dict[str, Any]:
    """Return each measure by detector and kind."""
    found: dict[str, dict[str, dict[str, float]]] = {
        measure: {name: {} for name in there}
        for measure in ("auroc", "aupr_in", "aupr_out", "fpr95")
    }
    for kind, own in scores.items():
        if kind == "in":
            continue
        for name in there:
            inside, outside = scores["in"][name], own[name]
            found["auroc"][name][kind] = stats.auroc(inside, outside).value
            found["aupr_in"][name][kind] = stats.aupr(inside, outside, "in").value
            found["aupr_out"][name][kind] = stats.aupr(inside, outside, "out").value
            found["fpr95"][name][kind] = stats.fpr_at_tpr(inside, outside, 0.95).value
    return found
