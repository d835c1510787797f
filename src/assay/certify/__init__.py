"""Certificates: what no attack within a threat can change, whoever makes it.

    assay.certify.ibp(clf, x, y, eps=0.3).accuracy                       L∞, by interval bounds
    assay.certify.Smoothing(sigma=0.25)(clf, x).accuracy(y, radius=0.5)  L2, by noise

Names are loaded when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from assay.lazy import lazily

if TYPE_CHECKING:
    from assay.certify.bounds import Bounds as Bounds
    from assay.certify.intervals import Certified as Certified
    from assay.certify.intervals import ibp as ibp
    from assay.certify.smoothing import Smoothed as Smoothed
    from assay.certify.smoothing import Smoothing as Smoothing
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "bounds": ["Bounds"],
            "intervals": ["Certified", "ibp"],
            "smoothing": ["Smoothed", "Smoothing"],
        },
    )
