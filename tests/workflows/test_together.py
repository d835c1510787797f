"""`assay train` in several processes, which `torchrun` starts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
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
from assay.workflows.together import gathered, shared, together

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


def test_one_process_of_several_that_were_asked_for_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    assert together("cpu", lambda _: 0) == 0
    monkeypatch.setenv("MASTER_PORT", "29500")
    with pytest.raises(AssayError, match="asked for several processes and started one"):
        together("cpu", lambda _: 0)


SETTINGS = """
network: {name: strided, widths: [4], kernels: [3], strides: [2], hidden: [8]}
recipe: {epochs: 3, batch_size: 16, optimizer: {lr: 0.01}}
adversary: {name: pgd, eps: 0.1, steps: 2}
"""


TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc-per-node")
ACCELERATE = (
    *("accelerate.commands.accelerate_cli", "launch", "--multi_gpu", "--num_machines", "1"),
    *("--mixed_precision", "no", "--dynamo_backend", "no", "--num_processes"),
)


def started(
    folder: Path, processes: int, *words: str, by: Sequence[str] = TORCHRUN
) -> subprocess.Popen[str]:
    """Start the command in so many processes."""
    launched = ["-m", *by, str(processes), "-m", "assay.cli", "train"]
    return subprocess.Popen(
        [sys.executable, *launched, *words, "--threads", "1", "--device", "cpu", "--out", "out"],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def trained(
    folder: Path, processes: int, *words: str, by: Sequence[str] = TORCHRUN
) -> tuple[str, dict[str, Any]]:
    """Run the command; return what was said, and the metrics of its product."""
    running = started(folder, processes, *words, by=by)
    said, _ = running.communicate(timeout=400)
    assert running.returncode == 0, said[-3000:]
    made = json.loads((folder / "out" / "metrics.json").read_text())
    return said, made["metrics"]


def below(pid: int) -> list[int]:
    """Return the processes that a process started, and that these started."""
    own = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
    children = [int(word) for word in own.stdout.split()]
    return [*children, *(one for child in children for one in below(child))]


def write_images(folder: Path) -> None:
    """Write a folder of images, and what is trained on them."""
    draws = np.random.default_rng(0)
    for part, n in (("train", 90), ("test", 30)):
        y = np.arange(n) % 3
        x = draws.integers(0, 120, (n, 8, 8)) + 60 * y[:, None, None]
        for row, label in enumerate(y):
            path = folder / "data" / part / f"class-{label}" / f"{row}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(x[row].astype(np.uint8)).save(path)
    (folder / "how.yaml").write_text(SETTINGS)


@pytest.mark.slow
def test_two_processes_train_what_one_does_with_all_of_the_batch(tmp_path: Path) -> None:
    found = []
    for count in (1, 2):
        folder = tmp_path / str(count)
        folder.mkdir()
        write_images(folder)
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
def test_a_training_that_accelerate_started_twice_over_goes_on_alone_once_it_is_killed(
    tmp_path: Path,
) -> None:
    words = ("--config", "how.yaml", "--data", "data", "--recipe.epochs", "60")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
        write_images(folder)
    _, one = trained(whole, 1, *words)
    running = started(killed, 2, *words, by=ACCELERATE)
    while not list(killed.glob("runs/trials/*/checkpoint/*.pt")):
        assert running.poll() is None, running.communicate()[0]
        time.sleep(0.05)
    workers = below(running.pid)
    os.kill(running.pid, signal.SIGKILL)
    running.communicate(timeout=20)  # until none of them has what they all write to open
    assert len(workers) == 2
    assert not list(killed.glob("runs/trials/*/record.json"))
    _, two = trained(killed, 1, *words)
    (record,) = (json.loads(p.read_text()) for p in killed.glob("runs/trials/*/record.json"))
    assert record["resumed"] == 1
    for curve in ("train_loss", "val_loss"):
        assert two["history"][curve] == pytest.approx(one["history"][curve], rel=1e-3), curve
    assert two["test_loss"] == pytest.approx(one["test_loss"], rel=1e-3)


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
