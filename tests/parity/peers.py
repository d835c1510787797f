"""The libraries that assay is compared with, and the benchmarks that compare it."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
import warnings
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest


def peer(name: str) -> Any:
    """Import a peer, or skip. foolbox's model zoo and pytorch-ood's pretrained models want packages
    that no attack and no detector needs."""
    if name == "foolbox":
        sys.modules.setdefault("foolbox.zoo", types.ModuleType("foolbox.zoo"))
    if name.startswith("pytorch_ood") and importlib.util.find_spec("torchvision") is None:
        return _without_torchvision(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name, reason=f"{name} is not installed (the `bench` extra)")


def _without_torchvision(name: str) -> Any:
    """Import with nothing where torchvision, and what rests on it, would be; only meanwhile."""
    rooms = ("model", "dataset", "loss")
    parts = ("torchvision", "torchvision.transforms", *(f"pytorch_ood.{room}" for room in rooms))
    for part in parts:
        sys.modules[part] = MagicMock()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return pytest.importorskip(
                name, reason=f"{name} is not installed (the `bench` extra)", exc_type=ImportError
            )
    finally:
        for part in parts:
            del sys.modules[part]


def benchmark(name: str) -> Any:
    """Import a module of benchmarks/; they import one another by their plain names."""
    folder = str(Path(__file__).parents[2] / "benchmarks")
    if folder not in sys.path:
        sys.path.append(folder)
    return importlib.import_module(name)


def trained(kind: str) -> Any:
    """Return the `natural` or the `robust` network of benchmarks/nets.py, or skip: training the
    robust one takes hours."""
    nets = benchmark("nets")
    if not nets.kept(kind).exists():
        pytest.skip(f"the {kind} network is not trained: run python benchmarks/nets.py")
    return nets.classifier(kind)
