"""Training: `assay.train.fit.fit` is the one loop for every network, a `Recipe` what it follows.

This module holds the configs alone and never imports torch.
"""

from assay.train.recipe import (
    SGD,
    Adam,
    AdamW,
    Constant,
    Cosine,
    CrossEntropy,
    LogitNorm,
    OneCycle,
    Recipe,
    Watch,
)

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "Constant",
    "Cosine",
    "CrossEntropy",
    "LogitNorm",
    "OneCycle",
    "Recipe",
    "Watch",
]
