"""State dicts from files that nobody vouches for: read, never run."""

from __future__ import annotations

import pickletools
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from assay.errors import AssayError, nearest

INSIDE = ("state_dict", "model_state_dict", "model")
"""Where training scripts keep the state dict within a checkpoint."""

WRAPPERS = ("module.", "_orig_mod.")
"""What DataParallel and torch.compile put before every name."""


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the state dict in a .safetensors or torch file, on the CPU.

    A checkpoint of a training script is opened (`state_dict`, `model_state_dict` or `model`), and
    the prefix of a wrapper (`module.`, `_orig_mod.`) is taken off.

    Raises:
        AssayError: for a file that is corrupt, holds no state dict, or would run code when loaded.
    """
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise AssayError(f"{path} is not a whole safetensors file: {error}") from error
    found = _read_pickle(path)
    for key in INSIDE:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping) or not all(isinstance(v, Tensor) for v in found.values()):
        raise AssayError(
            f"{path} holds no state dict but {_described(found)}; save `model.state_dict()` alone"
        )
    state = {str(name): value for name, value in found.items()}
    for prefix in WRAPPERS:
        if state and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def load_weights(module: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Put `state` into `module`; every name and every shape must agree.

    Raises:
        AssayError: names the first missing, unexpected or misshapen weights, and the nearest names.
    """
    own = module.state_dict()
    missing = [name for name in own if name not in state]
    extra = [name for name in state if name not in own]
    if missing or extra:
        parts = []
        if missing:
            parts.append(f"lacks {_listed(missing, extra)}")
        if extra:
            parts.append(f"has {_listed(extra, missing)}, which the network does not know")
        raise AssayError(f"{path} does not fit the network: it {' and '.join(parts)}")
    for name, value in state.items():
        if value.shape != own[name].shape:
            raise AssayError(
                f"{path} does not fit the network: {name} has shape {tuple(value.shape)}, "
                f"the network's {tuple(own[name].shape)}"
            )
    module.load_state_dict(state)


def _read_pickle(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of pickle protocols, then raises anyway
            return torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:
        called = _calls(path, str(error))
        if called:
            raise AssayError(
                f"refused: {path} is a pickle that would execute code ({called}); "
                "save a state dict or safetensors"
            ) from error
        raise AssayError(
            f"{path} is corrupt, or neither safetensors nor a state dict saved by torch.save"
        ) from error


def _calls(path: Path, message: str) -> str:
    """Return the function that a pickle calls for, or "" where there is none: nothing is run."""
    named = re.search(r"GLOBAL ([\w.]+)", message)
    if named:
        return named[1]
    content = path.read_bytes()
    strings: list[str] = []
    try:
        if content.startswith(b"PK"):
            with zipfile.ZipFile(path) as archive:
                inside = next(name for name in archive.namelist() if name.endswith("data.pkl"))
                content = archive.read(inside)
        for code, argument, _ in pickletools.genops(content):
            asked = ""
            if code.name in ("GLOBAL", "INST"):
                asked = str(argument).replace(" ", ".")
            elif code.name == "STACK_GLOBAL":
                asked = ".".join(strings[-2:])
            elif isinstance(argument, str):
                strings.append(argument)
            if asked and not asked.startswith(("torch.", "collections.OrderedDict")):
                return asked
    except (ValueError, StopIteration, zipfile.BadZipFile):
        pass  # not even a pickle
    return ""


def _described(found: Any) -> str:
    if not isinstance(found, Mapping):
        return f"a {type(found).__name__}"
    keys = [str(key) for key in found]
    return f"the keys {', '.join(keys[:5])}{', …' if len(keys) > 5 else ''}"


def _listed(names: list[str], others: list[str]) -> str:
    """Return the first names, each with its nearest among `others`, and how many more there are."""
    shown = []
    for name in names[:3]:
        guess = nearest(name, others)
        shown.append(f"{name} (nearest: {guess})" if guess else name)
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(shown) + more
