"""The detectors of ours: a line each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assay.core.registry import Registry
from assay.lazy import made_late
from assay.ood.base import Detector
from assay.ood.confidence import MaxSoftmax as MaxSoftmax
from assay.ood.confidence import MaxLogit as MaxLogit
from assay.ood.confidence import Energy as Energy
from assay.ood.posterior import Entropy as Entropy
from assay.ood.posterior import GEN as GEN
from assay.ood.posterior import KLMatching as KLMatching
from assay.ood.posterior import TemperatureScaling as TemperatureScaling
from assay.ood.gaussian import Mahalanobis as Mahalanobis
from assay.ood.gaussian import RelativeMahalanobis as RelativeMahalanobis
from assay.ood.gaussian import MahalanobisPlusPlus as MahalanobisPlusPlus
from assay.ood.neighbours import KNN as KNN
from assay.ood.neighbours import NNGuide as NNGuide
from assay.ood.subspace import ViM as ViM
from assay.ood.subspace import FDBD as FDBD
from assay.ood.shaped import ReAct as ReAct
from assay.ood.shaped import DICE as DICE
from assay.ood.shaped import ASH as ASH
from assay.ood.shaped import SCALE as SCALE
from assay.ood.gradients import ODIN as ODIN
from assay.ood.gradients import GradNorm as GradNorm
from assay.ood.inputs import Reconstruction as Reconstruction
from assay.ood.inputs import EvidenceBound as EvidenceBound
from assay.ood.inputs import Complexity as Complexity
from assay.ood.ranks import RankAverage as RankAverage

detectors = Registry(Detector, __name__, "assay.detectors")
"""Every detector by its name: ours, then those of the entry-point group `assay.detectors`."""

if TYPE_CHECKING:
    AnyDetector = Detector
else:
    # the union, for the fields of configs; other packages are loaded for it, so it is made late
    __getattr__ = made_late(__name__, AnyDetector=detectors.union)
