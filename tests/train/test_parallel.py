"""Several processes train one network as one does: by `torchrun`, with gloo."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from assay.errors import AssayError
from assay.train import Guard, Recipe
from assay.train.parallel import Peers

SCRIPT = Path(__file__).with_name("launched.py")


def peers(rank: int, count: int) -> Peers:
    told: Any = SimpleNamespace(num_processes=count, process_index=rank)
    return Peers(told)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_parts_are_the_batch_and_each_row_is_in_one(count: int) -> None:
    ids, x, y = torch.arange(4), torch.rand(4, 1, 2, 2), torch.arange(4) + 10
    texts = [f"text {k}" for k in range(4)]
    parts = [peers(rank, count).part((ids, x, y)) for rank in range(count)]
    said = [peers(rank, count).part((ids, texts, y))[1] for rank in range(count)]
    assert sorted(torch.cat([part[0] for part in parts]).tolist()) == [0, 1, 2, 3]
    for part, words in zip(parts, said, strict=True):
        assert torch.equal(part[1], x[part[0]])
        assert torch.equal(part[2], part[0] + 10)
        assert words == [texts[row] for row in part[0].tolist()]
    assert max(map(len, said)) - min(map(len, said)) <= 1


def test_a_guard_is_refused_where_several_train() -> None:
    recipe = Recipe(guard=Guard())
    peers(0, 1).check(recipe)
    peers(1, 2).check(Recipe())
    with pytest.raises(AssayError, match="one process, and there are 2: drop the guard"):
        peers(1, 2).check(recipe)


def launched(out: Path, processes: int, epochs: int, kind: str) -> dict[str, list[float]]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    words += ["--nproc_per_node", str(processes), str(SCRIPT), str(out), str(epochs), kind]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300)
    if kind == "stopped":
        assert done.returncode, "it was to be stopped"
        return {}
    assert done.returncode == 0, done.stderr[-2000:]
    held: dict[str, list[float]] = json.loads((out / "curves.json").read_text())
    assert held.pop("processes") == [processes]
    return held


def weights(out: Path, rank: int = 0) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(out / f"weights-{rank}.pt", weights_only=True)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "adversarial"])
def test_two_processes_have_the_curve_of_one(kind: str, tmp_path: Path) -> None:
    one = launched(tmp_path / "one", 1, 4, kind)
    two = launched(tmp_path / "two", 2, 4, kind)
    assert one["train_loss"][0] > one["train_loss"][-1]
    for name, curve in one.items():
        assert two[name] == pytest.approx(curve, rel=1e-4), name
    both = [weights(tmp_path / "two", rank) for rank in (0, 1)]
    for name, value in weights(tmp_path / "one").items():
        assert torch.equal(both[0][name], both[1][name]), "the processes end with the same weights"
        torch.testing.assert_close(both[0][name], value, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_a_training_goes_on_with_another_number_of_processes(tmp_path: Path) -> None:
    whole = launched(tmp_path / "whole", 1, 4, "plain")
    launched(tmp_path / "stopped", 2, 4, "stopped")
    assert launched(tmp_path / "stopped", 1, 4, "plain")["val_loss"] == pytest.approx(
        whole["val_loss"], rel=1e-4
    )
