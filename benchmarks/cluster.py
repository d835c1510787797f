"""What the Ray engine costs: beside the local engine, per trial, and with many workers.

Trials that sleep, without torch: what is measured is the engine. Ray is started on this machine,
and stopped at the end.

    python benchmarks/cluster.py ratio          # 50 trials of 5 s, two workers, Ray over local
    python benchmarks/cluster.py noop           # 1,000 trials that do nothing, two warm workers
    python benchmarks/cluster.py many           # 64 warm workers, 128 trials of 30 s, over ideal
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from assay.runs.cluster import Ray, load_ray
from assay.runs.engine import Engine, execute
from assay.runs.environment import surroundings
from assay.runs.local import Local
from assay.runs.results import Results
from assay.runs.store import Store
from assay.runs.trial import Outcome, Trial
from assay.runs.worker import Workspace

OUT = Path(__file__).parent / "out"


def sleep(trial: Trial, work: Workspace) -> Outcome:
    """Sleep: the task of the benchmark."""
    del work
    time.sleep(trial.config["seconds"])
    return Outcome({})


def trials(number: int, seconds: float, first: int = 0) -> list[Trial]:
    config = {"seconds": seconds}
    return [Trial(task="cluster:sleep", config=config, seed=first + s) for s in range(number)]


def start(workers: int) -> None:
    """Start Ray with room for so many workers, as many as there are cores or not."""
    load_ray(alone=True).init(
        address="local",
        num_cpus=workers,
        include_dashboard=False,
        object_store_memory=100 * 2**20,
        log_to_driver=False,
        logging_level="ERROR",
    )


def timed(engine: Engine, root: Path, plan: list[Trial], warm: int = 0) -> tuple[float, float]:
    """Return the seconds of a plan, and those before it in which `warm` workers are started."""
    first, begun = trials(warm, 1.0, first=1_000_000), [time.perf_counter()]

    def asked(done: Results) -> list[Trial]:
        if len(done) < len(first):
            return first
        if len(begun) == 1:
            begun.append(time.perf_counter())
        return [*first, *plan]

    results = execute(asked, Store(root), engine=engine, progress=False)
    assert len(results) == len(first) + len(plan)
    return time.perf_counter() - begun[1], begun[1] - begun[0]


def ratio(root: Path, number: int, seconds: float, workers: int) -> dict[str, Any]:
    local, _ = timed(Local(root / "a", workers), root / "a", trials(number, seconds))
    # Ray's start counts: a study pays for it once
    ray, _ = timed(Ray(root / "b", None, workers), root / "b", trials(number, seconds))
    return {"local_s": local, "ray_s": ray, "ratio": ray / local}


def noop(root: Path, number: int, seconds: float, workers: int) -> dict[str, Any]:
    start(workers)
    took, warm = timed(Ray(root, None, workers), root, trials(number, seconds), warm=workers)
    return {"seconds": took, "ms_per_trial": 1e3 * took / number, "warm_up_s": warm}


def many(root: Path, number: int, seconds: float, workers: int) -> dict[str, Any]:
    start(workers)
    took, warm = timed(Ray(root, None, workers), root, trials(number, seconds), warm=workers)
    ideal = -(-number // workers) * seconds
    return {"seconds": took, "of_ideal": ideal / took, "warm_up_s": warm}


PARTS = {"ratio": (ratio, 50, 5.0, 2), "noop": (noop, 1000, 0.0, 2), "many": (many, 128, 30.0, 64)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--trials", type=int)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--workers", type=int)
    given = parser.parse_args()
    measure, *usual = PARTS[given.part]
    number, seconds, workers = (
        default if said is None else said
        for said, default in zip((given.trials, given.seconds, given.workers), usual, strict=True)
    )
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), number, seconds, workers)
    found |= {"trials": number, "each_s": seconds, "workers": workers}
    found |= {"engine_cpu_s": time.process_time() - began, "made": surroundings()}
    OUT.mkdir(exist_ok=True)
    (OUT / f"cluster-{given.part}.json").write_text(json.dumps(found, indent=2))
    print({key: value for key, value in found.items() if key != "made"})


if __name__ == "__main__":
    main()
