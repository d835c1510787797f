"""The explainers of texts, of ours: a line each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assay.core.registry import Registry
from assay.explain.text.base import TextExplainer
from assay.explain.text.gradients import GradientInput as GradientInput
from assay.explain.text.gradients import TokenIntegratedGradients as TokenIntegratedGradients
from assay.explain.text.occlusion import WordOcclusion as WordOcclusion
from assay.explain.text.rollout import TokenRollout as TokenRollout
from assay.lazy import made_late

text_explainers = Registry(TextExplainer, __name__, "assay.text_explainers")
"""Every explainer of texts by its name: ours, then those of the group `assay.text_explainers`."""

if TYPE_CHECKING:
    AnyTextExplainer = TextExplainer
else:
    __getattr__ = made_late(__name__, AnyTextExplainer=text_explainers.union)
