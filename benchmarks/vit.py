"""Explainers of vision transformers: what they cost over a forward pass of the same batch.

All in one process, taking turns over many short rounds, on the same images; the best round of each
counts, since noise only slows down; with one thread it is processor time. The forward pass is the
bare model's, in eval mode, without gradients, by the fused attention it uses by itself: whole, or
in parts of the size that assay takes if that is faster. assay's times include its checks, finding
out how the tokens are laid out, and maps of the size of the image.

    python benchmarks/vit.py                  # what is published: 1 thread
    python benchmarks/vit.py --rounds 2

The weights are random: they change no time.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn

import assay
from assay.core.random import Stream
from assay.explain import AttentionRollout, GradCAM, GradientAttention
from assay.explain.base import held
from assay.explain.passes import rows_at_once
from assay.explain.rollout import laid_out
from assay.models import ViT

OUT = Path(__file__).parent / "out"
EXPLAINERS = (AttentionRollout(), GradientAttention(), GradCAM())
MOST = 1.2
"""Forward passes that a rollout may cost."""


def contenders() -> dict[str, tuple[nn.Module, Tensor]]:
    """Return each model with the images of its batch."""
    draw = torch.Generator().manual_seed(0)
    small = ViT().build((3, 32, 32), 8, Stream(0)).eval()
    tiny = transformers.ViTConfig(
        hidden_size=192, num_hidden_layers=12, num_attention_heads=3, intermediate_size=768
    )
    images = torch.rand(256, 3, 32, 32, generator=draw)
    return {
        "assay's ViT, 64 patches, 64 images": (small, images[:64]),
        "assay's ViT, 64 patches, 256 images": (small, images),
        "Hugging Face's ViT-Ti/16, 196 patches, 32 images": (
            transformers.ViTForImageClassification(tiny).eval(),
            torch.rand(32, 3, 224, 224, generator=draw),
        ),
    }


def best_times(model: nn.Module, x: Tensor, rounds: int) -> dict[str, float]:
    """Return the seconds of a forward pass, of each explainer's maps, and of finding the layout."""
    clf, best = assay.Classifier(model), dict[str, float]()
    now = time.process_time if torch.get_num_threads() == 1 else time.perf_counter

    def forward(size: int) -> None:
        with torch.no_grad():
            for part in x.split(size):
                model(part)

    work = {explainer.name: lambda e=explainer: e(clf, x) for explainer in EXPLAINERS}

    def layout() -> None:
        with held(clf):
            laid_out(clf, x[:1])

    work |= {
        "layout": layout,
        "whole": lambda: forward(len(x)),
        "parts": lambda: forward(rows_at_once(clf, x)),
    }
    for _ in range(rounds):
        for who, run in work.items():
            start = now()
            run()
            best[who] = min(best.get(who, float("inf")), now() - start)
    forwards = min(best.pop("whole"), best.pop("parts"))
    return {"forward": forwards, **best}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    results: dict[str, Any] = {}
    for title, (model, x) in contenders().items():
        times = best_times(model, x, options.rounds)
        results[title] = times
        print(f"{title}\n  a forward pass {1000 * times['forward']:.0f} ms")
        for explainer in EXPLAINERS:
            print(f"  {explainer.name:20}{times[explainer.name] / times['forward']:6.2f} of it")
        share = times["layout"] / times["forward"]
        print(f"  {'tokens laid out':20}{share:6.2f} of it, which is within the first two")
        rollout = times["attention-rollout"] / times["forward"]
        print(f"  {'met' if rollout <= MOST else 'NOT met'}: rollout ≤ {MOST} forward passes")
    report = {
        "settings": vars(options),
        "results": results,
        "made_on": {
            "processor": platform.processor() or platform.machine(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "assay": assay.__version__,
        },
    }
    OUT.mkdir(exist_ok=True)
    (OUT / "vit.json").write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
