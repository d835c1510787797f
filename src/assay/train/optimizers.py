"""torch's optimizers, made from a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from assay.train.recipe import SGD, Adam, Recipe


def optimizer(
    recipe: Recipe, parameters: list[nn.Parameter], biases: Sequence[nn.Parameter] = ()
) -> torch.optim.Optimizer:
    """Return torch's optimizer of the recipe, in its fused form: one call per step.

    Args:
        recipe: its `optimizer` is what is wanted.
        parameters: all that is trained.
        biases: those of them that are biases of norms, which may have a rate of their own.
    """
    chosen = recipe.optimizer
    lr, decay = chosen.lr, chosen.weight_decay
    if isinstance(chosen, SGD):
        groups: list[dict[str, Any]] = [{"params": parameters}]
        if chosen.norm_bias_lr is not None and biases:
            faster, apart = chosen.norm_bias_lr, {id(bias) for bias in biases}
            groups = [
                {"params": [p for p in parameters if id(p) not in apart]},
                {
                    "params": list(biases),
                    "faster": faster,
                    "lr": lr * faster,
                    "weight_decay": decay / faster,  # a step decays by their product
                },
            ]
        return torch.optim.SGD(
            groups,
            lr=lr,
            momentum=chosen.momentum,
            nesterov=chosen.nesterov,
            weight_decay=decay,
            fused=True,
        )
    adam = torch.optim.Adam if isinstance(chosen, Adam) else torch.optim.AdamW
    return adam(parameters, lr=lr, weight_decay=decay, fused=True)


def norm_biases(model: nn.Module) -> list[nn.Parameter]:
    """Return the trained biases of the batch and layer norms of a model."""
    norms = (nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm)
    biases = [module.bias for module in model.modules() if isinstance(module, norms)]
    return [bias for bias in biases if bias is not None and bias.requires_grad]
