"""Before a long attack, or maps that nobody doubts: is the model given what it was trained on?"""

from __future__ import annotations

from pathlib import Path

import pytest
from attacked import ON_DIGITS, Command

from assay.cli import app, call

BYTES = """
import torch
import doubted

class OfBytes(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = doubted.net()

    def forward(self, x):
        return self.inner(x / 255)
"""
MENDED = ("--mean", "0", "--std", "0.00392157")


@pytest.fixture(scope="module")
def of_bytes(models: Path) -> str:
    (models / "of_bytes.py").write_text(BYTES)
    (models / "doubted.py").write_text((models / "nets.py").read_text())
    return "@of_bytes.py:OfBytes"


def test_an_attack_says_first_what_would_mend_the_model(assay: Command, of_bytes: str) -> None:
    settings = (*ON_DIGITS[:2], "--images", "100", "--threads", "1", "--no-progress")
    code, _, err = assay(of_bytes, *settings, "--attack", "fgsm", "--out", "o")
    assert code == 0
    assert "PRE-004: " in err
    assert " ".join(MENDED) in err
    _, _, err = assay(of_bytes, *settings, *MENDED, "--attack", "fgsm", "--out", "p")
    assert "PRE-" not in err
    _, _, err = assay(of_bytes, *settings, "--attack", "fgsm", "--quiet", "--out", "q")
    assert err == ""


def test_what_can_only_be_queried_is_judged_by_what_it_said(assay: Command, models: Path) -> None:
    turned = "import box\n\ndef labels(x):\n    return (box.labels(x) + 1) % 10\n"
    (models / "turned.py").write_text(turned)
    settings = ("--access", "labels", "--data", "digits", "--images", "200", "--no-progress")
    code, _, err = assay("@turned.py:labels", *settings, "--attack", "noise", "--out", "o")
    assert code == 0
    assert "PRE-001: " in err
    assert "it would be --classes 9 0 1 2 3 4 5 6 7 8" in err


def test_explain_says_it_too(
    of_bytes: str, models: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    model = of_bytes.replace("@", f"{models}/")
    explainers = ("--explainers", "integrated-gradients", "--images", "64", "--pictures", "0")
    line = ["explain", model, "--data", "digits", *explainers, "--out", str(tmp_path / "o")]
    assert call(app, line) == 0
    assert " ".join(MENDED) in capsys.readouterr().err


DRAWS = """
import torch
import drawn

class Draws(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = drawn.net()

    def forward(self, x):
        return self.inner(torch.nn.functional.dropout(x, 0.5, training=True))
"""


def test_a_model_that_answers_differently_each_time_is_named(
    assay: Command, models: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (models / "draws.py").write_text(DRAWS)
    (models / "drawn.py").write_text((models / "nets.py").read_text())
    settings = (*ON_DIGITS[:2], "--images", "32", "--threads", "1", "--no-progress")
    code, _, err = assay("@draws.py:Draws", *settings, "--attack", "fgsm", "--out", "o")
    assert code == 0
    assert sum("PRE-008: " in line for line in err.splitlines()) == 1
    explainers = ("--explainers", "integrated-gradients", "--images", "32", "--pictures", "0")
    line = ["explain", f"{models}/draws.py:Draws", "--data", "digits", *explainers]
    call(app, [*line, "--out", str(tmp_path / "o")])
    assert "of 16 labels change: every figure is of one draw" in capsys.readouterr().err
