"""`assay train`: one training, its trial, and what is handed to the user of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from assay import stats
from assay.config import Config
from assay.core.device import device_here
from assay.core.random import Stream
from assay.disk import writable, write_atomic
from assay.errors import AssayError
from assay.report.numerals import budget, duration
from assay.runs.display import say
from assay.runs.engine import execute
from assay.runs.entry import METRICS, RECORD, SCHEMA, Result
from assay.runs.files import to_json
from assay.runs.remote import open_store
from assay.runs.results import Results
from assay.runs.store import Store
from assay.runs.tracked import tracking
from assay.runs.trial import Trial
from assay.tasks.adversaries import noisy_after
from assay.tasks.train import SPLITS, TrainNetwork, split
from assay.tasks.train_text import TASK as TEXTS
from assay.workflows.together import Together, shared, together
from assay.workflows.track import write_runs

MODEL, CONFIG = "model.safetensors", "config.yaml"


def run(
    config: TrainNetwork,
    *,
    seed: int,
    device: str,
    store: Path,
    out: Path | None,
    rerun_failed: bool,
    track: Sequence[str] = (),
    quiet: bool,
) -> int:
    """Train unless the store has it, write what `out` is to hold, and say how good it is. Where
    `torchrun` started several processes, they train together, and the first does all else.

    Raises:
        AssayError: for settings that cannot be trained by, a folder that cannot be written, or a
            training that failed.
    """
    device = device_here(device)
    lead = partial(
        _run,
        config,
        seed=seed,
        device=device,
        store=store,
        out=out,
        rerun_failed=rerun_failed,
        track=track,
        quiet=quiet,
    )
    return together(device, lead)


def _run(
    config: TrainNetwork,
    engine: Together | None,
    *,
    seed: int,
    device: str,
    store: Path,
    out: Path | None,
    rerun_failed: bool,
    track: Sequence[str],
    quiet: bool,
) -> int:
    if out is not None:
        out = writable(out)
    notes = dict.fromkeys(note for part in SPLITS for note in split(config, part).notes)
    for note in () if quiet else notes:
        say(note)
    config = config.model_copy(update={"recipe": config.settled(device)})
    if out is not None:
        refuse_other(out, config, seed)
    trial = config.trial(seed, device, label=f"{config.network.name} on {Path(config.data).name}")
    if engine is not None:
        data = split(config, "train")
        network = config.network.build(data.shape, len(data.classes), Stream(0))
        trial = shared(engine.peers, trial, network, config.recipe)
    home = open_store(store)
    tracked = tracking(track, home.root, "train")
    with home.using():
        with nullcontext() if tracked is None else tracked.told():
            done = trained(trial, home, engine, progress=not quiet, rerun_failed=rerun_failed)
        if tracked is not None:
            write_runs(tracked, [done.need(trial)], {})
        result = done.need(trial)
        model = result.path(MODEL)
        if out is not None:
            model = export(result, config, out)
    if not quiet:
        Console(highlight=False).print(summary(result))
    print(model)
    return 0


def trained(
    trial: Trial, home: Store, engine: Together | None, *, progress: bool, rerun_failed: bool
) -> Results:
    """Return what a training came to: run by the processes that were started together, if any."""
    return execute(
        [trial],
        home,
        engine=engine and engine.at(home),
        progress=progress,
        rerun_failed=rerun_failed,
    )


def refuse_other(out: Path, config: Config, seed: int) -> None:
    """Refuse a folder with a model that was trained otherwise: it would be written over.

    Raises:
        AssayError: names the file.
    """
    if not (out / MODEL).exists():
        return
    try:
        there = (out / CONFIG).read_text(), json.loads((out / METRICS).read_text())["seed"]
    except (OSError, ValueError, KeyError, TypeError):
        there = None
    if there != (config.to_yaml(), seed):
        raise AssayError(
            f"--out {out} has a {MODEL} that was trained otherwise, which would be written over: "
            "give another folder"
        )


def export(result: Result, config: Config, out: Path) -> Path:
    """Write the model and what was measured to `out`, each file whole or not at all.

    The model is first taken away and written last: where there is one, all the rest is its own.
    """
    out.mkdir(parents=True, exist_ok=True)
    model = out / MODEL
    model.unlink(missing_ok=True)
    write_atomic(out / CONFIG, config.to_yaml())
    write_atomic(out / METRICS, to_json(measured(result), indent=2))
    write_atomic(out / RECORD, to_json(result.record, indent=2))
    write_atomic(model, result.path(MODEL).read_bytes())
    return model


def measured(result: Result) -> dict[str, Any]:
    """Return what is the same whenever the training is repeated, as JSON."""
    shares = {"test_interval": test_accuracy(result)}
    if "n_robust" in result.metrics:
        shares["robust_interval"] = robust_accuracy(result)
    if "n_certified" in result.metrics:
        shares["certified_interval"] = certified_accuracy(result)
    intervals = {
        name: {"low": share.low, "high": share.high, "level": share.level}
        for name, share in shares.items()
    }
    return {
        "schema": SCHEMA,
        "seed": result.trial.seed,
        "data": result.trial.data,
        "metrics": {**result.metrics, **intervals},
    }


def test_accuracy(result: Result) -> stats.Estimate:
    """Return the share of test images, or texts, that are classified correctly, with Wilson's
    interval."""
    n = result.metrics["n_test"]
    kind = "texts" if result.trial.task == TEXTS else "images"
    return stats.proportion(round(result.metrics["test_accuracy"] * n), n, f"test {kind}")


def robust_accuracy(result: Result) -> stats.Estimate:
    """Return the share of validation images that are right and stay so under the adversary."""
    n = result.metrics["n_robust"]
    return stats.proportion(round(result.metrics["robust_accuracy"] * n), n, "validation images")


def certified_accuracy(result: Result) -> stats.Estimate:
    """Return the share of test images that interval bounds certify."""
    n = result.metrics["n_certified"]
    return stats.proportion(round(result.metrics["certified_accuracy"] * n), n, "test images")


def summary(result: Result) -> str:
    """Return how good the network is, its accuracy under attack, and what it took, in a line; and
    one for each collapse that its training went back from."""
    config, metrics = result.trial.config, result.metrics
    said = [f"test accuracy {test_accuracy(result).percent()}"]
    attack = config.get("adversary") or config.get("hardening") or {}
    if "n_robust" in metrics:
        name = "pgd" if attack["name"] == "n-fgsm" else attack["name"]
        said.append(f"against {name} {robust_accuracy(result).percent()}")
    if "n_certified" in metrics:
        eps = budget(config["recipe"]["loss"]["eps"], "linf")
        said.append(f"certified at {eps} {certified_accuracy(result).percent()}")
    if "mix_fools" in metrics:
        said.append(f"fooled by {metrics['mix_fools']:.0%} of the images of its mix")
    lines = [", ".join([*said, f"in {duration(result.record['seconds'])}"])]
    if collapses := metrics["history"].get("collapses"):
        lines += [f"{said}{went_on(config, before)}" for before, said in enumerate(collapses)]
    return "\n".join(lines)


def went_on(config: dict[str, Any], before: int) -> str:
    """Return what a training did after a collapse, of `before` earlier ones, in the words that
    follow it."""
    trained = TrainNetwork.parse(config, where="trial")
    guard, attack = trained.recipe.guard, trained.adversary
    if guard is None or guard.response == "note":
        return ""
    noisy = not before and attack is not None and noisy_after(attack, trained.recipe)
    return f"; went back to the epoch before, {'with noise' if noisy else 'with half the step'}"
