"""The trial that most studies need: a network trained on a data set, then tested once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field, field_validator, model_validator

from assay.attacks import AnyAttack, Attack
from assay.config import Config
from assay.core.classifier import Classifier
from assay.core.fast import versions
from assay.core.random import Stream
from assay.data.augment import Augmentation, NoAugmentation
from assay.data.dataset import Dataset
from assay.errors import AssayError
from assay.models import CNN, Network
from assay.models.autoencoder import load_autoencoder
from assay.models.blocks import parameter_count
from assay.models.saved import save_model
from assay.runs.trial import Outcome, Trial
from assay.runs.worker import Workspace
from assay.tasks.adversaries import (
    NFGSM,
    Hardening,
    Mixed,
    StaticMix,
    against,
    check_hardening,
    check_moves_all,
    mix,
    rivals,
)
from assay.tasks.autoencode import TrainAutoencoder
from assay.tasks.feature_space import FeatureSpace
from assay.tasks.images import BY_SEED, fingerprint, part
from assay.tasks.tested import certified, evaluate, robustness
from assay.tasks.trackers import runs_of
from assay.train import IBP, Recipe, Watch
from assay.train.fit import fit
from assay.train.precision import computing
from assay.train.recipe import PLAIN
from assay.train.resolve import resolve
from assay.train.training import Augment

TASK = "train"

COLLAPSED = 1.25
"""A network has collapsed when its training accuracy ends below this multiple of chance; one that
was trained on attacked images, or by bounds, when its validation accuracy does too."""

ROBUST_TESTED = 500
"""How many validation images the adversary of a training is evaluated on at its end."""

PREPARED = 2000
"""How many training images a network that takes something from them beforehand is shown."""


class TrainNetwork(Config):
    """A network, the data it learns from, and how."""

    VERSION = 2

    data: str = "cifar10"
    """Data set: a bundled name, a hub id or a folder."""
    network: Network = CNN()
    """The architecture."""
    recipe: Recipe = Recipe()
    """How it is trained."""
    augmentation: Augmentation = NoAugmentation()
    """What is done to training images."""
    features: FeatureSpace | None = None
    """Replace some training images by new ones from a learned feature space, before the
    augmentation; none: do not."""
    adversary: AnyAttack | None = None
    """Train on images that this attack has moved, each batch against the network as it then is
    (Madry et al. 2018); none: on the images as they are."""
    hardening: Hardening | None = None
    """Other ways to harden it: n-fgsm, one step from noise, or static-mix, a share of the images
    attacked once and beforehand; none: neither."""
    train_images: int | None = Field(default=None, ge=10)
    """How many training images are used, a stable random subset; none: all."""
    test_images: int | None = Field(default=None, ge=10)
    """How many test images are used, likewise."""
    images_by_seed: bool | None = None
    """Each seed draws these subsets anew, so that seeds are a sample of images too; none: every
    seed gets the same ones."""
    size: int | None = Field(default=None, ge=1)
    """Scale the shorter side of every image to so many pixels and crop the middle square; none:
    images stay as they are, and must be of one size."""
    without: tuple[int, ...] | None = None
    """Leave out every image of these classes, by their numbers in the whole set, of training,
    validation and test: the network never hears of them; none: all classes are there."""
    watch: Watch | None = None
    """Measure losses, gradients, weights and activations while it trains; none: do not."""
    train_tested: bool | None = None
    """Test the final network on its training images too, a fifth of the time of a short training;
    none: do."""

    @model_validator(mode="after")
    def _space_of_these_images(self) -> TrainNetwork:
        if self.size is not None and self.features is not None:
            raise ValueError(
                "a feature space is learned from images as they are: drop features or size"
            )
        return self

    @model_validator(mode="after")
    def _goes_together(self) -> TrainNetwork:
        check_hardening(self.adversary, self.hardening, self.recipe)
        if isinstance(self.hardening, StaticMix) and self.features is not None:
            raise ValueError("static-mix keeps its images, features replaces them: drop one")
        return self

    @property
    def moves(self) -> AnyAttack | NFGSM | None:
        """What attacks each batch; none: nothing."""
        return self.hardening if isinstance(self.hardening, NFGSM) else self.adversary

    @field_validator("adversary")
    @classmethod
    def _moves_all(cls, adversary: Attack | None) -> Attack | None:
        if adversary is not None:
            check_moves_all(adversary)
        return adversary

    def trial(self, seed: int, device: str, label: str) -> Trial:
        """Return the trial of this network with this seed.

        Raises:
            AssayError: for a data set that is not there.
        """
        (trial,) = self.trials((seed,), device, label)
        return trial

    def trials(
        self,
        seeds: Iterable[int],
        device: str,
        label: str,
        marks: Mapping[int, Mapping[str, str]] | None = None,
    ) -> list[Trial]:
        """Return the trials of this network with these seeds.

        Args:
            marks: what `fingerprints` returns, where it is known already.
        """
        seeds = list(seeds)
        short = Path(self.data).name
        # With all images there is nothing to draw: no other address than without the setting.
        drawn = True if self.draws else None
        named = self.model_copy(update={"data": short, BY_SEED: drawn})
        used: list[type[Config]]
        used = [type(self), type(self.network), Recipe, type(self.augmentation)]
        if self.adversary is not None:
            used.append(type(self.adversary))
        if self.hardening is not None:
            used.append(type(self.hardening))
        if isinstance(self.hardening, StaticMix):
            used.append(type(self.hardening.attack))
        copied = versions(self.recipe) if self.moves is not None else {}
        if self.features is not None:
            used.append(FeatureSpace)
        if self.recipe.loss != PLAIN:
            used.append(type(self.recipe.loss))
        marks = marks or self.fingerprints(seeds)
        one = Trial(
            task=TASK,
            # Without what is none: a setting that is new, and not used, changes no address.
            config=named.model_dump(mode="json", exclude_none=True),
            places={short: self.data},
            versions={kind.__name__: kind.VERSION for kind in used} | copied,
            device=device,
            threads=self.recipe.threads,
            label=label,
        )
        return [
            one.model_copy(
                update={"seed": seed, "data": dict(marks[seed]), "needs": self._needs(seed, device)}
            )
            for seed in seeds
        ]

    @property
    def draws(self) -> bool:
        """Whether each seed draws images of its own: not where all images are used."""
        return bool(self.images_by_seed) and (self.train_images or self.test_images) is not None

    def _needs(self, seed: int, device: str) -> tuple[Trial, ...]:
        """Return the trial of the autoencoder, or of the network that a static mix is made on, on
        the same images, where there is one."""
        if isinstance(self.hardening, StaticMix):
            natural = self.model_copy(update={"hardening": None, "watch": None})
            return (natural.trial(seed, device, "network that the mix is made on"),)
        if self.features is None:
            return ()
        learnt = TrainAutoencoder(
            data=self.data,
            learning=self.features.learning,
            train_images=self.train_images,
            images_by_seed=self.images_by_seed if self.train_images is not None else None,
            without=self.without,
        )
        return (learnt.trial(seed, device, self.recipe.threads),)

    def fingerprints(self, seeds: Iterable[int]) -> dict[int, dict[str, str]]:
        """Return the fingerprint of each part of the data that a trial reads, for each seed."""
        short = Path(self.data).name
        found: dict[int, dict[str, str]] = {}
        for seed in seeds:
            drawn = seed if self.draws else 0
            if drawn not in found:
                found[drawn] = {
                    f"{short}/{part}": fingerprint(
                        self.data,
                        part,
                        self.wanted(part),
                        drawn,
                        size=self.size,
                        without=self.without or (),
                    )
                    for part in SPLITS
                }
            found[seed] = found[drawn]
        return found

    def wanted(self, part: str) -> int | None:
        """Return how many images of `train`, `validation` or `test` are used; None: all."""
        return {"train": self.train_images, "test": self.test_images}.get(part)

    def rows(self) -> int:
        """Return how many images an epoch trains on."""
        return len(split(self, "train"))

    def settled(self, device: str) -> Recipe:
        """Return the recipe with every `auto` measured: an address holds what was decided.

        Call it once for a whole study: two measurements may decide differently.
        """
        if "auto" not in (self.recipe.precision, self.recipe.memory_format):
            return self.recipe
        data = split(self, "train")
        model = self.network.build(data.shape, len(data.classes), Stream(0).child("probe"))
        rows = min(self.recipe.batch_size, len(data))
        batch = (torch.rand(rows, *data.shape), torch.zeros(rows, dtype=torch.int64))
        return resolve(self.recipe, model.to(device), batch)


SPLITS = ("train", "validation", "test")


def settings(trial: Trial) -> TrainNetwork:
    """Return the config of a trial, with its data where it is found here."""
    config = TrainNetwork.parse(trial.config, where="trial")
    return config.model_copy(update={"data": trial.places.get(config.data, config.data)})


def split(config: TrainNetwork, name: str, seed: int = 0) -> Dataset:
    """Return the part of the data that a trial of this seed uses as `train`, `validation` or
    `test`."""
    drawn = seed if config.draws else 0
    return part(
        config.data,
        name,
        config.wanted(name),
        drawn,
        size=config.size,
        without=config.without or (),
    )


def train(trial: Trial, work: Workspace) -> Outcome:
    """Train, keep model.safetensors, and test once.

    Metrics: the history of the training; test accuracy, loss and n; the same of the final network
    on its training images in eval mode (degradation is about training error, He et al. 2015);
    whether it collapsed; with an adversary, robust accuracy and n on validation images; trained by
    interval bounds, the share of test images that they certify. Arrays:
    curves, what was measured on the way, which test images are classified correctly, the
    confidence of each prediction, and their ids in the whole test set.

    Raises:
        AssayError: for data that has changed since the trial was planned, or a loss that diverged.
    """
    config = settings(trial)
    parts = {name: split(config, name, trial.seed) for name in SPLITS}
    for name, images in parts.items():
        expected = trial.data[f"{trial.config['data']}/{name}"]
        if images.fingerprint != expected:
            raise AssayError(f"{config.data} ({name}) has changed since the trial was planned")
    data = parts["train"]
    stream = Stream(trial.seed).child("network")
    with computing(config.recipe.threads):
        model = config.network.build(data.shape, len(data.classes), stream.child("init"))
        classifier = Classifier(
            model.to(trial.device), mean=data.mean, std=data.std, classes=data.classes
        )
        prepare = getattr(config.network, "prepare", None)
        if prepare is not None:
            prepare(classifier.model, classifier.normalise(data.take(PREPARED)[0]))
        run = runs_of(trial)
        mixed = mix(config.hardening, data, trial, work)
        history = fit(
            classifier,
            data,
            parts["validation"],
            config.recipe,
            stream=stream.child("train"),
            checkpoint=work.checkpoint / "training.pt",
            progress=work.progress,
            augment=augmentation(config, data, trial, work, mixed),
            adversary=against(config.moves, config.recipe),
            rivals=rivals(config.moves, config.recipe),
            watch=config.watch,
            trackers=run,
        )
        if history.diverged and not history.restored:
            raise AssayError(f"diverged: {history.diverged}")
        metrics: dict[str, Any] = {
            "history": history.metrics(),
            "chance": 1 / len(data.classes),
            "parameters": parameter_count(classifier.model),
        }
        arrays = dict(history.arrays())
        for name in ("test",) if config.train_tested is False else ("train", "test"):
            loss, right, confidence = evaluate(classifier, parts[name])
            metrics[f"{name}_loss"] = loss
            metrics[f"{name}_accuracy"] = float(right.mean())
            metrics[f"n_{name}"] = len(right)
        judge = config.moves.judge if isinstance(config.moves, NFGSM) else config.moves
        if judge is not None:
            x, y = parts["validation"].take(ROBUST_TESTED)
            metrics |= robustness(judge, classifier, x, y, trial.seed)
        if mixed is not None:
            metrics["mix_fools"] = mixed.fooled(classifier)
        if isinstance(config.recipe.loss, IBP):
            proved = certified(config.recipe.loss, classifier, parts["test"])
            metrics |= {"certified_accuracy": float(proved.mean()), "n_certified": len(proved)}
            arrays["certified"] = proved
        arrays |= {
            "test_correct": right,
            "test_confidence": confidence,
            "image_ids": parts["test"].ids.numpy().astype(np.int32),
        }
        reached = metrics.get("train_accuracy", history.train_accuracy[-1])
        if config.moves is not None or isinstance(config.recipe.loss, IBP):
            # that few attacked images remain right, or certified, is no collapse by itself
            reached = max(reached, history.val_accuracy[-1])
        metrics["collapsed"] = reached < COLLAPSED * metrics["chance"]
        metrics["why"] = "training accuracy stayed at chance" if metrics["collapsed"] else ""
        save_model(
            work.path("model.safetensors"),
            classifier.model,
            config.network,
            in_shape=data.shape,
            classes=data.classes,
            mean=data.mean,
            std=data.std,
        )
    for one in run:
        one.close(metrics, step=history.epochs)
    return Outcome(metrics, arrays)


def augmentation(
    config: TrainNetwork, data: Dataset, trial: Trial, work: Workspace, mixed: Mixed | None = None
) -> Augment:
    """Return what changes the training images: those attacked beforehand, new ones from feature
    space, then in input space."""
    if mixed is not None:
        return lambda x, rng: config.augmentation(mixed(x, rng), rng)
    if config.features is None:
        return config.augmentation
    autoencoder = load_autoencoder(work.needs[0].path("model.safetensors")).to(trial.device)
    renew = config.features.fitted(autoencoder, data)
    return lambda x, rng: config.augmentation(renew(x, rng), rng)
