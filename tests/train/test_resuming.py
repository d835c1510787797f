"""Interrupted at any moment and started again, a training ends with the same bytes."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from assay.attacks import FGSM
from assay.core.classifier import Classifier
from assay.core.random import Rows, Stream
from assay.core.source import TensorSource
from assay.errors import AssayError
from assay.models import CNN
from assay.models.saved import save_model
from assay.tasks.adversaries import against
from assay.train import AdamW, Recipe, Watch
from assay.train.fit import fit

RECIPE = Recipe(epochs=4, batch_size=8, accumulate=2, optimizer=AdamW(lr=3e-3), patience=3)
CONFIG = CNN(depths=(1, 1), widths=(4, 8), skip=True, norm="batch", dropout=0.2)


class Interrupted(Exception):
    pass


def data(seed: int, n: int) -> TensorSource:
    generator = Stream(seed).torch()
    x = torch.rand(n, 1, 6, 6, generator=generator)
    return TensorSource(x, (x[:, 0, 0, 0] * 3).long())


def noisy(x: Tensor, rng: Rows) -> Tensor:
    return (x + 0.1 * rng.normal(tuple(x.shape[1:]))).clamp(0, 1)


class Growing:
    """An adversary that moves images further with every batch that it has met."""

    def __init__(self) -> None:
        self.met = 0

    def __call__(self, model: Classifier, x: Tensor, y: Tensor, *, rng: Rows) -> Tensor:
        del model, y
        self.met += 1
        reach = 0.01 * self.met
        return (x + rng.uniform(tuple(x.shape[1:]), -reach, reach)).clamp(0, 1)


def train(folder: Path, tick: Callable[[], None] = lambda: None, recipe: Recipe = RECIPE) -> bytes:
    """Train with everything that draws at random; return all bytes that must be repeatable."""

    def augment(x: Tensor, rng: Rows) -> Tensor:
        tick()
        return noisy(x, rng)

    folder.mkdir(exist_ok=True)
    classifier = Classifier(CONFIG.build((1, 6, 6), 3, Stream(7)), mean=(0.5,), std=(0.3,))
    history = fit(
        classifier,
        data(1, 50),
        data(2, 30),
        recipe,
        stream=Stream(7).child("fit"),
        checkpoint=folder / "fit.pt",
        progress=lambda *_: tick(),
        augment=augment,
        adversary=Growing(),
        watch=Watch(every=3, images=8),
    )
    path = folder / "model.safetensors"
    save_model(path, classifier.model, CONFIG, in_shape=(1, 6, 6), classes="abc")
    arrays = b"".join(a.tobytes() for _, a in sorted(history.arrays().items()))
    return path.read_bytes() + json.dumps(history.metrics()).encode() + arrays


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return train(tmp_path_factory.mktemp("undisturbed") / "run")


@pytest.mark.parametrize("seed", range(6))
def test_interrupted_at_random_steps(seed: int, tmp_path: Path, undisturbed: bytes) -> None:
    dice = random.Random(seed)
    starts = 0
    while True:
        starts += 1
        left = dice.randint(1, 12)

        def tick() -> None:
            nonlocal left
            left -= 1
            if not left:
                raise Interrupted

        try:
            found = train(tmp_path / "run", tick)
            break
        except Interrupted:
            torch.manual_seed(dice.randrange(1000))  # ambient state must not matter
    assert starts > 1
    assert found == undisturbed
    assert sorted(file.name for file in (tmp_path / "run").iterdir()) == [
        "fit.pt",
        "model.safetensors",
    ]


def test_a_finished_training_is_only_read(tmp_path: Path, undisturbed: bytes) -> None:
    train(tmp_path / "run")

    def never() -> None:
        raise AssertionError("nothing is left to train")

    assert train(tmp_path / "run", never) == undisturbed


def test_a_training_that_stopped_early_stays_stopped(tmp_path: Path) -> None:
    recipe = RECIPE.model_copy(update={"epochs": 40, "patience": 1, "optimizer": AdamW(lr=0.1)})
    first = train(tmp_path / "run", recipe=recipe)
    assert b'"stopped_early": true' in first
    assert train(tmp_path / "run", recipe=recipe) == first


def written(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path: Path, undisturbed: bytes) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); "
        "import test_resuming, time; from pathlib import Path; "
        "test_resuming.train(Path(sys.argv[1]), lambda: time.sleep(0.1))"
    )
    dice = random.Random(0)
    folder = tmp_path / "run"
    killed = 0
    while True:
        before = written(folder / "fit.pt")
        child = subprocess.Popen([sys.executable, "-c", code, str(folder)])
        while child.poll() is None and written(folder / "fit.pt") == before:
            time.sleep(0.01)
        time.sleep(dice.uniform(0, 1))  # an epoch takes about as long
        if child.poll() is not None:
            assert child.returncode == 0
            break
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        killed += 1
    assert killed > 0
    assert train(folder) == undisturbed


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    train(tmp_path / "run")
    other = RECIPE.model_copy(update={"epochs": 5})
    with pytest.raises(AssayError, match="another recipe, seed, network or data"):
        train(tmp_path / "run", recipe=other)
    (tmp_path / "run" / "fit.pt").write_bytes(b"something else")
    with pytest.raises(AssayError, match="not a checkpoint of ours; delete it to start over"):
        train(tmp_path / "run")


@pytest.mark.parametrize("other", ["labels", "images", "network", "attack", "another attack"])
def test_so_is_one_of_other_data_or_another_attack(tmp_path: Path, other: str) -> None:
    """It would be taken for finished, and its network for the new one."""
    seen = data(1, 20)
    config = CONFIG.model_copy(update={"widths": (4, 6)}) if other == "network" else CONFIG

    def go(config: CNN, seen: TensorSource, eps: float | None) -> None:
        fit(
            Classifier(config.build((1, 6, 6), 3, Stream(7))),
            seen,
            None,
            Recipe(epochs=1, batch_size=8),
            stream=Stream(7),
            checkpoint=tmp_path / "fit.pt",
            adversary=None if eps is None else against(FGSM(eps=eps), Recipe()),
        )

    start = 0.1 if other == "another attack" else None
    go(CONFIG, seen, start)
    go(CONFIG, seen, start)  # the same one goes on
    assert seen.y is not None
    if other == "labels":
        seen = TensorSource(seen.x, 2 - seen.y)
    elif other == "images":
        seen = TensorSource(1 - seen.x, seen.y)
    eps = {"attack": 0.1, "another attack": 0.2}.get(other)
    with pytest.raises(AssayError, match="another recipe, seed, network or data, or against"):
        go(config, seen, eps)


def test_a_full_disk_leaves_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: bytes
) -> None:
    synchronised, writes = os.fsync, 0

    def full(descriptor: int) -> None:
        nonlocal writes
        writes += Path(f"/proc/self/fd/{descriptor}").readlink().suffix == ".tmp"
        if writes == 3:
            os.truncate(descriptor, 100)
            raise OSError(28, "No space left on device")
        synchronised(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(AssayError, match="no space left"):
        train(tmp_path / "run")
    assert [file.name for file in (tmp_path / "run").iterdir()] == ["fit.pt"]
    assert train(tmp_path / "run") == undisturbed


def test_the_environment_of_accelerate_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: bytes
) -> None:
    """A launcher sets it; no address of a training says that it did."""
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "8")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    assert train(tmp_path / "run") == undisturbed
