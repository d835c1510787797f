"""Training the paper's [7,7] CNN: assay's loop against a plain PyTorch loop and the bare steps.

All in one process, taking turns, so that what disturbs the machine disturbs everybody alike; the
ratios are medians over the rounds, of numbers that are next to each other in time.

- plain: what one writes by hand. A DataLoader over a Dataset that turns one image at a time from
  uint8 (H, W, C) into a normalised float tensor; contiguous float32; zero_grad, backward, step.
- bare: forward, backward and step on one batch that is ready, in the format that assay trains in.
- assay: `fit`, with shuffling, conversion, normalisation, counting and all.

    python benchmarks/training.py                 # about a minute on one thread
    python benchmarks/training.py --threads 2 --rounds 12
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

import assay
from assay.core.random import Stream
from assay.data.dataset import in_memory
from assay.models.cnn import CNN
from assay.train.fit import fit
from assay.train.optimizers import optimizer
from assay.train.precision import FORMATS, precise
from assay.train.recipe import Adam, Constant, Recipe
from assay.train.resolve import resolve

OUT = Path(__file__).parent / "out"
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
STREAM = Stream(0)
PLAIN_TARGET, BARE_TARGET = 1.25, 0.95

Segment = Callable[[], float]
"""Trains on so many images, and returns the seconds it took."""


class Images(Dataset[tuple[Tensor, int]]):
    """uint8 images (H, W, C), made into normalised tensors one at a time."""

    def __init__(self, images: np.ndarray[Any, Any], labels: list[int]) -> None:
        self.images, self.labels = images, labels
        self.mean = torch.tensor(MEAN).view(3, 1, 1)
        self.std = torch.tensor(STD).view(3, 1, 1)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = torch.from_numpy(self.images[index]).permute(2, 0, 1).contiguous()
        return (image.float().div(255) - self.mean) / self.std, self.labels[index]


def plain(config: CNN, images: Tensor, labels: Tensor, batch: int) -> Segment:
    model = config.build((3, 32, 32), 10, STREAM)
    adam = torch.optim.Adam(model.parameters(), lr=1e-3)
    dataset = Images(images.permute(0, 2, 3, 1).contiguous().numpy(), labels.tolist())
    loader = DataLoader(dataset, batch_size=batch, shuffle=True)

    def segment() -> float:
        start = time.perf_counter()
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
        return time.perf_counter() - start

    return segment


def bare(config: CNN, recipe: Recipe, images: Tensor, labels: Tensor) -> Segment:
    layout = FORMATS[recipe.memory_format]
    model = config.build((3, 32, 32), 10, STREAM).to(memory_format=layout)
    adam = optimizer(recipe, list(model.parameters()))
    size = recipe.batch_size
    x = (images[:size].float() / 255).contiguous(memory_format=layout)
    y, steps = labels[:size], len(images) // size

    def segment() -> float:
        start = time.perf_counter()
        for _ in range(steps):
            with precise(recipe.precision, x.device):
                logits = model(x).float()
            F.cross_entropy(logits, y).backward()
            adam.step()
            adam.zero_grad()
        return time.perf_counter() - start

    return segment


def ours(config: CNN, recipe: Recipe, images: Tensor, labels: Tensor) -> Segment:
    classifier = assay.Classifier(config.build((3, 32, 32), 10, STREAM), mean=MEAN, std=STD)
    source = in_memory("noise", "train", [str(k) for k in range(10)], images, labels)

    def segment() -> float:
        history = fit(classifier, source, None, recipe, stream=STREAM)
        return sum(history.seconds)

    return segment


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return images per second by contender and round, and the ratios to target."""
    config = CNN(depths=(7, 7), skip=not options.no_skip)
    count = options.steps * options.batch
    generator = STREAM.child("data").torch()
    images = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 10, (count,), generator=generator)
    shared = {"epochs": 1, "batch_size": options.batch, "threads": options.threads}
    exact = Recipe(**shared, optimizer=Adam(lr=1e-3), schedule=Constant())
    auto = exact.model_copy(update={"precision": "auto", "memory_format": "auto"})
    batch = (images[: options.batch].float() / 255, labels[: options.batch])
    chosen = resolve(auto, config.build((3, 32, 32), 10, STREAM), batch)
    contenders: dict[str, Segment] = {
        "plain": plain(config, images, labels, options.batch),
        "bare float32": bare(config, exact, images, labels),
        "assay float32": ours(config, exact, images, labels),
    }
    if chosen != exact:
        contenders["bare auto"] = bare(config, chosen, images, labels)
        contenders["assay auto"] = ours(config, chosen, images, labels)
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(options.rounds + 1):
        for name, segment in contenders.items():
            rate = count / segment()
            if turn:  # the first turn only warms up
                rates[name].append(rate)
    table = {
        name: {
            "images_per_second": statistics.median(values),
            "rounds": values,
            "of_plain": ratio(values, rates["plain"]),
            "of_bare": ratio(values, rates.get(name.replace("assay", "bare"), values)),
        }
        for name, values in rates.items()
    }
    return {
        "what": f"CNN [7,7] {'plain' if options.no_skip else 'skip'}, {parameters(config)} "
        f"parameters, 3×32×32 images, batch {options.batch}, Adam",
        "threads": options.threads,
        "steps_per_round": options.steps,
        "rounds": options.rounds,
        "auto": {"precision": chosen.precision, "memory_format": chosen.memory_format},
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "capability": torch.backends.cpu.get_cpu_capability(),
            "python": platform.python_version(),
            "torch": torch.__version__,
        },
        "contenders": table,
        "targets": judged(table),
    }


def ratio(rates: list[float], against: list[float]) -> dict[str, float]:
    """Return the median ratio over the rounds, and the smallest and largest."""
    found = [one / other for one, other in zip(rates, against, strict=True)]
    return {"median": statistics.median(found), "low": min(found), "high": max(found)}


def judged(table: dict[str, Any]) -> dict[str, bool]:
    """Return each target and whether it was met."""
    verdicts = {}
    for name, entry in table.items():
        if name.startswith("assay"):
            times, share = entry["of_plain"]["median"], entry["of_bare"]["median"]
            verdicts[f"{name} ≥ {PLAIN_TARGET} × plain: {times:.2f}"] = times >= PLAIN_TARGET
            verdicts[f"{name} ≥ {BARE_TARGET} of bare: {share:.3f}"] = share >= BARE_TARGET
    return verdicts


def parameters(config: CNN) -> int:
    return sum(p.numel() for p in config.build((3, 32, 32), 10, STREAM).parameters())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--steps", type=int, default=3, help="steps of each contender per round")
    parser.add_argument("--no-skip", action="store_true", help="the plain network")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    report = measure(options)
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "training.json").write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    show(report)


def show(report: dict[str, Any]) -> None:
    chosen = report["auto"]
    print(f"{report['what']}, {report['threads']} threads, {report['rounds']} rounds")
    print(f"auto here: {chosen['precision']}, {chosen['memory_format']}")
    print(
        f"{'':16s}{'images/s':>10s}{'× plain':>9s}{'(range)':>15s}{'of bare':>9s}{'(range)':>15s}"
    )
    for name, entry in report["contenders"].items():
        line = f"{name:16s}{entry['images_per_second']:10.1f}"
        for against in ("of_plain", "of_bare"):
            found = entry[against]
            if against == "of_plain" or name.startswith("assay"):
                spread = f"({found['low']:.2f}–{found['high']:.2f})"
                line += f"{found['median']:9.3f}{spread:>15s}"
        print(line)
    for target, met in report["targets"].items():
        print(f"{'met   ' if met else 'MISSED'}  {target}")


if __name__ == "__main__":
    main()
