"""`assay train` as a user meets it: what it writes, that it repeats, and mistakes in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from assay.attacks import PGD
from assay.cli import app, call
from assay.data import load_data
from assay.inputs import Inputs, load_network
from assay.models import CNN, Whitened
from assay.stats import proportion
from assay.tasks.tested import evaluate
from assay.tasks.train import TrainNetwork

Command = Callable[..., tuple[int, str, str]]
MODEL = "model.safetensors"
SMALL = [
    *("train", "--recipe", "fast", "--data", "digits", "--train-images", "200"),
    *("--test-images", "50", "--network.widths", "8", "8", "--recipe.epochs", "1"),
    *("--recipe.batch-size", "50", "--recipe.precision", "float32", "--threads", "1", "--quiet"),
]


@pytest.fixture
def assay(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Command:
    """Run the command in an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ASSAY_DATA", raising=False)

    def run(*tokens: str) -> tuple[int, str, str]:
        code = call(app, tokens)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_a_network_is_trained_kept_and_found_again(assay: Command) -> None:
    out = Path("mine")
    assert assay(*SMALL, "--out", "mine") == (0, "mine/model.safetensors\n", "")
    assert sorted(path.name for path in out.iterdir()) == [
        "config.yaml",
        "metrics.json",
        "model.safetensors",
        "record.json",
    ]
    test = load_data("digits", split="test")
    clf = load_network(Inputs(model="mine/model.safetensors", data="digits"), test)
    _, right, _ = evaluate(clf, test.sample(50))
    metrics = json.loads((out / "metrics.json").read_text())["metrics"]
    assert (metrics["test_accuracy"], metrics["n_test"]) == (right.mean(), 50)
    assert "train_accuracy" not in metrics  # `fast` does not ask for it
    interval = proportion(int(right.sum()), 50, "images")
    assert metrics["test_interval"] == {"low": interval.low, "high": interval.high, "level": 0.95}
    record = json.loads((out / "record.json").read_text())
    assert record["versions"]["torch"]
    assert record["hardware"]["cores"] >= 1
    assert record["seconds"] > 0

    # once more, from the settings that it wrote and in another store: the same bytes
    again = ("train", "--config", "mine/config.yaml", "--threads", "1", "--quiet", "--out", "b")
    assert assay(*again, "--store", "other")[0] == 0
    for name in ("model.safetensors", "metrics.json", "config.yaml"):
        assert (out / name).read_bytes() == (Path("b") / name).read_bytes(), name

    # the store has it: nothing is trained, and its record says when it was
    assert assay(*SMALL, "--out", "c")[0] == 0
    assert (Path("c") / "record.json").read_bytes() == (out / "record.json").read_bytes()

    # another network does not take its place
    code, _, err = assay(*SMALL, "--seed", "1", "--out", "c")
    assert (code, err.count("\n")) == (2, 1)
    assert "--out c has a model.safetensors that was trained otherwise" in err
    assert (Path("c") / MODEL).read_bytes() == (out / MODEL).read_bytes()
    assert assay(*SMALL, "--out", "c")[0] == 0, "its own command may be given again"


def test_an_adversary_by_its_flags(assay: Command) -> None:
    tiny = [token for token in SMALL if token != "--quiet"]
    against = ("--adversary.name", "pgd", "--adversary.eps", "8/255", "--adversary.steps", "2")
    code, out, err = assay(*tiny, *against, "--out", "mine")
    assert code == 0, err
    metrics = json.loads(Path("mine/metrics.json").read_text())["metrics"]
    stood = proportion(round(500 * metrics["robust_accuracy"]), 500, "validation images")
    assert metrics["n_robust"] == 500
    assert metrics["robust_interval"] == {"low": stood.low, "high": stood.high, "level": 0.95}
    assert f"against pgd {stood.percent()}" in " ".join(out.split())
    made = TrainNetwork.from_yaml(Path("mine/config.yaml").read_text())
    assert made.adversary == PGD(eps=8 / 255, steps=2)


def test_what_a_failed_training_leaves(assay: Command) -> None:
    code, out, err = assay(*SMALL, "--recipe.optimizer.lr", "1e30", "--out", "mine")
    assert (code, out) == (2, "")
    assert "diverged" in err
    assert not Path("mine").exists()


def printed(assay: Command, *tokens: str) -> TrainNetwork:
    code, out, err = assay("train", "--print-config", *tokens)
    assert code == 0, err
    assert not Path("runs").exists()
    return TrainNetwork.from_yaml(out)


def test_flags_go_over_yaml_and_yaml_over_the_recipe(assay: Command) -> None:
    Path("mine.yaml").write_text("recipe: {epochs: 9, batch_size: 100}\n")
    made = printed(
        assay, "--recipe", "fast", "--config", "mine.yaml", "--recipe.epochs", "7", "--threads", "3"
    )
    assert made.network == Whitened()
    assert (made.recipe.epochs, made.recipe.batch_size, made.recipe.threads) == (7, 100, 3)
    assert made.recipe.optimizer.name == "sgd"
    assert printed(assay).network == CNN()
    assert printed(assay).adversary is None
    fewer = printed(assay, "--recipe", "robust", "--adversary.steps", "3").adversary
    assert fewer == PGD(eps=8 / 255, steps=3, step_size=2 / 255)


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        (["--recipe", "fats"], ["fats", "'fast'"]),
        (["--seed", "-1"], ["--seed", "-1"]),
        (["--data", "digts"], ["digts", "'digits'"]),
        (["--threads", "0"], ["threads", "greater than or equal to 1"]),
        (["--adversary.name", "pdg"], ["pdg", "'pgd'"]),
        (["--adversary.steps", "7"], ["adversary needs a name", "pgd"]),
        (["--adversary.name", "pgd", "--adversary.restarts", "2"], ["adversary", "one start"]),
        (["--recipe.epohcs", "3"], ["--recipe.epohcs", "--recipe.epochs"]),
        (["--data", "digits", "--out", "file/mine"], ["file/mine", "below a file"]),
        (["--data", "digits", "--recipe", "fast", "--network.widths", *"12345678"], ["too small"]),
    ],
)
def test_mistakes_are_one_line(assay: Command, tokens: list[str], words: list[str]) -> None:
    Path("file").touch()
    code, out, err = assay("train", *tokens)
    assert (code, out) == (2, "")
    assert err.startswith("assay: ")
    assert err.count("\n") == 1, err
    assert all(word in err for word in words), err
    assert not Path("runs").exists()
