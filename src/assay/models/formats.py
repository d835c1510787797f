"""Models in formats that are not loaded yet: what a file or folder is, and what to do with it."""

from __future__ import annotations

import json
import pickletools
import sys
import zipfile
from pathlib import Path

from assay.errors import one_line

STD = sys.stdlib_module_names - {"__main__"}

OTHERS = {
    ".onnx": ("an ONNX model", "onnxruntime"),
    ".h5": ("a Keras model", "Keras"),
    ".keras": ("a Keras model", "Keras"),
    ".tflite": ("a TensorFlow Lite model", "TensorFlow Lite"),
    ".pb": ("a TensorFlow model", "TensorFlow"),
    ".mlmodel": ("a Core ML model", "Core ML"),
}
"""By suffix: what it is, and what runs it."""


def not_yet(path: Path) -> str:
    """Return what a file or folder is that holds a model, and what to do instead of loading it; ""
    for anything else. Nothing in it is run."""
    if path.is_dir():
        return _folder(path)
    if path.suffix.lower() in OTHERS:
        kind, runs = OTHERS[path.suffix.lower()]
        return (
            f"{path} is {kind}, which is not loaded yet: query it through a function of images, "
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
        return _factory(path, "a TorchScript module", f"torch.jit.load({str(path)!r})")
    if any("models/" in name or "serialized_exported_program" in name for name in names):
        load = f"torch.export.load({str(path)!r}).module()"
        return _factory(path, "an exported program (torch.export)", load)
    module = _pickled_module(pickled)
    if module:
        load = f"torch.load({str(path)!r}, weights_only=False)"
        return _factory(path, f"a whole pickled model ({module}), which runs code", load)
    return ""


def _factory(path: Path, kind: str, load: str) -> str:
    return (
        f"{path} is {kind}; such files are not loaded by themselves yet. If you trust it, write "
        f"into net.py: `import torch`, `def net(): return {load}`, and name net.py:net"
    )


def _folder(path: Path) -> str:
    config = path / "config.json"
    if not config.is_file() or config.stat().st_size > 2**20:
        return ""
    try:
        about = json.loads(config.read_bytes())
    except (ValueError, RecursionError):
        return ""
    if not isinstance(about, dict) or not ({"architectures", "model_type"} & about.keys()):
        return ""
    kinds = about.get("architectures")
    kind = str(kinds[0]) if isinstance(kinds, list) and kinds else str(about.get("model_type"))
    return (
        f"{path} is a Hugging Face model ({one_line(kind, 60)}), which is not loaded yet: write "
        "into net.py: `from transformers import AutoModelForImageClassification as A`, "
        f"`def net(): return A.from_pretrained({str(path)!r})`, and name net.py:net, with the "
        "--mean and --std of its preprocessor_config.json"
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
