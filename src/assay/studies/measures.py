"""What is measured of each training, besides its metrics."""

from __future__ import annotations

from assay import stats
from assay.runs.entry import Result


def validation_accuracy(run: Result) -> float:
    """Return the validation accuracy of the weights that were tested."""
    history = run.metrics["history"]
    epoch = history["best_epoch"] if history["restored"] else len(history["val_accuracy"])
    return float(history["val_accuracy"][epoch - 1])


def gap(run: Result) -> float:
    """Return the training accuracy less the test accuracy."""
    return float(run.metrics["train_accuracy"] - run.metrics["test_accuracy"])


def calibration_error(run: Result) -> float:
    """Return the expected calibration error on the test images."""
    return stats.calibration_error(run.arrays["test_confidence"], run.arrays["test_correct"])
