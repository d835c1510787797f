"""`assay run`: the trials of a study, the verdicts, its folder in the store."""

from __future__ import annotations

import json
import re
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from rich.console import Console

from assay import stats
from assay.config import digest
from assay.disk import writable, write_atomic, writing_together
from assay.errors import AssayError
from assay.provenance import provenance
from assay.report.answer import first_sentence
from assay.report.result import StudyResult
from assay.report.study_page import render_study
from assay.report.terminal import study_summary
from assay.runs.cluster import Ray
from assay.runs.display import say
from assay.runs.engine import execute
from assay.runs.entry import RECORD
from assay.runs.remote import open_store
from assay.runs.results import Results
from assay.runs.status import plan_status
from assay.runs.store import Store
from assay.runs.tracked import tracking
from assay.runs.trial import Cost, Trial, kin
from assay.studies.base import Study
from assay.studies.interim import Analyses, analyses_now, seeds_to_go_on_from, to_remember
from assay.studies.kept import led
from assay.workflows.judged import claim_of, line_of


@dataclass(frozen=True)
class Judgement:
    """A judgement of a study that was written.

    Attributes:
        result: what it says.
        page: where it can be read.
        claims: what was judged.
        failed: whether a trial failed.
        gone: how many results that it rests on are no longer in the store.
    """

    result: StudyResult
    page: Path
    claims: tuple[stats.Claim, ...]
    failed: bool
    gone: int = 0


def run(
    study: Study,
    store: Path,
    *,
    workers: int | None = None,
    engine: Literal["local", "ray"] = "local",
    ray_address: str | None = None,
    progress: bool = True,
    rerun_failed: bool = False,
    max_seeds: int | None = None,
    out: Path | None = None,
    track: Sequence[str] = (),
) -> int:
    """Run what is missing of a study, judge it, write its page, and say where it is.

    Args:
        study: its settings.
        store: the folder that keeps trials and pages.
        workers: processes that run trials.
        engine: where they run: on this machine, or on the nodes of a Ray cluster.
        ray_address: the cluster; None: RAY_ADDRESS, or Ray is started on this machine.
        progress: show how far they are.
        rerun_failed: run trials again that failed before.
        max_seeds: double the seeds until every claim is decided, but to no more than these; None:
            judge once. Each judgement is written, and called again it goes on from the last.
        out: a folder that gets the page as well, to be published: without links into the store.
        track: trackers that get a run of each trial, a training's while it trains.

    Returns 0 whatever the verdicts are; 1 if a trial failed, or its result is no longer there.

    Raises:
        AssayError: for settings that cannot be run, and for fewer `max_seeds` than seeds.
    """
    started, clock = datetime.now().astimezone(), time.perf_counter()
    if out is not None:
        out = writable(out)
    study = study.resolved()
    study.plan(Results())  # a mistake in the settings shows before anything is written
    home = open_store(store)
    tracked = tracking(track, home.root, f"{study.NAME}-{study.preset}")
    words = command(study)
    written: list[Judgement] = []

    def analyse(seeds: int) -> Sequence[stats.Claim]:
        if written:
            tell_analysis(written[-1], seeds)
        grown = study.model_copy(update={"seeds": seeds})
        with nullcontext() if tracked is None else tracked.told():
            done = execute(
                grown.plan,
                home,
                engine=Ray(home.root, ray_address, workers) if engine == "ray" else None,
                workers=workers,
                progress=progress,
                rerun_failed=rerun_failed and not written,  # once is enough
                guess=grown.cost,
            )
        seconds = time.perf_counter() - clock
        written.append(write(grown, done, home, words, started=started, seconds=seconds))
        if tracked is not None:
            from assay.workflows.track import write_runs  # loads torch, as trackers do
            from assay.workflows.track_study import write_study

            labels = {address: trial.label for address, trial in done.trials.items()}
            write_runs(tracked, [done[address] for address in done], labels)
            write_study(tracked, written[-1].result, say)
        return written[-1].claims

    if max_seeds is not None:
        check_max_seeds(study, max_seeds)
        words += f" --until-decided --max-seeds {max_seeds}"
    with home.using():
        if max_seeds is None:
            analyse(study.seeds)
        else:
            stats.until_decided(analyse, seeds_to_go_on_from(study, home, max_seeds), max_seeds)
    page = written[-1].page if out is None else publish(study, written[-1].result, out)
    tell(written[-1], page)
    if written[-1].gone:
        print(
            f"assay: {written[-1].gone} trials are gone from {home.root}, which was deleted or "
            "moved while the study ran: the same command runs them again",
            file=sys.stderr,
        )
    return 1 if written[-1].failed or written[-1].gone else 0


def write(
    study: Study, done: Results, store: Store, command: str, *, started: datetime, seconds: float
) -> Judgement:
    """Judge a study and write its folder."""
    found = study.findings(done)
    analyses = analyses_now(study, found.effects, done, store)
    claims = stats.judge_claims(
        found.effects,
        look=[one.number for one in analyses],
        decided=[claim for one in analyses for claim in one.decided],
    )
    trials = study.plan(done)
    result = StudyResult(
        study=study.NAME,
        question=study.QUESTION,
        preset=study.preset,
        created=datetime.now().astimezone().isoformat(timespec="seconds"),
        answer=study.answer(claims),
        summary=found.summary,
        claims=tuple(claim_of(claim, trials, done, study.INPUTS) for claim in claims),
        tables=tuple(found.tables),
        figures=tuple(found.figures),
        notes=(*found.notes, *_about_analyses(claims, analyses, study.judged_before)),
        trials=tuple(line_of(trial, done, study.METRICS) for trial in done.trials.values()),
        trials_at="../../trials",  # from studies/<id>/
        work_seconds=sum(result.record["seconds"] for result in done.values()),
        made=provenance(
            command=command,
            config=study.model_dump(mode="json"),
            seeds=tuple(range(study.seeds)),
            started=started,
            seconds=seconds,
            threads=study.threads,
            data={name: mark for trial in trials for name, mark in trial.data.items()},
        ),
    )
    result = led(study, result)
    page = save(study, result, store, claims, analyses)
    gone = sum(not (one.folder / RECORD).is_file() for one in done.values())
    return Judgement(result, page, claims, bool(done.failures), gone)


def _about_analyses(
    claims: Sequence[stats.Claim], analyses: Sequence[Analyses], before: int
) -> tuple[str, ...]:
    """Return how often the claims were judged: in one sentence where it is as often for all."""
    if not claims:
        return ()
    alike: dict[tuple[int, ...], list[str]] = {}
    for claim, one in zip(claims, analyses, strict=True):
        alike.setdefault(one.at, []).append(claim.code)
    said = []
    for at, codes in alike.items():
        who = "These claims were" if len(alike) == 1 else f"{', '.join(codes)}:"
        *others, last = map(str, at)
        times = f"{len(at)} times, on {', '.join(others)} and" if others else "once, on"
        said.append(f"{who} judged {times} {last} seeds.")
    if before:
        often = "once" if before == 1 else f"{before} times"
        said.append(f"Some of the seeds had been judged {often} elsewhere, which counts.")
    return (
        f"{' '.join(said)} Their intervals are wider than 95 %: the claims share an error rate of "
        "5 % with one another, and with any later analysis of more seeds.",
    )


def command(study: Study) -> str:
    """Return the command that runs this study again: its preset, and what differs from it."""
    words = ["assay", "run", study.NAME, "--preset", study.preset]
    base = type(study).parse(study.preset_values(study.preset)).model_dump(mode="json")
    for path, value in _differences(base, study.model_dump(mode="json")):
        if isinstance(value, bool):
            words.append(f"--{path}" if value else f"--no-{path}")
            continue
        if isinstance(value, list) and (not value or any(isinstance(v, dict) for v in value)):
            words += [f"--{path}", json.dumps(value)]
            continue
        values = value if isinstance(value, list) else [value]
        words += [f"--{path}", *("none" if one is None else str(one) for one in values)]
    return shlex.join(words)


def without_folders(command: str) -> str:
    """Return a command without the folders of this machine: of a path from the root its name."""
    words = shlex.split(command)
    return shlex.join(Path(word).name if Path(word).is_absolute() else word for word in words)


def without_stamp(versions: Mapping[str, str]) -> dict[str, str]:
    """Return versions without a commit that had local changes: it would not make this again."""
    return {name: _DIRTY.sub("", version) for name, version in versions.items()}


_DIRTY = re.compile(r" \([^)]*-dirty\)")


def _differences(base: object, now: object, path: tuple[str, ...] = ()) -> list[tuple[str, object]]:
    """Return what differs, by its dotted name; of another choice (`name`) all settings."""
    if isinstance(now, dict):
        alike = isinstance(base, dict) and base.get("name") == now.get("name")
        before = base if alike and isinstance(base, dict) else {}
        return [
            found
            for key, value in now.items()
            for found in _differences(before.get(key, ...), value, (*path, key))
        ]
    return [] if base == now else [(".".join(path).replace("_", "-"), now)]


def save(
    study: Study,
    result: StudyResult,
    store: Store,
    claims: Sequence[stats.Claim],
    analyses: Sequence[Analyses],
) -> Path:
    """Write the study's folder, run.json last; return its page."""
    address = digest({"study": study.NAME, "config": study.model_dump(mode="json")})
    folder = store.run_folder("study", f"{study.NAME}-{study.preset}", address)
    page = render_study(result)
    with writing_together(folder) as made:  # a copy that is made meanwhile has all of one judgement
        (made / "config.yaml").write_text(study.to_yaml())
        (made / "result.json").write_text(result.to_json())
        (made / "index.html").write_text(page)
    store.save_run(
        "study",
        folder.name,
        {
            "name": study.NAME,
            "address": address,
            "seeds": study.seeds,
            "looks": to_remember(claims, analyses),
            "config": study.model_dump(mode="json"),
            "trials": [trial.address for trial in result.trials],
            "claims": [claim.model_dump(mode="json") for claim in result.claims],
            "headline": first_sentence(result.answer) or result.summary,
        },
    )
    return folder / "index.html"


def publish(study: Study, result: StudyResult, out: Path) -> Path:
    """Write index.html, result.json and config.yaml to a folder outside of the store, and return
    the page."""
    alone = published(result)
    settings = study.model_copy(
        update={"seeds": len(result.made.seeds), "data": alone.made.config["data"]}
    )
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(out / "config.yaml", settings.to_yaml())
    write_atomic(out / "result.json", alone.to_json())
    page = out / "index.html"
    write_atomic(page, render_study(alone))
    return page


def published(result: StudyResult) -> StudyResult:
    """Return a result as others may read it: without links into a store, folders of this machine
    (data is called as its folder is), and commits that had local changes."""
    made = result.made
    data = made.config.get("data")
    named = Path(data).name if isinstance(data, str) and Path(data).is_absolute() else data
    made = made.model_copy(
        update={
            "command": without_folders(made.command),
            "config": made.config if data is None else {**made.config, "data": named},
            "versions": without_stamp(made.versions),
        }
    )
    return result.model_copy(update={"trials_at": "", "made": made})


def tell_analysis(last: Judgement, seeds: int) -> None:
    """Print how many claims an analysis left undecided, and at how many seeds the next one is."""
    left = sum(claim.verdict == "undecided" for claim in last.claims)
    had, claims = len(last.result.made.seeds), len(last.claims)
    print(
        f"{left} of {claims} claims are undecided on {had} seeds: next analysis at {seeds}",
        flush=True,
    )


def tell(last: Judgement, page: Path) -> None:
    """Print the verdicts, what failed, and where the page is: in the folder that was asked for."""
    console = Console(highlight=False)
    console.print(study_summary(last.result))
    for line in last.result.trials:
        if line.status == "failed":
            console.print(f"failed: {line.label}: {line.reason}", markup=False, soft_wrap=True)
    print(page)


def check_max_seeds(study: Study, most: int) -> None:
    """Refuse fewer seeds than a study begins with.

    Raises:
        AssayError: says how many that are.
    """
    if most < study.seeds:
        raise AssayError(
            f"--max-seeds {most} is less than the {study.seeds} seeds to begin with; give at least "
            f"{study.seeds}, or fewer --seeds"
        )


def dry_run(study: Study, store: Path, *, workers: int | None = None) -> int:
    """Say which trials there are, which are done, and what the others will cost; run nothing."""
    study = study.resolved()
    home = open_store(store)
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
