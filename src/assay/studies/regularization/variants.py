"""The variants that the study of regularization compares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from assay.tasks.train import TrainNetwork

NONE = "none"
ARCHITECTURE = ("dropout", "norm")
"""The kinds that change the architecture."""


@dataclass(frozen=True)
class Variant:
    """One change to the training without regularization.

    Attributes:
        name: what its cell is called.
        kind: what it changes; two of one kind cannot be combined.
        network, recipe, training: settings of the MLP, the recipe and the training that differ.
    """

    name: str
    kind: str
    network: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)

    def of(self, plain: TrainNetwork) -> TrainNetwork:
        """Return the training with this change."""
        return plain.model_copy(
            update={
                "network": plain.network.model_copy(update=self.network),
                "recipe": plain.recipe.model_copy(update=self.recipe),
                **self.training,
            }
        )


def dropout_name(p: float) -> str:
    """Return what the variant with this dropout is called."""
    return f"dropout {p:g}"


def together(pair: tuple[Variant, Variant]) -> str:
    """Return what two variants at once are called."""
    return f"{pair[0].name} + {pair[1].name}"
