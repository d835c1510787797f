"""Integrated gradients over tokens against captum's LayerIntegratedGradients."""

from __future__ import annotations

import warnings

import pytest
import torch
from contract.tiny import text_classifier

from assay.explain.text import TokenIntegratedGradients


def test_integrated_gradients_are_captums() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        captum = pytest.importorskip("captum.attr")
    clf, text = text_classifier(), "the plot is good but boring"
    maps = TokenIntegratedGradients(steps=20)(clf, [text], targets=1)
    (ids,) = clf.tokens([text]).ids
    marks = [start == end for start, end in clf.tokens([text]).spans[0]]
    base = [token if mark else clf.pad for token, mark in zip(ids, marks, strict=True)]

    def logits(tokens: torch.Tensor) -> torch.Tensor:
        return clf.model(input_ids=tokens, attention_mask=torch.ones_like(tokens)).logits

    with clf.borrowed(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = captum.LayerIntegratedGradients(logits, clf.table).attribute(
            torch.tensor([ids]),
            baselines=torch.tensor([base]),
            target=1,
            n_steps=20,
            method="riemann_middle",
        )
    assert torch.allclose(maps.raw[0], theirs.sum(2)[0].float(), atol=1e-5)
