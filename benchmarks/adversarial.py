"""A step of adversarial training against the gradient passes that it consists of.

The network and the recipe are those of `assay train --recipe robust`, on random images. Bare is k
times forward and backward by the image in eval mode, then forward and backward by the weights, on
a batch that is ready and normalised, with autocast in bfloat16; `bare on copy` takes the k on the
fast copy of the network, where the attack takes them. All take turns in one process; the ratios are
medians over rounds of processor time, so that other work on the machine counts little.

    python benchmarks/adversarial.py --precision bfloat16
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn import functional as F

import assay
from assay.attacks import PGD
from assay.attacks.losses import cross_entropy
from assay.core.fast import FastCopy, fast_copy, renewed
from assay.core.oracle import gradient
from assay.core.random import Stream
from assay.data.dataset import in_memory
from assay.tasks.adversaries import against
from assay.tasks.train import TrainNetwork
from assay.train.fit import fit
from assay.train.named import NAMED
from assay.train.precision import precise

OUT = Path(__file__).parent / "out"
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
BATCHES = 2


def measure(precision: str, rounds: int) -> dict[str, float]:
    """Return the median milliseconds of each part of a step, and its ratio to the bare passes."""
    made = TrainNetwork.parse(NAMED["robust"])
    recipe = made.recipe.model_copy(update={"precision": precision, "epochs": 1, "ema": None})
    config = made.model_copy(update={"recipe": recipe})
    attack, attacked = made.adversary, against(config.moves, config.recipe)
    assert isinstance(attack, PGD)
    size = recipe.batch_size
    model = made.network.build((3, 32, 32), 10, Stream(0)).to(memory_format=torch.channels_last)
    clf = assay.Classifier(model, mean=MEAN, std=STD, classes=[str(k) for k in range(10)])
    images = torch.randint(0, 256, (BATCHES * size, 3, 32, 32), dtype=torch.uint8)
    labels = torch.randint(0, 10, (BATCHES * size,))
    data = in_memory("noise", "train", clf.classes, images, labels)
    x = (images[:size] / 255).contiguous(memory_format=torch.channels_last)
    ready, y, draws = clf.normalise(x), labels[:size], Stream(1).rows(range(size))
    with clf.borrowed():
        fast, _ = fast_copy(clf, x, "bfloat16" if precision == "bfloat16" else "float32")
    assert isinstance(fast, FastCopy)

    def by_image() -> None:
        with clf.borrowed(), precise(precision, clf.device):
            values = ready.detach().requires_grad_(True)
            loss = F.cross_entropy(model(values).float(), y)
            torch.autograd.grad(loss, values)

    def by_copy() -> None:
        gradient(fast, x, y, cross_entropy)

    def by_weights() -> None:
        model.train()
        with precise(precision, clf.device):
            loss = F.cross_entropy(model(ready).float(), y)
        loss.backward()
        model.zero_grad()

    def renew() -> None:
        renewed(fast, x)

    def perturb() -> None:
        attack.perturb(fast, x, y, threat=attack.threat, loss=attack.objective(False), rng=draws)

    def step() -> None:
        fit(clf, data, None, recipe, stream=Stream(2), adversary=attacked)

    parts: dict[str, tuple[Callable[[], None], int]] = {
        "by_image": (by_image, 1),
        "by_copy": (by_copy, 1),
        "by_weights": (by_weights, 1),
        "renew": (renew, 1),
        "perturb": (perturb, 1),
        "step": (step, BATCHES),
    }
    seconds: dict[str, list[float]] = {name: [] for name in parts}
    for turn in range(rounds + 1):
        for name, (part, steps) in parts.items():
            start = time.process_time()
            part()
            if turn:  # the first turn only warms up
                seconds[name].append((time.process_time() - start) / steps)
    for bare, one in (("bare", "by_image"), ("bare on copy", "by_copy")):
        passes = zip(seconds[one], seconds["by_weights"], strict=True)
        seconds[bare] = [attack.steps * image + weights for image, weights in passes]
    found = {name: 1e3 * statistics.median(each) for name, each in seconds.items()}
    for bare in ("bare", "bare on copy"):
        ratios = [a / b for a, b in zip(seconds["step"], seconds[bare], strict=True)]
        found[f"step of {bare}"] = statistics.median(ratios)
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = measure(options.precision, options.rounds)
    for name, value in found.items():
        print(f"{name:22s} {value:8.2f}{'' if name.startswith('step of') else ' ms'}")
    OUT.mkdir(exist_ok=True)
    kept = OUT / f"adversarial-{options.precision}.json"
    kept.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
