"""`assay run STUDY`: run the trials that are missing, judge the claims, write the page."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from assay.commands import flags
from assay.commands.flags import flag_app, resolve
from assay.errors import AssayError, unknown
from assay.runs.tracked import Tracker

app = App(
    name="run",
    help_flags=(),
    version_flags=(),
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)


FIRST = (
    *("preset", "config", "store", "workers", "dry_run"),
    *("until_decided", "max_seeds", "out", "data", "seeds"),
)
"""What --help shows."""


@app.default
def run(*tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)]) -> int:
    """Run a study: its trials, the verdicts on its claims, its page.

    `assay run` lists the studies; `assay run STUDY --help-all` shows every setting of one.
    """
    from assay.studies import load, names, questions

    if not tokens or tokens[0] in ("--help", "-h"):
        print("Usage: assay run STUDY [OPTIONS]; assay run STUDY --help-all shows every setting.\n")
        for name, question in questions().items():
            print(f"  {name:<16}{question}")
        return 0
    name, *rest = tokens
    if name not in names():
        raise unknown("study", name, names())
    study = load(name)
    return flags.run(partial(study_app, study), rest)


def study_app(study: Any, everything: bool = True) -> App:
    """Return the App of one study; its flags are made from the fields of the study's config."""

    def command(
        *,
        settings: dict[str, Any],
        preset: Annotated[str, Parameter(group="Study")] = "quick",
        config: Annotated[Path | None, Parameter(group="Study")] = None,
        store: Annotated[Path, Parameter(group="Running")] = Path("runs"),
        workers: Annotated[int | None, Parameter(group="Running")] = None,
        engine: Annotated[Literal["local", "ray"], Parameter(group="Running")] = "local",
        ray_address: Annotated[str | None, Parameter(group="Running")] = None,
        dry_run: Annotated[bool, Parameter(group="Running")] = False,
        print_config: Annotated[bool, Parameter(group="Running")] = False,
        rerun_failed: Annotated[bool, Parameter(group="Running")] = False,
        until_decided: Annotated[bool, Parameter(group="Running")] = False,
        max_seeds: Annotated[int | None, Parameter(group="Running")] = None,
        out: Annotated[Path | None, Parameter(group="Running")] = None,
        track: Annotated[list[Tracker] | None, Parameter(group="Running")] = None,
        quiet: Annotated[bool, Parameter(group="Running")] = False,
    ) -> int:
        """QUESTION

        Args:
            preset: a named set of settings that everything else overrides.
            config: a YAML file of settings, laid over the preset; flags are laid over both.
            store: the folder that keeps trials and pages.
            workers: processes that run trials; default: cores / threads of a trial.
            engine: where trials run: local, or ray (extra `ray`), on the nodes of a cluster.
            ray_address: HOST:PORT of the cluster; default: RAY_ADDRESS, or Ray on this machine.
            dry_run: only say which trials there are, which are done, and what the rest costs.
            print_config: only print the YAML that would run.
            rerun_failed: run trials again that failed before.
            until_decided: double the seeds until every claim is decided; needs --max-seeds.
            max_seeds: the most seeds that --until-decided goes to.
            out: a folder to publish: index.html, result.json and config.yaml are written there too.
            track: what gets a run of each trial: tensorboard, wandb (offline) or trackio.
            quiet: no progress display.
        """
        if preset not in study.PRESETS:
            raise unknown("preset", preset, study.PRESETS)
        if workers is not None and workers < 1:
            raise AssayError(f"--workers must be at least 1, got {workers}")
        if ray_address is not None and engine != "ray":
            raise AssayError("--ray-address was given without --engine ray; give both")
        if until_decided != (max_seeds is not None):
            given, absent = ("--until-decided", "--max-seeds N")[:: 1 if until_decided else -1]
            raise AssayError(f"{given} was given without {absent}; give both")
        if max_seeds is not None:
            study.parse({"seeds": max_seeds}, where="--max-seeds")
        made = resolve(study, study.preset_values(preset), config, settings)
        if made.preset not in study.PRESETS:  # from the YAML
            raise unknown("preset", made.preset, study.PRESETS)
        if print_config:
            sys.stdout.write(made.to_yaml())
            return 0
        from assay.workflows import run as running

        if dry_run:
            if max_seeds is not None:
                running.check_max_seeds(made, max_seeds)
            return running.dry_run(made, store, workers=workers)
        return running.run(
            made,
            store,
            workers=workers,
            engine=engine,
            ray_address=ray_address,
            progress=not quiet,
            rerun_failed=rerun_failed,
            max_seeds=max_seeds,
            out=out,
            track=track or (),
        )

    command.__doc__ = (command.__doc__ or "").replace("QUESTION", study.QUESTION)
    defaults = study.parse(study.preset_values("quick")).model_dump(mode="json")
    return flag_app(
        f"assay run {study.NAME}", command, study, defaults, first=FIRST, everything=everything
    )
