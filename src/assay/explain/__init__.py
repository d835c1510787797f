"""Explainers: where does the model look, and where once it is attacked?

    maps = assay.explain.GradCAM()(clf, x, targets=y)

Everything here is loaded when it is first asked for. An explainer from another package joins the
union `AnyExplainer` by an entry point in the group `assay.explainers` that names its class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from assay.lazy import lazily

if TYPE_CHECKING:
    from assay.explain.base import Explainer as Explainer
    from assay.explain.curves import deletion as deletion
    from assay.explain.curves import insertion as insertion
    from assay.explain.faithful import Faithfulness as Faithfulness
    from assay.explain.faithful import FaithfulnessConfig as FaithfulnessConfig
    from assay.explain.faithful import faithfulness as faithfulness
    from assay.explain.pointing import pointing_game as pointing_game
    from assay.explain.randomise import randomised as randomised
    from assay.explain.registry import *  # noqa: F403
    from assay.explain.registry import AnyExplainer as AnyExplainer
    from assay.explain.registry import explainers as explainers
    from assay.explain.shift import AttentionShift as AttentionShift
    from assay.explain.shift import attention_shift as attention_shift
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "base": ["Explainer"],
            "curves": ["deletion", "insertion"],
            "faithful": ["Faithfulness", "FaithfulnessConfig", "faithfulness"],
            "pointing": ["pointing_game"],
            "randomise": ["randomised"],
            "registry": ["AnyExplainer", "explainers"],
            "shift": ["AttentionShift", "attention_shift"],
        },
        registry="explainers",
    )
