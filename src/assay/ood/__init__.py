"""Detectors: does the model know what it does not know?

    scores = assay.ood.MaxLogit().fit(train, y_train).score(clf.embed(x))

Scores have one sign: higher means more unlike the training data. Everything here is loaded when
it is first asked for. A detector from another package joins the union `AnyDetector` by an entry
point in the group `assay.detectors` that names its class.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from assay.ood.base import Detector as Detector
    from assay.ood.base import FittedDetector as FittedDetector
    from assay.ood.confidence import Energy as Energy
    from assay.ood.confidence import MaxLogit as MaxLogit
    from assay.ood.confidence import MaxSoftmax as MaxSoftmax
    from assay.ood.evaluation import DetectionResult as DetectionResult
    from assay.ood.evaluation import evaluate as evaluate
    from assay.ood.family import AnyDetector as AnyDetector
    from assay.ood.family import detectors as detectors

_HOMES = {
    "AnyDetector": "family",
    "DetectionResult": "evaluation",
    "Detector": "base",
    "Energy": "confidence",
    "FittedDetector": "base",
    "MaxLogit": "confidence",
    "MaxSoftmax": "confidence",
    "detectors": "family",
    "evaluate": "evaluation",
}
__all__ = [
    "AnyDetector",
    "DetectionResult",
    "Detector",
    "Energy",
    "FittedDetector",
    "MaxLogit",
    "MaxSoftmax",
    "detectors",
    "evaluate",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
