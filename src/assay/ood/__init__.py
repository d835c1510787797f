"""Detectors: does the model know what it does not know?

    scores = assay.ood.MaxLogit().fit(train, y_train).score(clf.embed(x))

Scores have one sign: higher means more unlike the training data. Names are loaded when they are
first used. A detector from another package joins the union `AnyDetector` by an entry
point in the group `assay.detectors` that names its class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from assay.lazy import lazily

if TYPE_CHECKING:
    from assay.ood.base import Detector as Detector
    from assay.ood.evaluation import DetectionResult as DetectionResult
    from assay.ood.evaluation import RiskCoverage as RiskCoverage
    from assay.ood.evaluation import evaluate as evaluate
    from assay.ood.evaluation import overlap as overlap
    from assay.ood.evaluation import risk_coverage as risk_coverage
    from assay.ood.fitted import FittedDetector as FittedDetector
    from assay.ood.registry import *  # noqa: F403
    from assay.ood.registry import AnyDetector as AnyDetector
    from assay.ood.registry import detectors as detectors
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "base": ["Detector"],
            "evaluation": [
                "DetectionResult",
                "RiskCoverage",
                "evaluate",
                "overlap",
                "risk_coverage",
            ],
            "fitted": ["FittedDetector"],
            "registry": ["AnyDetector", "detectors"],
        },
        registry="detectors",
    )
