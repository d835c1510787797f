"""A real catastrophic overfitting, and what the guard of a recipe makes of it.

A narrow network is trained on 4,000 images of CIFAR-10 (looked for in $ASSAY_DATA) against one step
of FGSM at 16/255, without noise, which collapses within a few epochs (Wong et al. 2020;
Andriushchenko & Flammarion 2020). It prints the accuracy on 256 validation images under one step
and under ten at each look that was kept, and the alarms. Three minutes of one core, or four.

    python benchmarks/collapse.py                       # goes back
    python benchmarks/collapse.py --response note       # goes on
    python benchmarks/collapse.py --recipe n-fgsm       # a healthy one: no alarm
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from assay.core.classifier import Classifier
from assay.core.random import Stream
from assay.core.source import TensorSource
from assay.tasks.adversaries import against, rivals
from assay.tasks.train import TrainNetwork, split
from assay.train.fit import Progress, fit
from assay.train.history import History

DATA = str(Path(os.environ.get("ASSAY_DATA", "data")) / "cifar10")
EPS, IMAGES, EPOCHS, VALIDATION = 16 / 255, 4000, 20, 512
ONE_STEP = {"name": "pgd", "eps": EPS, "steps": 1, "step_size": 1.25 * EPS, "random_start": False}
KINDS: dict[str, dict[str, Any]] = {
    "fgsm": {"adversary": ONE_STEP},
    "n-fgsm": {"hardening": {"name": "n-fgsm", "eps": EPS}},
}


def config(kind: str, response: str) -> TrainNetwork:
    """Return how the network is trained."""
    return TrainNetwork.parse(
        {
            "data": DATA,
            "train_images": IMAGES,
            "network": {
                "name": "cnn",
                "depths": [2, 2],
                "widths": [32, 64],
                "skip": True,
                "norm": "batch",
                "init": "he",
                "stem_stride": 2,
                "stage_stride": 2,
            },
            "recipe": {
                "epochs": EPOCHS,
                "batch_size": 32,
                "optimizer": {
                    "name": "sgd",
                    "lr": 0.1,
                    "momentum": 0.9,
                    "nesterov": True,
                    "weight_decay": 5e-4,
                },
                "schedule": {"name": "one_cycle"},
                "guard": {"response": response},
            },
            **KINDS[kind],
        }
    )


def watched(kind: str, response: str, progress: Progress | None = None) -> History:
    """Train to the end, and return the history."""
    made = config(kind, response)
    data, held = split(made, "train"), split(made, "validation").take(VALIDATION)
    model = made.network.build(data.shape, len(data.classes), Stream(0).child("init"))
    clf = Classifier(model, mean=data.mean, std=data.std, classes=data.classes)
    return fit(
        clf,
        data,
        TensorSource(*held),
        made.recipe,
        stream=Stream(0).child("train"),
        progress=progress,
        adversary=against(made.moves, made.recipe),
        rivals=rivals(made.moves, made.recipe),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--recipe", choices=tuple(KINDS), default="fgsm")
    parser.add_argument("--response", choices=("return", "note"), default="return")
    args = parser.parse_args()
    history = watched(args.recipe, args.response, lambda _, note: print(note, flush=True))
    print(f"{'epoch':>6} {'one step':>9} {'ten steps':>9}")
    guard = config(args.recipe, args.response).recipe.guard
    assert guard is not None
    for look, pair in enumerate(zip(history.fast_looks, history.strong_looks, strict=True), 1):
        print(f"{look / guard.looks:6.1f} {pair[0]:9.1%} {pair[1]:9.1%}")
    print("\n".join(history.collapses) or "no alarm")


if __name__ == "__main__":
    main()
