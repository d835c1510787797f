"""Runs of what is finished: `assay track`, and what a tracked study leaves at its end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from assay.errors import AssayError
from assay.report.result import StudyResult
from assay.runs.display import say
from assay.runs.entry import Entry, Result
from assay.runs.remote import open_store
from assay.runs.store import Run
from assay.runs.tracked import Tracking, tracking
from assay.tasks.trackers import TrialRun
from assay.train.history import FOLLOWED


def run(text: str, *, store: Path, to: Sequence[str]) -> int:
    """Write the trials of a study, or one trial, as runs of trackers; say where these write.

    Raises:
        AssayError: nothing answers to `text`, none of it is finished, or a tracker is not known.
    """
    home = open_store(store)
    found = home.find(text)
    entries: list[Entry | None] = [found] if isinstance(found, Entry) else []
    if isinstance(found, Run):
        entries = [home.stored(address) for address in found.trials]
    kept = [entry.result() for entry in entries if entry is not None]
    results = [result for result in kept if result is not None]
    if not results:
        raise AssayError(f"{text} has no finished trials in {store}: nothing can be tracked")
    told = tracking(to, home.root, found.id if isinstance(found, Run) else "trials")
    assert told is not None  # `to` has at least one name
    judged = None
    if isinstance(found, Run) and found.kind == "study":
        judged = StudyResult.read(found.folder / "result.json")
    labels = {line.address: line.label for line in judged.trials} if judged else {}
    written = write_runs(told, results, labels)
    if judged is not None:
        from assay.workflows.track_study import write_study  # loads matplotlib

        write_study(told, judged, say)
    print(f"{written} of {len(results)} trials as new runs, in {told.folder}")
    return 0


def write_runs(told: Tracking, results: Iterable[Result], labels: Mapping[str, str]) -> int:
    """Write each result as a run to the trackers that do not have it; return how many were new.

    A curve of the training is logged epoch by epoch, everything else at the end.

    Args:
        labels: what the study calls trials, by address: a trial that another study planned first
            is kept under that one's label.
    """
    written = 0
    complained: set[str] = set()

    def once(line: str) -> None:
        name = line.partition(" ")[0]
        if name not in complained:
            complained.add(name)
            say(line)

    for result in results:
        label = labels.get(result.trial.address, result.trial.label)
        run = TrialRun(told, result.trial.model_copy(update={"label": label}), once)
        run.start()
        if not run.runs:
            continue
        history = result.metrics.get("history") or {}
        epochs = len(history.get("train_loss", ()))
        for epoch in range(epochs):
            curves = {name: history[name][epoch] for name in FOLLOWED if history.get(name)}
            run.log(curves, step=epoch + 1)
        run.close(result.metrics, step=epochs)
        written += bool(run.runs)
    return written
