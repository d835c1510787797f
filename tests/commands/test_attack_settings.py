"""`assay attack`: targets, flags over YAML over defaults, and mistakes in one line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from attacked import BARE, ON_DIGITS, Command, about, refused, to_unit
from PIL import Image
from safetensors.torch import load_file

from assay.attacks import FGSM, PGD, HopSkipJump, attacks
from assay.core.classifier import Classifier
from assay.data import Dataset, load_data


def test_targets_by_name_number_and_least_likely(
    assay: Command, clf: Classifier, digits: Dataset
) -> None:
    command = ("@m.safetensors", *BARE, "--attack", "pgd", "--eps", "0.2", "--steps", "10")
    assert assay(*command, "--targets", "3", "--out", "three")[0] == 0
    arrays = load_file("three/arrays.safetensors")
    assert not bool((arrays["labels"] == 3).any())
    assert len(arrays["labels"]) == 24, "others are drawn in place of those that are left out"
    assert arrays["targets"].unique().tolist() == [3]
    assert (arrays["adversarial_prediction"] == 3)[arrays["success"]].all()
    assert int(arrays["success"].sum()) > 5
    assert about("three")["targets"] == 3

    assert assay(*command, "--targets", "least-likely", "--out", "least")[0] == 0
    arrays = load_file("least/arrays.safetensors")
    logits = clf.query(to_unit(digits.images))
    own = torch.nn.functional.one_hot(digits.labels, 10).bool()
    assert torch.equal(arrays["targets"], logits.masked_fill(own, torch.inf).argmin(1))

    Path("eight.py").write_text(
        "import numpy as np\ndef labels(x):\n    return (x[:, 0].mean((1, 2)) * 6.99).astype(int)\n"
    )
    shapes = ("eight.py:labels", "--access", "labels", "--data", "shapes", *BARE[2:])
    noise = ("--attack", "noise", "--eps", "0.2", "--targets")
    assert assay(*shapes, *noise, "star", "--out", "star")[0] == 0
    star = load_data("shapes", split="test").classes.index("star")
    assert about("star")["targets"] == star
    assert assay(*shapes, *noise, str(star), "--out", "star")[0] == 0  # the same, by its number
    refused(
        assay(*shapes, *noise, "least-likely", "--out", "out"), "labels only", "name the target"
    )


def test_a_targeted_attack_says_no_accuracy(assay: Command) -> None:
    command = ("@m.safetensors", *ON_DIGITS, "--attack", "fgsm", "--pictures", "0", "--out", "out")
    _, out, _ = assay(*command, "--targets", "3")
    assert "FGSM towards 3, L∞ 8/255" in out
    assert "led to their target" in out
    assert "accuracy under this attack" not in out


def printed(assay: Command, *tokens: str) -> dict[str, Any]:
    code, out, err = assay("m", "--data", "digits", "--print-config", *tokens)
    assert code == 0, err
    found: dict[str, Any] = yaml.safe_load(out)
    return found


def test_flags_over_yaml_over_defaults(assay: Command) -> None:
    Path("pgd.yaml").write_text("name: pgd\neps: 4/255\nsteps: 7\n")
    made = printed(assay, "--config", "pgd.yaml", "--eps", "2/255")
    assert made == PGD(eps=2 / 255, steps=7).model_dump(mode="json")
    assert printed(assay, "--config=pgd.yaml", "--attack=pgd") == {**made, "eps": 4 / 255}
    assert printed(assay, "--config", "pgd.yaml", "--attack", "fgsm") == FGSM().model_dump()
    Path("bare.yaml").write_text("steps: 7\n")  # of the attack that --attack names
    assert printed(assay, "--config", "bare.yaml", "--attack", "pgd") == PGD(steps=7).model_dump()
    assert printed(assay, "--attack", "hopskipjump", "--eps", "none")["eps"] is None
    assert printed(assay, "--attack", "hopskipjump") == HopSkipJump().model_dump(mode="json")
    assert printed(assay, "--attack", "pgd", "--no-random-start")["random_start"] is False


@pytest.mark.parametrize("name", attacks())
def test_what_is_printed_is_what_runs(assay: Command, name: str) -> None:
    code, out, err = assay("m", "--data", "digits", "--attack", name, "--print-config")
    assert code == 0, err
    assert attacks()[name].from_yaml(out) == attacks()[name].parse({})
    Path("again.yaml").write_text(out)
    assert printed(assay, "--config", "again.yaml") == yaml.safe_load(out)


def test_help_lists_attacks_and_their_settings(assay: Command) -> None:
    code, out, _ = assay("--help")
    assert code == 0
    for name in attacks():
        assert re.search(rf"^  {name} +\w", out, re.MULTILINE), name
    assert "--n-target-classes" in out
    assert "--query-budget" in out
    code, out, _ = assay("--attack", "square", "--help")
    assert code == 0
    assert "--p-init" in out
    assert "--n-target-classes" not in out


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        ([], ["--attack NAME", "pgd"]),
        (["--attack"], ["--attack NAME"]),
        (["--attack", "pdg"], ["pdg", "'pgd'"]),
        (["--attack", "pgd", "--eps", "8"], ["eps = 8 is outside [0, 1]", "8/255"]),
        (["--attack", "pgd", "--eps", "-0.1"], ["eps", "cannot be negative"]),
        (["--attack", "pgd", "--eps", "nan"], ["eps", "finite"]),
        (["--attack", "pgd", "--eps", "8/0"], ["8/0", "fraction"]),
        (["--attack", "pgd", "--norm", "l0"], ["norm", "'linf', 'l2' or 'l1'", "'l0'"]),
        (["--attack", "few-pixel", "--eps", "2.5"], ["counts pixels", "2.5"]),
        (["--attack", "pgd", "--population", "9"], ["pgd has no --population", "genetic"]),
        (["--attack", "pgd", "--epss", "9"], ["--epss", "--eps"]),
        (["--attack", "pgd", "--config", "no.yaml"], ["no.yaml", "No such file"]),
        (["--config", "bare.yaml"], ["bare.yaml names no attack", "--attack"]),
        (["--attack", "pgd", "--config", "bad.yaml"], ["bad.yaml", "'stepz'", "'steps'"]),
        (["--attack", "pgd", "--seed", "-1"], ["--seed", "at least 0"]),
        (["--attack", "pgd", "--query-budget", "0"], ["--query-budget", "at least 1"]),
        (["--attack", "pgd", "--time-limit", "nan"], ["time_limit", "nan"]),
        (["--attack", "pgd", "--time-limit", "inf"], ["time_limit", "inf"]),
        (["--attack", "one-pixel", "--eps", "5000"], ["eps = 5000 pixels", "784 each"]),
        (["--attack", "pgd", "--time-limit", "0"], ["time_limit", "above 0"]),
        (["--attack", "pgd", "--batch-size", "-5"], ["--batch-size", "-5"]),
        (["--attack", "pgd", "--part", "0"], ["--part", "at least 1"]),
        (["--attack", "pgd", "--images", "0"], ["--images", "at least 1"]),
        (["--attack", "pgd", "--split", "tst"], ["'tst'", "'test'"]),
        (["--attack", "pgd", "--targets", "11"], ["--targets 11", "0 to 9"]),
        (["--attack", "pgd", "--targets", "cat"], ["'cat'", "least-likely"]),
        (["--attack", "pgd", "--timeout", "3"], ["m.safetensors is no URL"]),
        (["--attack", "pgd", "--header", "a: b"], ["m.safetensors is no URL"]),
        (["--attack", "pgd", "--header", "a"], ['--header is "Name: value"', "'a'"]),
        (["--attack", "pgd", "--access", "labels"], ["--access", "m.safetensors is neither"]),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(assay: Command, tokens: list[str], words: list[str]) -> None:
    Path("bare.yaml").write_text("steps: 7\n")
    Path("bad.yaml").write_text("stepz: 7\n")
    images = [] if "--images" in tokens else ["--images", "24"]
    refused(assay("@m.safetensors", "--data", "digits", *images, "--out", "out", *tokens), *words)


@pytest.mark.parametrize(
    ("model", "tokens", "words"),
    [
        ("@none.safetensors", [], ["there is no file", "none.safetensors"]),
        ("@nets.py:none", [], ["'none'", "net"]),
        ("@nets.py:colour", [], ["(1, 28, 28)", "RuntimeError", "3 channels"]),
        ("@nets.py:leaves", [], ["SystemExit"]),
        ("@nets.py:detached", [], ["no gradient"]),
        ("@nets.py:alone", [], ["(1, 28, 28)", "ValueError: two at most"]),
        ("@nets.py:alone", ["--targets", "least-likely"], ["ValueError: two at most"]),
        ("@nets.py:one", [], ["at least 2 classes", "1 outputs"]),
        ("@nets.py:soft", [], ["probabilities", "softmax"]),
        ("@nets.py:vast", [], ["a single image of shape (1, 28, 28) does not fit in memory"]),
        ("@box.py:leaves", ["--access", "labels", "--attack", "noise"], ["SystemExit"]),
        ("@box.py:labels", ["--access", "labels"], ["pgd needs access to the gradient"]),
        ("@box.py:labels", ["--access", "scores", "--attack", "square"], ["scores of 10 classes"]),
        ("@box.py:labels", ["--access", "labels", "--device", "cpu"], ["--device"]),
        ("@box.py:labels", ["--access", "labels", "--mean", "0.5"], ["mean", "only be queried"]),
        ("@box.py:labels", ["--timeout", "3"], ["is no URL"]),
        ("http://127.0.0.1:9/x", [], ["http://127.0.0.1:9/x", "--access"]),
        ("http://127.0.0.1:9/x", ["--access", "labels", "--attack", "noise"], ["be queried"]),
    ],
)  # fmt: skip
def test_models_that_cannot_be_attacked_are_one_line(
    assay: Command,
    monkeypatch: pytest.MonkeyPatch,
    model: str,
    tokens: list[str],
    words: list[str],
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    named = [] if "--attack" in tokens else ["--attack", "pgd"]
    refused(assay(model, *BARE, *named, *tokens, "--out", "out"), *words)


def test_data_of_one_class_cannot_be_led_to_it(assay: Command) -> None:
    for k in range(3):
        path = Path(f"data/test/cat/{k}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), 50 * k, dtype=np.uint8)).save(path)
    other = Path("data/train/dog/0.png")
    other.parent.mkdir(parents=True)
    Image.fromarray(np.zeros((8, 8, 3), dtype=np.uint8)).save(other)
    Path("box.py").write_text("def labels(x):\n    return [0] * len(x)\n")
    command = ("box.py:labels", "--access", "labels", "--data", "./data", "--attack", "noise")
    refused(assay(*command, "--targets", "cat", "--out", "out"), "every image is of this class")
