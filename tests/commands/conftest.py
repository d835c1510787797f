"""What the tests of `assay attack` start from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from attacked import BOX, NETS, Command

from assay.cli import app, call
from assay.core.classifier import Classifier
from assay.data import Dataset, load_data
from assay.models import MLP
from assay.models.loading import load_model
from assay.models.saved import save_model


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_data("digits", split="test").sample(24)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one linear classifier, fitted by ridge regression, in every form: a file of
    ours, factories in nets.py, functions of numpy arrays in box.py."""
    folder = tmp_path_factory.mktemp("models")
    x, y = load_data("digits", split="train").take(1500)
    rows = np.c_[x.flatten(1).numpy(), np.ones(len(x))].astype(np.float64)
    goal = 4 * np.eye(10)[y.numpy()]
    found = np.linalg.solve(rows.T @ rows + 30 * np.eye(785), rows.T @ goal)
    np.savez(folder / "weights.npz", weight=found[:-1], bias=found[-1])
    (folder / "box.py").write_text(BOX)
    (folder / "nets.py").write_text(NETS)
    config, shape = MLP(widths=()), (1, 28, 28)
    clf = load_model(f"{folder}/nets.py:net")
    module = torch.nn.Sequential(torch.nn.Flatten(), clf.model.linear)
    names = [str(k) for k in range(10)]
    save_model(folder / "m.safetensors", module, config, in_shape=shape, classes=names)
    return folder


@pytest.fixture
def clf(models: Path) -> Classifier:
    return load_model(models / "m.safetensors")


@pytest.fixture
def assay(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    models: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Command]:
    """Run `assay attack` in a folder of its own: (exit code, stdout, stderr). @ is the folder of
    the models."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ASSAY_DATA", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    threads = torch.get_num_threads()

    def run(*tokens: str) -> tuple[int, str, str]:
        code = call(app, ["attack", *(token.replace("@", f"{models}/") for token in tokens)])
        said = capsys.readouterr()
        return code, said.out, said.err

    yield run
    torch.set_num_threads(threads)
