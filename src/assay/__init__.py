"""assay puts a neural network to the test, and says how far each answer can be trusted.

Nothing heavy is imported until it is used: `import assay` takes milliseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from assay.lazy import lazily

__version__ = "0.1.0"

if TYPE_CHECKING:
    from assay import attacks as attacks
    from assay import certify as certify
    from assay import data as data
    from assay import explain as explain
    from assay import models as models
    from assay import ood as ood
    from assay import report as report
    from assay import runs as runs
    from assay import stats as stats
    from assay import studies as studies
    from assay import train as train
    from assay.auditing import Audit as Audit
    from assay.auditing import audit as audit
    from assay.core.blackbox import BlackBox as BlackBox
    from assay.core.classifier import Classifier as Classifier
    from assay.core.random import Stream as Stream
    from assay.core.texts import TextClassifier as TextClassifier
    from assay.core.threats import NormBall as NormBall
    from assay.data import load_data as load_data
    from assay.errors import AssayError as AssayError
    from assay.models.loading import load_model as load_model
    from assay.models.text import load_text as load_text
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "auditing": ["Audit", "audit"],
            "core.blackbox": ["BlackBox"],
            "core.classifier": ["Classifier"],
            "core.random": ["Stream"],
            "core.texts": ["TextClassifier"],
            "core.threats": ["NormBall"],
            "data": ["load_data"],
            "errors": ["AssayError"],
            "models.loading": ["load_model"],
            "models.text": ["load_text"],
        },
        packages=[
            "attacks",
            "certify",
            "data",
            "explain",
            "models",
            "ood",
            "report",
            "runs",
            "stats",
            "studies",
            "train",
        ],
    )
