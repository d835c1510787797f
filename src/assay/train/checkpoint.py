"""What a training goes on from: one file, replaced as a whole after every epoch."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch

from assay.config import canonical_json
from assay.core.random import Stream
from assay.disk import make_folder, writing
from assay.errors import AssayError
from assay.train.recipe import Recipe


def write_checkpoint(path: Path, state: dict[str, Any], recipe: Recipe, stream: Stream) -> None:
    """Write `state` so that `path` holds either the old file or the new one at every moment.

    Raises:
        AssayError: where it cannot be written (`DiskFull`, say); nothing half-written stays.
    """
    buffer = io.BytesIO()
    torch.save({"owner": _owner(recipe, stream), "state": state}, buffer)
    make_folder(path.parent)
    with writing(path) as file:
        file.write(buffer.getbuffer())


def read_checkpoint(path: Path, recipe: Recipe, stream: Stream) -> dict[str, Any]:
    """Return the state that `write_checkpoint` wrote for the same recipe and stream.

    Raises:
        AssayError: for a file that is no checkpoint, or that of another training.
    """
    try:
        found = torch.load(path, weights_only=True, map_location="cpu")
        owner, state = found["owner"], found["state"]
    except Exception as error:
        raise AssayError(f"{path} is not a checkpoint of ours; delete it to start over") from error
    if owner != _owner(recipe, stream):
        raise AssayError(
            f"{path} belongs to a training with another recipe or seed; delete it to start over"
        )
    return dict(state)


def _owner(recipe: Recipe, stream: Stream) -> str:
    settings = recipe.model_dump(mode="json", exclude_none=True)
    return f"{canonical_json(settings)} {stream.seed} {stream.path}"
