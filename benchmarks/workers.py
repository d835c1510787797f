"""Two workers against one: the same trials in two fresh stores, one after the other.

Each trial trains a small convolutional network on one thread for `--seconds` or more (the number of
steps is measured first, and is the same for all). Reported: the ratio of the times, whether every
byte of metrics, arrays and weights is the same, and what one worker spent outside of the trials.

    python benchmarks/workers.py                          # what is published: 6 trials of 10 s
    python benchmarks/workers.py --trials 4 --seconds 2   # quick; start-up counts for more
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from pathlib import Path
from typing import Any

from assay.runs.engine import execute
from assay.runs.environment import cores, surroundings
from assay.runs.store import Store
from assay.runs.trial import Outcome, Trial
from assay.runs.worker import Workspace

OUT = Path(__file__).parent / "out"
RECORDED = {"metrics.json", "arrays.npz", "model.safetensors"}


def train(trial: Trial, work: Workspace) -> Outcome:
    """Train a small CNN on random images: the task of the benchmark."""
    import torch
    from safetensors.torch import save_file
    from torch import nn

    torch.set_num_threads(trial.threads)
    rng = torch.Generator().manual_seed(trial.seed)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 10),
    )
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.05, generator=rng)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    losses = []
    for step in range(trial.config["steps"]):
        x = torch.rand(64, 3, 32, 32, generator=rng)
        y = torch.randint(10, (64,), generator=rng)
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        work.progress((step + 1) / trial.config["steps"], f"step {step + 1}")
    save_file(model.state_dict(), work.path("model.safetensors"))
    return Outcome({"loss": losses[-1]}, {"losses": torch.tensor(losses).numpy()})


def plan(trials: int, steps: int) -> list[Trial]:
    """Return trials that differ in their seeds."""
    return [
        Trial(task="workers:train", config={"steps": steps}, seed=seed) for seed in range(trials)
    ]


def measured(trials: list[Trial], root: Path, workers: int) -> dict[str, Any]:
    """Run trials in a new store; return the time taken, and the time inside the trials."""
    start = time.perf_counter()
    results = execute(trials, Store(root), workers=workers, progress=True)
    seconds = time.perf_counter() - start
    assert not results.failures, results.failures
    inside = [result.record["seconds"] for result in results.values()]
    return {"workers": workers, "seconds": seconds, "trials": inside}


def contents(root: Path) -> dict[str, bytes]:
    """Return every byte that must not depend on the number of workers."""
    files = (root / "trials").rglob("*")
    return {
        str(path.relative_to(root)): path.read_bytes() for path in files if path.name in RECORDED
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=10.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        probes = execute([*plan(1, 10), *plan(1, 100)], Store(folder), workers=1, progress=False)
        _, warm = (result.record["seconds"] for result in probes.values())  # torch is loaded
        steps = math.ceil(arguments.seconds / (warm / 100))
        trials = plan(arguments.trials, steps)
        one, two = (measured(trials, Path(folder) / str(n), n) for n in (1, 2))
        same = contents(Path(folder) / "1") == contents(Path(folder) / "2")
        files = len(contents(Path(folder) / "1"))
    report = {
        "trials": arguments.trials,
        "steps": steps,
        "one": one,
        "two": two,
        "ratio": two["seconds"] / one["seconds"],
        "overhead": 1 - sum(one["trials"]) / one["seconds"],
        "same_bytes": same,
        "files_compared": files,
        "target": 0.6,
        "made": {**surroundings(), "cores_usable": cores()},
    }
    OUT.mkdir(exist_ok=True)
    (OUT / "workers.json").write_text(json.dumps(report, indent=2) + "\n")
    print(f"one worker   {one['seconds']:7.1f} s   (outside trials: {report['overhead']:.1%})")
    print(f"two workers  {two['seconds']:7.1f} s   ratio {report['ratio']:.3f} (at most 0.6)")
    print(f"same bytes   {'yes' if same else 'NO'} ({files} files)")


if __name__ == "__main__":
    main()
