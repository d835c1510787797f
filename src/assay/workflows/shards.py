"""A set in shards: a trial for each, on any engine, and what becomes of them together."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from assay.core.classifier import Classifier
from assay.core.device import device_here
from assay.core.images import rows_that_fit
from assay.data import shards
from assay.data.shards import Reading, Shard
from assay.disk import writable
from assay.errors import AssayError
from assay.inputs import Inputs, load_network, mark
from assay.runs.cluster import Ray
from assay.runs.display import say
from assay.runs.engine import execute
from assay.runs.entry import Result
from assay.runs.results import Results
from assay.runs.store import Store
from assay.runs.trial import Trial
from assay.tasks.shards import INPUTS, MODEL, head

LOCK = ".lock"


@dataclass(frozen=True)
class Spread:
    """Where the trials of shards run.

    Attributes:
        engine: in processes of this machine, or on the nodes of a Ray cluster.
        ray_address: the cluster; None: RAY_ADDRESS, or Ray is started on this machine.
        workers: how many run at once; None: as many as there are cores for.
    """

    engine: Literal["local", "ray"] = "local"
    ray_address: str | None = None
    workers: int | None = None

    def ray(self, root: Path) -> Ray | None:
        """Return the engine for a store; None: the local one."""
        return Ray(root, self.ray_address, self.workers) if self.engine == "ray" else None


@contextmanager
def alone(folder: Path, what: str) -> Iterator[Path]:
    """Hold a folder against other processes; yields it.

    Raises:
        AssayError: one works there.
    """
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise AssayError(f"another process works on {what}, in {folder}: wait for it") from error
    try:
        yield folder
    finally:
        lock.release()


@dataclass(frozen=True)
class Planned:
    """A model and a set in shards, ready for trials.

    Attributes:
        shards: of the set, in their order.
        reading: how their rows become images and labels.
        clf: the network.
        common: what all of the trials have in common; never run itself.
        batch: images computed with at a time.
    """

    shards: tuple[Shard, ...]
    reading: Reading
    clf: Classifier
    common: Trial
    batch: int

    def read(self) -> dict[str, Any]:
        """The settings of `ShardRead`."""
        reading = self.reading
        return {
            "shape": reading.shape,
            "scaled": reading.scaled,
            "crop": reading.crop,
            "mode": reading.mode,
            "classes": reading.classes,
            "batch": self.batch,
        }

    @property
    def images(self) -> int | None:
        """How many images there are; None where only reading them tells."""
        rows = [shard.rows for shard in self.shards]
        return None if None in rows else sum(filter(None, rows))


def planned(
    inputs: Inputs, where: str, *, labelled: bool, classes: tuple[str, ...] = ()
) -> Planned:
    """Return the shards of a set, and a network loaded for them.

    Args:
        inputs: the model, and how it computes.
        where: the folder of shards, or the id of a set on the hub.
        labelled: whether labels are read, and must fit the model.
        classes: what the model's outputs are, where the shards' labels do not matter.

    Raises:
        AssayError: for what cannot be read or loaded, or does not go together.
    """
    inputs = at_rest(inputs)
    found = shards.shards_in(where, inputs.split)
    declared = shards.classes_of(found[0]) if labelled else classes
    own = inputs.model.endswith(".safetensors") or inputs.about.classes is not None
    if declared is None and inputs.classes is None and not own:
        raise AssayError(
            f"shard {found[0]} does not say what its labels are called, and neither does "
            f"{inputs.model}: give --classes, in the order of its outputs"
        )
    side, crop = inputs.scaling
    shape = shards.shape_of(found[0])
    if side is not None:
        shape = (shape[0], side, side)
    ahead = head(shape, declared or inputs.classes or (), where)
    clf = load_network(inputs, ahead, labelled=False)
    cut = crop if side is not None else None
    reading = Reading(shape, side is not None, cut, clf.classes, labelled, inputs.interpolation)
    _, images, _ = next(shards.batches(found[0], reading, 2))
    clf.query(images.float() / 255)  # what is wrong with the model is one line, before anything
    common = Trial(
        task="attack-shard",
        config={},
        data={MODEL: mark(inputs, clf)},
        device=device_here(inputs.device),
        threads=inputs.threads or 1,
        places={INPUTS: inputs.model_dump_json()},
    )
    batch = inputs.batch_size or rows_that_fit(images)
    return Planned(found, reading, clf, common, batch)


def at_rest(inputs: Inputs) -> Inputs:
    """Return inputs whose files are named from the root: workers may run elsewhere."""
    weights = None if inputs.weights is None else inputs.weights.absolute()
    named = {"model": _rooted(inputs.model), "data": _rooted(inputs.data)}
    return inputs.model_copy(update={**named, "weights": weights})


def _rooted(name: str) -> str:
    """Return the name of a file or folder, or of a function in a file, from the root."""
    file, colon, function = name.partition(":")
    return f"{Path(file).absolute()}{colon}{function}" if file and Path(file).exists() else name


def refuse_foreign(out: Path, names: Sequence[str]) -> Path:
    """Return the folder of results, if what will be written there is not somebody else's."""
    out = writable(out)
    theirs = [name for name in names if (out / name).exists()]
    if theirs and not (out / "trials").is_dir():
        raise AssayError(
            f"--out {out} has {', '.join(theirs)}, but not the trials of shards: this would be "
            "written over; give another folder"
        )
    return out


def done_of(
    trials: Sequence[Trial], out: Path, spread: Spread, *, progress: bool
) -> tuple[Results, list[tuple[Trial, Result]], list[tuple[Trial, str]]]:
    """Run what is missing; return all results, those of the shards, and which failed and why.

    Raises:
        AssayError: no shard could be done; says why of the first.
    """
    store = Store(out)
    results = execute(
        trials,
        store,
        engine=spread.ray(store.root),
        workers=spread.workers,
        progress=progress,
        rerun_failed=True,  # the command was given again
    )
    there = [(trial, results[trial]) for trial in trials if trial in results]
    missing = [
        (trial, failure.message)
        for trial in trials
        if (failure := results.failure(trial)) is not None
    ]
    if not there:
        raise AssayError(f"no shard could be done: {missing[0][1]}")
    return results, there, missing


def tell_missing(missing: Sequence[tuple[Trial, str]], all_of_them: int) -> None:
    """Say which shards are not among the results, a line each."""
    for trial, why in missing:
        print(f"assay: {trial.label} failed: {why}", file=sys.stderr)
    if missing:
        say(
            f"{len(missing)} of {all_of_them} shards are missing from the result; the same command "
            "tries them again, and no other"
        )
