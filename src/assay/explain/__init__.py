"""Explainers: which parts of an image speak for a class, and which once it is attacked?

    maps = assay.explain.GradCAM()(clf, x, targets=y)

Names are loaded when they are first used. An explainer from another package joins the
union `AnyExplainer` by an entry point in the group `assay.explainers` that names its class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from assay.lazy import lazily

if TYPE_CHECKING:
    from assay.explain import text as text
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
    from assay.explain.shift import SaliencyShift as SaliencyShift
    from assay.explain.shift import saliency_shift as saliency_shift
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
            "shift": ["SaliencyShift", "saliency_shift"],
        },
        packages=["text"],
        registry="explainers",
    )
