"""`assay sweep STUDY --param NAME=LOW..HIGH`: try settings of a study, judge the best on fresh
seeds."""

from __future__ import annotations

import shlex
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from assay.commands import flags
from assay.commands.flags import flag_app, resolve
from assay.errors import AssayError, repeated, unknown

app = App(
    name="sweep",
    help_flags=(),
    version_flags=(),
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)

Sweeping = Parameter(group="Sweep")
Running = Parameter(group="Running")

FIRST = (
    *("param", "tries", "cell", "select_seeds", "delta"),
    *("preset", "config", "store", "workers", "data", "seeds"),
)
"""What --help shows."""


@app.default
def sweep(*tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)]) -> int:
    """Try settings of a study that compares trainings; judge the best on fresh seeds."""
    from assay.studies import load, names
    from assay.studies.cell_study import CellStudy

    swept = [name for name in names() if issubclass(load(name), CellStudy)]
    if not tokens or tokens[0] in ("--help", "-h"):
        print("Usage: assay sweep STUDY --param NAME=LOW..HIGH [--param ...] [OPTIONS]\n")
        print(f"Studies: {', '.join(swept)}; assay sweep STUDY --help-all shows every setting.")
        return 0
    name, *rest = tokens
    if name not in names():
        raise unknown("study", name, swept)
    if name not in swept:
        raise AssayError(
            f"{name} is no study of trainings side by side, which a sweep takes: {', '.join(swept)}"
        )
    return flags.run(partial(sweep_app, load(name), tokens), rest)


def sweep_app(study: Any, tokens: tuple[str, ...], everything: bool = True) -> App:
    """Return the App of one study's sweeps; its flags are made from the study's config."""

    def command(
        *,
        settings: dict[str, Any],
        param: Annotated[list[str] | None, Sweeping] = None,
        tries: Annotated[int, Sweeping] = 20,
        cell: Annotated[str | None, Sweeping] = None,
        select_seeds: Annotated[int, Sweeping] = 1,
        delta: Annotated[float, Sweeping] = 0.01,
        preset: Annotated[str, Parameter(group="Study")] = "quick",
        config: Annotated[Path | None, Parameter(group="Study")] = None,
        store: Annotated[Path, Running] = Path("runs"),
        workers: Annotated[int | None, Running] = None,
        engine: Annotated[Literal["local", "ray"], Running] = "local",
        ray_address: Annotated[str | None, Running] = None,
        quiet: Annotated[bool, Running] = False,
    ) -> int:
        """Try settings of a study by validation accuracy, then judge the best of them beside the
        study's own, on seeds and images that chose nothing. The same command goes on where it was
        stopped, and with more --tries from there.

        Args:
            param: what is varied: recipe.lr=1e-4..1e-1 (a range from a decade on by its logarithm),
                or recipe.optimizer.name=sgd,adamw; once for each.
            tries: how many settings are tried, the study's own among them.
            cell: the cell that is searched on and judged; default: the mean over all.
            select_seeds: seeds that each setting is tried with; none of them is judged on.
            delta: the smallest gain in test accuracy that matters.
            preset: a named set of settings that everything else overrides.
            config: a YAML file of settings, laid over the preset; flags are laid over both.
            store: the folder that keeps trials and pages.
            workers: processes that run trials; default: cores / threads of a trial.
            engine: where trials run: local, or ray (extra `ray`), on the nodes of a cluster.
            ray_address: HOST:PORT of the cluster; default: RAY_ADDRESS, or Ray on this machine.
            quiet: no progress display.
        """
        from assay.studies.searching import read_param
        from assay.workflows.shards import Spread

        if preset not in study.PRESETS:
            raise unknown("preset", preset, study.PRESETS)
        if ray_address is not None and engine != "ray":
            raise AssayError("--ray-address was given without --engine ray; give both")
        least = {"--tries": (tries, 2), "--select-seeds": (select_seeds, 1)}
        least |= {} if workers is None else {"--workers": (workers, 1)}
        for flag, (given, bound) in least.items():
            if given < bound:
                raise AssayError(f"{flag} must be at least {bound}, got {given}")
        if not 0 <= delta < 1:
            raise AssayError(f"--delta is a difference of fractions from 0 to 1, got {delta:g}")
        if not param:
            raise AssayError("say what is varied: --param recipe.lr=1e-4..1e-1")
        made = resolve(study, study.preset_values(preset), config, settings)
        params = tuple(read_param(text, made) for text in param)
        twice = repeated(one.path for one in params)
        if twice is not None:
            raise AssayError(f"--param {twice} was given twice")
        from assay.workflows import sweep as work
        from assay.workflows.sweep_search import Sweep

        return work.run(
            Sweep(made.resolved(), params, tries, cell, select_seeds, delta),
            store,
            Spread(engine, ray_address, workers),
            command=shlex.join(("assay", "sweep", *tokens)),
            progress=not quiet,
        )

    defaults = study.parse(study.preset_values("quick")).model_dump(mode="json")
    return flag_app(
        f"assay sweep {study.NAME}", command, study, defaults, first=FIRST, everything=everything
    )
