"""The two networks that attacks are compared on: a natural one, and one trained against PGD.

Both have the architecture, the recipe and the seed of `assay train --recipe robust`; the natural
one has no adversary. They are trained on CIFAR-10 (looked for in $ASSAY_DATA) when they are first
asked for, in float32 and with one thread, and kept in benchmarks/out/ by their settings: delete
the file there to train again.

    python benchmarks/nets.py        # trains what is missing, and says how robust each is
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import torch
from torch import Tensor, nn

import assay
from assay.attacks import PGD
from assay.config import digest
from assay.data import load_data
from assay.disk import write_atomic
from assay.models.loading import load_model
from assay.runs.engine import execute
from assay.runs.store import Store
from assay.tasks.train import TrainNetwork
from assay.train.named import NAMED

OUT = Path(__file__).parent / "out"
DATA = str(Path(os.environ.get("ASSAY_DATA", "data")) / "cifar10")
SEED, IMAGES, STEPS, GREYS = 0, 1000, 20, (1, 2, 4, 8)


def natural() -> assay.Classifier:
    """Return the network that was trained on the images as they are; trains it if need be."""
    return classifier("natural")


def robust() -> assay.Classifier:
    """Return the network that was trained against PGD-7 at 8/255; trains it if need be."""
    return classifier("robust")


def config(kind: str) -> TrainNetwork:
    """Return how the `natural` or the `robust` network is trained."""
    made = TrainNetwork.parse(NAMED["robust"])
    plain = {"precision": "float32", "threads": 1, "ema": None}
    recipe = made.recipe.model_copy(update=plain)
    adversary = {"natural": None, "robust": made.adversary}[kind]
    return made.model_copy(update={"data": DATA, "recipe": recipe, "adversary": adversary})


def kept(kind: str) -> Path:
    """Return where the trained network is, or will be."""
    settings = config(kind).model_dump(mode="json", exclude={"data"}, exclude_none=True)
    return OUT / f"{kind}-{digest([settings, SEED])[:12]}.safetensors"


def classifier(kind: str) -> assay.Classifier:
    """Return the network, in eval mode on the CPU.

    Raises:
        AssayError: for data that is not there, or a training that failed.
    """
    path = kept(kind)
    if not path.exists():
        trial = config(kind).trial(SEED, "cpu", kind)
        result = execute([trial], Store(OUT / "nets"), rerun_failed=True).need(trial)
        path.parent.mkdir(exist_ok=True)
        write_atomic(path, result.path("model.safetensors").read_bytes())
    return load_model(path)


class Normalised(nn.Module):
    """What peers are given: the network of a classifier, with its normalisation in front."""

    def __init__(self, clf: assay.Classifier) -> None:
        super().__init__()
        self.model, self.classifier = clf.model, clf

    def forward(self, x: Tensor) -> Tensor:
        return self.model(self.classifier.normalise(x))


def main() -> None:
    torch.set_num_threads(1)
    x, y = load_data(DATA, split="test").take(IMAGES)
    for kind in ("natural", "robust"):
        clf = classifier(kind)
        print(f"{kind}: {float((clf.predict(x) == y).float().mean()):.1%} of {IMAGES} test images")
        for grey in GREYS:
            start = time.perf_counter()
            stood = PGD(eps=grey / 255, steps=STEPS)(clf, x, y, stop="fooled").robust_accuracy
            took = time.perf_counter() - start
            print(f"  PGD-{STEPS} at {grey}/255: {stood.percent()}, {took:.0f} s", flush=True)


if __name__ == "__main__":
    main()
