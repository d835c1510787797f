"""Explainers: where does the model look, and where once it is attacked?

    maps = assay.explain.GradCAM()(clf, x, targets=y)

Everything here is loaded when it is first asked for. An explainer from another package joins the
union `AnyExplainer` by an entry point in the group `assay.explainers` that names its class.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from assay.explain.base import Explainer as Explainer
    from assay.explain.cam import EigenCAM as EigenCAM
    from assay.explain.cam import GradCAM as GradCAM
    from assay.explain.cam import GradCAMPlusPlus as GradCAMPlusPlus
    from assay.explain.cam import HiResCAM as HiResCAM
    from assay.explain.cam import LayerCAM as LayerCAM
    from assay.explain.curves import deletion as deletion
    from assay.explain.curves import insertion as insertion
    from assay.explain.faithful import Faithfulness as Faithfulness
    from assay.explain.faithful import FaithfulnessConfig as FaithfulnessConfig
    from assay.explain.faithful import faithfulness as faithfulness
    from assay.explain.family import AnyExplainer as AnyExplainer
    from assay.explain.family import explainers as explainers
    from assay.explain.gradients import IntegratedGradients as IntegratedGradients
    from assay.explain.gradients import SmoothGrad as SmoothGrad
    from assay.explain.occlusion import Occlusion as Occlusion
    from assay.explain.pointing import pointing_game as pointing_game
    from assay.explain.randomise import randomised as randomised
    from assay.explain.rollout import AttentionRollout as AttentionRollout
    from assay.explain.rollout import GradientAttention as GradientAttention
    from assay.explain.scorecam import ScoreCAM as ScoreCAM
    from assay.explain.shift import AttentionShift as AttentionShift
    from assay.explain.shift import attention_shift as attention_shift

_HOMES = {
    "AnyExplainer": "family",
    "AttentionRollout": "rollout",
    "AttentionShift": "shift",
    "EigenCAM": "cam",
    "Explainer": "base",
    "Faithfulness": "faithful",
    "FaithfulnessConfig": "faithful",
    "GradCAM": "cam",
    "GradCAMPlusPlus": "cam",
    "GradientAttention": "rollout",
    "HiResCAM": "cam",
    "IntegratedGradients": "gradients",
    "LayerCAM": "cam",
    "Occlusion": "occlusion",
    "ScoreCAM": "scorecam",
    "SmoothGrad": "gradients",
    "attention_shift": "shift",
    "deletion": "curves",
    "explainers": "family",
    "faithfulness": "faithful",
    "insertion": "curves",
    "pointing_game": "pointing",
    "randomised": "randomise",
}
__all__ = [
    "AnyExplainer",
    "AttentionRollout",
    "AttentionShift",
    "EigenCAM",
    "Explainer",
    "Faithfulness",
    "FaithfulnessConfig",
    "GradCAM",
    "GradCAMPlusPlus",
    "GradientAttention",
    "HiResCAM",
    "IntegratedGradients",
    "LayerCAM",
    "Occlusion",
    "ScoreCAM",
    "SmoothGrad",
    "attention_shift",
    "deletion",
    "explainers",
    "faithfulness",
    "insertion",
    "pointing_game",
    "randomised",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
