"""assay puts a neural network to the test, and says how far each answer can be trusted.

Nothing heavy is imported until it is used: `import assay` takes milliseconds.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from assay import attacks, data, explain, models, ood, report, runs, stats, studies, train
    from assay.auditing import Audit, audit
    from assay.core.blackbox import BlackBox
    from assay.core.classifier import Classifier
    from assay.core.random import Stream
    from assay.core.threats import NormBall
    from assay.data import load_data
    from assay.errors import AssayError
    from assay.models.loading import load_model

_HOME = {
    "Audit": "assay.auditing",
    "AssayError": "assay.errors",
    "BlackBox": "assay.core.blackbox",
    "Classifier": "assay.core.classifier",
    "NormBall": "assay.core.threats",
    "Stream": "assay.core.random",
    "audit": "assay.auditing",
    "load_data": "assay.data",
    "load_model": "assay.models.loading",
}
_ROOMS = (
    "attacks",
    "data",
    "explain",
    "models",
    "ood",
    "report",
    "runs",
    "stats",
    "studies",
    "train",
)

__all__ = [
    "AssayError",
    "Audit",
    "BlackBox",
    "Classifier",
    "NormBall",
    "Stream",
    "attacks",
    "audit",
    "data",
    "explain",
    "load_data",
    "load_model",
    "models",
    "ood",
    "report",
    "runs",
    "stats",
    "studies",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    if name in _ROOMS:
        return importlib.import_module(f"assay.{name}")
    raise AttributeError(f"module 'assay' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
