"""`auto` becomes what is fastest here, and only where the difference is clear."""

from __future__ import annotations

import pytest
import torch

import assay.train.resolve as resolving
from assay.core.random import Stream
from assay.models import CNN
from assay.train import Recipe
from assay.train.resolve import resolve

AUTO = Recipe(precision="auto", memory_format="auto")


@pytest.mark.parametrize(
    ("seconds", "expected"),  # float32 contiguous, channels_last; bfloat16 likewise
    [
        ([1.0, 0.8, 0.9, 0.5], ("bfloat16", "channels_last")),
        ([1.0, 0.8, 0.9, 0.75], ("float32", "channels_last")),
        ([1.0, 0.95, 0.97, 0.93], ("float32", "contiguous")),
    ],
)
def test_a_change_must_be_worth_it(
    monkeypatch: pytest.MonkeyPatch, seconds: list[float], expected: tuple[str, str]
) -> None:
    monkeypatch.setattr(resolving, "_measure", lambda *_: seconds)
    found = resolve(AUTO, torch.nn.Linear(1, 1), (torch.rand(1, 1), torch.zeros(1)))
    assert (found.precision, found.memory_format) == expected
    assert found.model_copy(update={"precision": "auto", "memory_format": "auto"}) == AUTO


def test_it_measures_for_real_and_leaves_the_network_as_it_was() -> None:
    model = CNN(depths=(1,), widths=(4,), norm="batch", dropout=0.5).build((3, 8, 8), 3, Stream(0))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    ambient = torch.random.get_rng_state()
    batch = (torch.rand(8, 3, 8, 8), torch.zeros(8, dtype=torch.int64))
    ambient = torch.random.get_rng_state()
    found = resolve(AUTO, model, batch)
    assert found.precision in ("float32", "bfloat16")
    assert found.memory_format in ("contiguous", "channels_last")
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.random.get_rng_state(), ambient)


def test_without_auto_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolving, "_measure", None)
    recipe = Recipe()
    assert resolve(recipe, torch.nn.Linear(1, 1), (torch.rand(1, 1), torch.zeros(1))) == recipe
