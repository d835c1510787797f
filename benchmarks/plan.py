"""A plan on paper: what 10,000 trials and 1,000,000 images would take, from rates measured here.

Measured on one thread of this machine, in seconds of processor time: hashing a shard, a gradient
and a forward pass of the default CNN on 3×32×32, writing a trial to a store, finding it again, and
listing. Given, since they are of other machines or of other runs: what a trial of the study takes,
what the Ray engine takes for a trial (`benchmarks/cluster.py noop`), and what a core costs for an
hour.

    python benchmarks/plan.py                            # 10,000 trials of 228 s; 1 M images
    python benchmarks/plan.py --trial-seconds 60 --core-hour 0.05 --workers 8 64 512
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from assay.attacks import PGD, run
from assay.core.classifier import Classifier
from assay.core.random import Stream
from assay.disk import digest_of
from assay.models import CNN
from assay.runs.environment import surroundings
from assay.runs.garbage import size_of
from assay.runs.store import Store
from assay.runs.trial import Outcome, Trial

OUT = Path(__file__).parent / "out"
SIDE = 32
ROWS = 256
SHARD = 10_000  # images in one


def seconds_of(work: Callable[[], object], times: int) -> float:
    """Return the least processor time of one call."""
    taken = []
    for _ in range(times):
        begun = time.process_time()
        work()
        taken.append(time.process_time() - begun)
    return min(taken)


def measured(folder: Path, trials: int) -> dict[str, float]:
    """Return the rates that the plan rests on."""
    file = folder / "shard.npz"
    file.write_bytes(np.random.default_rng(0).bytes(64 * 2**20))
    hashing = 64 / seconds_of(lambda: digest_of(file), 3)

    torch.set_num_threads(1)
    model = CNN().build((3, SIDE, SIDE), 10, Stream(0))
    clf = Classifier(model)
    x = Stream(1).rows(range(ROWS)).uniform((3, SIDE, SIDE))
    y = clf.predict(x)
    clean = seconds_of(lambda: clf.query(x), 3) / ROWS
    one = seconds_of(lambda: run(PGD(steps=1), clf, x, y), 3) / ROWS
    twenty = seconds_of(lambda: run(PGD(steps=20), clf, x, y), 2) / ROWS

    store = Store(folder / "runs")
    store.prepare()
    plan = [Trial(task="plan:none", config={"number": n}) for n in range(trials)]
    outcome = Outcome({"accuracy": 0.9}, {"success": np.zeros(SHARD, bool)})

    def write() -> None:
        for trial in plan:
            entry = store.entry(trial)
            with entry.lock():
                entry.begin()
                entry.finish(outcome, {"seconds": 1.0})

    def wall(work: Callable[[], object]) -> float:
        begun = time.perf_counter()
        work()
        return time.perf_counter() - begun

    return {
        "hash_mb_per_s": hashing,
        "clean_s": clean,
        "pgd_1_s": one,
        "pgd_20_s": twenty,
        "write_trial_s": wall(write) / trials,  # it waits for the disk: the clock on the wall
        "find_trial_s": seconds_of(
            lambda: [store.entry(trial).result(verify=True) for trial in plan], 1
        )
        / trials,
        "list_trial_s": seconds_of(store.survey, 1) / trials,
        "trial_bytes": size_of(store.entry(plan[0]).folder),
    }


def trials_row(rates: dict[str, float], given: argparse.Namespace, workers: int) -> dict[str, str]:
    """Return what the trials of a study take on so many cores."""
    work = given.trials * given.trial_seconds
    # the engine hands trials out one after another, a new worker imports torch first
    alone = given.trials * given.engine_seconds
    wall = max(work / workers, alone) + given.start_seconds
    again = given.trials * rates["find_trial_s"]
    return {
        "cores": f"{workers:,}",
        "time": hours(wall),
        "core hours": f"{work / 3600:,.0f}",
        "cost": f"{work / 3600 * given.core_hour:,.0f}",
        "cores busy": f"{100 * work / workers / wall:.0f} %",
        "given again": hours(again),
        "store": f"{given.trials * rates['trial_bytes'] / 1e9:.1f} GB",
    }


def images_row(
    rates: dict[str, float], given: argparse.Namespace, workers: int, what: str
) -> dict[str, str]:
    """Return what an attack on all images takes on so many cores, shard by shard."""
    shards = -(-given.images // SHARD)
    each = rates[what]
    work = given.images * each
    rounds = -(-shards // workers)  # a shard is on one core
    hashed = given.images * 3 * SIDE * SIDE / 2**20 / rates["hash_mb_per_s"]
    wall = rounds * SHARD * each + 2 * hashed + given.start_seconds
    wall += shards * given.engine_seconds + rounds * rates["write_trial_s"]
    return {
        "cores": f"{workers:,}",
        "what": {"clean_s": "clean pass", "pgd_1_s": "PGD-1", "pgd_20_s": "PGD-20"}[what],
        "time": hours(wall),
        "core hours": f"{work / 3600:,.2f}",
        "cost": f"{work / 3600 * given.core_hour:,.2f}",
        "cores busy": f"{100 * work / workers / wall:.0f} %",
    }


def hours(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"


def table(rows: list[dict[str, str]]) -> str:
    """Return rows as a table of Markdown."""
    lines = [" | ".join(rows[0]), " | ".join("---" for _ in rows[0])]
    lines += [" | ".join(row.values()) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--images", type=int, default=1_000_000)
    # `assay train --recipe fast`: 114 s on two cores (docs/benchmarks.md)
    parser.add_argument("--trial-seconds", type=float, default=228.0)
    # `benchmarks/cluster.py noop` (docs/benchmarks.md)
    parser.add_argument("--engine-seconds", type=float, default=0.0031)
    parser.add_argument("--start-seconds", type=float, default=30.0)
    parser.add_argument("--core-hour", type=float, default=0.04)
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 64, 512])
    parser.add_argument("--written", type=int, default=300, help="trials written to measure")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rates = measured(Path(folder), given.written)
    OUT.mkdir(exist_ok=True)
    made = {"rates": rates, "given": vars(given), "on": dict(surroundings())}
    (OUT / "plan.json").write_text(json.dumps(made, indent=2))
    for name, value in rates.items():
        print(f"{name:<16}{value:.6g}")
    print(f"\n{given.trials:,} trials of {given.trial_seconds:g} s\n")
    print(table([trials_row(rates, given, workers) for workers in given.workers]))
    print(f"\n{given.images:,} images of 3×{SIDE}×{SIDE} in shards of {SHARD:,}\n")
    kinds = ("clean_s", "pgd_1_s", "pgd_20_s")
    print(table([images_row(rates, given, w, kind) for kind in kinds for w in given.workers]))
    busiest = given.trial_seconds / given.engine_seconds
    print(f"\nOne engine keeps {busiest:,.0f} cores busy with trials of {given.trial_seconds:g} s.")


if __name__ == "__main__":
    main()
