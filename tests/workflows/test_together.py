"""`assay train` in several processes, which `torchrun` starts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from assay.errors import AssayError
from assay.runs.trial import Trial
from assay.train import Guard, Recipe
from assay.train.parallel import Peers, mixing
from assay.workflows.together import gathered, shared

TWO: Any = SimpleNamespace(num_processes=2, process_index=0)
PLAIN = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
NORMED = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))


def test_the_number_of_processes_is_in_the_address_where_rows_are_mixed() -> None:
    assert [mixing(PLAIN, Recipe()), mixing(PLAIN, Recipe(mixup=0.2))] == [False, True]
    assert mixing(nn.Sequential(PLAIN, nn.Dropout(0.1)), Recipe())
    assert not mixing(nn.Sequential(PLAIN, nn.Dropout(0.0), nn.GroupNorm(1, 2)), Recipe())
    trial = Trial(task="train", config={}, versions={"CNN": 1})
    assert shared(Peers(TWO), trial, PLAIN, Recipe()).address == trial.address
    normed = shared(Peers(TWO), trial, NORMED, Recipe())
    assert normed.versions == {"CNN": 1, "processes": 2}
    assert normed.address != trial.address


def test_what_processes_cannot_train_together_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    mix = Trial(task="train", config={}, label="network that the mix is made on")
    trial = Trial(task="train", config={}, needs=(mix,))
    with pytest.raises(AssayError, match=r"the mix is made on is trained first.*train in one"):
        shared(Peers(TWO), trial, PLAIN, Recipe())
    with pytest.raises(AssayError, match="drop the guard"):
        shared(Peers(TWO), mix, PLAIN, Recipe(guard=Guard()))
    with pytest.raises(AssayError, match="not on mps"):
        gathered("mps")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(
        AssayError, match=r"fewer GPUs on this machine .1. than processes: start fewer"
    ):
        gathered("cuda")


SETTINGS = """
network: {name: strided, widths: [4], kernels: [3], strides: [2], hidden: [8]}
recipe: {epochs: 3, batch_size: 16, optimizer: {lr: 0.01}}
adversary: {name: pgd, eps: 0.1, steps: 2}
"""


def trained(folder: Path, processes: int, *words: str) -> tuple[str, dict[str, Any]]:
    """Run the command; return what was said, and the metrics of its product."""
    launched = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    line = [sys.executable, *launched, "-m", "assay.cli", "train", *words, "--threads", "1"]
    done = subprocess.run(
        [*line, "--out", "out"],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    made = json.loads((folder / "out" / "metrics.json").read_text())
    return done.stdout + done.stderr, made["metrics"]


@pytest.mark.slow
def test_two_processes_train_what_one_does_with_all_of_the_batch(tmp_path: Path) -> None:
    found = []
    for count in (1, 2):
        folder = tmp_path / str(count)
        folder.mkdir()
        draws = np.random.default_rng(0)
        for part, n in (("train", 90), ("test", 30)):
            y = np.arange(n) % 3
            x = draws.integers(0, 120, (n, 8, 8)) + 60 * y[:, None, None]
            for row, label in enumerate(y):
                path = folder / "data" / part / f"class-{label}" / f"{row}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(x[row].astype(np.uint8)).save(path)
        (folder / "how.yaml").write_text(SETTINGS)
        found.append(trained(folder, count, "--config", "how.yaml", "--data", "data"))
    (_, one), (said, two) = found
    assert one["history"]["train_loss"][-1] < one["history"]["train_loss"][0]
    for curve in ("train_loss", "val_loss"):
        assert two["history"][curve] == pytest.approx(one["history"][curve], rel=1e-4), curve
    assert two["test_loss"] == pytest.approx(one["test_loss"], rel=1e-3)
    assert said.count("1 trial: 0 done already") == 1, "one process tells"
    assert [len(list((tmp_path / n / "runs" / "trials").iterdir())) for n in "12"] == [1, 1]
    again, _ = trained(tmp_path / "2", 1, "--config", "how.yaml", "--data", "data")
    assert "1 done already" in again


@pytest.mark.slow
def test_two_processes_fine_tune_a_text_classifier(tmp_path: Path) -> None:
    rows = [f"{word} film number {k},{label}" for k in range(30)
            for word, label in (("wonderful", "good"), ("dreadful", "bad"))]  # fmt: skip
    for part in ("train", "test"):
        (tmp_path / f"{part}.csv").write_text("text,label\n" + "\n".join(rows) + "\n")
    words = (str(tmp_path), "--model", "minilm", "--adapt", "head", "--recipe.epochs", "2")
    said, made = trained(tmp_path, 2, *words)
    assert said.count("weights trained") == 1
    assert made["history"]["train_loss"][-1] < made["history"]["train_loss"][0]
