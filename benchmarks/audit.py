"""How long an audit of a CIFAR ResNet-20 takes, and how right what it says of the time left is.

    python benchmarks/audit.py [--images 1000] [--budget 60] [--clock wall|processor] [--threads 2]
        [--out FILE]

The network (three stages of three blocks, 16 to 64 channels, He et al. 2016; 269,722 parameters) is
trained for two epochs on CIFAR-10, looked for in $ASSAY_DATA, when it is first asked for, and kept
in benchmarks/out/. The audit is that of `assay audit` with its defaults, from loaded images to the
written page. On a machine that does other work too, --clock processor times and foretells all of it
in seconds of the processor, of all threads together; with --threads 1 none waits for another. Of
each "about … left" that was said after a quarter of the time, it is counted how many were within
30 % of what then passed.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

import assay
from assay.auditing import conduct
from assay.auditing.watch import Watch
from assay.data import load_data
from assay.disk import write_atomic
from assay.models.loading import load_model
from assay.runs.engine import execute
from assay.runs.store import Store
from assay.tasks.train import TrainNetwork

Clock = Callable[[], float]
CLOCKS: dict[str, Clock] = {"wall": time.perf_counter, "processor": time.process_time}
OUT = Path(__file__).parent / "out"
DATA = str(Path(os.environ.get("ASSAY_DATA", "data")) / "cifar10")
THREADS = 2
REFERENCE = 2000
"""Images that detectors are fitted on, and calibrated on: as `assay audit` takes them."""
RESNET_20: dict[str, Any] = {
    "data": DATA,
    "network": {
        "name": "cnn",
        "depths": [3, 3, 3],
        "widths": [16, 32, 64],
        "skip": True,
        "shortcut": "pad",
        "norm": "batch",
        "init": "he",
        "stage_stride": 2,
    },
    "recipe": {
        "epochs": 2,
        "batch_size": 128,
        "optimizer": {
            "name": "sgd",
            "lr": 0.2,
            "momentum": 0.9,
            "nesterov": True,
            "weight_decay": 5e-4,
        },
        "schedule": {"name": "one_cycle"},
        "precision": "bfloat16",
    },
    "augmentation": {"name": "crop-flip"},
    "train_tested": False,
}


def network() -> assay.Classifier:
    """Return the trained ResNet-20; trains it if need be."""
    path = OUT / "resnet-20.safetensors"
    if not path.exists():
        trial = TrainNetwork.parse(RESNET_20).trial(0, "cpu", "resnet-20")
        result = execute([trial], Store(OUT / "nets"), rerun_failed=True).need(trial)
        path.parent.mkdir(exist_ok=True)
        write_atomic(path, result.path("model.safetensors").read_bytes())
    return load_model(path)


class Told:
    """What was said of the time left, and when."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.started = clock, clock()
        self.lines: list[tuple[float, str]] = []

    def __call__(self, doing: str) -> None:
        self.lines.append((self.clock() - self.started, doing))
        print(f"{self.lines[-1][0]:7.1f} s  {doing}", flush=True)

    def right(self, total: float) -> list[tuple[float, float, float]]:
        """Return what was said after a quarter of the time, while more than a tenth was left: when,
        what was said to be left and what was, in seconds."""
        found = []
        for at, line in self.lines:
            if "about " in line and total / 4 <= at <= 0.9 * total:
                found.append((at, said(line), total - at))
        return found


def said(line: str) -> float:
    """Return the seconds in "…, about 1 min 20 s left"."""
    words = line.rpartition("about ")[2].split()
    units = {"s": 1.0, "ms": 0.001, "min": 60.0, "h": 3600.0}
    return sum(
        float(number) * units[unit] for number, unit in zip(words[::2], words[1::2], strict=False)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--budget", type=float)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--threads", type=int, default=THREADS)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    clock = CLOCKS[options.clock]
    conduct.Watch = partial(Watch, clock=clock)  # type: ignore[misc, assignment]
    clf = network()
    torch.set_num_threads(options.threads)
    parts = {split: load_data(DATA, split=split) for split in ("train", "validation", "test")}
    x, y = parts["test"].take(options.images)
    told = Told(clock)
    began = time.perf_counter(), time.process_time(), clock()
    found = assay.audit(
        clf,
        x,
        y,
        reference=parts["train"].take(REFERENCE),
        calibration=parts["validation"].take(REFERENCE),
        progress=told,
        budget=options.budget,
    )
    audited = clock() - began[2]
    with tempfile.TemporaryDirectory() as folder:
        found.save(folder)
        kilobytes = (Path(folder) / "report.html").stat().st_size / 1000
    written = clock() - began[2] - audited
    took, spent = time.perf_counter() - began[0], time.process_time() - began[1]
    right = told.right(audited)
    close = sum(abs(one - other) <= 0.3 * other for _, one, other in right)
    print(f"\nseconds of the {options.clock}")
    for name, seconds in found.seconds.items():
        print(f"{name:24} {seconds:7.1f} s")
    clean = audited - sum(found.seconds.values())
    print(f"{'clean pass, pace, flags':24} {clean:7.1f} s")
    print(f"{'page':24} {written:7.1f} s, {kilobytes:,.0f} kB")
    print(
        f"all: {took:.1f} s of the wall, {spent:.1f} s of the processor, {options.threads} threads"
    )
    print(f"time left after the first quarter: {close} of {len(right)} within 30 %")
    if options.out:
        result = {"seconds": found.seconds, "all_s": took, "cpu_s": spent, "left": right}
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
