"""Training MLPs on MNIST at batch 64: assay's loop against the loops that one writes by hand.

All in one process on one thread, taking turns, so that what disturbs the machine disturbs everybody
alike; the ratios are medians over the rounds, of numbers that are next to each other in time.
Seconds are the processor's: with one thread those of the clock, less what other processes took.

- plain: the course's way. A DataLoader over a Dataset that makes a PIL image of each row, a float
  tensor of that, and normalises it, as torchvision's MNIST with ToTensor and Normalize does; then
  zero_grad, backward, Adam's step, and `loss.item()` at every step.
- tensors: the same loop over a TensorDataset of images that are normalised already.
- bare: forward, backward and fused Adam on one batch that is ready: what no loop can beat.
- assay: `fit`, with its preparations, shuffling, conversion, normalisation, counting and all.

With `--batched-seeds`, instead: ten seeds trained as one model of batched matrix products, against
ten bare trainings one after another.

    python benchmarks/mlp.py                 # about three minutes
    python benchmarks/mlp.py --batched-seeds
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data import Dataset as TorchDataset

import assay
from assay.core.random import Stream
from assay.data import load_data
from assay.data.dataset import Dataset
from assay.models.mlp import MLP
from assay.train.fit import fit
from assay.train.optimizers import optimizer
from assay.train.recipe import Adam, Constant, Recipe

OUT = Path(__file__).parent / "out"
MEAN, STD = 0.1307, 0.3081
STREAM = Stream(0)
BATCH = 64
TARGET = 3.0
SEEDS = 10

SHAPES: dict[str, tuple[int, ...]] = {
    "shallow [256,128]": (256, 128),
    "medium [512,256,128,64]": (512, 256, 128, 64),
    "deep [256,256,…,16,16]": (256, 256, 128, 128, 64, 64, 32, 32, 16, 16),
    "20x64": (64,) * 20,
}
BATCHED: dict[str, tuple[int, ...]] = {
    "10x64": (64,) * 10,
    "20x128": (128,) * 20,
    "3x512": (512,) * 3,
}

Segment = Callable[[], float]
"""Trains for so many steps, and returns the seconds of processor time it took."""


class Pictures(TorchDataset[tuple[Tensor, int]]):
    """MNIST as torchvision 0.29 gives it with ToTensor and Normalize, operation for operation.

    What it leaves out are torchvision's checks of types and shapes, in Python.
    """

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels  # uint8 (N, 28, 28), int64 (N,)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, label = self.images[index], int(self.labels[index])
        picture = Image.fromarray(image.numpy())
        levels = torch.from_numpy(np.array(picture, np.uint8, copy=True))  # ToTensor
        levels = levels.view(picture.size[1], picture.size[0], 1).permute((2, 0, 1)).contiguous()
        made = levels.to(torch.float32).div(255).clone()
        mean = torch.as_tensor((MEAN,), dtype=made.dtype, device=made.device)  # Normalize
        std = torch.as_tensor((STD,), dtype=made.dtype, device=made.device)
        if (std == 0).any():
            raise ValueError("std is zero")
        return made.sub_(mean.view(-1, 1, 1)).div_(std.view(-1, 1, 1)), label


def by_hand(widths: tuple[int, ...], loader: Iterable[tuple[Tensor, Tensor]]) -> Segment:
    model = MLP(widths=widths).build((1, 28, 28), 10, STREAM)
    adam = torch.optim.Adam(model.parameters(), lr=1e-3)

    def segment() -> float:
        start = time.process_time()
        model.train()
        total, correct = 0.0, 0
        for x, y in loader:
            adam.zero_grad()
            logits = model(x)
            loss = F.cross_entropy(logits, y)
            loss.backward()
            adam.step()
            total += loss.item() * len(y)
            correct += int((logits.argmax(1) == y).sum())
        return time.process_time() - start

    return segment


def plain(widths: tuple[int, ...], data: Dataset) -> Segment:
    pictures = Pictures(data.images[:, 0].clone(), data.labels)
    return by_hand(widths, DataLoader(pictures, batch_size=BATCH, shuffle=True, num_workers=0))


def tensors(widths: tuple[int, ...], data: Dataset) -> Segment:
    ready = TensorDataset((data.images.float() / 255 - MEAN) / STD, data.labels)
    return by_hand(widths, DataLoader(ready, batch_size=BATCH, shuffle=True, num_workers=0))


def bare(widths: tuple[int, ...], data: Dataset) -> Segment:
    model = MLP(widths=widths).build((1, 28, 28), 10, STREAM)
    adam = optimizer(recipe(), list(model.parameters()))
    x = (data.images[:BATCH].float() / 255 - MEAN) / STD
    y, steps = data.labels[:BATCH], len(data) // BATCH

    def segment() -> float:
        start = time.process_time()
        for _ in range(steps):
            F.cross_entropy(model(x), y).backward()
            adam.step()
            adam.zero_grad()
        return time.process_time() - start

    return segment


def ours(widths: tuple[int, ...], data: Dataset) -> Segment:
    model = MLP(widths=widths).build((1, 28, 28), 10, STREAM)
    classifier = assay.Classifier(model, mean=(MEAN,), std=(STD,), classes=data.classes)

    def segment() -> float:
        start = time.process_time()
        fit(classifier, data, None, recipe(), stream=STREAM)
        return time.process_time() - start

    return segment


CONTENDERS: dict[str, Callable[[tuple[int, ...], Dataset], Segment]] = {
    "plain": plain,
    "tensors": tensors,
    "bare": bare,
    "assay": ours,
}


class Together(nn.Module):
    """`SEEDS` MLPs of one shape: (SEEDS, N, 784) to logits (SEEDS, N, 10)."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        sizes = list(zip((784, *widths), (*widths, 10), strict=True))

        def start(before: int, *shape: int) -> nn.Parameter:
            return nn.Parameter((2 * torch.rand(SEEDS, *shape) - 1) / math.sqrt(before))

        self.weights = nn.ParameterList(start(before, before, after) for before, after in sizes)
        self.biases = nn.ParameterList(start(before, 1, after) for before, after in sizes)

    def forward(self, x: Tensor) -> Tensor:
        *hidden, last = zip(self.weights, self.biases, strict=True)
        for weight, bias in hidden:
            x = F.relu(torch.baddbmm(bias, x, weight))
        return torch.baddbmm(last[1], x, last[0])


def together(widths: tuple[int, ...], data: Dataset) -> Segment:
    """Return the training of all seeds at once; each has a batch of its own."""
    model = Together(widths)
    adam = optimizer(recipe(), list(model.parameters()))
    rows = SEEDS * BATCH
    x = ((data.images[:rows].float() / 255 - MEAN) / STD).view(SEEDS, BATCH, 784)
    y, steps = data.labels[:rows], len(data) // BATCH

    def segment() -> float:
        start = time.process_time()
        for _ in range(steps):
            loss = F.cross_entropy(model(x).flatten(0, 1), y, reduction="sum") / BATCH
            loss.backward()
            adam.step()
            adam.zero_grad()
        return time.process_time() - start

    return segment


def recipe() -> Recipe:
    return Recipe(epochs=1, batch_size=BATCH, optimizer=Adam(lr=1e-3), schedule=Constant())


def rounds(contenders: dict[str, Segment], steps: int, count: int) -> dict[str, list[float]]:
    """Return steps per second by contender and round; a round before the first warms up."""
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(count + 1):
        for name, segment in contenders.items():
            rate = steps / segment()
            if turn:
                rates[name].append(rate)
    return rates


def ratio(rates: list[float], against: list[float]) -> dict[str, float]:
    """Return the median ratio over the rounds, and the smallest and largest."""
    found = [one / other for one, other in zip(rates, against, strict=True)]
    return {"median": statistics.median(found), "low": min(found), "high": max(found)}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return steps per second by shape and contender, and the ratios to target."""
    data = load_data("mnist", split="train").sample(options.steps * BATCH)
    shapes = {}
    for shape, widths in SHAPES.items():
        made = {name: make(widths, data) for name, make in CONTENDERS.items()}
        rates = rounds(made, options.steps, options.rounds)
        shapes[shape] = {
            "steps_per_second": {name: statistics.median(found) for name, found in rates.items()},
            "rounds": rates,
            "assay_of": {
                name: ratio(rates["assay"], rates[name]) for name in rates if name != "assay"
            },
        }
    return {
        "what": f"MLPs on MNIST, batch {BATCH}, Adam, one thread",
        **circumstances(options),
        "shapes": shapes,
        "targets": {
            f"{shape}: assay ≥ {TARGET:g} × plain: {found['assay_of']['plain']['median']:.2f}": (
                found["assay_of"]["plain"]["median"] >= TARGET
            )
            for shape, found in shapes.items()
        },
    }


def measure_seeds(options: argparse.Namespace) -> dict[str, Any]:
    """Return seconds per seed by shape, one by one and together, and how much faster that is."""
    data = load_data("mnist", split="train").sample(max(options.steps, SEEDS) * BATCH)
    shapes = {}
    for shape, widths in BATCHED.items():
        made = {"alone": bare(widths, data), "together": together(widths, data)}
        rates = rounds(made, len(data) // BATCH, options.rounds)
        rates["together"] = [SEEDS * rate for rate in rates["together"]]
        shapes[shape] = {
            "seconds_per_seed": {name: 200 / statistics.median(r) for name, r in rates.items()},
            "faster": ratio(rates["together"], rates["alone"]),
        }
    what = f"{SEEDS} seeds as one model on MNIST, batch {BATCH}, Adam, one thread"
    return {"what": what, **circumstances(options), "shapes": shapes}


def circumstances(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "steps_per_round": options.steps,
        "rounds": options.rounds,
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "capability": torch.backends.cpu.get_cpu_capability(),
            "python": platform.python_version(),
            "torch": torch.__version__,
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--steps", type=int, default=200, help="steps of each contender per round")
    parser.add_argument("--batched-seeds", action="store_true", help="ten seeds as one model")
    options = parser.parse_args()
    torch.set_num_threads(1)
    report = (measure_seeds if options.batched_seeds else measure)(options)
    name = "mlp_seeds.json" if options.batched_seeds else "mlp.json"
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / name).write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    print(f"{report['what']}, {report['rounds']} rounds of {report['steps_per_round']} steps")
    (show_seeds if options.batched_seeds else show)(report)


def show(report: dict[str, Any]) -> None:
    print(f"{'steps/s':26s}" + "".join(f"{name:>9s}" for name in CONTENDERS), end="")
    print(f"{'× plain':>9s}{'(range)':>15s}{'× tensors':>11s}{'of bare':>9s}")
    for shape, found in report["shapes"].items():
        against = found["assay_of"]
        spread = f"({against['plain']['low']:.2f}–{against['plain']['high']:.2f})"
        print(
            f"{shape:26s}" + "".join(f"{r:9.0f}" for r in found["steps_per_second"].values()),
            end="",
        )
        print(f"{against['plain']['median']:9.2f}{spread:>15s}", end="")
        print(f"{against['tensors']['median']:11.2f}{against['bare']['median']:9.3f}")
    for target, met in report["targets"].items():
        print(f"{'met   ' if met else 'MISSED'}  {target}")


def show_seeds(report: dict[str, Any]) -> None:
    print("seconds per seed for 200 steps   alone  together  times as fast        (range)")
    for shape, found in report["shapes"].items():
        alone, both = found["seconds_per_seed"].values()
        faster = found["faster"]
        spread = f"({faster['low']:.2f}–{faster['high']:.2f})"
        print(f"{shape:31s}{alone:7.3f}{both:10.3f}{faster['median']:15.2f}{spread:>15s}")


if __name__ == "__main__":
    main()
