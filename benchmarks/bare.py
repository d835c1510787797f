"""Why the course's plain [7,7] stays at chance: a grid of short trainings, each one step from it.

The course trained plain [7,7] without normalisation, with PyTorch's initial weights, by Adam at
1e-3 in batches of 64, and reached 75 % of CIFAR-10 with one seed. Each row changes one thing of
that, and is trained for two epochs at half resolution (a stride of 2 in the stem and the second
stage). It prints the gradient of the first convolution over that of the last before any step, the
step at which the network had left chance (15 % of 1,000 validation images, looked at every 100
steps) and the accuracies at the end. Rows that stand in the file already are not run again.

    python benchmarks/bare.py                    # 40 minutes of one core; CIFAR-10 in $ASSAY_DATA
    python benchmarks/bare.py --only "longer"    # by name
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import torch
from nets import OUT

from assay.core.classifier import Classifier
from assay.core.random import Stream
from assay.tasks.train import TrainNetwork, split
from assay.train.fit import fit

DATA = str(Path(os.environ.get("ASSAY_DATA", "data")) / "cifar10")
ADAM = {"name": "adam", "lr": 1e-3}
ROWS: dict[str, dict[str, Any]] = {
    "as the course": {},
    "another seed": {"seed": 1},
    "a third seed": {"seed": 2},
    "learning rate 1e-4": {"optimizer": {**ADAM, "lr": 1e-4}},
    "learning rate 3e-3": {"optimizer": {**ADAM, "lr": 3e-3}},
    "batches of 32": {"batch_size": 32},
    "dropout 0.2": {"dropout": 0.2},
    "SGD at 0.1": {"optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9, "nesterov": True}},
    "He initialisation": {"init": "he"},
    "batch norm": {"norm": "batch"},
    "skips": {"skip": True},
    "longer: ten epochs": {"epochs": 10},
}
NETWORK = ("dropout", "init", "norm", "skip")
LEFT = 0.15
"""Accuracy above which a network has left chance, 10 %."""


def trained(change: dict[str, Any], threads: int) -> dict[str, Any]:
    """Train one network, and return what is said of it."""
    made = TrainNetwork.parse(
        {
            "data": DATA,
            "network": {
                "name": "cnn",
                "depths": [7, 7],
                "widths": [16, 32],
                "stem_stride": 2,
                "stage_stride": 2,
                **{key: change[key] for key in NETWORK if key in change},
            },
            "recipe": {
                "epochs": change.get("epochs", 2),
                "batch_size": change.get("batch_size", 64),
                "optimizer": change.get("optimizer", ADAM),
                "schedule": {"name": "constant"},
            },
            "watch": {"every": 100, "images": 1000},
        }
    )
    stream = Stream(change.get("seed", 0))
    data, held = split(made, "train"), split(made, "validation")
    torch.set_num_threads(threads)
    model = made.network.build(data.shape, len(data.classes), stream.child("init"))
    clf = Classifier(model, mean=data.mean, std=data.std, classes=data.classes)
    history = fit(clf, data, held, made.recipe, stream=stream.child("train"), watch=made.watch)
    looks = history.looks
    assert looks.layers[-1] == "head"
    first, *_, last, _ = looks.gradient_norms[0]
    left = (step for step, seen in zip(looks.steps, looks.val_accuracy, strict=True) if seen > LEFT)
    return {
        "gradient_ratio": first / last,
        "left_chance_at_step": next(left, None),
        "steps": history.steps,
        "train_loss": history.train_loss[-1],
        "val_accuracy": history.val_accuracy[-1],
        "minutes": sum(history.seconds) / 60,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--only", help="rows whose name begins so")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=OUT / "bare.json")
    args = parser.parse_args()
    rows = json.loads(args.out.read_text()) if args.out.exists() else {}
    for name, change in ROWS.items():
        if name.startswith(args.only or "") and name not in rows:
            rows[name] = trained(change, args.threads)
            args.out.parent.mkdir(exist_ok=True)
            args.out.write_text(json.dumps(rows, indent=1))
        if name in rows:
            row = rows[name]
            left = row["left_chance_at_step"]
            print(
                f"{name:20}  gradient {row['gradient_ratio']:7.0e}  "
                f"left chance {'never' if left is None else f'at step {left}':>12} of "
                f"{row['steps']:5}  loss {row['train_loss']:.3f}  "
                f"validation {row['val_accuracy']:.1%}  {row['minutes']:.1f} min",
                flush=True,
            )


if __name__ == "__main__":
    main()
