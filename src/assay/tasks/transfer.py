"""The trial that evaluates adversarial images, and universal perturbations, on other networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from assay.attacks.methods.pgd import PGD
from assay.attacks.methods.universal import Universal
from assay.attacks.registry import AnyAttack
from assay.attacks.transfer import transfer_matrix
from assay.config import Config
from assay.core.classifier import Classifier
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
    classifies correctly and is fooled on.
    """
    config = Transferring.parse(trial.config, where="trial")
    models: dict[str, Classifier] = {}
    for name, need in zip(config.names, work.needs, strict=True):
        models[name] = load_model(need.path("model.safetensors"))
        models[name].model.to(trial.device)
    data = settings(trial.needs[0])
    part = split(data, "test").sample(min(config.images, len(split(data, "test"))))
    x, y = part.take(len(part))
    seen = split(data, "train").take(min(config.made_on, len(split(data, "train"))))
    universal: list[list[Any]] = []
    with computing(trial.threads):
        work.progress(0.0, f"{config.attack.name} on each of {len(models)} networks")
        found = transfer_matrix(config.attack, models, x.to(trial.device), y, seed=trial.seed)
        for k, (name, model) in enumerate(models.items()):
            work.progress(0.5 + 0.5 * k / len(models), f"universal perturbation on {name}")
            delta = config.universal.fit(model, *seen, seed=trial.seed)
            rates = [delta.success_rate(other, x, y) for other in models.values()]
            universal.append([rate.to_dict() for rate in rates])
    metrics: dict[str, Any] = {
        "names": list(config.names),
        "transfer": found.to_dict()["rates"],
        "universal": universal,
        "collapsed": False,
    }
    return Outcome(metrics, {})
