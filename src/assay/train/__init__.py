"""Training: `assay.train.fit.fit` is the one loop for every network, a `Recipe` what it follows.

This module holds the configs alone and never imports torch.
"""

from assay.train.recipe import (
    IBP,
    SGD,
    Adam,
    AdamW,
    Constant,
    Cosine,
    CrossEntropy,
    Guard,
    LogitNorm,
    OneCycle,
    Piecewise,
    Recipe,
    Trades,
    Watch,
)

__all__ = [
    "IBP",
    "SGD",
    "Adam",
    "AdamW",
    "Constant",
    "Cosine",
    "CrossEntropy",
    "Guard",
    "LogitNorm",
    "OneCycle",
    "Piecewise",
    "Recipe",
    "Trades",
    "Watch",
]
