"""The trials of a set in shards: one shard attacked, or scored by detectors, by one model.

The model is known in an address by its weights and code, a shard by its content and the index of
its first image; where both lie on this machine stands in the trial's `places`. So a shard that is
done is not done again, whatever else of the set has changed after it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from assay.attacks.base import Attack, Stop
from assay.attacks.methods.pgd import PGD
from assay.attacks.registry import AnyAttack
from assay.attacks.result import AttackResult
from assay.attacks.runner import run
from assay.config import Config, canonical_json
from assay.core.classifier import Classifier
from assay.core.embedding import Embedding
from assay.core.fast import Copies, Precision, versions
from assay.data import shards
from assay.data.dataset import Dataset, in_memory, to_float
from assay.data.shards import Reading, Shard
from assay.errors import AssayError
from assay.inputs import Inputs, load_network, load_part, mark
from assay.ood import AnyDetector, Detector, FittedDetector
from assay.runs.trial import Outcome, Trial
from assay.runs.worker import Workspace
from assay.tasks.attack import kinds
from assay.tasks.reconstructing import autoencoder_of, trained, with_its_autoencoder
from assay.train.precision import computing

INPUTS, MODEL = "inputs", "model"
KEPT = (
    *("correct", "success", "distance", "queries", "labels"),
    *("clean_prediction", "adversarial_prediction", "cut"),
)
"""What is kept of every attacked image, besides its index, and whether it survives rounding."""
EMPTY = {"distance": np.float32} | dict.fromkeys(
    ("correct", "success", "cut", "survives_rounding"), np.bool_
)
"""The types of what is kept where nothing is, but for whole numbers."""
COUNTED = (
    *("n", "correct", "success", "robust", "rounded", "cut"),
    *("unanswered", "silenced", "refused"),
)
"""What is counted of a shard."""


class ShardRead(Config):
    """What every trial of a shard has: which images it reads, and how."""

    first: int = 0
    """The index of the shard's first image in the whole set, by which draws are keyed."""
    shape: tuple[int, int, int]
    """Channels, height and width that every image has, or is brought to."""
    scaled: bool = False
    """Whether images of other sizes are brought to it."""
    crop: float | None = None
    """The middle square that is scaled, as a share of the shorter side."""
    mode: str = Field(default="bicubic", exclude_if=lambda mode: bool(mode == "bicubic"))
    """How pixels are interpolated: nearest, bilinear or bicubic."""
    classes: tuple[str, ...] = ()
    """What the labels count."""
    batch: int = Field(default=256, ge=1)
    """Images read and computed with at a time."""


class AttackShard(ShardRead):
    """An attack on the images of a shard."""

    VERSION = 1

    attack: AnyAttack = PGD()
    """The method."""
    target: int | None = None
    """The class that every other image is to be led to; none: away from its own."""
    stop: Stop = "never"
    """When an image stops early."""
    attack_wrong: bool = False
    """Also attack what is classified wrongly to begin with."""
    precision: Precision = "float32"
    """Of the copy that is searched on; float32 confirms."""
    query_budget: int | None = None
    """Most queries for an image."""


class FitDetectors(Config):
    """Detectors, fitted on reference data before a shard is scored."""

    VERSION = 1

    detectors: tuple[AnyDetector, ...]
    """What gives an image an OOD score."""
    tpr: float = 0.95
    """The share of fresh inliers that each threshold lets through."""
    fitted_on: int = 5000
    """Reference images that they are fitted on, and as many that thresholds are set by, at most."""
    autoencoder_epochs: int | None = Field(default=None, exclude_if=lambda epochs: epochs is None)
    """Passes over them by which the autoencoder of a detector learns that reads one; none: no
    detector does."""


class ScoreShard(ShardRead):
    """The images of a shard, scored by the detectors that the trial needs."""

    VERSION = 1


# -- planning ----------------------------------------------------------------------------------


def shard_trials(
    settings: ShardRead,
    shards_: Sequence[Shard],
    seed: int,
    common: Trial,
    *,
    needs: Sequence[Trial] = (),
    used: Iterable[type[Config]] = (),
) -> list[Trial]:
    """Return the trial of each shard.

    Args:
        settings: what is done to all of them; `first` is each shard's own.
        shards_: the shards.
        seed: of all draws.
        common: what they have in common with others of the same model: places, data, device,
            threads.
        needs: what each of them needs.
        used: the components that the settings name.
    """
    versioned = {kind.__name__: kind.VERSION for kind in (type(settings), *used)}
    return [
        Trial(
            task="attack-shard" if isinstance(settings, AttackShard) else "score-shard",
            config=settings.model_copy(update={"first": shard.first}).model_dump(mode="json"),
            seed=seed,
            needs=tuple(needs),
            data={**common.data, "shard": shard.digest},
            versions=versioned | versions(settings),
            device=common.device,
            threads=common.threads,
            label=f"shard {shard}",
            places={
                **common.places,
                "shard": canonical_json([shard.where, shard.name, shard.rows]),
            },
        )
        for shard in shards_
    ]


def components(config: Attack | Sequence[Detector]) -> list[type[Config]]:
    """Return the classes of an attack and its stages, or of detectors."""
    if isinstance(config, Attack):
        return [*kinds(config)]
    return list(dict.fromkeys(type(detector) for detector in config))


# -- running -----------------------------------------------------------------------------------


def head(shape: tuple[int, int, int], classes: tuple[str, ...], where: str = "shards") -> Dataset:
    """Return what stands for a set whose images are not read yet, where a model is loaded for it:
    one black image without a label."""
    return in_memory(
        where, "all", classes, torch.zeros(1, *shape, dtype=torch.uint8), torch.tensor([-1])
    )


@lru_cache(maxsize=1)
def network(
    given: str, known: str, device: str, shape: tuple[int, int, int], classes: tuple[str, ...]
) -> Classifier:
    """Return a network on its device; one process loads it once for all of its trials.

    Args:
        given: `Inputs` as JSON.
        known: what `inputs.mark` said of it.
        device: where it computes.
        shape, classes: of the images.

    Raises:
        AssayError: it cannot be loaded here, or is another one by now.
    """
    inputs = Inputs.model_validate_json(given)
    clf = load_network(inputs, head(shape, classes), labelled=False)
    if mark(inputs, clf) != known:
        raise AssayError(f"{inputs.model} has changed since the command began: give it again")
    clf.model.to(device)
    return clf


class _Shard:
    """The shard of a trial, and the network, on the machine that the trial runs on."""

    def __init__(self, trial: Trial, config: ShardRead, *, labelled: bool) -> None:
        where, name, rows = json.loads(trial.places["shard"])
        self.shard = Shard(where, name, config.first, rows, trial.data["shard"])
        shards.check(self.shard)
        given = trial.places[INPUTS], trial.data[MODEL], trial.device
        self.clf = network(*given, config.shape, config.classes)
        self.config = config
        self.device = trial.device
        how = (config.shape, config.scaled, config.crop)
        self.reading = Reading(*how, self.clf.classes, labelled, config.mode)

    def parts(self, work: Workspace) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield (ids, x float32 (B, C, H, W) in [0, 1] on the device, y), and say how far it is."""
        done = 0
        for ids, images, y in shards.batches(self.shard, self.reading, self.config.batch):
            yield ids, to_float(images).to(self.device), y
            done += len(ids)
            rows = self.shard.rows
            work.progress(done / rows if rows else 0.0, f"{done:,} images")


def attack(trial: Trial, work: Workspace) -> Outcome:
    """Attack the images of a shard, a batch at a time.

    Metrics: counts that add up over shards: `n` images, `correct`, `success` (of the correct ones),
    `robust`, `rounded` (successes that rounding to 8 bits leaves), `cut`, `unanswered`, `silenced`,
    `refused`, and `evaluations` by kind. Arrays: of every image `ids` and what `KEPT` names, and
    `survives_rounding`; not the attacked images themselves. Timings: `attack`.

    Raises:
        AssayError: names the shard, and the row that cannot be used.
    """
    config = AttackShard.parse(trial.config, where="trial")
    held: dict[str, list[Tensor]] = {name: [] for name in ("ids", *KEPT, "survives_rounding")}
    counts: Counter[str] = Counter()
    evaluations: Counter[str] = Counter()
    seconds = 0.0
    with computing(trial.threads):
        shard = _Shard(trial, config, labelled=True)
        copies: Copies | None = None
        for ids, x, y in shard.parts(work):
            rest = _of_others(y, config.target)
            if not len(rest):
                continue
            copies = copies or Copies(shard.clf, x)
            result = run(
                config.attack,
                shard.clf,
                x[rest],
                y[rest],
                targets=config.target,
                stop=config.stop,
                attack_wrong=config.attack_wrong,
                seed=trial.seed,
                precision=config.precision,
                query_budget=config.query_budget,
                ids=ids[rest],
                copies=copies,
            )
            held["ids"].append(ids[rest])
            for name in (*KEPT, "survives_rounding"):
                held[name].append(getattr(result, name).cpu())
            counts.update(_counts(result))
            evaluations.update(result.evaluations)
            seconds += result.seconds
    if not held["ids"]:  # a shard of the target class alone
        counts.update(dict.fromkeys(COUNTED, 0))
        arrays = {name: np.empty(0, EMPTY.get(name, np.int64)) for name in held}
    else:
        arrays = {name: torch.cat(parts).numpy() for name, parts in held.items()}
    return Outcome({**counts, "evaluations": dict(evaluations)}, arrays, {"attack": seconds})


def _of_others(y: Tensor, target: int | None) -> Tensor:
    """Return the rows that are not of the target class, int64 (n,)."""
    rows = torch.arange(len(y))
    return rows if target is None else rows[y != target]


def _counts(result: AttackResult[Tensor, Any]) -> dict[str, int]:
    return {
        "n": len(result),
        "correct": int(result.correct.sum()),
        "success": int(result.fooled.sum()),
        "robust": int(result.robust.sum()),
        "rounded": int(result.survives_rounding.sum()),
        "cut": int(result.cut.sum()),
        "unanswered": result.unanswered,
        "silenced": int(result.silenced.sum()),
        "refused": result.refused,
    }


def reference(inputs: Inputs, most: int) -> tuple[Dataset, Dataset]:
    """Return what detectors are fitted on, and what their thresholds are set by."""
    return load_part(inputs).sample(most), load_part(inputs, "validation").sample(most)


def fit(trial: Trial, work: Workspace) -> Outcome:
    """Fit detectors on the reference data of a model, and set their thresholds.

    Files: `K-NAME.safetensors`, the K-th detector with what it learned. Metrics: `detectors`, for
    each its `name`, `file` and `threshold`.

    Raises:
        AssayError: for reference data that has changed, or a detector that cannot be fitted on it.
    """
    config = FitDetectors.parse(trial.config, where="trial")
    inputs = Inputs.model_validate_json(trial.places[INPUTS])
    with computing(trial.threads):
        known, held = reference(inputs, config.fitted_on)
        if (known.fingerprint, held.fingerprint) != (trial.data["fitted"], trial.data["held"]):
            raise AssayError(f"{inputs.data} has changed since the command began: give it again")
        given = trial.places[INPUTS], trial.data[MODEL], trial.device
        clf = network(*given, known.shape, known.classes)
        e, held_out = (clf.embed(part, readers=config.detectors) for part in (known, held))
        found = []
        for place, detector in enumerate(config.detectors):
            fitted = _fitted(detector, e, held_out, config, known, trial.device)
            file = f"{place}-{detector.name}.safetensors"
            fitted.save(work.path(file))
            found.append({"name": detector.name, "file": file, "threshold": fitted.threshold})
    return Outcome({"detectors": found})


def _fitted(
    detector: Detector,
    e: Embedding,
    held_out: Embedding,
    config: FitDetectors,
    known: Dataset,
    device: str,
) -> FittedDetector:
    """Return a detector with its threshold, and with its autoencoder where it reads one."""
    if "autoencoder" not in detector.reads():
        return detector.fit(e, calibrate=held_out, tpr=config.tpr)
    assert config.autoencoder_epochs is not None
    model, kind = trained(detector, known, config.autoencoder_epochs, device)
    fitted = detector.fit(
        e.with_autoencoder(model), calibrate=held_out.with_autoencoder(model), tpr=config.tpr
    )
    about = {"shape": " ".join(map(str, known.shape))}
    return with_its_autoencoder(replace(fitted, about=about), model, kind)


def score(trial: Trial, work: Workspace) -> Outcome:
    """Score the images of a shard by the detectors that the trial needs, in one pass.

    Metrics: `n` images, and `flagged`, how many are above each detector's threshold. Arrays: `ids`
    (n,) and `scores`, float64 (detectors, n).

    Raises:
        AssayError: names the shard, and the row that cannot be used.
    """
    config = ScoreShard.parse(trial.config, where="trial")
    files = [one["file"] for one in work.needs[0].metrics["detectors"]]
    paths = [work.needs[0].path(file) for file in files]
    fitted = [FittedDetector.load(path) for path in paths]
    autoencoders = [
        autoencoder_of(one, path).to(trial.device)
        if "autoencoder" in one.detector.reads()
        else None
        for one, path in zip(fitted, paths, strict=True)
    ]
    ids: list[Tensor] = []
    scores: list[Tensor] = []
    with computing(trial.threads):
        shard = _Shard(trial, config, labelled=False)
        for rows, x, _ in shard.parts(work):
            e = shard.clf.embed(x, readers=fitted)
            ids.append(rows)
            found = [
                one.score(e if model is None else e.with_autoencoder(model)).cpu()
                for one, model in zip(fitted, autoencoders, strict=True)
            ]
            scores.append(torch.stack(found))
    whole = torch.cat(scores, 1)
    flagged = [int((own > one.threshold).sum()) for one, own in zip(fitted, whole, strict=True)]
    return Outcome(
        {"n": whole.shape[1], "flagged": flagged},
        {"ids": torch.cat(ids).numpy(), "scores": whole.numpy()},
    )
