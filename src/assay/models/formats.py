"""Models in formats that are not loaded: what a file is, and what to do with it."""

from __future__ import annotations

import pickletools
import sys
import zipfile
from pathlib import Path
from typing import Literal

from assay.disk import BROKEN_ZIP
from assay.errors import told

Kind = Literal["exported", "script"]
"""Programs: of `torch.export`, or of TorchScript."""

PROGRAMS: dict[Kind, str] = {
    "exported": "an exported program (torch.export)",
    "script": "a TorchScript module",
}

STD = sys.stdlib_module_names - {"__main__"}

OTHERS = {
    ".h5": ("a Keras model", "Keras"),
    ".keras": ("a Keras model", "Keras"),
    ".tflite": ("a TensorFlow Lite model", "TensorFlow Lite"),
    ".pb": ("a TensorFlow model", "TensorFlow"),
    ".mlmodel": ("a Core ML model", "Core ML"),
}
"""By suffix: what it is, and what runs it."""


BEGINNING = 2**20
"""Bytes of a pickle that are looked at: what it is of stands at its beginning."""


def is_zip(path: Path) -> bool:
    """Return whether a file is a zip, as torch writes them."""
    try:
        return zipfile.is_zipfile(path)
    except BROKEN_ZIP:  # its end is damaged
        return False


def not_yet(path: Path) -> str:
    """Return what a file is that holds a model, and what to do instead of loading it; "" for
    anything else. Nothing in it is run."""
    if path.suffix.lower() in OTHERS:
        kind, runs = OTHERS[path.suffix.lower()]
        return (
            f"{path} is {kind}, which is not loaded: query it through a function of images, "
            f"file.py:function --access logits, that runs it with {runs}; or give the PyTorch "
            "network that it was exported from"
        )
    kind_of = program_in(path)
    if kind_of is not None:
        return (
            f"{path} is {PROGRAMS[kind_of]}, a program that needs no other code: name it as the "
            "model, with --trust-program if you trust whoever made it"
        )
    if not is_zip(path):
        return ""
    try:
        with zipfile.ZipFile(path) as archive:
            inside = next((name for name in archive.namelist() if name.endswith("data.pkl")), None)
            pickled = b""
            if inside is not None:
                with archive.open(inside) as file:
                    pickled = file.read(BEGINNING)
    except BROKEN_ZIP as error:
        return f"{path} is corrupt: {told(error)}"
    module = _pickled_module(pickled)
    if module:
        load = f"torch.load({str(path)!r}, weights_only=False)"
        return (
            f"{path} is a whole pickled model ({module}), which runs code, and is not loaded. If "
            f"you trust it, write into net.py: `import torch`, `def net(): return {load}`, and "
            "name net.py:net"
        )
    return ""


def program_in(path: Path) -> Kind | None:
    """Return what kind of program a file holds, or None; nothing in it is run."""
    if not path.is_file() or not is_zip(path):
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except BROKEN_ZIP:
        return None
    if any(name.endswith("constants.pkl") for name in names):
        return "script"
    exported = ("serialized_exported_program", "models/")
    return "exported" if any(part in name for name in names for part in exported) else None


def _pickled_module(content: bytes) -> str:
    """Return the class of the object that a pickle is; "" for a dictionary, as state dicts are."""
    strings: list[str] = []
    try:
        for code, argument, _ in pickletools.genops(content):
            if code.name in ("EMPTY_DICT", "EMPTY_LIST", "MARK"):
                return ""
            if code.name in ("GLOBAL", "STACK_GLOBAL"):
                asked = str(argument) if code.name == "GLOBAL" else " ".join(strings[-2:])
                # what rebuilds tensors is no model, and neither is a call of Python's own
                other = asked.startswith("torch._utils") or asked.split(".")[0].split()[0] in STD
                return "" if other else asked.replace(" ", ".")
            strings += [argument] if isinstance(argument, str) else []
    except ValueError:
        pass
    return ""
