"""Recipes by name: a network, how it is trained, and what is done to its images. Never imports
torch."""

from __future__ import annotations

from typing import Any

NAMED: dict[str, dict[str, Any]] = {
    "fast": {
        "network": {"name": "whitened"},
        "recipe": {
            "epochs": 4,
            "batch_size": 512,
            "optimizer": {
                "name": "sgd",
                "lr": 0.75,
                "momentum": 0.85,
                "nesterov": True,
                "weight_decay": 1.33e-3,
                "norm_bias_lr": 64,
            },
            "schedule": {"name": "one_cycle", "peak": 0.23, "start": 0.2, "final": 0.07},
            "label_smoothing": 0.2,
            "precision": "auto",
        },
        "augmentation": {"name": "crop-flip", "padding": 2},
        "train_tested": False,
    },
    "robust": {
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
            "epochs": 8,
            "batch_size": 128,
            "optimizer": {
                "name": "sgd",
                "lr": 0.2,
                "momentum": 0.9,
                "nesterov": True,
                "weight_decay": 5e-4,
            },
            "schedule": {"name": "one_cycle"},
            "precision": "auto",
        },
        "augmentation": {"name": "crop-flip", "padding": 0},
        "adversary": {"name": "pgd", "eps": 8 / 255, "steps": 7, "step_size": 2 / 255},
        "train_tested": False,
    },
}
"""By name, the settings of a training (`assay.tasks.train.TrainNetwork`), to be overridden.

`fast` reaches 82 % on CIFAR-10 in four passes. It is after airbench (Jordan 2024, "94% on CIFAR-10
in 3.29 seconds on a single GPU"): the first layer whitens, biases of norms learn 64 times faster,
labels are smoothed by 0.2, images shift by two pixels at most. docs/log.md says what each brought.

`robust` is trained against PGD as Madry et al. 2018 train for CIFAR-10: seven steps of 2/255 within
8/255. Its network is small enough for two cores.
"""
