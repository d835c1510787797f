"""A real catastrophic overfitting, and what the guard of a recipe makes of it.

A narrow network with batch norm is trained against one step of FGSM, without noise, which collapses
within a few epochs (Wong et al. 2020; Andriushchenko & Flammarion 2020): on 2,000 images of MNIST
at 0.2, in a quarter of a minute of one core, or on 4,000 of CIFAR-10 at 16/255, in three. Both are
looked for in $ASSAY_DATA. It prints the accuracy on 256 validation images under one step and under
ten at each look that was kept, and the alarms.

    python benchmarks/collapse.py                       # MNIST; goes back
    python benchmarks/collapse.py --response note       # goes on
    python benchmarks/collapse.py --recipe n-fgsm       # a healthy one: no alarm
    python benchmarks/collapse.py --data cifar10
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

from assay.core.classifier import Classifier
from assay.core.random import Stream
from assay.core.source import TensorSource
from assay.tasks.adversaries import against, rivals
from assay.tasks.train import TrainNetwork, split
from assay.train.fit import fit
from assay.train.history import History
from assay.train.training import Progress

DATA = Path(os.environ.get("ASSAY_DATA", "data"))
VALIDATION = 512
RADII = {"mnist": 0.2, "cifar10": 16 / 255}
SETTINGS: dict[str, dict[str, Any]] = {
    "mnist": {
        "train_images": 2000,
        "network": {"depths": [1, 1], "widths": [16, 32]},
        "recipe": {
            "epochs": 8,
            "batch_size": 50,
            "optimizer": {"name": "adam", "lr": 3e-3},
            "schedule": {"name": "constant"},
        },
    },
    "cifar10": {
        "train_images": 4000,
        "network": {"depths": [2, 2], "widths": [32, 64]},
        "recipe": {
            "epochs": 20,
            "batch_size": 32,
            "optimizer": {
                "name": "sgd",
                "lr": 0.1,
                "momentum": 0.9,
                "nesterov": True,
                "weight_decay": 5e-4,
            },
            "schedule": {"name": "one_cycle"},
        },
    },
}
NARROW = {"name": "cnn", "skip": True, "norm": "batch", "init": "he"}
HALVING = {"stem_stride": 2, "stage_stride": 2}
KINDS = ("fgsm", "n-fgsm")


def attacked(kind: str, eps: float) -> dict[str, Any]:
    """Return what the network is trained against."""
    if kind == "n-fgsm":
        return {"hardening": {"name": "n-fgsm", "eps": eps}}
    once = {"steps": 1, "step_size": 1.25 * eps, "random_start": False}
    return {"adversary": {"name": "pgd", "eps": eps, **once}}


def config(data: str, kind: str, response: str) -> TrainNetwork:
    """Return how the network is trained."""
    made = SETTINGS[data]
    return TrainNetwork.parse(
        {
            **made,
            "data": str(DATA / data),
            "network": made["network"] | NARROW | HALVING,
            "recipe": made["recipe"] | {"guard": {"response": response}},
            **attacked(kind, RADII[data]),
        }
    )


def watched(data: str, kind: str, response: str, progress: Progress | None = None) -> History:
    """Train to the end, and return the history."""
    made = config(data, kind, response)
    images, held = split(made, "train"), split(made, "validation").take(VALIDATION)
    model = made.network.build(images.shape, len(images.classes), Stream(0).child("init"))
    clf = Classifier(model, mean=images.mean, std=images.std, classes=images.classes)
    return fit(
        clf,
        images,
        TensorSource(*held),
        made.recipe,
        stream=Stream(0).child("train"),
        progress=progress,
        adversary=against(made.moves, made.recipe),
        rivals=rivals(made.moves, made.recipe),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", choices=tuple(SETTINGS), default="mnist")
    parser.add_argument("--recipe", choices=KINDS, default="fgsm")
    parser.add_argument("--response", choices=("return", "note"), default="return")
    args = parser.parse_args()
    asked = (args.data, args.recipe, args.response)
    began = time.process_time()
    history = watched(*asked, lambda _, note: print(note, flush=True))
    print(f"{'epoch':>6} {'one step':>9} {'ten steps':>9}")
    guard = config(*asked).recipe.guard
    assert guard is not None
    for look, pair in enumerate(zip(history.fast_looks, history.strong_looks, strict=True), 1):
        print(f"{look / guard.looks:6.1f} {pair[0]:9.1%} {pair[1]:9.1%}")
    print("\n".join(history.collapses) or "no alarm")
    print(f"{time.process_time() - began:.0f} s of processor time")


if __name__ == "__main__":
    main()
