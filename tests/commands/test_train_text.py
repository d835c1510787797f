from __future__ import annotations

import pytest
import yaml

from assay.cli import app, call
from assay.tasks.train_text import TrainText


def printed(capsys: pytest.CaptureFixture[str], *tokens: str) -> TrainText:
    line = ["train", "films", "--model", "minilm", "--print-config", "--threads", "1", *tokens]
    assert call(app, line) == 0
    return TrainText.parse(yaml.safe_load(capsys.readouterr().out))


def test_each_way_of_adapting_has_its_own_rate(capsys: pytest.CaptureFixture[str]) -> None:
    full = printed(capsys)
    assert (full.data, full.network.base, full.recipe.threads) == ("films", "minilm", 1)
    assert full.network.adaptation.name == "full"
    lora = printed(capsys, "--adapt", "lora", "--network.adaptation.rank", "4")
    assert lora.network.adaptation.model_dump()["rank"] == 4
    assert lora.recipe.optimizer.lr == 10 * full.recipe.optimizer.lr
    given = printed(capsys, "--adapt", "lora", "--recipe.optimizer.lr", "3e-4")
    assert given.recipe.optimizer.lr == 3e-4


def test_adapting_needs_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(app, ["train", "films", "--adapt", "lora"]) == 2
    assert "give --model too" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        (["--adapt", "prompt"], "prompt"),
        (["--seed", "-1"], "--seed must be at least 0"),
        (["--network.pooling", "last"], "network.pooling"),
        (["--train-texts", "3"], "train_texts"),
    ],
)
def test_what_is_wrong_is_one_line(
    capsys: pytest.CaptureFixture[str], tokens: list[str], said: str
) -> None:
    assert call(app, ["train", "films", "--model", "minilm", "--print-config", *tokens]) == 2
    told = capsys.readouterr().err
    assert said in told


def test_data_and_models_that_are_not_there_are_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call(app, ["train", "/nowhere", "--model", "minilm"]) == 2
    assert "no file or folder of texts" in capsys.readouterr().err
