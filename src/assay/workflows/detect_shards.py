"""`assay detect --shards`: every shard of a set scored, and how many outliers there are in all."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Literal

from rich.console import Console

from assay import stats
from assay.config import Config
from assay.disk import write_atomic, writing
from assay.errors import AssayError
from assay.inputs import Inputs, called
from assay.ood import Detector, FittedDetector
from assay.report.numerals import full
from assay.runs.entry import Result
from assay.runs.files import to_json
from assay.runs.results import Results
from assay.runs.trial import Trial
from assay.runs.view import Grid, View
from assay.tasks.shards import (
    MODEL,
    FitDetectors,
    ScoreShard,
    components,
    reference,
    shard_trials,
)
from assay.workflows.attack_shards import SURELY, alike
from assay.workflows.detect import DetectConfig, cells, refuse_validation
from assay.workflows.shards import Spread, at_rest, done_of, planned, refuse_foreign, tell_missing

DETECT, TABLE = "detect.json", "shards.csv"
SCHEMA = 1
FIELDS = ("image", "detector", "score", "threshold", "decision")


def run(
    inputs: Inputs,
    config: DetectConfig,
    also: Sequence[Detector],
    where: str,
    out: Path,
    spread: Spread,
    *,
    split: str,
    lines: Literal["csv", "json"],
    progress: bool,
    quiet: bool,
) -> int:
    """Score every shard that `out` has not the result of, and say how many images are outliers.

    The detectors are fitted once, as a trial of its own. `out` gets trials/, a folder for each
    shard; scores.csv (or .jsonl), a line for each image and detector; shards.csv, a line for each
    shard; and detect.json.

    Args:
        inputs: the model, and as its data the reference.
        config: the first detector, and where thresholds lie.
        also: further ones, which read the same pass.
        where: a folder of shards, or the id of a set on the hub.
        split: which of its shards.
        lines: how scores are written.

    Returns 0; 1 if a shard failed, which is then left out.

    Raises:
        AssayError: for a model, detectors or data that cannot be used.
    """
    scores = "scores.csv" if lines == "csv" else "scores.jsonl"
    out = refuse_foreign(out, (DETECT, TABLE, scores))
    refuse_validation(inputs)
    detectors = (config.detector, *also)
    twice = next((d.name for k, d in enumerate(detectors) if d in detectors[:k]), None)
    if twice is not None:
        raise AssayError(f"--also {twice}: it is among the detectors already")
    known, held = reference(at_rest(inputs), config.fitted_on)
    of_shards = at_rest(inputs).model_copy(update={"split": split})
    plan = planned(of_shards, where, labelled=False, classes=known.classes)
    if plan.reading.shape != known.shape:
        both = (plan.reading.shape, known.shape)
        seen, wanted = (" × ".join(map(str, shape)) for shape in both)
        raise AssayError(
            f"the images of {where} are {seen}, and those of {inputs.data} {wanted}: the model is "
            f"given one size; give --size {known.shape[1]}"
        )
    used: list[type[Config]] = [*components(detectors), FitDetectors]
    places = {**plan.common.places, "inputs": at_rest(inputs).model_dump_json()}
    learned = any("autoencoder" in detector.reads() for detector in detectors)
    fitting = FitDetectors(
        detectors=detectors,
        tpr=config.tpr,
        fitted_on=config.fitted_on,
        autoencoder_epochs=config.autoencoder_epochs if learned else None,
    )
    fit = plan.common.model_copy(
        update={
            "task": "fit-detectors",
            "config": fitting.model_dump(mode="json"),
            "data": {
                MODEL: plan.common.data[MODEL],
                "fitted": known.fingerprint,
                "held": held.fingerprint,
            },
            "versions": {kind.__name__: kind.VERSION for kind in used},
            "label": f"detectors fitted on {inputs.data} ({inputs.split})",
            "places": places,
        }
    )
    settings = ScoreShard(**plan.read())
    trials = shard_trials(settings, plan.shards, 0, plan.common, needs=[fit], used=used[:-1])
    results, there, missing = done_of(trials, out, spread, progress=progress)
    tell_missing(missing, len(trials))
    fitted = loaded(results, fit)
    with writing(out / scores) as file:
        write_scores(file, there, fitted, lines)
    write_atomic(out / TABLE, table(there, fitted))
    whole = joined(there, fitted)
    about = {
        "schema": SCHEMA,
        **whole,
        "tpr": config.tpr,
        "fit": fit.address,
        "reference": {"name": inputs.data, "split": inputs.split, "fingerprint": known.fingerprint},
        "model": {"name": called(inputs, plan.clf), "mark": plan.common.data[MODEL]},
        "data": {"name": where, "split": split, "shards": len(trials)},
        "missing": [{"shard": trial.label, "why": why} for trial, why in missing],
    }
    write_atomic(out / DETECT, to_json(about, indent=2))
    if not quiet:
        title = f"{where} ({split}), {len(there)} of {len(trials)} shards, {whole['n']:,} images"
        Console(highlight=False).print(summary(whole, fitted, title))
    print(out)
    return 1 if missing else 0


def loaded(results: Results, fit: Trial) -> list[FittedDetector]:
    """Return the detectors that a trial fitted."""
    result = results.need(fit)
    return [FittedDetector.load(result.path(one["file"])) for one in result.metrics["detectors"]]


def write_scores(
    file: IO[bytes],
    there: Sequence[tuple[Trial, Result]],
    fitted: Sequence[FittedDetector],
    lines: Literal["csv", "json"],
) -> None:
    """Write a line for each image and detector, shard after shard: one is in memory at a time."""
    text = io.TextIOWrapper(file, "utf-8", newline="")
    if lines == "json":
        text.writelines(
            json.dumps(dict(zip(FIELDS, row, strict=True))) + "\n" for row in _rows(there, fitted)
        )
    else:
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(FIELDS)
        rows.writerows(map(cells, _rows(there, fitted)))
    text.flush()
    text.detach()


def _rows(
    there: Sequence[tuple[Trial, Result]], fitted: Sequence[FittedDetector]
) -> Iterator[tuple[object, ...]]:
    known = [(one.detector.name, one.threshold) for one in fitted]
    for trial, result in there:
        name = trial.label.removeprefix("shard ")
        for place, column in enumerate(result.arrays["scores"].T.tolist()):
            for (detector, cut), score in zip(known, column, strict=True):
                said = "outlier" if score > cut else "inlier"
                yield (f"{name}:{place}", detector, score, cut, said)


def joined(
    there: Sequence[tuple[Trial, Result]], fitted: Sequence[FittedDetector]
) -> dict[str, Any]:
    """Return, for each detector, how many images are above its threshold, over all shards."""
    sizes = [result.metrics["n"] for _, result in there]
    found = []
    for place, one in enumerate(fitted):
        above = [result.metrics["flagged"][place] for _, result in there]
        found.append(
            {
                "detector": one.detector.model_dump(mode="json"),
                "threshold": one.threshold,
                "flagged": sum(above),
                "share": stats.proportion(sum(above), sum(sizes), "all images").to_dict(),
                "lets_through": one.lets_through.to_dict(),
                "alike": alike(list(zip(above, sizes, strict=True))),
                "notes": list(one.notes),
            }
        )
    return {"n": sum(sizes), "detectors": found}


def table(there: Sequence[tuple[Trial, Result]], fitted: Sequence[FittedDetector]) -> str:
    """Return a line for each shard, as CSV: how many outliers by each detector."""
    file = io.StringIO()
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(
        ("shard", "n", *(one.detector.name for one in fitted), "seconds", "peak_memory", "trial")
    )
    for trial, result in there:
        cost = (f"{result.record['seconds']:.3f}", result.record["peak_memory"])
        counts = (result.metrics["n"], *result.metrics["flagged"])
        rows.writerow((trial.label.removeprefix("shard "), *counts, *cost, trial.short))
    return file.getvalue()


def summary(whole: dict[str, Any], fitted: Sequence[FittedDetector], title: str) -> View:
    """Return what the terminal shows."""
    rows, lines = [], []
    for one, own in zip(fitted, whole["detectors"], strict=True):
        kept = one.lets_through
        rows.append(
            (
                one.detector.name,
                full(stats.proportion(own["flagged"], whole["n"], "all images")),
                f"{100 * (1 - kept.value):.1f} % "
                f"[{100 * (1 - kept.high):.1f}, {100 * (1 - kept.low):.1f}]",
                f"{one.threshold:.6g}",
            )
        )
        if own["alike"] is not None and own["alike"] < SURELY:
            lines.append(
                f"! {one.detector.name}: the shards differ by more than chance (χ², p = "
                f"{own['alike']:.1g}); shards.csv has each"
            )
        lines += [f"{one.detector.name}: {note}" for note in one.notes]
    columns = ("detector", "above its threshold", "of fresh inliers", "threshold")
    return View(title, {}, (Grid("", columns, tuple(rows)),), tuple(lines))
