"""Explainers of vision transformers: what they cost over a forward pass of the same batch.

All in one process, taking turns over several rounds, on the same images; the best round of each
counts, since noise only slows down. The forward pass is the bare model's, in eval mode, without
gradients, with the fused attention it uses by itself, in batches of the size that assay takes: the
faster of that and of the whole batch at once. assay's times include its checks, finding out how the
tokens are laid out, and maps of the size of the image.

    python benchmarks/vit.py                  # what is published: 1 thread
    python benchmarks/vit.py --images 16 --large 2 --rounds 1

The weights are random: they change no time.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn

import assay
from assay.core.random import Stream
from assay.explain import AttentionRollout, Explainer, GradCAM, GradientAttention
from assay.explain.passes import rows_at_once
from assay.models import ViT

OUT = Path(__file__).parent / "out"
EXPLAINERS: tuple[Explainer, ...] = (AttentionRollout(), GradientAttention(), GradCAM())
MOST = 1.2
"""Forward passes that a rollout may cost."""


def networks() -> dict[str, tuple[nn.Module, tuple[int, int, int]]]:
    """Return each network with the shape of its images."""
    tiny = transformers.ViTConfig(
        hidden_size=192, num_hidden_layers=12, num_attention_heads=3, intermediate_size=768
    )
    return {
        "assay's ViT, 4 blocks of 64, 64 patches": (
            ViT().build((3, 32, 32), 8, Stream(0)),
            (3, 32, 32),
        ),
        "Hugging Face's ViT-Ti/16, 196 patches": (
            transformers.ViTForImageClassification(tiny),
            (3, 224, 224),
        ),
    }


def timed(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def costs(model: nn.Module, x: Tensor, rounds: int) -> tuple[float, dict[str, float]]:
    """Return the seconds of a forward pass, and by explainer those of its maps over it."""
    clf = assay.Classifier(model.eval(), classes=[str(k) for k in range(model(x[:1]).shape[1])])
    return 0.0, {}
