"""The union of all explainers: what a config's `explainer:` may be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assay.core.family import members, union
from assay.explain.base import Explainer
from assay.explain.cam import EigenCAM, GradCAM, GradCAMPlusPlus, HiResCAM, LayerCAM
from assay.explain.gradients import IntegratedGradients, SmoothGrad
from assay.explain.occlusion import Occlusion
from assay.explain.rollout import AttentionRollout, GradientAttention
from assay.explain.scorecam import ScoreCAM

BUILT_IN: tuple[type[Explainer], ...] = (
    GradCAM,
    GradCAMPlusPlus,
    HiResCAM,
    LayerCAM,
    EigenCAM,
    ScoreCAM,
    IntegratedGradients,
    SmoothGrad,
    Occlusion,
    AttentionRollout,
    GradientAttention,
)


def explainers() -> dict[str, type[Explainer]]:
    """Return every explainer by its name: ours, then those of the group `assay.explainers`."""
    return members(Explainer, BUILT_IN, "assay.explainers")


if TYPE_CHECKING:
    AnyExplainer = (
        GradCAM
        | GradCAMPlusPlus
        | HiResCAM
        | LayerCAM
        | EigenCAM
        | ScoreCAM
        | IntegratedGradients
        | SmoothGrad
        | Occlusion
        | AttentionRollout
        | GradientAttention
    )
else:
    AnyExplainer = union(explainers().values())
