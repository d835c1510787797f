"""The trial of the studies of attacks: a trained network, attacked on test images."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from pydantic import Field

from assay.attacks.base import Attack, Stop
from assay.attacks.methods.pgd import PGD
from assay.attacks.registry import AnyAttack
from assay.attacks.runner import run
from assay.config import Config
from assay.core.classifier import Classifier
from assay.core.fast import Precision, versions
from assay.data.dataset import Dataset
from assay.errors import AssayError
from assay.models.loading import load_model
from assay.runs.trial import Outcome, Trial
from assay.runs.worker import Workspace
from assay.tasks.images import addressed
from assay.tasks.train import settings, split
from assay.train.precision import computing

TASK = "attack"


class AttackNetwork(Config):
    """An attack on a trained network, and on which images."""

    VERSION = 1

    attack: AnyAttack = PGD()
    """The method."""
    images: int = Field(default=500, ge=1)
    """How many of the network's test images: a stable random subset."""
    images_by_seed: bool | None = None
    """Each seed draws its own, so that seeds are a sample of images too; none: the same for all."""
    stop: Stop = "fooled"
    """When an image stops early: fooled, for success rates; never, for whatever uses the images."""
    precision: Precision = "float32"
    """Of the copy that is searched on; float32 confirms."""
    kept: int = Field(default=0, ge=0)
    """How many attacked images to keep, the first ones."""

    def trials(self, needs: Iterable[Trial], label: str) -> list[Trial]:
        """Return the trials of this attack on the networks that `needs` train, each with the
        network's seed, device and threads."""
        used = (type(self), *kinds(self.attack))
        known = {kind.__name__: kind.VERSION for kind in used} | versions(self)
        return [on_network(TASK, self, (need,), known, label) for need in needs]


def on_network(
    task: str, config: Config, needs: tuple[Trial, ...], known: dict[str, int], label: str
) -> Trial:
    """Return the trial that does something to a trained network on its test images, with the
    network's seed, device and threads.

    Args:
        task: its name.
        config: its settings.
        needs: the trial that trains the network, then others that it reads.
        known: the versions of what it uses.
        label: what people call it.
    """
    network = needs[0]
    return Trial(
        task=task,
        config=addressed(config),
        seed=network.seed,
        needs=needs,
        data={name: mark for name, mark in network.data.items() if name.endswith("/test")},
        places=network.places,
        versions=known,
        device=network.device,
        threads=network.threads,
        label=label,
    )


def kinds(attack: Attack) -> list[type[Attack]]:
    """Return the classes of an attack and of its stages."""
    return list(dict.fromkeys([type(attack), *(type(stage) for stage in attack.stages)]))


def subject(
    trial: Trial, work: Workspace, images: int, by_seed: bool | None
) -> tuple[Classifier, Dataset]:
    """Return the network that the trial needs first, on its device, and a part of its test images.

    Args:
        images: how many, at most.
        by_seed: whether the trial's seed draws them.

    Raises:
        AssayError: for data that has changed since the network was planned.
    """
    need, trained = trial.needs[0], work.needs[0]
    data = split(settings(need), "test", need.seed)
    if data.fingerprint != need.data[f"{need.config['data']}/test"]:
        raise AssayError(f"{need.config['data']} (test) has changed since the trial was planned")
    classifier = load_model(trained.path("model.safetensors"))
    classifier.model.to(trial.device)
    return classifier, data.sample(min(images, len(data)), trial.seed if by_seed else 0)


def attack(trial: Trial, work: Workspace) -> Outcome:
    """Attack the network that the trial needs, on a part of its test images.

    Metrics: what `AttackResult.to_dict` says; `success_share` of the correctly classified images
    (`n_success`), also once rounded to 8 bits; whether the network had collapsed. Arrays: of every
    image success, correct, distance, queries, labels, both predictions and its id in the whole test
    set; of the first `kept` also the image and the attacked image. Timings: `attack`, from the
    clean predictions to the last confirmation, without what is loaded before and rounded after.

    Raises:
        AssayError: for data that has changed since the network was planned.
    """
    config = AttackNetwork.parse(trial.config, where="trial")
    classifier, part = subject(trial, work, config.images, config.images_by_seed)
    ids, x, y = next(part.batches(len(part)))
    with computing(trial.threads):
        work.progress(0.0, f"{config.attack.name} on {len(x)} images")
        result = run(
            config.attack,
            classifier,
            x.to(trial.device),
            y,
            stop=config.stop,
            seed=trial.seed,
            precision=config.precision,
            ids=ids,
        )
        rounded = result.after_rounding
    metrics: dict[str, Any] = {
        **result.to_dict(),
        "success_share": result.success_rate.value,
        "n_success": result.success_rate.n,
        "rounded_share": rounded.value,
        "n_rounded": rounded.n,
        "clean_accuracy": float(result.correct.double().mean()),
        "n_clean": len(result),
        "robust_accuracy": result.robust_accuracy.value,
        "n_robust": len(result),
        "collapsed": work.needs[0].metrics["collapsed"],
    }
    kept = slice(0, config.kept)
    held: dict[str, torch.Tensor] = {
        name: getattr(result, name)
        for name in (
            "success",
            "correct",
            "distance",
            "queries",
            "labels",
            "clean_prediction",
            "adversarial_prediction",
        )
    }
    held |= {"images": result.inputs[kept], "adversarial": result.adversarial[kept]}
    held["image_ids"] = ids
    arrays = {name: tensor.cpu().numpy() for name, tensor in held.items()}
    return Outcome(metrics, arrays, {"attack": result.seconds})
