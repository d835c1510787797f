"""What `auto` means on this machine: measured, briefly, before a trial has its address."""

from __future__ import annotations

import copy
import time
from itertools import product
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.train.precision import FORMATS, computing, precise
from assay.train.recipe import Recipe

MARGIN = 0.9
"""A change from float32 or contiguous must take at most this share of the time: what is chosen is
part of an address, and noise should not decide it."""

ROUNDS = 4


def resolve(recipe: Recipe, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Recipe:
    """Return the recipe with `auto` replaced by what trains `model` fastest here.

    Args:
        recipe: what to resolve; without an `auto` it is returned as it is.
        model: the network, on its device; copies of it are measured, it stays as it is.
        batch: x float32 (N, C, H, W), y int64 (N,), of the size that will be trained on.
    """
    precisions = ["float32", "bfloat16"] if recipe.precision == "auto" else [recipe.precision]
    formats = ["contiguous", "channels_last"]
    if recipe.memory_format != "auto":
        formats = [recipe.memory_format]
    options = [
        recipe.model_copy(update={"precision": precision, "memory_format": layout})
        for precision, layout in product(precisions, formats)
    ]
    if len(options) == 1:
        return options[0]
    with computing(recipe.threads):
        seconds = _measure(options, model, batch)
    best, least = options[0], seconds[0]
    for option, taken in zip(options[1:], seconds[1:], strict=True):
        if taken < MARGIN * least:
            best, least = option, taken
    return best


def _measure(options: list[Recipe], model: nn.Module, batch: tuple[Tensor, Tensor]) -> list[float]:
    """Return the least seconds of a forward and backward pass for each option, in turns."""
    device = next(model.parameters()).device
    copies: list[nn.Module] = []
    inputs: list[Tensor] = []
    for option in options:
        layout = FORMATS[option.memory_format]
        made = cast(nn.Module, copy.deepcopy(model).train().to(memory_format=layout))  # type: ignore[call-overload]
        copies.append(made)
        inputs.append(batch[0].to(device, memory_format=layout))
    y = batch[1].to(device)
    least = [float("inf")] * len(options)
    for turn in range(ROUNDS + 1):
        for k, option in enumerate(options):
            _wait(device)
            start = time.perf_counter()
            with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
                with precise(option.precision, device):
                    loss = F.cross_entropy(copies[k](inputs[k]).float(), y)
                torch.autograd.backward(loss)
            copies[k].zero_grad(set_to_none=True)
            _wait(device)
            if turn:  # the first turn only warms up
                least[k] = min(least[k], time.perf_counter() - start)
    return least


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
