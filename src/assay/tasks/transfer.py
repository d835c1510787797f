"""The trial that evaluates adversarial images, and universal perturbations, on other networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from assay.attacks.base import wins
from assay.attacks.methods.pgd import PGD
from assay.attacks.methods.universal import Universal
from assay.attacks.registry import AnyAttack
from assay.attacks.transfer import transfer_matrix
from assay.config import Config
from assay.core.classifier import Classifier
from assay.core.oracle import labels
from assay.data.dataset import to_float
from assay.models.loading import load_model
from assay.runs.trial import Outcome, Trial
from assay.runs.worker import Workspace
from assay.tasks.attack import kinds
from assay.tasks.train import settings, split
from assay.train.precision import computing

TASK = "transfer"


class Transferring(Config):
    """What is made on each of several networks and evaluated on all of them."""

    VERSION = 1

    attack: AnyAttack = PGD()
    """What makes the adversarial images."""
    universal: Universal = Universal()
    """What makes one perturbation for all images, on training images."""
    images: int = Field(default=300, ge=1)
    """How many test images: a stable random subset."""
    made_on: int = Field(default=2000, ge=1)
    """How many training images a universal perturbation is made on."""
    names: tuple[str, ...]
    """What the networks are called, in the order of the trial's needs."""

    def trial(self, networks: Mapping[str, Sequence[Trial]], label: str) -> Trial:
        """Return the trial that compares these networks, by what each kind is called."""
        needs = [trial for trials in networks.values() for trial in trials]
        names = [f"{name} {trial.seed}" for name, trials in networks.items() for trial in trials]
        used: list[type[Config]] = [type(self), *kinds(self.attack), Universal]
        first = needs[0]
        return Trial(
            task=TASK,
            config=self.model_copy(update={"names": tuple(names)}).model_dump(mode="json"),
            seed=0,
            needs=tuple(needs),
            data=first.data,
            places=first.places,
            versions={kind.__name__: kind.VERSION for kind in used},
            device=first.device,
            threads=first.threads,
            label=label,
        )


def transfer(trial: Trial, work: Workspace) -> Outcome:
    """Make adversarial images and a universal perturbation on each network that the trial needs,
    and evaluate them on all.

    Metrics: `names`; `transfer` and `universal`, each a row per network that they were made on
    and an estimate per network that they were evaluated on: the share of the images that the latter
    classifies correctly and is fooled on. Arrays, of S networks that images were made on and the
    same T that they were evaluated on, on N images: `correct` (T, N), `transfer_fooled` and
    `universal_fooled` (S, T, N), and the images' ids in the whole test set.
    """
    config = Transferring.parse(trial.config, where="trial")
    models: dict[str, Classifier] = {}
    for name, need in zip(config.names, work.needs, strict=True):
        models[name] = load_model(need.path("model.safetensors"))
        models[name].model.to(trial.device)
    data, seed = settings(trial.needs[0]), trial.needs[0].seed
    tested, trained = split(data, "test", seed), split(data, "train", seed)
    part = tested.sample(min(config.images, len(tested)))
    ordered = part.sample(len(part))
    x, y = to_float(ordered.images), ordered.labels
    seen = trained.take(min(config.made_on, len(trained)))
    universal: list[list[Any]] = []
    fooled: list[Tensor] = []
    with computing(trial.threads):
        work.progress(0.0, f"{config.attack.name} on each of {len(models)} networks")
        found = transfer_matrix(config.attack, models, x.to(trial.device), y, seed=trial.seed)
        for k, (name, model) in enumerate(models.items()):
            work.progress(0.5 + 0.5 * k / len(models), f"universal perturbation on {name}")
            delta = config.universal.fit(model, *seen, seed=trial.seed)
            rates = [delta.success_rate(other, x, y) for other in models.values()]
            universal.append([rate.to_dict() for rate in rates])
            answers = [labels(other.query(delta(x))).cpu() for other in models.values()]
            fooled.append(torch.stack([wins(said, y, targeted=False) for said in answers]))
    metrics: dict[str, Any] = {
        "names": list(config.names),
        "transfer": found.to_dict()["rates"],
        "universal": universal,
        "collapsed": False,
    }
    arrays = {
        "image_ids": ordered.ids.numpy(),
        "correct": found.correct.numpy(),
        "transfer_fooled": found.fooled.numpy(),
        "universal_fooled": torch.stack(fooled).numpy(),
    }
    return Outcome(metrics, arrays)
