"""`assay track RUN --to wandb`: a finished study in the trackers of others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from assay.runs.tracked import Tracker


def track(
    run: str,
    /,
    *,
    to: Annotated[list[Tracker], Parameter(negative="")],
    store: Path = Path("runs"),
) -> int:
    """Write what is finished of a study as runs of trackers, one for each trial.

    Args:
        run: the study, or a trial, as `assay list` calls it.
        to: what shows them: tensorboard, wandb (offline: `wandb sync` sends it), trackio.
        store: the folder that keeps trials, studies and audits.
    """
    from assay.workflows import track as work

    return work.run(run, store=store, to=to)
