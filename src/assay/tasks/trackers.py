"""One run per trial in TensorBoard, Weights & Biases or trackio, through accelerate's trackers.

A tracker writes to files of this machine: wandb offline, without telemetry, code or artifacts. What
fails in one is said once, and it is not called again: it never ends a training.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.tracking import (
    GeneralTracker,
    TensorBoardTracker,
    TrackioTracker,
    WandBTracker,
)

from assay.errors import told
from assay.runs.tracked import Tracking, current
from assay.runs.trial import Trial

PROJECT = "assay"


class TrialRun(GeneralTracker):  # type: ignore[misc]  # accelerate has no types
    """The run of one trial in every tracker that is wanted; a tracker of accelerate's itself.

    `Accelerator.end_training` does not end it, since a trial is tested after its training: `close`
    does.

    Args:
        tracking: which trackers, and where they write.
        trial: what the run is called by: its label names it, its address is its id, and what comes
            of the same label with other seeds is its group.
        say: told, once per tracker, what failed.
    """

    name = "assay"
    requires_logging_directory = False

    def __init__(self, tracking: Tracking, trial: Trial, say: Callable[[str], None]) -> None:
        super().__init__()
        self.tracking = tracking
        self.trial = trial
        self.say = say
        self.runs: dict[str, Any] = {}

    @property
    def tracker(self) -> dict[str, Any]:
        """The trackers that still work, by name."""
        return self.runs

    def start(self) -> None:
        """Open the runs; one that was broken off goes on."""
        PartialState()  # accelerate's trackers log through it, also where nothing is trained
        for name in self.tracking.to:
            if not self.tracking.mark(name, self.trial.address).exists():
                with self.guarded(name):
                    run = OPENERS[name](self.tracking, self.trial)
                    run.start()
                    self.runs[name] = run
                    _configure(name, run, self.trial)

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        """Do nothing: a run holds the trial's settings from its start on."""

    def log(self, values: Mapping[str, Any], step: int | None = None, **more: Any) -> None:
        """Log numbers at a step."""
        for name, run in list(self.runs.items()):
            with self.guarded(name):
                run.log(dict(values), step=step, **more)
                if name == "tensorboard":
                    run.writer.flush()  # what is shown while it trains

    def finish(self) -> None:
        """Do nothing: see `close`."""

    def close(self, metrics: Mapping[str, Any], step: int) -> None:
        """Log final metrics, and end the runs: each is whole."""
        found = {f"final/{name}": value for name, value in numbers(metrics).items()}
        self.log(found, step=step)
        for name, run in list(self.runs.items()):
            with self.guarded(name):
                run.finish()
                mark = self.tracking.mark(name, self.trial.address)
                mark.parent.mkdir(parents=True, exist_ok=True)
                mark.touch()

    @contextmanager
    def guarded(self, name: str) -> Iterator[None]:
        """Say what fails in a tracker meanwhile, and call it no more."""
        try:
            yield
        except Exception as error:  # whatever a tracker may raise: no training ends by it
            self.runs.pop(name, None)
            missing = isinstance(error, ModuleNotFoundError) and error.name == name
            hint = ": pip install 'assay[track]'" if missing else f": {told(error)}"
            self.say(f"{name} does not track {self.trial.title}{hint}")


def runs_of(trial: Trial) -> list[TrialRun]:
    """Return the run of a trial that is about to be computed, in the trackers that this process was
    told of; nothing where it was told of none. What fails is said in the trial's log."""

    def log(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    found = current()
    return [] if found is None else [TrialRun(found, trial, log)]


def numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics that are numbers."""
    plain = (int, float)
    return {
        name: float(value)
        for name, value in metrics.items()
        if isinstance(value, plain) and not isinstance(value, bool)
    }


# -- one for each tracker ---------------------------------------------------------------------


def stays_here(name: str) -> None:
    """Undo what the environment says, for other projects, of where a tracker sends its runs: wandb
    online, trackio's space or server. Whoever wants them there sends them, as docs/tracking.md
    says."""
    if name == "wandb" and os.environ.get("WANDB_MODE") != "disabled":
        os.environ["WANDB_MODE"] = "offline"
    if name == "trackio":
        for where in ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"):
            os.environ.pop(where, None)


def _tensorboard(tracking: Tracking, trial: Trial) -> Any:
    place = Path(tracking.folder) / "tensorboard" / _file(tracking.study) / _file(trial.group)
    return TensorBoardTracker(f"seed {trial.seed} ({trial.short})", place)


def _wandb(tracking: Tracking, trial: Trial) -> Any:
    stays_here("wandb")
    quiet = {"WANDB_ERROR_REPORTING": "false", "WANDB_SILENT": "true"}
    for name, value in quiet.items():
        os.environ.setdefault(name, value)
    import wandb

    place = Path(tracking.folder) / "wandb"
    place.mkdir(parents=True, exist_ok=True)
    return WandBTracker(
        PROJECT,
        dir=str(place),
        id=f"{_file(tracking.study)}-{trial.short}",
        name=trial.title,
        group=tracking.study,
        job_type=trial.group,
        resume="allow",
        reinit="finish_previous",
        save_code=False,
        settings=wandb.Settings(
            console="off", x_disable_stats=True, x_disable_meta=True, x_disable_machine_info=True,
            disable_git=True, disable_code=True, disable_job_creation=True, silent=True,
        ),
    )  # fmt: skip


def _trackio(tracking: Tracking, trial: Trial) -> Any:
    stays_here("trackio")
    os.environ["TRACKIO_DIR"] = str(Path(tracking.folder) / "trackio")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it notes each request
    return TrackioTracker(
        PROJECT,
        name=f"{trial.title} ({trial.short})",
        group=f"{tracking.study}: {trial.group}",
        resume="allow",
        embed=False,
        auto_log_gpu=False,
        auto_log_cpu=False,
    )


OPENERS: Mapping[str, Callable[[Tracking, Trial], Any]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "trackio": _trackio,
}


def _configure(name: str, run: Any, trial: Trial) -> None:
    """Give a run the settings of its trial, and its address."""
    held = {"address": trial.address, "label": trial.label, "seed": trial.seed, **trial.config}
    if name == "tensorboard":  # its hyperparameters would be a run of their own
        run.writer.add_text("config", f"```\n{json.dumps(held, indent=1)}\n```", 0)
    else:
        run.store_init_configuration(held)


def _file(text: str) -> str:
    """Return a text as the name of a folder."""
    return "".join(c if c.isalnum() or c in " .,-_[]()" else "-" for c in text).strip() or "-"
