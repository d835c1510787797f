"""Running a study: its trials, the verdicts, its folder in the store."""

from __future__ import annotations

import shlex
import time
from datetime import datetime
from pathlib import Path

from rich.console import Console

from assay import stats
from assay.config import digest
from assay.made import made_by
from assay.report.page import render_study
from assay.report.result import Claim, StudyResult, TrialLine
from assay.report.terminal import study_summary
from assay.runs.engine import execute
from assay.runs.results import Results
from assay.runs.status import kin, plan_status
from assay.runs.store import Store, write_atomic
from assay.runs.trial import Trial
from assay.studies.base import Cost, Study


def run(
    study: Study,
    store: Path,
    *,
    workers: int | None = None,
    progress: bool = True,
    rerun_failed: bool = False,
) -> int:
    """Run what is missing of a study, judge it, write its page, and say where it is.

    Returns 0 whatever the verdicts are; 1 if a trial failed.
    """
    started, clock = datetime.now().astimezone(), time.perf_counter()
    study = study.resolved()
    study.plan(Results())  # a mistake in the settings shows before anything is written
    home = Store(store)
    done = execute(study.plan, home, workers=workers, progress=progress, rerun_failed=rerun_failed)
    seconds = time.perf_counter() - clock
    look = look_at(study, home)
    result = judge(study, done, look=look, started=started, seconds=seconds)
    page = save(study, done, result, home, look)
    tell(result, page)
    return 1 if done.failures else 0


def look_at(study: Study, store: Store) -> int:
    """Return which look at these claims this is: each further number of seeds is one more.

    Looks at growing numbers of seeds share one α, or looking long enough would prove anything.
    """
    looks = {
        run.document.get("seeds"): run.document.get("look")
        for run in store.runs()
        if run.document.get("family") == family(study)
    }
    return int(looks.get(study.seeds) or len(looks) + 1)


def family(study: Study) -> str:
    """Return what studies have in common that differ in nothing but the number of seeds."""
    settings = study.model_dump(mode="json")
    del settings["seeds"]
    return digest({"study": study.NAME, "config": settings})


def judge(
    study: Study, done: Results, *, look: int, started: datetime, seconds: float
) -> StudyResult:
    """Return the result of a study: all its claims judged together."""
    found = study.findings(done)
    claims = stats.judge_claims(found.effects, look=look)
    trials = study.plan(done)
    return StudyResult(
        study=study.NAME,
        question=study.QUESTION,
        preset=study.preset,
        created=datetime.now().astimezone().isoformat(timespec="seconds"),
        summary=found.summary,
        claims=tuple(_claim(claim) for claim in claims),
        tables=tuple(found.tables),
        figures=tuple(found.figures),
        notes=(*found.notes, _about_looks(look)),
        trials=tuple(_line(trial, done) for trial in trials),
        made=made_by(
            command=command(study),
            config=study.model_dump(mode="json"),
            seeds=tuple(range(study.seeds)),
            started=started,
            seconds=seconds,
            threads=study.threads,
            data={name: mark for trial in trials for name, mark in trial.data.items()},
        ),
    )


def _about_looks(look: int) -> str:
    which = "for the first time" if look == 1 else f"for the {look}th time, on more seeds each time"
    return (
        f"These claims are judged {which}. Their intervals are wider than 95 %: the claims share "
        "an error rate of 5 % with one another, and with any later look at more seeds."
    )


def command(study: Study) -> str:
    """Return the command that runs this study again: its preset, and what differs from it."""
    words = ["assay", "run", study.NAME, "--preset", study.preset]
    base = type(study).parse(study.preset_values(study.preset)).model_dump(mode="json")
    for path, value in _differences(base, study.model_dump(mode="json")):
        if isinstance(value, bool):
            words.append(f"--{path}" if value else f"--no-{path}")
            continue
        words += [f"--{path}", *(map(str, value) if isinstance(value, list) else [str(value)])]
    return shlex.join(words)


def _differences(base: object, now: object, path: tuple[str, ...] = ()) -> list[tuple[str, object]]:
    if isinstance(base, dict) and isinstance(now, dict):
        if base.get("name") != now.get("name"):
            base = {}
        return [
            found
            for key, value in now.items()
            for found in _differences(base.get(key), value, (*path, key))
        ]
    return [] if base == now else [(".".join(path).replace("_", "-"), now)]


def _claim(claim: stats.Claim) -> Claim:
    return Claim(
        code=claim.code,
        text=claim.text,
        delta=claim.delta,
        estimate=claim.estimate,
        verdict=claim.verdict if claim.estimate.n else "not run",
        seeds_needed=claim.seeds_needed,
        note=claim.note,
    )


def _line(trial: Trial, done: Results) -> TrialLine:
    result, failure = done.get(trial), done.failure(trial)
    return TrialLine(
        address=trial.address,
        label=trial.label,
        status="done" if result else "failed" if failure else "missing",
        seconds=result.record.get("seconds") if result else None,
        reason=failure.message if failure else "",
    )


def save(study: Study, done: Results, result: StudyResult, store: Store, look: int) -> Path:
    """Write the study's folder, run.json last; return its page."""
    address = digest({"study": study.NAME, "config": study.model_dump(mode="json")})
    folder = store.run_folder("study", f"{study.NAME}-{study.preset}", address)
    write_atomic(folder / "config.yaml", study.to_yaml())
    write_atomic(folder / "result.json", result.to_json())
    write_atomic(folder / "index.html", render_study(result))
    store.save_run(
        "study",
        folder.name,
        {
            "name": study.NAME,
            "address": address,
            "family": family(study),
            "seeds": study.seeds,
            "look": look,
            "config": study.model_dump(mode="json"),
            "trials": [trial.address for trial in study.plan(done)],
            "claims": [claim.model_dump(mode="json") for claim in result.claims],
            "headline": result.summary,
        },
    )
    return folder / "index.html"


def tell(result: StudyResult, page: Path) -> None:
    """Print the verdicts, what failed, and where the page is."""
    console = Console(highlight=False)
    console.print(study_summary(result))
    for line in result.trials:
        if line.status == "failed":
            console.print(f"failed: {line.label}: {line.reason}", markup=False, soft_wrap=True)
    print(page)


def dry_run(study: Study, store: Path, *, workers: int | None = None) -> int:
    """Say which trials there are, which are done, and what the others will cost; run nothing."""
    study = study.resolved()
    home = Store(store)
    costs: dict[str, Cost | None] = {}

    def guess(trial: Trial) -> Cost | None:
        """Measure each kind of trial once: seeds cost the same."""
        kind = kin(trial)
        if kind not in costs:
            costs[kind] = study.cost(trial)
        return costs[kind]

    status = plan_status(study.plan(Results()), home, guess)
    Console(highlight=False).print(status.view(workers))
    return 0
