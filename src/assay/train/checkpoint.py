"""What a training goes on from: one file, replaced as a whole after every epoch."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from assay.config import digest
from assay.core.classifier import described
from assay.core.random import Stream
from assay.core.source import Source
from assay.disk import make_folder, writing
from assay.errors import AssayError
from assay.train.recipe import Recipe


def write_checkpoint(path: Path, state: dict[str, Any], owner: str) -> None:
    """Write the state of `owner`, so that `path` holds the old file or the new one at every moment.

    Raises:
        AssayError: where it cannot be written (`DiskFull`, say); nothing half-written stays.
    """
    buffer = io.BytesIO()
    torch.save({"owner": owner, "state": state}, buffer)
    make_folder(path.parent)
    with writing(path) as file:
        file.write(buffer.getbuffer())


def read_checkpoint(path: Path, owner: str) -> dict[str, Any]:
    """Return the state that `write_checkpoint` wrote for the same owner.

    Raises:
        AssayError: for a file that is no checkpoint, or that of another training.
    """
    try:
        found = torch.load(path, weights_only=True, map_location="cpu")
        whose, state = found["owner"], found["state"]
    except Exception as error:
        raise AssayError(f"{path} is not a checkpoint of ours; delete it to start over") from error
    if whose != owner:
        raise AssayError(
            f"{path} belongs to a training with another recipe, seed, network or data, or against "
            "another attack; delete it to start over"
        )
    return dict(state)


def owner_of(
    model: nn.Module,
    train: Source,
    recipe: Recipe,
    stream: Stream,
    *changes: Callable[..., Any] | None,
) -> str:
    """Return what a training is told from others by: its settings and seed, what its examples are,
    the names and shapes of the weights, and what changes the images (augmentation, attack)."""
    settings = recipe.model_dump(mode="json", exclude_none=True)
    shapes = {name: list(getattr(value, "shape", ())) for name, value in model.state_dict().items()}
    found = [settings, stream.seed, stream.path, train.fingerprint, shapes]
    return digest([*found, *(described(change) for change in changes)])
