"""Settings of the study of hardening, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from assay.train.named import NAMED

ON_CIFAR10: Mapping[str, Any] = {
    "batch_size": 128,
    "optimizer": {"name": "sgd", "lr": 0.2, "nesterov": True, "weight_decay": 5e-4},
    "schedule": {"name": "one_cycle"},
    "ema": 0.995,
}
"""How networks on CIFAR-10 are trained, whatever hardens them."""

# `cifar10` is for a laptop: 51 passes of 24.0 MFLOP for each of 45,000 images are 0.055 PFLOP for
# each recipe and seed (docs/studies.md counts them).
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "smoke": {
        "data": "digits",
        "seeds": 2,
        "network": {"name": "strided", "widths": [8, 16], "strides": [2, 2], "hidden": [32]},
        "passes": 68,
        "train_images": 400,
        "test_images": 100,
        "images": 40,
        "examined": 40,
        "eps": 0.05,
        "budgets": (0.02, 0.05),
        "judges": ({"name": "fgsm"}, {"name": "pgd", "steps": 5}),
        "course": ({"name": "few-pixel", "steps": 5}, {"name": "genetic", "steps": 20}),
        "course_images": 20,
        "attended": 20,
        "autoencoder": {"epochs": 3},
        "near": "letters",
    },
    "quick": {},
    "cifar10": {
        "data": "cifar10",
        "network": {
            "name": "cnn",
            "depths": [1, 1, 1],
            "widths": [32, 64, 128],
            "skip": True,
            "shortcut": "pad",
            "norm": "batch",
            "init": "he",
            "stem_stride": 2,
            "stage_stride": 2,
        },
        "augmentation": {"name": "crop-flip", "padding": 0},
        "passes": 51,
        "train_images": None,
        "test_images": None,
        "images": 128,
        "examined": 500,
        "near": "scrambled",
        "eps": 8 / 255,
        "budgets": (2 / 255, 4 / 255, 8 / 255, 16 / 255),
        "course_images": 100,
        "attended": 100,
        "autoencoder": {"epochs": 5},
        "recipe": {**ON_CIFAR10, "precision": "bfloat16"},
    },
    "full": {
        "data": "cifar10",
        "seeds": 5,
        "network": NAMED["robust"]["network"],
        "passes": 136,
        "train_images": None,
        "test_images": None,
        "images": 1000,
        "examined": 1000,
        "eps": 8 / 255,
        "budgets": (2 / 255, 4 / 255, 8 / 255, 12 / 255),
        "guard": {"looks": 4},
        "course_images": 200,
        "attended": 300,
        "recipe": ON_CIFAR10,
    },
    "paper": {
        "data": "cifar10",
        "network": {
            "name": "strided",
            "widths": [6, 16],
            "kernels": [5, 5],
            "strides": [2, 2],
            "hidden": [120, 84],
        },
        "passes": 60,
        "eps": 0.13,
        "mixed_by": 0.0078,
        "budgets": (0.0078, 8 / 255, 0.13),
        "recipe": {"batch_size": 32, "optimizer": {"name": "adam", "lr": 1e-4}},
    },
}
