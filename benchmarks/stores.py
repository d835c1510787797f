"""What a store of many trials costs: listing it, and keeping one more trial.

The trials do nothing: what is measured is the store. The disk is the one of --folder.

    python benchmarks/stores.py                     # 10,000 trials
    python benchmarks/stores.py --trials 1000 --folder /mnt/disk
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from assay.runs.entry import Entry
from assay.runs.environment import surroundings
from assay.runs.files import to_json
from assay.runs.reading import list_runs
from assay.runs.store import Store
from assay.runs.trial import Outcome, Trial
from assay.runs.worker import Message, Workspace, work

OUT = Path(__file__).parent / "out"
KEPT = 200  # trials that are kept one by one, for their times


def nothing(trial: Trial, space: Workspace) -> Outcome:
    """Do nothing: the task of the benchmark."""
    del space
    return Outcome({"accuracy": trial.seed / 1e6, "loss": [0.1] * 20})


def trial_of(seed: int) -> Trial:
    network = {"name": "cnn", "depths": [2, 2], "widths": [16, 32], "skip": True, "norm": "batch"}
    config = {"data": "digits", "network": network, "recipe": {"epochs": 10, "lr": 0.001}}
    return Trial(task="stores:nothing", config=config, seed=seed, data={"digits": "0" * 64})


def silent(message: Message) -> None:
    del message


def fill(store: Store, number: int) -> None:
    """Write finished trials, as `work` does but without waiting for the disk."""
    store.prepare()
    work(store, trial_of(0), silent, again=False)
    record = store.entry(trial_of(0)).result()
    assert record is not None
    for seed in range(1, number):
        trial = trial_of(seed)
        entry: Entry = store.entry(trial)
        entry.folder.mkdir()
        (entry.folder / "lock").touch()
        said = {"schema": 1, "address": trial.address, "trial": trial.model_dump(mode="json")}
        (entry.folder / "trial.json").write_text(to_json(said, indent=2))
        (entry.folder / "metrics.json").write_bytes((record.folder / "metrics.json").read_bytes())
        made = {**record.record, "address": trial.address}
        (entry.folder / "record.json").write_text(to_json(made, indent=2))


def measure(folder: Path, number: int) -> dict[str, Any]:
    store = Store(folder / "runs")
    fill(store, number)
    states: dict[str, int] = {}
    listings, list_cpu = [], []
    for _ in range(5):
        began, used = time.perf_counter(), time.process_time()
        states = list_runs(store).to_dict()["trials"]
        listings.append(time.perf_counter() - began)
        list_cpu.append(time.process_time() - used)
    assert states == {"finished": number}
    began = time.perf_counter()
    command = [sys.executable, "-m", "assay.cli", "list", "--store", str(store.root)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    whole = time.perf_counter() - began
    times, cpu, waits = [], [], []
    for seed in range(number, number + KEPT):
        trial = trial_of(seed)
        began, used = time.perf_counter(), time.process_time()
        assert work(store, trial, silent, again=False).kind == "done"
        times.append(time.perf_counter() - began)
        cpu.append(time.process_time() - used)
        began = time.perf_counter()  # what the disk itself takes, meanwhile
        with (folder / "probe").open("ab") as file:
            file.write(b"x" * 100)
            file.flush()
            os.fsync(file.fileno())
        waits.append(time.perf_counter() - began)
    return {
        "trials": number,
        "list_s": median(listings),
        "list_cpu_s": median(list_cpu),
        "list_command_s": whole,
        "keep_ms": 1e3 * median(times),
        "keep_p90_ms": 1e3 * quantiles(times, n=10)[-1],
        "keep_fastest_ms": 1e3 * min(times),
        "keep_cpu_ms": 1e3 * median(cpu),
        "fsync_ms": 1e3 * median(waits),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--folder", type=Path, help="where the store is made; default: $TMPDIR")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        found = measure(Path(folder), given.trials)
    OUT.mkdir(exist_ok=True)
    (OUT / "stores.json").write_text(json.dumps({**found, "made": surroundings()}, indent=2))
    print({key: round(value, 3) for key, value in found.items()})


if __name__ == "__main__":
    main()
