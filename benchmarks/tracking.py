"""What tracking costs: CPU seconds of a trial's run in each tracker, beside a training of `skip`.

    python benchmarks/tracking.py

Of this process: what wandb's writer does in its own is not counted. The first trial of a process
also imports the tracker; it stands apart.
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
import time
from pathlib import Path

from assay.report.result import StudyResult
from assay.runs.tracked import tracking
from assay.runs.trial import Trial
from assay.tasks.trackers import TrialRun

ROOT = Path(__file__).resolve().parent.parent
TRACKERS = ("tensorboard", "wandb", "trackio")


def cost(name: str, trials: int, epochs: int) -> list[float]:
    """Return the CPU seconds of each trial's run in a tracker: opened, logged, closed."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        told = tracking([name], Path(folder), "benchmark")
        assert told is not None
        for seed in range(trials):
            start = time.process_time()
            trial = Trial(task="toy:task", config={"lr": 0.1}, seed=seed, label="plain [7,7]")
            run = TrialRun(told, trial, print)
            run.start()
            for epoch in range(epochs):
                curves = ("train_loss", "val_loss", "train_accuracy", "val_accuracy", "lr")
                run.log(dict.fromkeys(curves, 1.0 / (epoch + 1)), step=epoch + 1)
            run.close({f"metric {k}": float(k) for k in range(20)}, step=epochs)
            found.append(time.process_time() - start)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=10)
    given = parser.parse_args()
    skip = StudyResult.read(ROOT / "docs" / "results" / "skip" / "result.json")
    trained = [line.seconds for line in skip.trials if line.seconds and "[" in line.label]
    usual = sum(trained) / len(trained)
    print(f"a trial of skip, quick: {usual:.0f} s of one core on the mean of {len(trained)}")
    for name in TRACKERS:
        if importlib.util.find_spec(name) is None:
            print(f"{name:12} not installed (extra track)")
            continue
        first, *others = cost(name, given.trials, given.epochs)
        each = sum(others) / len(others)
        print(
            f"{name:12} {each:.3f} CPU s a trial of {given.epochs} epochs, "
            f"{100 * each / usual:.2f} % of it; the first of a process {first:.1f} CPU s"
        )


if __name__ == "__main__":
    main()
