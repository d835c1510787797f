"""The libraries that assay is compared with, and the benchmarks that compare it."""

from __future__ import annotations

import importlib
import sys
import types
import warnings
from pathlib import Path
from typing import Any

import pytest


def peer(name: str) -> Any:
    """Import a peer, or skip. foolbox's model zoo wants packages that no attack needs."""
    if name == "foolbox":
        sys.modules.setdefault("foolbox.zoo", types.ModuleType("foolbox.zoo"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name, reason=f"{name} is not installed (the `bench` extra)")


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
