"""The trial of the study of words: a trained text classifier, attacked on test texts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from pydantic import Field

from assay.attacks.base import Stop
from assay.attacks.runner import run
from assay.attacks.text.base import WordAttack
from assay.attacks.text.behaviour import behaviours
from assay.attacks.text.characters import FORMS
from assay.attacks.text.defence import after_normalising
from assay.attacks.text.methods.names import Names
from assay.attacks.text.methods.spelling import Misspell
from assay.attacks.text.methods.substitute import Substitute
from assay.attacks.text.registry import AnyTextAttack
from assay.attacks.text.wordnet import wordnet
from assay.config import Config
from assay.data.textset import TextSet
from assay.errors import AssayError
from assay.models.encoders import located
from assay.models.text import load_text
from assay.runs.trial import Outcome, Trial
from assay.runs.worker import Workspace
from assay.tasks.judges import JUDGE, judge, same_encoder
from assay.tasks.texts import part
from assay.train.precision import computing

TASK = "attack-text"
BEHAVED = 10
"""How many times as many texts behavioural tests are made on as attacks: they cost one query."""


class AttackText(Config):
    """An attack on a trained text classifier, and on which texts."""

    VERSION = 1

    attack: AnyTextAttack = Substitute()
    """The method, with its setting."""
    texts: int = Field(default=100, ge=1)
    """How many test texts: a stable random subset."""
    texts_by_seed: bool = False
    """Each seed draws its own, so that seeds are a sample of texts too."""
    stop: Stop = "fooled"
    """When a text stops early."""
    kept: int = Field(default=0, ge=0)
    """How many attacked texts to keep, the first that were fooled."""

    def trials(self, needs: Iterable[Trial], label: str) -> list[Trial]:
        """Return the trials of this attack on the classifiers that `needs` train, each with the
        classifier's seed, device and threads.

        Raises:
            AssayError: WordNet or the encoder that judges is not there.
        """
        marks = {"judge": located(JUDGE).digest}
        if isinstance(self.attack, WordAttack):
            verbs = (wordnet().folder / "data.verb").read_bytes()
            marks["wordnet"] = hashlib.sha256(verbs).hexdigest()
        kinds = (type(self), type(self.attack))
        return [
            Trial(
                task=TASK,
                config=self.model_dump(mode="json"),
                seed=need.seed,
                needs=(need,),
                data={**marks, "attacked": self.part(data_of(need), need.seed).fingerprint},
                places=need.places,
                versions={kind.__name__: kind.VERSION for kind in kinds},
                device=need.device,
                threads=need.threads,
                label=label,
            )
            for need in needs
        ]

    def part(self, data: str, seed: int, times: int = 1) -> TextSet:
        """Return the texts that a trial of this seed attacks; with `times` so many times more."""
        return part(data, "test", times * self.texts, seed if self.texts_by_seed else 0)


def data_of(need: Trial) -> str:
    """Return where the data of a training are."""
    name = str(need.config["data"])
    return need.places.get(name, name)


def attack(trial: Trial, work: Workspace) -> Outcome:
    """Attack the text classifier that the trial needs, on a part of its test texts.

    Metrics: what `AttackResult.to_dict` says; `success_share` of the correctly classified texts
    (`n_success`); the share of words changed; of misspellings what normal forms leave; of names
    the behavioural tests; the first texts that were fooled. Arrays: of every text success, correct,
    distance, queries, labels, both predictions and its id; of every behavioural test the ids of the
    texts that its rule applies to (`negation_ids`), and which fail (`negation_fails`). Timings:
    `attack`.

    Raises:
        AssayError: for data that has changed since the trial was planned, or a model whose encoder
            is the very one that judges.
    """
    config = AttackText.parse(trial.config, where="trial")
    (need,), (trained,) = trial.needs, work.needs
    data = config.part(data_of(need), trial.seed)
    if data.fingerprint != trial.data["attacked"]:
        raise AssayError(f"{data.name} (test) has changed since the trial was planned")
    with computing(trial.threads):
        clf = load_text(trained.path("model.safetensors"))
        clf.model.to(trial.device)
        if isinstance(config.attack, WordAttack) and same_encoder(clf, judge()):
            raise AssayError(
                f"the attacked model reads with the very encoder ({JUDGE}) that judges similarity: "
                "train its encoder too, adaptation full"
            )
        work.progress(0.0, f"{config.attack.name} on {len(data)} texts")
        result = run(
            config.attack,
            clf,
            list(data.texts),
            data.labels,
            stop=config.stop,
            seed=trial.seed,
            ids=data.ids,
        )
        arrays: dict[str, Any] = {}
        metrics: dict[str, Any] = {
            **result.to_dict(),
            "setting": config.attack.setting,
            "success_share": result.success_rate.value,
            "n_success": result.success_rate.n,
            "clean_accuracy": float(result.correct.double().mean()),
            "robust_accuracy": result.robust_accuracy.value,
            "n_robust": len(result),
            "collapsed": trained.metrics["collapsed"],
        }
        if isinstance(config.attack, Misspell):
            left = {form: after_normalising(result, form).value for form in FORMS}
            metrics |= {f"{form}_share": share for form, share in left.items()}
        if isinstance(config.attack, Names):
            more = config.part(data_of(need), trial.seed, BEHAVED)
            found = behaviours(clf, list(more.texts), more.labels)
            metrics["behaviour"] = [one.to_dict() for one in found]
            for one in found:
                arrays[f"{one.name}_ids"] = more.ids.numpy().astype(np.int64)[list(one.fails)]
                arrays[f"{one.name}_fails"] = np.array(list(one.fails.values()), dtype=bool)
    rows = result.fooled.nonzero()[: config.kept, 0].tolist()
    metrics["examples"] = [
        {
            "id": int(data.ids[k]),
            "text": result.inputs[k],
            "adversarial": result.adversarial[k],
            "before": data.classes[int(result.clean_prediction[k])],
            "after": data.classes[int(result.adversarial_prediction[k])],
        }
        for k in rows
    ]
    names = ("success", "correct", "distance", "queries", "labels", "clean_prediction")
    for name in (*names, "adversarial_prediction"):
        arrays[name] = getattr(result, name).cpu().numpy()
    arrays["image_ids"] = data.ids.numpy().astype(np.int64)
    return Outcome(metrics, arrays, {"attack": result.seconds})
