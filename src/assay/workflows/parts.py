"""The files of an attack in parts: each whole or not there, and the whole joined from them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from assay.attacks.result import ARRAYS, AttackResult
from assay.core.source import Source, as_bytes
from assay.disk import write_atomic, writing


def write_part(path: Path, result: AttackResult[Any, Any], ids: Tensor) -> dict[str, Any]:
    """Write the arrays of one part, with what it cost (and its texts) beside them, and return what
    it cost."""
    held = {name: getattr(result, name) for name in ARRAYS} | {"ids": ids}
    arrays = {n: t.detach().cpu().contiguous() for n, t in held.items() if isinstance(t, Tensor)}
    fast = None if result.fast is None else vars(result.fast).copy()
    if fast is not None and math.isnan(fast["difference"]):
        fast["difference"] = None  # JSON has no NaN
    cost = {
        "seconds": result.seconds,
        "evaluations": result.evaluations,
        "refused": result.refused,
        "fast": fast,
    }
    beside = {"cost": json.dumps(cost)}
    if isinstance(result.adversarial, list):
        beside["texts"] = json.dumps(result.adversarial)
    write_atomic(path, save(arrays, metadata=beside))
    return cost


def cost_of(path: Path) -> dict[str, Any] | None:
    """Return what a part cost that is there; None where it must be made, or made again."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            cost: dict[str, Any] = json.loads(file.metadata()["cost"])
            return cost
    except SafetensorError:  # the disk lost a piece of it
        return None


def texts_of(files: Sequence[Path]) -> list[str] | None:
    """Return the texts of all parts, one after another; None of images."""
    found: list[str] = []
    for path in files:
        with safe_open(path, "pt") as file:
            beside = file.metadata()
        if "texts" not in beside:
            return None
        found += json.loads(beside["texts"])
    return found


def write_texts(path: Path, texts: Sequence[str]) -> None:
    """Write texts as JSON, as `AttackResult.save` does."""
    write_atomic(path, json.dumps(texts, indent=2) + "\n")


def join(files: Sequence[Path], path: Path) -> None:
    """Write the arrays of all parts, one after another, as one safetensors file.

    The bytes are those that `safetensors.torch.save_file` would write of the joined arrays; but
    this one never holds more than one array of one part.
    """
    rows = [_layout(file) for file in files]
    names = sorted(rows[0], key=lambda name: (-WIDTH[rows[0][name][0]], name))
    header: dict[str, Any] = {}
    start = 0
    for name in names:
        kind, (_, *rest) = rows[0][name]
        shape = [sum(part[name][1][0] for part in rows), *rest]
        end = start + WIDTH[kind] * math.prod(shape)
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [start, end]}
        start = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with writing(path) as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for name in names:
            for file in files:
                with safe_open(file, "pt") as part:
                    out.write(as_bytes(part.get_tensor(name)))


WIDTH = {"BOOL": 1, "U8": 1, "I32": 4, "F32": 4, "I64": 8, "F64": 8}
"""Bytes of a number, by the name that safetensors has for its type."""


def _layout(path: Path) -> dict[str, tuple[str, list[int]]]:
    """Return type and shape of every array in a part."""
    with safe_open(path, "pt") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        return {name: (part.get_dtype(), part.get_shape()) for name, part in slices.items()}


def images_on_disk(source: Source, size: int, shape: Sequence[int], folder: Path) -> Tensor:
    """Return all images of a source, on the disk: a file that goes when the tensor does."""
    path = folder / ".images.part"
    path.unlink(missing_ok=True)
    images = torch.from_file(str(path), shared=True, size=math.prod(shape)).view(*shape)
    path.unlink()
    done = 0
    for _, x, _ in source.batches(size):
        images[done : done + len(x)] = x
        done += len(x)
    return images


def write_json(path: Path, data: Any) -> None:
    write_atomic(path, json.dumps(data, indent=2, sort_keys=True) + "\n")
