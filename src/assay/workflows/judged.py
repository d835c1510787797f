"""A judged claim and a trial, as the page of a study and that of a sweep hold them."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import shorten

from assay import stats
from assay.report.result import Claim, Inputs, TrialLine
from assay.runs.results import Results
from assay.runs.trial import Trial


def claim_of(
    claim: stats.Claim, trials: Sequence[Trial], done: Results, inputs: Inputs = "images"
) -> Claim:
    """Return a claim as a result holds it; its note says why the first of `trials` of a kind that
    failed did."""
    reasons = []
    for label in claim.failed:
        failures = [done.failure(trial) for trial in trials if trial.label == label]
        first = next((failure for failure in failures if failure), None)
        if first is not None:
            reasons.append(f"{label}: {shorten(first.message, 160)}.")
    return Claim(
        code=claim.code,
        text=claim.text,
        delta=claim.delta,
        unit=claim.unit,
        estimate=claim.estimate,
        verdict=claim.verdict if claim.estimate.n else "not run",
        seeds_needed=claim.seeds_needed,
        images_needed=claim.images_needed,
        about=claim.about,
        note=" ".join(filter(None, (claim.note, claim.latest_note, *reasons))),
        collapsed=dict(claim.collapsed),
        failed=dict(claim.failed),
        look=claim.look,
        latest=claim.latest,
        asks=claim.asks,
        why_delta=claim.why_delta,
        per=claim.per,
        inputs=inputs,
    )


def line_of(trial: Trial, done: Results, metrics: Sequence[str]) -> TrialLine:
    """Return a trial as a result holds it, with those of the metrics that it has."""
    result, failure = done.get(trial), done.failure(trial)
    found = result.metrics if result else {}
    main = {name: found[name] for name in metrics if found.get(name) is not None}
    return TrialLine(
        address=trial.address,
        label=trial.label,
        status="done" if result else "failed" if failure else "missing",
        seed=trial.seed,
        metrics={name: float(f"{value:.6g}") for name, value in main.items()},
        seconds=result.record.get("seconds") if result else None,
        reason=failure.message if failure else str(found.get("why", "")),
    )
