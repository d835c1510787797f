"""Models in formats that are not loaded: what a file is, and what to do with it."""

from __future__ import annotations

import pickletools
import sys
import zipfile
from pathlib import Path

STD = sys.stdlib_module_names - {"__main__"}

OTHERS = {
    ".h5": ("a Keras model", "Keras"),
    ".keras": ("a Keras model", "Keras"),
    ".tflite": ("a TensorFlow Lite model", "TensorFlow Lite"),
    ".pb": ("a TensorFlow model", "TensorFlow"),
    ".mlmodel": ("a Core ML model", "Core ML"),
}
"""By suffix: what it is, and what runs it."""


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
    if not zipfile.is_zipfile(path):
        return ""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        inside = next((name for name in names if name.endswith("data.pkl")), None)
        pickled = b"" if inside is None else archive.read(inside)
    if any(name.endswith("constants.pkl") for name in names):
        return _program(path, "a TorchScript module")
    if any("models/" in name or "serialized_exported_program" in name for name in names):
        return _program(path, "an exported program (torch.export)")
    module = _pickled_module(pickled)
    if module:
        load = f"torch.load({str(path)!r}, weights_only=False)"
        return (
            f"{path} is a whole pickled model ({module}), which runs code, and is not loaded. If "
            f"you trust it, write into net.py: `import torch`, `def net(): return {load}`, and "
            "name net.py:net"
        )
    return ""


def _program(path: Path, kind: str) -> str:
    return (
        f"{path} is {kind}, a program that needs no other code: name it as the model, with "
        "--trust-program if you trust whoever made it"
    )


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
