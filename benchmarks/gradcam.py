"""Grad-CAM: assay against captum's batched LayerGradCam, and against the bare passes.

All in one process, taking turns over several rounds, on the same images, layer, batch size and
threads; the best round of each counts, since noise only slows down. `bare` is what cannot be
avoided: the network up to the layer without a graph, the rest with one, and the gradient of the
logits by the layer; no map, no hook, no check. assay's time includes the checks, finding the layer
where none is named, and maps of the size of the image, which captum's does not.

    python benchmarks/gradcam.py                  # what is published: 2 threads, 1024 images
    python benchmarks/gradcam.py --images 64 --rounds 1

The weights are random: they change no time.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import captum
import torch
from captum.attr import LayerGradCam
from torch import Tensor, nn

import assay
from assay.core.random import Stream
from assay.explain import GradCAM
from assay.models.cnn import CNN

OUT = Path(__file__).parent / "out"
NETWORKS = {
    "ResNet-20": CNN(
        depths=(3, 3, 3),
        widths=(16, 32, 64),
        skip=True,
        shortcut="pad",
        norm="batch",
        stage_stride=2,
        init="he",
    ),
    "the course's CNN + skip [7, 7]": CNN(depths=(7, 7), widths=(16, 32), skip=True, init="he"),
}
LAYERS = {"last block (found)": None, "first stage": "stages.0"}


def bare(model: nn.Module, stages: int) -> Callable[[Tensor, Tensor], None]:
    """Return the two passes with the first `stages` stages as the trunk, and nothing else."""

    def passes(x: Tensor, y: Tensor) -> None:
        with torch.no_grad():
            x = model.stages[:stages](torch.relu_(model.norm(model.stem(x))))
        x.requires_grad_(True)
        logits = model.head(model.stages[stages:](x.clone()).mean((2, 3)))
        torch.autograd.grad(logits.gather(1, y[:, None]).sum(), x)

    return passes


def compare(
    clf: assay.Classifier, layer: str | None, x: Tensor, y: Tensor, rounds: int, batch: int
) -> dict[str, Any]:
    """Return images per second of each contender, and how far the maps are from captum's."""
    model = clf.model
    name = GradCAM(layer=layer)(clf, x[:1], y[:1]).layer
    theirs = LayerGradCam(model, model.get_submodule(name))
    passes = bare(model, len(model.stages) if layer is None else 1)

    def captum_maps(x: Tensor, y: Tensor) -> Tensor:
        parts = zip(x.split(batch), y.split(batch), strict=True)
        return torch.cat([theirs.attribute(a, target=b)[:, 0].detach() for a, b in parts])

    def bare_passes(x: Tensor, y: Tensor) -> None:
        for a, b in zip(x.split(batch), y.split(batch), strict=True):
            passes(a, b)

    best: dict[str, float] = {}

    def timed(who: str, work: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        made = work()
        best[who] = min(best.get(who, float("inf")), time.perf_counter() - start)
        return made

    for _ in range(rounds):
        ours = timed("assay", lambda: GradCAM(layer=layer)(clf, x, y))
        expected = timed("captum", lambda: captum_maps(x, y))
        with clf.borrowed():
            timed("bare", lambda: bare_passes(x, y))
    size = expected.abs().flatten(1).amax(1).clamp_min(1e-30)[:, None, None]
    return {
        "layer": name,
        "images_per_second": {who: len(x) / seconds for who, seconds in best.items()},
        "times_captum": best["captum"] / best["assay"],
        "of_bare": best["bare"] / best["assay"],
        "largest_difference": float(((ours.raw - expected) / size).abs().max()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    draw = torch.Generator().manual_seed(0)
    x = torch.rand(options.images, 3, 32, 32, generator=draw)
    y = torch.randint(0, 10, (options.images,), generator=draw)

    results: dict[str, Any] = {}
    for title, config in NETWORKS.items():
        model = config.build((3, 32, 32), 10, Stream(0)).eval()
        clf = assay.Classifier(model, batch_size=options.batch)
        for where, layer in LAYERS.items():
            found = compare(clf, layer, x, y, options.rounds, options.batch)
            results[f"{title}, {where}"] = found
    report = {
        "settings": vars(options),
        "results": results,
        "made_on": {
            "processor": platform.processor() or platform.machine(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "captum": captum.__version__,
            "assay": assay.__version__,
        },
    }
    OUT.mkdir(exist_ok=True)
    (OUT / "gradcam.json").write_text(json.dumps(report, indent=2) + "\n")
    show(results)


def show(results: dict[str, Any]) -> None:
    """Print the table, and whether each row meets the target."""
    head = ("assay", "captum", "bare", "× captum", "of bare", "differ by")
    print(f"images per second\n{'':52}" + "".join(f"{word:>11}" for word in head))
    for title, found in results.items():
        rates = "".join(f"{found['images_per_second'][who]:11.0f}" for who in head[:3])
        ratios = f"{found['times_captum']:11.2f}{found['of_bare']:11.2f}"
        print(f"{title:52}{rates}{ratios}{found['largest_difference']:11.1e}")
    for title, found in results.items():
        fast = found["times_captum"] >= 3 or found["of_bare"] >= 0.9
        same = found["largest_difference"] <= 1e-5
        met = "met" if fast and same else "NOT met"
        print(f"{met}: {title}: ≥ 3 × captum or ≥ 0.9 of bare, and maps equal to 1e-5")


if __name__ == "__main__":
    main()
