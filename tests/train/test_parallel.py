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

from assay.disk import DiskFull
from assay.errors import AssayError
from assay.train import Guard, Recipe
from assay.train.parallel import Peers, check_device

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


def test_a_weight_without_a_gradient_anywhere_has_none_after(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Zeros would let the optimizer decay it, which it does not in one process."""
    used, elsewhere, spare = (torch.nn.Parameter(torch.ones(2)) for _ in range(3))
    used.grad = torch.tensor([1.0, 2.0])

    def other(flat: torch.Tensor) -> None:  # what a process adds that used the second one alone
        flat += torch.tensor([0.0, 0, 5, 6, 0, 0, 0, 1, 0])

    monkeypatch.setattr("torch.distributed.all_reduce", other)
    peers(0, 2).sum_gradients([used, elsewhere, spare])
    assert used.grad.tolist() == [1, 2]
    assert elsewhere.grad is not None
    assert elsewhere.grad.tolist() == [5, 6]
    assert spare.grad is None


def test_what_fails_in_the_first_process_fails_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr(Peers, "of_first", lambda _, value: told.append(value) or told[0])

    def fails() -> int:
        raise DiskFull("no space left")

    with pytest.raises(DiskFull, match="no space left"):
        peers(0, 2).by_first(fails)
    with pytest.raises(AssayError, match="the first of 2 processes stopped: no space left"):
        peers(1, 2).by_first(lambda: pytest.fail("the first does it alone"))
    told.clear()
    assert peers(0, 2).by_first(lambda: 7) == peers(1, 2).by_first(fails) == 7
    assert peers(0, 1).by_first(lambda: 8) == 8


def test_a_network_on_the_cpu_is_refused_after_one_on_gpus(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    on_gpu = SimpleNamespace(device=torch.device("cuda", 0))
    begun: Any = type("Begun", (), {"_shared_state": {1: 1}, "__new__": lambda _: on_gpu})
    monkeypatch.setattr("assay.train.parallel.PartialState", begun)
    check_device(torch.device("cpu"))
    monkeypatch.setenv("WORLD_SIZE", "2")
    check_device(torch.device("cuda"))
    with pytest.raises(AssayError, match=r"trained on cuda .* in processes of its own"):
        check_device(torch.device("cpu"))


def launched(out: Path, processes: int, epochs: int, kind: str) -> dict[str, list[float]]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    words += ["--nproc_per_node", str(processes), str(SCRIPT), str(out), str(epochs), kind]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300)
    if kind == "stopped":
        assert done.returncode, "it was to be stopped"
        return {}
    if kind == "full":
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


@pytest.mark.slow
def test_a_checkpoint_that_the_first_process_alone_sees_is_what_all_go_on_from(
    tmp_path: Path,
) -> None:
    whole = launched(tmp_path / "whole", 1, 4, "plain")
    launched(tmp_path / "apart", 2, 4, "stopped")
    again = launched(tmp_path / "apart", 2, 4, "apart")
    assert not (tmp_path / "apart" / "unseen.pt").exists()
    assert again["val_loss"] == pytest.approx(whole["val_loss"], rel=1e-4)


@pytest.mark.slow
def test_a_checkpoint_that_cannot_be_written_stops_all(tmp_path: Path) -> None:
    launched(tmp_path, 2, 4, "full")
    said = [(tmp_path / f"said-{rank}.txt").read_text() for rank in (0, 1)]
    assert "/dev/full" in said[0]
    assert said[1] == f"the first of 2 processes stopped: {said[0]}"
