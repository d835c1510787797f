"""`assay sweep`: settings of a study tried on seeds of their own, the best judged on fresh ones."""

from __future__ import annotations

import importlib
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from assay.disk import write_atomic
from assay.errors import AssayError
from assay.report.study_page import render_study
from assay.runs.engine import execute
from assay.runs.environment import cores
from assay.runs.remote import url_of
from assay.runs.results import Results
from assay.runs.store import Run, Store
from assay.workflows.shards import Spread, alone
from assay.workflows.sweep_page import swept
from assay.workflows.sweep_search import FIRST, Search, Sweep


def run(sweep: Sweep, store: Path, spread: Spread, *, command: str, progress: bool) -> int:
    """Try what is left to try, judge the best setting, write the page, and say where it is.

    Returns 0 whatever the verdict is; 1 if no setting could be scored, or a judged trial failed.

    Raises:
        AssayError: for settings that cannot be tried, or a sweep that another process works on.
    """
    started, clock = datetime.now().astimezone(), time.perf_counter()
    optuna = load_optuna()
    if sweep.study.seeds > FIRST:
        raise AssayError(f"--seeds must be at most {FIRST}: settings are tried on those beyond")
    sweep.check()
    if url_of(store) is not None:
        raise AssayError(
            f"--store {url_of(store)}: a sweep keeps a journal, which is added to in place; give a "
            "folder, and `assay sync` copies it"
        )
    home = Store(store)
    name = f"sweep-{sweep.study.NAME}-{sweep.study.preset}"
    own = home.run_folder("study", name, sweep.address)
    with home.using(), alone(own, "this sweep") as folder:
        search = Search(sweep, optuna, folder, home, spread.workers or at_once(sweep))
        done = execute(
            search.plan,
            home,
            engine=spread.ray(home.root),
            workers=spread.workers,
            progress=progress,
            rerun_failed=True,
        )
        judged = search.judged(done)
        result = swept(
            sweep.study,
            sweep.params,
            search.settings(),
            judged,
            trials=[*done.trials.values()],
            done=done,
            importance=search.importance(),
            command=command,
            started=started,
            seconds=time.perf_counter() - clock,
        )
        write_atomic(folder / "result.json", result.to_json())
        write_atomic(folder / "index.html", render_study(result))
        keep(home, folder, sweep, result, done)
    for line in (result.answer.replace("**", ""), result.summary):
        print(line)
    print(folder / "index.html")
    return 1 if judged.best is None or any(done.failure(t) for t in judged.trials) else 0


def keep(home: Store, folder: Path, sweep: Sweep, result: Any, done: Results) -> Run:
    """Write the run.json of a sweep, which makes it a finished one."""
    return home.save_run(
        "study",
        folder.name,
        {
            "name": result.study,
            "address": sweep.address,
            "seeds": sweep.study.seeds,
            "config": sweep.study.model_dump(mode="json"),
            "trials": [trial.address for trial in done.trials.values()],
            "claims": [claim.model_dump(mode="json") for claim in result.claims],
            "headline": result.answer.replace("**", ""),
        },
    )


def load_optuna() -> Any:
    """Return optuna, which says nothing by itself.

    Raises:
        AssayError: it is not installed.
    """
    try:
        optuna = importlib.import_module("optuna")
    except ModuleNotFoundError as error:
        raise AssayError("assay sweep needs optuna: pip install 'assay[sweep]'") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def at_once(sweep: Sweep) -> int:
    """Return how many settings are tried side by side: as many as fill this machine."""
    return max(1, cores() // sweep.study.threads)
