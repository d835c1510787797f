"""What the processes of `accelerate launch` run in test_parallel.py: one training, together.

accelerate launch --cpu --num_processes 2 launched.py OUT EPOCHS KIND
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch import Tensor, nn

from assay.attacks.methods.pgd import PGD
from assay.core.classifier import Classifier
from assay.core.random import Rows, Stream
from assay.core.source import TensorSource
from assay.errors import AssayError
from assay.train import AdamW, Recipe
from assay.train.fit import fit


class Spare(nn.Sequential):
    """A network with a weight that nothing is computed with."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__(*layers)
        self.spare = nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self:
            x = layer(x)
        return x


def network() -> nn.Module:
    torch.manual_seed(3)
    return Spare(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.GroupNorm(2, 8),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * 36, 3),
    )


def data(seed: int, n: int) -> TensorSource:
    x = torch.rand(n, 1, 6, 6, generator=Stream(seed).torch())
    return TensorSource(x, (x[:, 0].mean((1, 2)) * 60).long().sub(28).clamp(0, 2))


def noisy(x: Tensor, rng: Rows) -> Tensor:
    return (x + 0.1 * rng.normal(tuple(x.shape[1:]))).clamp(0, 1)


def attacked(model: Classifier, x: Tensor, y: Tensor, *, rng: Rows) -> Tensor:
    del rng
    return PGD(eps=0.05, steps=2, random_start=False)(model, x, y).adversarial


def stop_half_way(done: float, note: str) -> None:
    if done >= 0.5 and note:
        raise SystemExit(7)


def train(out: Path, epochs: int, kind: str) -> None:
    """Train to `epochs`, going on from the checkpoint that is there; write curves and weights."""
    out.mkdir(parents=True, exist_ok=True)
    rank = int(os.environ.get("RANK", "0"))
    checkpoint = out / ("unseen.pt" if kind == "apart" and rank else "checkpoint.pt")
    if kind == "full":
        checkpoint = Path("/dev/full/checkpoint.pt" if rank else "/dev/full/none/checkpoint.pt")
    classifier = Classifier(network())
    more: dict[str, Any] = {
        "plain": {},
        "apart": {},
        "full": {},
        "adversarial": {"adversary": attacked},
        "stopped": {"progress": stop_half_way},
    }[kind]
    # 41 rows in batches of 8 leave a last one of a single row, which joins the one before it.
    history = fit(
        classifier,
        data(1, 41),
        data(2, 30),
        Recipe(epochs=epochs, batch_size=8, accumulate=2, optimizer=AdamW(lr=3e-3), grad_clip=1.0),
        stream=Stream(5),
        checkpoint=checkpoint,
        augment=noisy,
        **more,
    )
    torch.save(classifier.model.state_dict(), out / f"weights-{rank}.pt")
    if rank == 0:
        curves = {
            name: getattr(history, name) for name in ("train_loss", "val_loss", "val_accuracy")
        }
        curves["processes"] = [PartialState().num_processes]
        (out / "curves.json").write_text(json.dumps(curves))


if __name__ == "__main__":
    try:
        train(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
    except AssayError as error:  # caught, so that torchrun ends nobody
        Path(sys.argv[1], f"said-{os.environ['RANK']}.txt").write_text(str(error))
    if "RANK" in os.environ:
        PartialState().destroy_process_group()
        os._exit(0)  # torch 2.13's gloo threads now and then abort an interpreter that ends
