"""The detectors of ours: a line each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assay.core.registry import Registry
from assay.lazy import made_late
from assay.ood.base import Detector
from assay.ood.confidence import MaxSoftmax as MaxSoftmax
from assay.ood.confidence import MaxLogit as MaxLogit
from assay.ood.confidence import Energy as Energy
from assay.ood.inputs import Reconstruction as Reconstruction
from assay.ood.inputs import EvidenceBound as EvidenceBound
from assay.ood.inputs import Complexity as Complexity

detectors = Registry(Detector, __name__, "assay.detectors")
"""Every detector by its name: ours, then those of the entry-point group `assay.detectors`."""

if TYPE_CHECKING:
    AnyDetector = Detector
else:
    # the union, for the fields of configs; other packages are loaded for it, so it is made late
    __getattr__ = made_late(__name__, AnyDetector=detectors.union)
