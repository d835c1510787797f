"""The explainers of ours: a line each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assay.core.registry import Registry
from assay.explain.base import Explainer
from assay.explain.cam import GradCAM as GradCAM
from assay.explain.cam import GradCAMPlusPlus as GradCAMPlusPlus
from assay.explain.cam import HiResCAM as HiResCAM
from assay.explain.cam import LayerCAM as LayerCAM
from assay.explain.cam import EigenCAM as EigenCAM
from assay.explain.scorecam import ScoreCAM as ScoreCAM
from assay.explain.gradients import IntegratedGradients as IntegratedGradients
from assay.explain.gradients import SmoothGrad as SmoothGrad
from assay.explain.occlusion import Occlusion as Occlusion
from assay.explain.rollout import AttentionRollout as AttentionRollout
from assay.explain.rollout import GradientAttention as GradientAttention
from assay.lazy import made_late

explainers = Registry(Explainer, __name__, "assay.explainers")
"""Every explainer by its name: ours, then those of the entry-point group `assay.explainers`."""

if TYPE_CHECKING:
    AnyExplainer = Explainer
else:
    # the union, for the fields of configs; other packages are loaded for it, so it is made late
    __getattr__ = made_late(__name__, AnyExplainer=explainers.union)
