"""The presets of the study `ood`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from assay.tasks.outside import HELD_OUT
from assay.train.named import NAMED

NATURAL, LOGIT_NORM = "cross-entropy", "LogitNorm"
"""What networks are called, by their loss."""

DETECTORS: tuple[dict[str, Any], ...] = (
    {"name": "max-softmax"},
    {"name": "max-logit"},
    {"name": "energy"},
    {"name": "entropy"},
    {"name": "gen"},
    {"name": "kl-matching"},
    {"name": "temperature-scaling"},
    {"name": "mahalanobis"},
    {"name": "relative-mahalanobis"},
    {"name": "mahalanobis++"},
    {"name": "knn"},
    {"name": "vim"},
    {"name": "fdbd"},
    {"name": "nnguide"},
    {"name": "react"},
    {"name": "dice"},
    {"name": "ash"},
    {"name": "scale"},
    {"name": "odin"},
    {"name": "gradnorm"},
    {"name": "rank-average"},
    {"name": "reconstruction"},
    {"name": "reconstruction", "by": "ssim"},
    {"name": "evidence-bound"},
    {"name": "complexity"},
)
ON_RELU = (
    *("max-softmax", "max-logit", "energy", "gen", "knn", "relative-mahalanobis"),
    *("react", "dice", "ash", "scale", "gradnorm"),
)
"""What networks with ReLU are asked: detectors that change features, and what they must beat."""
KINDS = (
    HELD_OUT,
    "clothing",
    "scrambled",
    "shapes",
    "letters",
    "gradient",
    "flat",
    "gaussian-noise",
    "uniform-noise",
    "fake-data",
    *(f"corrupted-{severity}" for severity in range(1, 6)),
)


def trained(epochs: int = 4, **more: Any) -> dict[str, Any]:
    """Return the training of the recipe `fast` without label smoothing, which flattens the logits
    that scores read, and LogitNorm's paper does without."""
    fast = NAMED["fast"]
    recipe = {**fast["recipe"], "epochs": epochs, "label_smoothing": 0.0, "precision": "bfloat16"}
    return {**fast, "recipe": {**recipe, **more}}


def autoencoders(epochs: int, **more: Any) -> dict[str, Any]:
    """Return the training of autoencoders."""
    return {"epochs": epochs, "batch_size": 64, "lr": 2e-3, **more}


def rectified() -> dict[str, Any]:
    """Return the training of the same network with ReLU in place of GELU, whose features are never
    negative: what ASH and SCALE assume."""
    network = trained()
    return {**network, "network": {**network["network"], "activation": "relu"}}


PRESETS: Mapping[str, Mapping[str, Any]] = {
    "smoke": {
        "data": "digits",
        "seeds": 2,
        "network": {
            "network": {"name": "mlp", "widths": [32]},
            "recipe": {
                "epochs": 6,
                "batch_size": 64,
                "optimizer": {"name": "adamw", "lr": 5e-3},
            },
        },
        "autoencoder": autoencoders(3),
        "widths": (8, 16),
        "detectors": (
            {"name": "max-softmax"},
            {"name": "max-logit"},
            {"name": "gen"},
            {"name": "knn"},
            {"name": "relative-mahalanobis"},
            {"name": "odin"},
            {"name": "gradnorm"},
            {"name": "reconstruction"},
            {"name": "evidence-bound"},
            {"name": "complexity"},
        ),
        "outliers": (HELD_OUT, "letters", "uniform-noise", "fake-data", "corrupted-3"),
        "raw": ("letters",),
        "fitted_on": 500,
        "calibrated_on": 60,
        "inside": 100,
        "outside": 60,
        "attacked": ("max-softmax", "knn"),
        "attacked_images": 20,
        "attack_steps": 5,
        "autoencoder_images": None,
    },
    "quick": {},
    "full": {
        "seeds": 10,
        "network": trained(24, batch_size=512),
        "autoencoder": autoencoders(30),
        "autoencoder_images": None,
        "fitted_on": 20_000,
        "calibrated_on": 4000,
        "inside": 8000,
        "outside": 2000,
        "attacked_images": 500,
        "attack_steps": 40,
    },
    "relu": {
        "logit_norm": False,
        "network": rectified(),
        "detectors": tuple({"name": name} for name in ON_RELU),
        "outliers": tuple(kind for kind in KINDS if not kind.startswith("corrupted")),
        "raw": (),
        "attacked": (),
    },
    "paper": {
        "held_out": False,
        "logit_norm": False,
        "network": {
            "network": {"name": "lenet"},
            "recipe": {
                "epochs": 15,
                "batch_size": 32,
                "optimizer": {"name": "adam", "lr": 1e-4},
                "schedule": {"name": "constant"},
            },
            "train_tested": False,
        },
        "autoencoder": {"epochs": 10, "batch_size": 32, "lr": 1e-4},
        "autoencoder_images": None,
        "detectors": (
            {"name": "max-softmax"},
            {"name": "max-logit"},
            {"name": "reconstruction"},
            {"name": "complexity"},
        ),
        "outliers": ("fake-data", "uniform-noise", "shapes", "clothing"),
        "raw": ("uniform-noise", "shapes"),
        "attacked": (),
    },
}
