"""How long the training of a network will take on this machine."""

from __future__ import annotations

import math
import time

import torch

from assay.core.classifier import Classifier
from assay.core.random import Stream
from assay.tasks.adversaries import against
from assay.tasks.train import TrainNetwork, split
from assay.train.losses import Given, objective
from assay.train.precision import computing, precise


def expected_seconds(config: TrainNetwork, device: str, probe_steps: int = 3) -> float:
    """Return how long the trial will take here, from a few measured steps on random images.

    On a CPU the processor's time is measured, and shared among the threads: what else runs on
    the same cores changes nothing. What is left out (reading data, the tests after each epoch) is
    a few percent of a long trial.
    """
    data = split(config, "train")
    recipe = config.recipe
    on_cpu = torch.device(device).type == "cpu"
    clock = time.process_time if on_cpu else time.perf_counter
    with computing(recipe.threads):
        model = config.network.build(data.shape, len(data.classes), Stream(0).child("probe"))
        model = model.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        rows = min(recipe.batch_size, len(data))
        x = torch.rand(rows, *data.shape).to(device, memory_format=torch.channels_last)
        y = torch.zeros(rows, dtype=torch.int64, device=device)
        classifier = Classifier(model, mean=data.mean, std=data.std, classes=data.classes)
        attacked = against(config.moves, recipe)
        draws, falls = Stream(0).rows(range(rows)).to(device), objective(recipe, classifier)

        def forward(images: torch.Tensor) -> torch.Tensor:
            with precise(recipe.precision, torch.device(device)):
                logits: torch.Tensor = model(images)
            return logits.float()

        least = math.inf
        for _ in range(probe_steps):
            start = clock()
            if attacked is not None:
                with classifier.borrowed():
                    attacked(classifier, x, y, rng=draws)
            loss, _ = falls(forward, Given(x, x, y, 0.9))
            torch.autograd.backward(loss)
            loss.item()  # waits for the device
            least = min(least, clock() - start)
    step = least / recipe.threads if on_cpu else least
    return step * math.ceil(len(data) / rows) * recipe.epochs * 1.1
