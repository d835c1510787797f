"""Explainers of texts: which words speak for a class?

    maps = assay.explain.text.TokenIntegratedGradients()(text_clf, texts)

An explainer from another package joins the union `AnyTextExplainer` by an entry point in the group
`assay.text_explainers` that names its class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from assay.lazy import lazily

if TYPE_CHECKING:
    from assay.explain.text.base import TextExplainer as TextExplainer
    from assay.explain.text.base import TokenAttribution as TokenAttribution
    from assay.explain.text.faithful import TextFaithfulness as TextFaithfulness
    from assay.explain.text.faithful import randomised_text as randomised_text
    from assay.explain.text.faithful import text_faithfulness as text_faithfulness
    from assay.explain.text.registry import *  # noqa: F403
    from assay.explain.text.registry import AnyTextExplainer as AnyTextExplainer
    from assay.explain.text.registry import text_explainers as text_explainers
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "base": ["TextExplainer", "TokenAttribution"],
            "faithful": ["TextFaithfulness", "randomised_text", "text_faithfulness"],
            "registry": ["AnyTextExplainer", "text_explainers"],
        },
        registry="text_explainers",
    )
