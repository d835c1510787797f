"""State dicts from files that nobody vouches for: read, never run."""

from __future__ import annotations

import io
import pickletools
import re
import shlex
import warnings
import zipfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from assay.disk import BROKEN_ZIP
from assay.errors import AssayError, nearest, told
from assay.models.formats import is_zip, not_yet

INSIDE = (
    "state_dict",
    "model_state_dict",
    "model",
    "net",
    "state_dict_ema",
    "model_ema",
    "ema_state_dict",
    "ema",
)
"""Where training scripts keep the state dict within a checkpoint; the first that is there is taken,
means over training (EMA) last."""

WRAPPERS = ("module.", "_orig_mod.", "model.", "net.")
"""What DataParallel, torch.compile and training scripts put before every name."""

DEEPEST = 8
"""Mappings in one another that are opened: one that holds itself has no end."""

PACKED = 10
"""How many times its size a torch file may unpack to; torch.save compresses nothing."""


SYSTEM = {
    *("builtins", "ctypes", "importlib", "nt", "os", "posix", "pty", "runpy"),
    *("shutil", "socket", "subprocess", "sys"),
}
"""Modules of which no checkpoint has need: of a file that calls them nobody is told to load it."""


@dataclass(frozen=True)
class Weights:
    """A state dict out of a file.

    Attributes:
        state: tensors on the CPU, by name.
        taken: which part of the file it is, and which others there are; "" where it is all of it.
    """

    state: dict[str, Tensor]
    taken: str = ""


def read_weights(path: Path) -> Weights:
    """Return the state dict in a .safetensors or torch file.

    A checkpoint of a training script is opened (see `INSIDE`).

    Raises:
        AssayError: for a file that is corrupt, holds no state dict, unpacks to far more than it is,
            or would run code when loaded.
    """
    if path.suffix == ".safetensors":
        try:
            return Weights(load_file(path))
        except SafetensorError as error:
            raise AssayError(f"{path} is not a whole safetensors file: {error}") from error
    _refuse_bomb(path)
    if said := not_yet(path):
        raise AssayError(said)
    found = _read_pickle(path)
    opened: list[str] = []
    others: list[str] = []
    while isinstance(found, Mapping) and len(opened) < DEEPEST:
        held = [key for key in INSIDE if isinstance(found.get(key), Mapping)]
        if not held:
            break
        opened.append(held[0])
        others += held[1:]
        found = found[held[0]]
    if not isinstance(found, Mapping) or not all(isinstance(v, Tensor) for v in found.values()):
        raise AssayError(
            f"{path} holds no state dict but {_described(found)}; save `model.state_dict()` alone"
        )
    left = f" (left: {', '.join(others)})" if others else ""
    taken = f"weights are {'.'.join(opened)} of {path.name}{left}" if opened else ""
    return Weights({str(name): value for name, value in found.items()}, taken)


def _refuse_bomb(path: Path) -> None:
    """Refuse a torch file that unpacks to far more than it is, before it is unpacked."""
    if not is_zip(path):
        return
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except BROKEN_ZIP as error:
        raise AssayError(f"{path} is corrupt: {told(error)}") from error
    if unpacked > max(PACKED * size, 2**20):
        raise AssayError(
            f"refused: {path} has {size:,} bytes and unpacks to {unpacked:,}; torch.save never "
            "compresses: save the state dict again"
        )


def load_weights(module: nn.Module, weights: Weights, path: Path) -> tuple[str, ...]:
    """Put a state dict into `module`; every name and every shape must agree.

    The prefixes of wrappers (see `WRAPPERS`) are taken off where the network's own names have none.
    Returns what was understood of the file, a line each.

    Raises:
        AssayError: names the first missing, unexpected or misshapen weights, and the nearest names;
            or weights that are complex or integers where the network's are real, or not dense.
    """
    own = module.state_dict()
    state, prefix = unwrapped(weights.state, own)
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
        if is_lazy(own[name]):
            continue  # takes its shape from the weights
        if value.layout != torch.strided or value.is_meta:
            held = "no numbers, but their shape (meta)" if value.is_meta else f"{value.layout}"
            raise AssayError(
                f"{path} does not fit the network: {name} holds {held}; save dense weights that "
                "are in memory"
            )
        if own[name].is_floating_point() and not value.is_floating_point():
            raise AssayError(
                f"{path} does not fit the network: {name} holds {value.dtype}, and the network "
                f"computes in {own[name].dtype}; save the weights of the network in floating point"
            )
        if value.shape != own[name].shape:
            raise AssayError(
                f"{path} does not fit the network: {name} has shape {tuple(value.shape)}, "
                f"the network's {tuple(own[name].shape)}"
            )
    module.load_state_dict(state)
    off = f"the prefix {prefix!r} was taken off the names in {path.name}" if prefix else ""
    return tuple(note for note in (weights.taken, off) if note)


def unwrapped(state: Mapping[str, Tensor], own: Collection[str]) -> tuple[dict[str, Tensor], str]:
    """Return a state dict without the prefixes of wrappers that are before all of its names and not
    before all of the network's `own`; and the prefixes."""
    found, off = dict(state), ""
    while found and own:
        for prefix in WRAPPERS:
            theirs = all(name.startswith(prefix) for name in found)
            if theirs and not all(name.startswith(prefix) for name in own):
                found = {name.removeprefix(prefix): value for name, value in found.items()}
                off += prefix
                break
        else:
            break
    return found, off


def _read_pickle(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of pickle protocols, then raises anyway
            return torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:
        called = _calls(path, str(error))
        if called and all(name.startswith(("numpy.", "_codecs.encode")) for name in called):
            raise AssayError(
                f"{path} holds numpy values beside its weights ({called[0]}), and reading those "
                "can run code. If you trust whoever made it, convert it once: "
                f"{_conversion(path)}"
            ) from error
        if called:
            harmful = next((name for name in called if name.split(".")[0] in SYSTEM), None)
            convert = (
                "save a state dict or safetensors"
                if harmful
                else "save a state dict or safetensors; if you trust whoever made it, by "
                f"{_conversion(path)}"
            )
            raise AssayError(
                f"refused: {path} is a pickle that would execute code ({harmful or called[0]}); "
                f"{convert}"
            ) from error
        raise AssayError(
            f"{path} is corrupt, or neither safetensors nor a state dict saved by torch.save"
        ) from error


def _conversion(path: Path) -> str:
    """Return the command that keeps the tensors of a checkpoint, wherever they are in it."""
    strings = [argument for _, argument in _opcodes(path) if isinstance(argument, str)]
    key = next((key for key in INSIDE if key in strings), None)
    part = f"[{key!r}]" if key else "; d = d.state_dict() if hasattr(d, 'state_dict') else d"
    program = (
        f"import torch; d = torch.load({str(path)!r}, weights_only=False){part}; torch.save("
        f"{{k: v for k, v in d.items() if torch.is_tensor(v)}}, {f'{path.stem}-weights.pt'!r})"
    )
    return f"python -c {shlex.quote(program)}"


def _calls(path: Path, message: str) -> list[str]:
    """Return the functions that a pickle asks for, besides torch's: nothing is run."""
    named = re.findall(r"GLOBAL ([\w.]+)", message)
    strings: list[str] = []
    for code, argument in _opcodes(path):
        asked = ""
        if code in ("GLOBAL", "INST"):
            asked = str(argument).replace(" ", ".")
        elif code == "STACK_GLOBAL":
            asked = ".".join(strings[-2:])
        elif isinstance(argument, str):
            strings.append(argument)
        if asked and not asked.startswith(("torch.", "collections.OrderedDict")):
            named.append(asked)
    return list(dict.fromkeys(named))


def _opcodes(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield the instructions and arguments of the pickles in a torch file, one after another, as
    far as it holds any: they are read, not run."""
    with suppress(StopIteration, *BROKEN_ZIP), path.open("rb") as file:  # perhaps not even a pickle
        stream: IO[bytes] = file
        if is_zip(path):
            with zipfile.ZipFile(path) as archive:
                inside = next(name for name in archive.namelist() if name.endswith("data.pkl"))
                stream = io.BytesIO(archive.read(inside))
        end = stream.seek(0, io.SEEK_END)
        stream.seek(0)
        while stream.tell() < end:
            for code, argument, _ in pickletools.genops(stream):
                yield code.name, argument


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
