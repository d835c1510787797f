"""`assay attack --shards`: an attack on every shard of a set, and the rates over all of them."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from assay import stats
from assay.attacks.base import Attack, Stop
from assay.core.classifier import check_gradient
from assay.core.fast import Precision
from assay.data import shards
from assay.disk import write_atomic
from assay.errors import AssayError
from assay.inputs import Inputs, called, scaled
from assay.report.numerals import attack_name, budget, duration, full, norm_name
from assay.runs.display import say
from assay.runs.entry import Result
from assay.runs.files import to_json
from assay.runs.trial import Trial
from assay.runs.view import Grid, View
from assay.tasks.shards import MODEL, AttackShard, components, shard_trials
from assay.workflows.attack import LEAST_LIKELY, SCHEMA, target_class
from assay.workflows.shards import Spread, done_of, planned, refuse_foreign, tell_missing

ATTACK, TABLE, SAID = "attack.json", "shards.csv", "predictions.npz"
SURELY = 0.001
"""Below this probability, were all shards alike, they are said to differ."""


def run(
    attack: Attack[Any, Any],
    inputs: Inputs,
    where: str,
    out: Path,
    spread: Spread,
    *,
    targets: str | None,
    stop: Stop,
    attack_wrong: bool,
    seed: int,
    precision: Precision,
    query_budget: int | None,
    part: int | None,
    progress: bool,
    quiet: bool,
) -> int:
    """Attack every shard that `out` has not the result of, and say the rates over all of them.

    `out` gets trials/, a folder for each shard with its arrays; attack.json, counts and rates with
    their intervals; shards.csv, a line for each shard; and predictions.npz, what the model says of
    every clean image, which `assay audit` takes.

    Args:
        where: a folder of shards, or the id of a set on the hub.
        spread: where the shards are attacked.
        targets: a class by name or number, or None.
        stop, attack_wrong, seed, precision, query_budget: as for `attacks.run`.
        part: images attacked at a time; None: a batch.

    Returns 0; 1 if a shard failed, which the rates then leave out.

    Raises:
        AssayError: for a model, data or settings that cannot be used.
    """
    out = refuse_foreign(out, (ATTACK, TABLE, SAID))
    if targets == LEAST_LIKELY:
        raise AssayError(
            "--targets least-likely goes with --data; over --shards name a class, by its name or "
            "number"
        )
    plan = planned(inputs, where, labelled=True)
    if attack.needs == "gradient":
        _, images, _ = next(shards.batches(plan.shards[0], plan.reading, 2))
        check_gradient(plan.clf, images.float() / 255)
    goal = target_class(targets, plan.clf.classes)
    assert goal is None or isinstance(goal, int)
    batch = part or plan.batch
    settings = AttackShard(
        **{**plan.read(), "batch": batch},
        attack=attack,
        target=goal,
        stop=stop,
        attack_wrong=attack_wrong,
        precision=precision,
        query_budget=query_budget,
    )
    used = components(attack)
    trials = shard_trials(settings, plan.shards, seed, plan.common, used=used)
    for note in () if quiet else plan.clf.notes:
        say(note)
    _, there, missing = done_of(trials, out, spread, progress=progress)
    tell_missing(missing, len(trials))
    name = called(inputs, plan.clf)
    if there and not any(result.metrics["n"] for _, result in there):
        raise AssayError(f"every image is of class {goal} already: none can be led to it")
    whole = joined(there, stop)
    about = {
        "schema": SCHEMA,
        **whole,
        **settings.model_dump(mode="json", exclude={"first"}),
        "seed": seed,
        "model": {"name": name, "mark": plan.common.data[MODEL]},
        "data": {"name": where, "split": inputs.split, "shards": len(trials)},
        "missing": [{"shard": trial.label, "why": why} for trial, why in missing],
    }
    write_atomic(out / TABLE, table(there))
    write_atomic(out / SAID, predictions(there, plan.clf.classes))
    write_atomic(out / ATTACK, to_json(about, indent=2))
    if not quiet:
        threat = attack.threat
        size = budget(threat.eps, threat.norm) if threat.limited else "without a limit"
        title = (
            f"{attack_name(attack.name)}, {norm_name(threat.norm)} {size} on {name}, "
            f"{where} ({inputs.split}{scaled(inputs)}), {len(there)} of {len(trials)} shards"
        )
        Console(highlight=False).print(
            summary(whole, title, norm_name(threat.norm), targeted=goal is not None)
        )
    print(out)
    return 1 if missing else 0


def joined(there: Sequence[tuple[Trial, Result]], stop: Stop) -> dict[str, Any]:
    """Return counts, rates and medians over shards; their arrays are read one shard at a time."""
    counts: Counter[str] = Counter()
    evaluations: Counter[str] = Counter()
    moved, queries = [], []
    for _, result in there:
        own = dict(result.metrics)
        evaluations.update(own.pop("evaluations"))
        counts.update(own)
        fooled = result.arrays["success"] & result.arrays["correct"]
        moved.append(result.arrays["distance"][fooled])
        queries.append(result.arrays["queries"][fooled])
    distance = np.concatenate(moved)
    spent = np.concatenate(queries) if stop == "fooled" else np.empty(0)
    return {
        **counts,
        **{name: rate.to_dict() for name, rate in rates(counts).items()},
        "median_distance": float(np.median(distance)) if len(distance) else None,
        "median_queries": float(np.median(spent)) if len(spent) else None,
        "evaluations": dict(evaluations),
        "seconds": sum(result.record["timings"]["attack"] for _, result in there),
        "alike": alike([(r.metrics["robust"], r.metrics["n"]) for _, r in there]),
    }


def rates(counts: Mapping[str, int]) -> dict[str, stats.Estimate]:
    """Return what an attack is judged by, of counts over shards."""
    correct, right = counts["correct"], "correctly classified images"
    return {
        "success_rate": stats.proportion(counts["success"], correct, right),
        "after_rounding": stats.proportion(counts["rounded"], correct, right),
        "clean_accuracy": stats.proportion(correct, counts["n"], "all images"),
        "robust_accuracy": stats.proportion(counts["robust"], counts["n"], "all images"),
    }


def alike(shares: Sequence[tuple[int, int]]) -> float | None:
    """Return how probable shares are that differ so much between shards, were all shards alike:
    Pearson's χ² test; None for fewer than two shards, or shares that are all 0 or all 1."""
    from scipy.stats import chi2_contingency

    counts = np.array([(k, n - k) for k, n in shares if n], dtype=np.int64).reshape(-1, 2)
    if len(counts) < 2 or (counts.sum(0) == 0).any():
        return None
    return float(chi2_contingency(counts, correction=False).pvalue)


def table(there: Sequence[tuple[Trial, Result]]) -> str:
    """Return a line for each shard, as CSV."""
    file = io.StringIO()
    lines = csv.writer(file, lineterminator="\n")
    names = ("n", "correct", "success", "robust")
    lines.writerow(("shard", *names, "seconds", "peak_memory", "trial"))
    for trial, result in there:
        counts = (result.metrics[name] for name in names)
        record = result.record
        cost = (f"{record['seconds']:.3f}", record["peak_memory"])
        lines.writerow((trial.label.removeprefix("shard "), *counts, *cost, trial.short))
    return file.getvalue()


def predictions(there: Sequence[tuple[Trial, Result]], classes: Sequence[str]) -> bytes:
    """Return what the model says of the clean images, with their labels and shards, as an .npz that
    `assay audit` takes; images without an answer are left out."""
    parts: dict[str, list[Any]] = {"label": [], "prediction": [], "shard": []}
    for trial, result in there:
        said = result.arrays["clean_prediction"]
        known = said >= 0
        parts["label"].append(result.arrays["labels"][known])
        parts["prediction"].append(said[known])
        parts["shard"].append(np.full(int(known.sum()), trial.label.removeprefix("shard ")))
    file = io.BytesIO()
    arrays: dict[str, Any] = {name: np.concatenate(own) for name, own in parts.items()}
    np.savez(file, classes=np.array(classes), **arrays)
    return file.getvalue()


def summary(whole: dict[str, Any], title: str, norm: str, *, targeted: bool) -> View:
    """Return what the terminal shows."""
    rate = rates(whole)
    aim = "led to their target" if targeted else "fooled"
    rows = [
        (f"correctly classified images {aim}", full(rate["success_rate"])),
        ("the same, once rounded to 8 bits", full(rate["after_rounding"])),
        ("clean accuracy", full(rate["clean_accuracy"])),
    ]
    if not targeted:  # of others than the target, a targeted attack says nothing
        rows.append(("accuracy under this attack", full(rate["robust_accuracy"])))
    if whole["median_distance"] is not None:
        rows.append(
            ("median distance, where it succeeded", f"{whole['median_distance']:.4g} in {norm}")
        )
    if whole["median_queries"] is not None:
        rows.append(("median queries until it succeeded", f"{whole['median_queries']:,.0f}"))
    each = duration(whole["seconds"] / whole["n"])
    rows.append(("time per image", f"{each} ({duration(whole['seconds'])} in all)"))
    said = {
        "given up early, because of a limit": whole["cut"],
        "without an answer (never a success)": whole["unanswered"],
        "without an answer once attacked (neither fooled nor right)": whole["silenced"],
        "candidates outside the budget, refused": whole["refused"],
    }
    rows += [(what, f"{count:,}") for what, count in said.items() if count]
    lines = []
    if whole["alike"] is not None and whole["alike"] < SURELY:
        lines.append(
            f"! the shards differ by more than chance (χ², p = {whole['alike']:.1g}): the "
            "intervals are for a random sample of images from all of them, not for another shard"
        )
    return View(title, {}, (Grid("", ("", ""), tuple(rows)),), tuple(lines))
