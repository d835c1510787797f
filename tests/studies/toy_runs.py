"""Tasks without torch, for the tests of a whole study."""

# ruff: noqa: ARG001 (a task takes a trial and a workspace, whether or not it uses them)

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np

from assay.runs.trial import Outcome, Trial
from assay.runs.worker import Workspace


def measure(trial: Trial, work: Workspace) -> Outcome:
    """Draw the effect of one seed, unless the config has another fate for it."""
    fate, repaired = trial.config["fate"], Path(trial.config["repaired"]).is_file()
    if fate == "raises" and not repaired:
        raise ValueError("loss is not finite at step 3")
    if fate == "dies" and not repaired:
        os.kill(os.getpid(), signal.SIGKILL)
    rng = np.random.default_rng([trial.seed, *trial.config["cell"].encode()])
    effect = trial.config["effect"] + trial.config["spread"] * rng.normal()
    return Outcome({"effect": float(effect), "collapsed": fate == "collapses"})
