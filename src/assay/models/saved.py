"""Files of ours: the weights of a network, and beside them all that is needed to use them."""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from assay.config import Config
from assay.core.random import Stream
from assay.disk import existing, make_folder, write_atomic
from assay.errors import AssayError

TEXTS = "assay-text"
"""The key of text classifiers (`models.textnet`)."""
KEY = "assay"
"""The one key of our metadata: a safetensors file keeps several in no fixed order."""


class Saved(Config):
    """What is beside the weights in a file of ours."""

    schema_version: Literal[1] = 1
    """Version of this record."""
    config: dict[str, Any]
    """The network's config."""
    in_shape: tuple[int, int, int]
    """Channels, height and width of an input."""
    classes: tuple[str, ...]
    """Names of the outputs, in their order."""
    mean: tuple[float, ...] | None = None
    """Mean of each channel in [0, 1], taken off before the network; None: nothing is."""
    std: tuple[float, ...] | None = None
    """Standard deviation of each channel, divided by before the network; None: nothing is."""
    versions: dict[str, str] = Field(default_factory=dict)
    """Versions of assay and torch that wrote it."""


def save_model(
    path: Path | str,
    module: nn.Module,
    config: Config,
    *,
    in_shape: tuple[int, int, int],
    classes: Sequence[str],
    mean: Sequence[float] | Tensor | None = None,
    std: Sequence[float] | Tensor | None = None,
) -> None:
    """Write weights and all that is needed to use them; equal contents give equal bytes.

    The file appears whole or not at all.

    Args:
        path: where to write, by custom "….safetensors".
        module: the network that `config` built.
        config: its config, one of `assay.models.Network`.
        in_shape: channels, height and width of an input.
        classes: names of the outputs.
        mean, std: the preprocessing, as a `Classifier` has it.

    Raises:
        AssayError: where it cannot be written.
    """
    path = Path(path)
    about = Saved(
        config=config.model_dump(mode="json"),
        in_shape=in_shape,
        classes=tuple(classes),
        mean=None if mean is None else tuple(float(value) for value in mean),
        std=None if std is None else tuple(float(value) for value in std),
        versions={name: importlib.metadata.version(name) for name in ("assay", "torch")},
    )
    tensors = {
        name: value.detach().cpu().contiguous().clone()
        for name, value in module.state_dict().items()
    }
    content = save(tensors, metadata={KEY: about.canonical()})
    make_folder(path.parent)
    write_atomic(path, content)


def saved(path: Path | str) -> Saved:
    """Return what is beside the weights in a file of ours; the weights are not read.

    Raises:
        AssayError: for a file that is missing, corrupt, or not ours.
    """
    path = existing(Path(path))
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise AssayError(f"{path} is not a whole safetensors file: {error}") from error
    if TEXTS in metadata:
        raise AssayError(
            f"{path} is a classifier of texts, and this takes one of images: assay audit and, in "
            "Python, assay.load_text take it"
        )
    if KEY not in metadata:
        raise AssayError(
            f"{path} was not made by assay, so the network it belongs to is not known: name the "
            f"code that makes it, `file.py:factory --weights {path}`"
        )
    try:
        return Saved.model_validate_json(metadata[KEY])
    except ValidationError as error:
        raise AssayError(
            f"{path} was made by another version of assay, which this one cannot read"
        ) from error


def built(found: Saved, path: Path) -> nn.Module:
    """Return the network of a file of ours, its weights still random."""
    from assay.models import Network

    try:
        config: Any = TypeAdapter(Network).validate_python(found.config)
    except ValidationError as error:
        raise AssayError(
            f"{path} holds a network {found.config.get('name')!r} that is not known here, or whose "
            "settings have changed; install the package or the version of assay that made it"
        ) from error
    _weights_suffice(config, found, path)
    made: nn.Module = config.build(found.in_shape, len(found.classes), Stream(0))
    return made


def _weights_suffice(config: Any, found: Saved, path: Path) -> None:
    """Refuse a file whose settings ask for a larger network than it has weights for, before any
    memory is taken for it."""
    with safe_open(path, "pt") as file:
        held = sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
    asked = max(_numbers(found.config), default=0)
    if asked <= held:
        try:
            with torch.device("meta"):  # shapes alone
                plan: nn.Module = config.build(found.in_shape, len(found.classes), Stream(0))
        except Exception:  # a package's network that cannot be made so
            return
        asked = sum(value.numel() for value in plan.state_dict().values())
    if asked > held:
        raise AssayError(
            f"{path} does not fit its own settings: they make a network of {asked:,} values or "
            f"more, and it holds {held:,}"
        )


def _numbers(settings: Any) -> Iterator[int]:
    """Yield every integer in a network's settings: a width or a depth that is more than all of its
    weights is none."""
    if isinstance(settings, Mapping):
        settings = list(settings.values())
    if isinstance(settings, list | tuple):
        for value in settings:
            yield from _numbers(value)
    elif isinstance(settings, int):
        yield settings
