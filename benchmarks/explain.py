"""Explainers: Grad-CAM, Score-CAM and occlusion against captum, side by side in one run.

All in one process, taking turns over several rounds, on the same images, layer and threads; the
best round of each counts, since noise only slows down; with one thread it is processor time.
assay's times include its checks, finding the layer, making and checking the fast copy, and maps of
the size of the image.

captum is used in each way a user might: `per image` is one image at a time, as its tutorials do;
`batched` is the better of batches of 64, which assay chooses itself, and of 256. Its occlusion has
two batched ways: many images with one window at a time (`by images`), and one image with many
windows (`by windows`). Score-CAM, which captum lacks, is compared with captum's occlusion by the
evaluated mask. assay's maps by masks are made in float32, which is the default, and in bfloat16.

    python benchmarks/explain.py                  # what is published: 1 thread, 1,000 images
    python benchmarks/explain.py --images 64 --masked 8 --rounds 1

What no float32 explainer can beat is `bare`: the forward passes alone of the same copy that assay
asks (batch norms folded, channels last), in the faster of two sizes of batch; no mask is made, no
gradient taken, no answer read. Beside each target is what `bare` would reach of it.

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

import captum
import torch
from captum.attr import LayerGradCam
from captum.attr import Occlusion as CaptumOcclusion
from torch import Tensor, nn

import assay
from assay.core.fast import fast_copy
from assay.core.random import Stream
from assay.explain import GradCAM, Occlusion, ScoreCAM
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
WINDOW, STRIDE = 8, 4
BATCHES = (64, 256)
BARE_BATCHES = (32, 64)


class Clock:
    """The best time of each contender."""

    def __init__(self) -> None:
        self.best: dict[str, float] = {}
        self.now = time.process_time if torch.get_num_threads() == 1 else time.perf_counter

    def __call__(self, who: str, work: Callable[[], Any]) -> Any:
        start = self.now()
        made = work()
        self.best[who] = min(self.best.get(who, float("inf")), self.now() - start)
        return made


def grad_cam(model: nn.Module, x: Tensor, y: Tensor, rounds: int) -> tuple[dict[str, float], float]:
    """Return the seconds of each contender for all images, and how far the maps are apart."""
    clf, clock = assay.Classifier(model), Clock()
    layer = GradCAM()(clf, x[:1]).layer
    theirs = LayerGradCam(model, model.get_submodule(layer))

    def captum_maps(size: int) -> Tensor:
        parts = zip(x.split(size), y.split(size), strict=True)
        return torch.cat([theirs.attribute(a, target=b)[:, 0].detach() for a, b in parts])

    copy, _ = fast_copy(clf, x)
    images = x.contiguous(memory_format=torch.channels_last)

    def bare(size: int) -> None:
        with torch.no_grad():
            for part in images.split(size):
                copy.model(part)

    for _ in range(rounds):
        ours = clock("assay", lambda: GradCAM()(clf, x, y)).raw
        for batch in BARE_BATCHES:
            clock("bare", partial(bare, batch))
        for batch in BATCHES:
            expected = clock("captum, batched", partial(captum_maps, batch))
        clock("captum, per image", lambda: captum_maps(1))
    return clock.best, apart(ours, expected)


def masks(
    model: nn.Module, x: Tensor, y: Tensor, rounds: int, *, bfloat16: bool
) -> tuple[dict[str, float], float]:
    """Return the seconds of each contender per evaluated mask, and how far occlusions are apart."""
    clf, clock = assay.Classifier(model), Clock()
    places = len(range(0, x.shape[2] - WINDOW + STRIDE, STRIDE)) ** 2
    theirs = CaptumOcclusion(model)
    occlusion, score_cam = Occlusion(window=WINDOW, stride=STRIDE, fill=0.5), ScoreCAM()
    rough = {"precision": "bfloat16"}
    half = {
        "assay, occlusion bfloat16": Occlusion(window=WINDOW, stride=STRIDE, fill=0.5, **rough),
        "assay, Score-CAM bfloat16": ScoreCAM(**rough),
    }
    channels = 0

    def count(_: nn.Module, __: Any, output: Tensor) -> None:
        nonlocal channels
        channels = output.shape[1]

    handle = model.get_submodule(score_cam(clf, x[:1]).layer).register_forward_hook(count)
    clf.query(x[:1])
    handle.remove()

    def captum_maps(images: int, windows: int) -> Tensor:
        made = [
            theirs.attribute(
                a,
                (3, WINDOW, WINDOW),
                (3, STRIDE, STRIDE),
                baselines=0.5,
                target=b,
                perturbations_per_eval=windows,
            )
            for a, b in zip(x.split(images), y.split(images), strict=True)
        ]
        return torch.cat(made)[:, 0]

    with torch.no_grad():
        for _ in range(rounds):
            ours = clock("assay, occlusion", lambda: occlusion(clf, x, y)).raw
            clock("assay, Score-CAM", lambda: score_cam(clf, x, y))
            for who, explainer in half.items() if bfloat16 else ():
                clock(who, partial(explainer, clf, x, y))
            for batch in BATCHES:
                expected = clock("captum, by images", partial(captum_maps, batch, 1))
            clock("captum, by windows", lambda: captum_maps(1, places))
            clock("captum, per image", lambda: captum_maps(1, 1))
    each = {who: len(x) * places for who in clock.best}
    each |= {who: len(x) * channels for who in each if "Score-CAM" in who}
    return {who: seconds / each[who] for who, seconds in clock.best.items()}, apart(ours, expected)


def apart(ours: Tensor, expected: Tensor) -> float:
    """Return the largest difference, as a share of the largest value of all."""
    return float((ours - expected).abs().max() / expected.abs().max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--masked", type=int, default=128, help="images that are masked")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default="", help="networks with this in their title, [7, 7] say")
    parser.add_argument("--float32", action="store_true", help="leave bfloat16 out")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    draw = torch.Generator().manual_seed(0)
    x = torch.rand(options.images, 3, 32, 32, generator=draw)
    y = torch.randint(0, 10, (options.images,), generator=draw)

    results: dict[str, Any] = {}
    for title, config in NETWORKS.items():
        if options.only not in title:
            continue
        model = config.build((3, 32, 32), 10, Stream(0)).eval()
        some = slice(0, options.masked)
        whole, differ = grad_cam(model, x, y, options.rounds)
        masked, occlusions = masks(
            model, x[some], y[some], options.rounds, bfloat16=not options.float32
        )
        results[title] = {
            "seconds_for_all_images": whole,
            "seconds_per_mask": masked,
            "grad_cam_differs_by": differ,
            "occlusion_differs_by": occlusions,
        }
        show(title, results[title], options.images)
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
    (OUT / "explain.json").write_text(json.dumps(report, indent=2) + "\n")


def show(title: str, found: dict[str, Any], images: int) -> None:
    """Print a network's times, and whether each target is met."""
    whole, masked = found["seconds_for_all_images"], found["seconds_per_mask"]
    print(f"{title}\n  Grad-CAM, maps differ by {found['grad_cam_differs_by']:.1e} of the largest")
    for who, seconds in whole.items():
        print(f"    {who:28}{images / seconds:10.0f} images/s")
    print(f"  masks, occlusions differ by {found['occlusion_differs_by']:.1e} of the largest")
    for who, seconds in masked.items():
        print(f"    {who:28}{1 / seconds:10.0f} masks/s")
    per_image = {who: seconds / images for who, seconds in whole.items()}
    ours, bare = per_image["assay"], per_image["bare"]
    targets = [
        ("Grad-CAM", ours, per_image["captum, per image"], 3.0, "captum per image"),
        ("Grad-CAM", ours, per_image["captum, batched"], 1.2, "captum batched"),
    ]
    for who in (who for who in masked if who.startswith("assay")):
        for way in ("per image", "by windows", "by images"):
            theirs = masked[f"captum, {way}"]
            what, whom = who.removeprefix("assay, "), f"captum's occlusion {way}"
            targets.append((what, masked[who], theirs, 3.0, whom))
    for what, ours, theirs, wanted, whom in targets:
        met = "met" if theirs / ours >= wanted else "NOT met"
        limit = f"bare {theirs / bare:.2f} ×"
        print(f"  {met}: {what} {theirs / ours:.2f} ×, ≥ {wanted} × {whom} ({limit})")


if __name__ == "__main__":
    main()
