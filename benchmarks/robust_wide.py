"""Robust accuracy of `assay train --recipe robust-wide` on CIFAR-10 at 8/255, over seeds.

Each seed is trained, and its network attacked by `auto` on the same test images, which searches in
bfloat16; the float32 network confirms every success. Both are the commands that anybody would give,
so that a seed goes on where it was stopped, and one that is finished is only read. Several of these
may run side by side over different seeds and one folder; the last one prints all that are there.

    python benchmarks/robust_wide.py              # five seeds, an hour and a half of one core each
    python benchmarks/robust_wide.py --seeds      # none: only prints those that are finished
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from nets import OUT
from torch.utils.flop_counter import FlopCounterMode

from assay.models.loading import load_model
from assay.stats.estimates import Estimate, mean_interval, proportion

EPS = "8/255"
TRAINED_ON = 45_000
"""Images: 5,000 of the training images are held out."""
PASSES = 2 + 3
"""Of an image in an epoch of N-FGSM, a forward one counted as 1: forward and backward by the image,
then forward and backward by all weights, which costs twice a forward pass."""


def assay(*arguments: str) -> None:
    """Run a command of assay on one thread."""
    subprocess.run(
        [sys.executable, "-m", "assay.cli", *arguments],
        check=True,
        env=dict(os.environ, OMP_NUM_THREADS="1"),
    )


def made(seed: int, out: Path, images: int) -> None:
    """Train one seed and attack its network."""
    trained, attacked = out / f"seed-{seed}", out / f"seed-{seed}-auto"
    assay(
        *("train", "--data", "cifar10", "--recipe", "robust-wide", "--seed", str(seed)),
        *("--recipe.threads", "1", "--recipe.precision", "bfloat16"),
        *("--store", str(out / "store"), "--out", str(trained)),
    )
    assay(
        *("attack", str(trained / "model.safetensors"), "--data", "cifar10"),
        *("--attack", "auto", "--eps", EPS, "--stop", "fooled", "--images", str(images)),
        *("--precision", "bfloat16", "--threads", "1", "--part", "128", "--pictures", "0"),
        *("--out", str(attacked)),
    )


def found(attacked: Path) -> dict[str, Any]:
    """Return what is known of one seed."""
    trained = attacked.with_name(attacked.name.removesuffix("-auto"))
    metrics = json.loads((trained / "metrics.json").read_text())["metrics"]
    right = round(metrics["test_accuracy"] * metrics["n_test"])
    return {
        "clean": proportion(right, metrics["n_test"], "test images"),
        "robust": Estimate(**json.loads((attacked / "attack.json").read_text())["robust_accuracy"]),
        "minutes": json.loads((trained / "record.json").read_text())["seconds"] / 60,
        "petaflops": petaflops(trained / "model.safetensors", len(metrics["history"]["lr"])),
    }


def petaflops(model: Path, epochs: int) -> float:
    """Return what a training computes: two operations to a multiplication and its addition."""
    with FlopCounterMode(display=False) as counter:
        load_model(model)(torch.rand(1, 3, 32, 32))
    return float(counter.get_total_flops()) * PASSES * epochs * TRAINED_ON / 1e15


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--seeds", type=int, nargs="*", default=range(5))
    parser.add_argument("--images", type=int, default=1000, help="test images attacked")
    parser.add_argument("--out", type=Path, default=OUT / "robust-wide")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for seed in args.seeds:
        made(seed, args.out, args.images)
    rows = {
        path.parent.name.removesuffix("-auto"): found(path.parent)
        for path in sorted(args.out.glob("seed-*/attack.json"))
    }
    for name, row in rows.items():
        print(
            f"{name:12} clean {row['clean'].percent()}, auto {row['robust'].percent()}; "
            f"{row['minutes']:.0f} min, {row['petaflops']:.2f} PFLOP"
        )
    if len(rows) > 1:
        for what in ("clean", "robust"):
            values = [100 * row[what].value for row in rows.values()]
            print(f"{what:12} {mean_interval(values)}, SD {statistics.stdev(values):.2f}")


if __name__ == "__main__":
    main()
