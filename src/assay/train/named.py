"""Recipes by name: a network, how it is trained, and what is done to its images. Never imports
torch."""

from __future__ import annotations

from typing import Any


def hardened(epochs: int, recipe: dict[str, Any], **settings: Any) -> dict[str, Any]:
    """Return the settings of an adversarial training of the one small network on CIFAR-10."""
    return {
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
            "epochs": epochs,
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
            "ema": 0.995,
            **recipe,
        },
        "augmentation": {"name": "crop-flip", "padding": 0},
        "train_tested": False,
        **settings,
    }


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
    "robust": hardened(
        8, {}, adversary={"name": "pgd", "eps": 8 / 255, "steps": 7, "step_size": 2 / 255}
    ),
    "fast-robust": hardened(
        26, {"guard": {}}, hardening={"name": "n-fgsm", "eps": 8 / 255, "noise": 2, "step": 1}
    ),
    "robust-wide": hardened(
        24,
        {"precision": "auto"},
        hardening={"name": "n-fgsm", "eps": 8 / 255, "noise": 2, "step": 1},
        network={
            "name": "cnn",
            "depths": [1, 2, 1],
            "widths": [64, 128, 256],
            "skip": True,
            "shortcut": "pad",
            "norm": "batch",
            "activation": "silu",
            "init": "he",
            "stem_stride": 2,
            "stage_stride": 2,
        },
    ),
    "fast-at": hardened(
        26,
        {"guard": {}},
        adversary={"name": "pgd", "eps": 8 / 255, "steps": 1, "step_size": 10 / 255},
    ),
    "trades": hardened(
        5,
        {"loss": {"name": "trades", "beta": 6}},
        adversary={"name": "pgd", "eps": 8 / 255, "steps": 10, "step_size": 2 / 255},
    ),
    "static-mix": hardened(
        22, {}, hardening={"name": "static-mix", "attack": {"name": "fgsm", "eps": 8 / 255}}
    ),
    "certified": {
        "data": "mnist",
        "network": {
            "name": "strided",
            "widths": [32, 64],
            "kernels": [5, 4],
            "strides": [2, 2],
            "hidden": [256],
            "init": "ibp",
            "ramp": [0.4, 0.6],
        },
        "recipe": {
            "epochs": 64,
            "batch_size": 128,
            "optimizer": {"name": "adam", "lr": 2.5e-3},
            "schedule": {
                "name": "piecewise",
                "warmup": 0.01,
                "at": [0.6, 0.75, 0.85, 0.95],
                "by": 0.4,
            },
            "loss": {
                "name": "ibp",
                "eps": 0.3,
                "beyond": 1,
                "start": 0.02,
                "end": 0.35,
                "kappa": 0,
            },
            "grad_clip": 10,
            "ema": 0.995,
        },
        "augmentation": {"name": "crop-flip", "padding": 1, "flip": 0},
        "train_tested": False,
    },
}
"""By name, the settings of a training (`assay.tasks.train.TrainNetwork`), to be overridden.

`fast` reaches 82 % on CIFAR-10 in four passes. It is after airbench (Jordan 2024, "94% on CIFAR-10
in 3.29 seconds on a single GPU"): the first layer whitens, biases of norms learn 64 times faster,
labels are smoothed by 0.2, images shift by two pixels at most. docs/log.md says what each brought.

`robust` is trained against PGD as Madry et al. 2018 train for CIFAR-10: seven steps of 2/255 within
8/255. `fast-robust` takes one step from noise (N-FGSM, de Jorge et al. 2022), `trades` is TRADES
with its authors' weight and ten steps, which start anywhere in the ball (theirs beside the image),
`static-mix` the course's mix, and `fast-at` FGSM from a random start (Wong et al. 2020), which is
there to show how it collapses. Their epochs are chosen so that all compute about the same. The
network is small enough for two cores. `robust-wide` is N-FGSM on a wider network with SiLU for
three times that compute (docs/log.md).

`certified` is trained by interval bounds (Gowal et al. 2018) for 0.3 on MNIST, with the initial
weights of Shi et al. 2021 and, in the end, no clean loss. Both papers train for 0.4; here it is
0.3, since what is darker than 0.4 is black to the network and what is brighter than 0.6 white
(docs/log.md): of digits, which are nearly black and white, a budget of 0.3 then moves edges alone.
They shift by a pixel at most, since otherwise more of the training images end up certified than of
others.
"""
