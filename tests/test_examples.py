"""The examples in docstrings run, and every public class and function of these rooms has one.

Examples find `assay`, `np`, `torch`, `nn`, a small trained classifier `clf`, and images `x` of
shape (12, 1, 8, 8) with their labels `y` (stripes, columns and checks) there already; and
`text_clf`, a tiny transformer of texts, negative and positive.
"""

from __future__ import annotations

import doctest
import importlib
import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from contract.tiny import text_classifier
from torch import Tensor, nn

import assay

SRC = Path(__file__).resolve().parent.parent / "src"
WITH_EXAMPLES = sorted(
    ".".join(file.relative_to(SRC).with_suffix("").parts)
    for file in SRC.rglob("*.py")
    if ">>> " in file.read_text()
)
ROOMS = (
    "assay",
    "assay.attacks",
    "assay.attacks.text",
    "assay.auditing",
    "assay.certify",
    "assay.data",
    "assay.explain",
    "assay.explain.text",
    "assay.models",
    "assay.ood",
    "assay.stats",
    "assay.studies",
    "assay.train",
)
"""Rooms whose public names have examples throughout."""
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def stripes(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Stripes, columns and checks of 8 × 8 pixels, in noise: three classes."""
    draw = torch.Generator().manual_seed(seed)
    rows, columns = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
    kinds = torch.stack([rows % 2, columns % 2, (rows + columns) % 2]).float()
    y = torch.arange(n) % 3
    noise = 0.1 * torch.randn(n, 1, 8, 8, generator=draw)
    return (0.3 + 0.4 * kinds[y][:, None] + noise).clamp(0, 1), y


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """What examples find there already."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        convolutions = [nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.AdaptiveMaxPool2d(2)]
        model = nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(24, 3))
    x, y = stripes(90, seed=1)
    steps = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(80):
        loss = nn.functional.cross_entropy(model(x), y)
        steps.zero_grad()
        loss.backward()
        steps.step()
    clf = assay.Classifier(model, classes=("stripes", "columns", "checks"))
    x, y = stripes(12, seed=2)
    assert clf.predict(x).tolist() == y.tolist()
    found = {"assay": assay, "np": np, "torch": torch, "nn": nn, "clf": clf, "x": x, "y": y}
    return {**found, "text_clf": text_classifier()}


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_examples_run(
    module: str, names: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = importlib.import_module(module)
    finder = doctest.DocTestFinder(exclude_empty=True)
    runner = doctest.DocTestRunner(optionflags=OPTIONS, verbose=False)
    told: list[str] = []
    for test in finder.find(found, module, extraglobs=names):
        runner.run(test, out=told.append)
    assert runner.summarize(verbose=False).attempted > 0
    assert not told, "\n".join(told)


def test_an_example_that_is_wrong_is_noticed(names: dict[str, Any]) -> None:
    test = doctest.DocTestParser().get_doctest(">>> len(x)\n11\n", names, "wrong", None, 0)
    runner = doctest.DocTestRunner(optionflags=OPTIONS, verbose=False)
    assert runner.run(test, out=lambda _: None).failed == 1


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_class_and_function_has_an_example(room: str) -> None:
    module = importlib.import_module(room)
    public = {name: getattr(module, name) for name in dir(module)}
    without = [
        name
        for name, found in public.items()
        if (inspect.isclass(found) or inspect.isfunction(found))
        and found.__module__.startswith(room)
        and ">>> " not in (inspect.getdoc(found) or "")
    ]
    assert not without
