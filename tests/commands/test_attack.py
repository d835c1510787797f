"""`assay attack` as a user meets it: what it writes, and how it goes on."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from attacked import BARE, ON_DIGITS, Command, about, contents, refused, seen, to_unit
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from assay.attacks import PGD
from assay.core.blackbox import BlackBox
from assay.core.classifier import Classifier
from assay.data import Dataset, load_data
from assay.stats import proportion

# -- what it writes ----------------------------------------------------------------------------


def test_what_it_writes(assay: Command, clf: Classifier, digits: Dataset) -> None:
    settings = ("--attack", "pgd", "--eps", "25/255", "--steps", "5", "--seed", "3")
    code, out, err = assay("@m.safetensors", *ON_DIGITS, *settings, "--out", "out")
    assert (code, err) == (0, "")
    assert sorted(path.name for path in Path("out").iterdir()) == [
        ".lock",
        "arrays.safetensors",
        "attack.json",
        "images",
        "record.json",
        "sheet.png",
        "state.json",
    ]
    # the arrays are those of the same attack in Python
    x, y = digits.take(24)
    attack = PGD(eps=25 / 255, steps=5)
    result = attack(clf, x, y, seed=3, ids=digits.subset(torch.arange(24)).ids)
    arrays = load_file("out/arrays.safetensors")
    assert 0 < int(result.success.sum()) < int(result.correct.sum())
    assert torch.equal(arrays["success"], result.success)
    assert torch.equal(arrays["ids"], digits.ids)
    torch.testing.assert_close(arrays["adversarial"], result.adversarial)

    said = about("out")
    assert said["attack"] == attack.model_dump(mode="json")
    assert (said["schema"], said["n"], said["seed"], said["stop"]) == (1, 24, 3, "never")
    assert said["success_rate"] == result.success_rate.to_dict()
    assert said["after_rounding"] == result.after_rounding.to_dict()
    clean = proportion(int(result.correct.sum()), 24, "all images")
    assert said["clean_accuracy"] == clean.to_dict()
    assert said["model"]["name"].endswith("/m.safetensors")
    assert said["data"]["fingerprint"] == digits.fingerprint
    assert said["flags"] == []
    record = json.loads(Path("out/record.json").read_text())
    assert record["versions"]["torch"]
    assert record["seconds"] > 0

    lines = [line.strip() for line in out.splitlines()]
    rate = f"{100 * result.success_rate.value:.1f} %"
    assert lines[0].startswith("PGD, L∞ 25/255 on ")
    assert lines[0].endswith("/m.safetensors, digits (test)")
    assert any(re.match(rf"correctly classified images fooled +{rate} \(", line) for line in lines)
    assert any(re.match("the same, once rounded to 8 bits +", line) for line in lines)
    assert lines[-1] == "out"


def test_pngs_hold_what_their_names_say(assay: Command, clf: Classifier, digits: Dataset) -> None:
    """Images of the least size that fools: rounding undoes some of them, and the names say so."""
    nearest = ("--attack", "deepfool", "--norm", "l2", "--overshoot", "0.001")
    code, out, _ = assay("@m.safetensors", *ON_DIGITS, *nearest, "--out", "out")
    assert code == 0
    arrays = load_file("out/arrays.safetensors")
    names = sorted(path.name for path in Path("out/images").iterdir())
    ids = [f"{i:06d}" for i in digits.ids[arrays["success"] & arrays["correct"]][:16].tolist()]
    assert [name.split("-")[0] for name in names[::4]] == sorted(ids)
    assert len(names) == 4 * 16
    undone = 0
    for image, attacked, difference, amplified in zip(*[iter(names)] * 4, strict=True):
        index, before, after, *_ = attacked.split("-")
        row = digits.ids.tolist().index(int(index))
        clean, moved = seen(image), seen(attacked)
        assert torch.equal((255 * clean).round().byte()[0], digits.images[row])
        assert torch.equal(moved[0], (255 * arrays["adversarial"][row]).round() / 255)
        assert int(clf.predict(clean)) == int(before) == int(digits.labels[row])
        is_fooled = int(clf.predict(moved)) != int(before)
        assert is_fooled == ("undone" not in attacked)
        if is_fooled:
            assert int(clf.predict(moved)) == int(after)
        undone += not is_fooled
        shift = arrays["adversarial"][row] - to_unit(digits.images[row])
        assert torch.allclose(seen(difference)[0], (0.5 + shift).clamp(0, 1), atol=0.6 / 255)
        factor = float(amplified.removesuffix(".png").rpartition("-x")[2])
        assert torch.allclose(
            seen(amplified)[0], (0.5 + factor * shift).clamp(0, 1), atol=0.6 / 255
        )
    assert 0 < undone < 16
    said = about("out")
    assert said["after_rounding"]["value"] < said["success_rate"]["value"]
    assert [flag["code"] for flag in said["flags"]] == ["REL-007"]
    assert "! REL-007: 8-bit rounding undoes success." in out


def test_colour_and_names_of_classes(assay: Command) -> None:
    Path("grey.py").write_text(
        "import numpy as np\n"
        "def scores(x):\n"  # the shapes by nothing but how red the image is
        "    near = -8 * abs(x[:, :1].mean((2, 3)) - np.linspace(0.1, 0.9, 8))\n"
        "    return np.exp(near) / np.exp(near).sum(1, keepdims=True)\n"
    )
    flags = ("--access", "scores", "--attack", "square", "--eps", "0.2", "--queries", "20")
    data = ("--data", "shapes", "--images", "100", "--pictures", "2", "--threads", "1", "--quiet")
    assert assay("grey.py:scores", *flags, *data, "--out", "out")[0] == 0
    names = sorted(path.name for path in Path("out/images").iterdir())
    assert len(names) == 8
    classes = load_data("shapes", split="test").classes
    for name in names:
        with Image.open(Path("out/images") / name) as image:
            assert image.mode == "RGB"
        assert set(name.split("-")[1:3]) <= set(classes)


def test_pictures_are_those_of_the_last_call_and_others_stay(assay: Command) -> None:
    command = ("@m.safetensors", *ON_DIGITS, "--attack", "fgsm", "--eps", "0.2", "--out", "out")
    assert assay(*command)[0] == 0
    folder = Path("out/images")
    before = contents("out")
    assert len(list(folder.iterdir())) > 12
    (folder / "holiday.png").touch()
    assert assay(*command, "--pictures", "3")[0] == 0
    assert len(list(folder.iterdir())) == 3 * 4 + 1
    assert assay(*command, "--pictures", "0")[0] == 0
    assert [path.name for path in folder.iterdir()] == ["holiday.png"]
    assert not Path("out/sheet.png").exists()
    (folder / "holiday.png").unlink()
    assert assay(*command)[0] == 0
    assert contents("out") == before
    weak = ("--attack", "fgsm", "--eps", "0", "--out", "weak")  # fools nobody
    assert assay("@m.safetensors", *ON_DIGITS, *weak)[0] == 0
    assert not Path("weak/images").exists()
    assert about("weak")["success_rate"]["value"] == 0.0


# -- how it goes on ----------------------------------------------------------------------------

SLOW = (
    *("@box.py:logits", "--access", "logits", "--attack", "square", "--queries", "12"),
    *("--eps", "0.2", "--part", "4", "--data", "digits", "--images", "40", "--threads", "1"),
)


PROGRAM = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
from assay.cli import main
main()
"""


def stopped(models: Path, how: signal.Signals, after: int) -> tuple[int, str, str]:
    """Run the slow command, and send it a signal once so many parts are there."""
    tokens = [token.replace("@", f"{models}/") for token in (*SLOW, "--out", "rough")]
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "attack", *tokens],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PAUSE": "0.03"},
    )
    deadline = time.monotonic() + 60
    while parts() < after:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(how)
    out, err = process.communicate(timeout=30)
    return process.returncode, out, err


def parts() -> int:
    return len(list(Path("rough").glob("parts/0*")))


def test_stopped_it_goes_on_to_the_same_bytes(assay: Command, models: Path) -> None:
    code, out, err = stopped(models, signal.SIGINT, after=1)
    assert (code, out) == (130, "")
    assert (
        err == "assay: interrupted; what was finished is kept, and the same command goes on there\n"
    )
    first = parts()
    assert 1 <= first < 9
    assert stopped(models, signal.SIGKILL, after=first + 1)[0] == -signal.SIGKILL
    second = parts()
    assert first < second < 10
    assert not Path("rough/attack.json").exists()
    code, _, err = assay(*SLOW, "--out", "rough")
    assert code == 0
    assert f"40/40 images attacked ({4 * second} done already)" in err
    assert assay(*SLOW, "--out", "calm")[0] == 0
    assert contents("rough") == contents("calm")
    assert "sheet.png" in contents("calm")


def test_what_is_finished_is_not_attacked_again(
    assay: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("@box.py:labels", "--access", "labels", *ON_DIGITS, "--attack", "hopskipjump")
    command = (*command, "--queries", "200", "--out", "out")
    assert assay(*command)[0] == 0
    before = contents("out")
    Path("out/record.json").write_text("made elsewhere")
    asked = []
    query = BlackBox.query

    def counted(box: BlackBox, x: Tensor) -> Tensor:
        asked.append(len(x))
        return query(box, x)

    monkeypatch.setattr(BlackBox, "query", counted)
    assert assay(*command)[0] == 0
    assert contents("out") == before
    assert Path("out/record.json").read_text() == "made elsewhere"
    assert sum(asked) <= 4 * 24 + 2 * 16, "rounding, three looks at the same images, PRE-008"


def test_a_folder_of_other_settings_or_of_somebody_else_is_refused(assay: Command) -> None:
    command = ("@m.safetensors", *BARE, "--attack", "pgd", "--steps", "2")
    assert assay(*command, "--out", "first")[0] == 0
    before = contents("first")
    for other, said in (
        (("--eps", "0.1"), "attack.eps was 0.0313725, is 0.1"),
        (("--targets", "3"), "targets was None, is 3"),
        (("--split", "validation"), "data was"),
        (("--threads", "2"), "threads was 1, is 2"),
    ):
        tokens = [token for token in command if token not in ("--threads", "1")]
        tokens += [] if "--threads" in other else ["--threads", "1"]
        refused(assay(*tokens, *other, "--out", "first"), "first was made with", said)
    refused(assay("@nets.py:soft", "--outputs", "probabilities", *command[1:], "--out", "first"))
    assert contents("first") == before

    for name in ("attack.json", "record.json", "sheet.png", "images/cat.png", "parts/wheel"):
        theirs = Path("theirs") / name
        theirs.parent.mkdir(parents=True, exist_ok=True)
        theirs.write_text("mine")
        refused(assay(*command, "--out", "theirs"), "theirs", name.split("/")[0], "another folder")
        assert theirs.read_text() == "mine"
        shutil.rmtree(theirs.parent) if theirs.parent.name != "theirs" else theirs.unlink()
        assert not any(Path("theirs").rglob("*")), "a lock was left in a folder of somebody else"
    Path("beside").mkdir()
    (Path("beside") / "notes.txt").write_text("mine")
    assert assay(*command, "--out", "beside")[0] == 0  # what is not in the way stays
    assert (Path("beside") / "notes.txt").read_text() == "mine"


def test_a_folder_that_cannot_be_written(assay: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("file").touch()
    command = ("@m.safetensors", *BARE, "--attack", "fgsm")
    refused(assay(*command, "--out", "file/out"), "file/out", "below a file")

    def forbidden(*_: object, **__: object) -> None:  # root may write everywhere
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", forbidden)
    refused(assay(*command, "--out", "out"), "cannot write out", "Permission denied")
    monkeypatch.undo()


def test_a_full_disk_is_one_line(assay: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    command = ("@m.safetensors", *ON_DIGITS, "--attack", "fgsm", "--eps", "0.2", "--out", "out")
    code, out, err = assay(*command)
    assert (code, out) == (2, "")
    assert "no space left" in err
    assert err.count("\n") == 1
    monkeypatch.undo()


def test_an_interruption_is_one_line(assay: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("assay.workflows.attack.run_over", interrupted)
    code, out, err = assay("@m.safetensors", *BARE, "--attack", "pgd", "--out", "out")
    assert (code, out) == (130, "")
    assert (
        err == "assay: interrupted; what was finished is kept, and the same command goes on there\n"
    )
