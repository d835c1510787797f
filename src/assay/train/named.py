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
            },
            "schedule": {"name": "one_cycle", "peak": 0.23, "start": 0.2, "final": 0.07},
            "label_smoothing": 0.2,
            "precision": "auto",
        },
        "augmentation": {"name": "crop-flip", "padding": 2},
    },
}
"""By name, the settings of a training (`assay.studies.networks.TrainNetwork`), to be overridden.

`fast` reaches 82 % on CIFAR-10 in four passes, after airbench (Jordan 2024, "94% on CIFAR-10 in
3.29 seconds on a single GPU"): its optimizer, label smoothing and shifts by two pixels."""
