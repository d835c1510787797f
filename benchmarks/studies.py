"""How busy a study keeps the cores, and what the store and the report cost beside the trials.

A study is run in a fresh store, then again (everything is found, judged and written anew), then as
many trials that do nothing but return arrays of the same size. Reported:

- busy: seconds inside trials over workers × seconds of the whole run, start of workers included;
- overhead: what the store takes (the idle trials), and what finding, judging and drawing takes (the
  second run), over the seconds of the whole run.

    python benchmarks/studies.py                                  # gradients, quick, one seed
    python benchmarks/studies.py --study skip --preset smoke      # quick; start-up counts for more
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from assay.runs.engine import execute
from assay.runs.environment import cores, surroundings
from assay.runs.results import Results
from assay.runs.store import Store
from assay.runs.trial import Outcome, Trial
from assay.runs.worker import Workspace
from assay.studies import load
from assay.workflows import run as running

OUT = Path(__file__).parent / "out"
BUSY, OVERHEAD = 0.90, 0.02


def nothing(trial: Trial, work: Workspace) -> Outcome:
    """Return as much as a real trial returns, and compute nothing."""
    rng = np.random.default_rng(trial.seed)
    work.path("model.safetensors").write_bytes(rng.bytes(trial.config["weights"]))
    array = rng.integers(0, 256, trial.config["arrays"], dtype=np.uint8)
    return Outcome({"filler": "x" * trial.config["metrics"]}, {"array": array})


def measure(options: argparse.Namespace, root: Path) -> dict[str, Any]:
    """Return the seconds of each part, and the target shares."""
    kind = load(options.study)
    settings = kind.preset_values(options.preset)
    if options.seeds is not None:
        settings["seeds"] = options.seeds
    study = kind.parse(settings)

    def run(where: Path) -> float:
        start = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            running.run(study, where, workers=options.workers, progress=False)
        return time.perf_counter() - start

    whole = run(root / "real")
    store = Store(root / "real")
    trials = study.resolved().plan(Results())
    results = [result for trial in trials if (result := store.result(trial)) is not None]
    assert len(results) == len(trials), "a trial failed"
    inside = [result.record["seconds"] for result in results]
    again = run(root / "real")
    sizes = {
        name: int(np.mean([_size(result.folder / file) for result in results]))
        for name, file in (
            ("weights", "model.safetensors"),
            ("arrays", "arrays.npz"),
            ("metrics", "metrics.json"),
        )
    }
    idle = Store(root / "idle")
    fillers = [Trial(task="studies:nothing", config=sizes, seed=k) for k in range(len(trials))]
    execute(fillers[: options.workers], idle, workers=options.workers, progress=False)
    start = time.perf_counter()
    execute(fillers, idle, workers=options.workers, progress=False)
    stored = time.perf_counter() - start - _starting(options.workers, root)
    return {
        "study": options.study,
        "preset": options.preset,
        "trials": len(trials),
        "workers": options.workers,
        "seconds": {"whole": whole, "again": again, "store": stored, "inside": sum(inside)},
        "bytes_of_a_trial": sizes,
        "busy": sum(inside) / (options.workers * whole),
        "overhead": (again + stored) / whole,
        "targets": {"busy": BUSY, "overhead": OVERHEAD},
        "made": {**surroundings(), "cores_usable": cores()},
    }


def _starting(workers: int, root: Path) -> float:
    """Return how long it takes to start workers and to end them, which is no cost of the store."""
    empty = [Trial(task="studies:nothing", config={"weights": 0, "arrays": 0, "metrics": 0}, seed=k)
             for k in range(workers)]  # fmt: skip
    start = time.perf_counter()
    execute(empty, Store(root / "empty"), workers=workers, progress=False)
    return time.perf_counter() - start


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--study", default="gradients")
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--seeds", type=int, default=None)
    parser.add_argument("--workers", type=int, default=cores())
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = measure(options, Path(folder))
    OUT.mkdir(exist_ok=True)
    (OUT / "studies.json").write_text(json.dumps(report, indent=2) + "\n")
    seconds = report["seconds"]
    print(
        f"{report['study']} ({report['preset']}): {report['trials']} trials, "
        f"{report['workers']} workers, {seconds['whole']:.1f} s, {seconds['inside']:.1f} s inside"
    )
    for name, met in (
        ("busy", report["busy"] >= BUSY),
        ("overhead", report["overhead"] < OVERHEAD),
    ):
        wanted = report["targets"][name]
        print(f"{'met   ' if met else 'MISSED'}  {name} {report[name]:.1%} (target: {wanted:.0%})")
    print(f"        store {seconds['store']:.2f} s, judging and drawing {seconds['again']:.2f} s")


if __name__ == "__main__":
    main()
