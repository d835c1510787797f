"""`assay explain` as a user meets it: what it says and writes, and mistakes in one line."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from assay.cli import app, call
from assay.data import load_data
from assay.explain import GradCAM, explainers
from assay.explain.faithful import FaithfulnessConfig
from assay.inputs import Inputs, load_network

Command = Callable[..., tuple[int, str, str]]

NETS = """
import torch
from torch import nn

def cnn():
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(8 * 64, 8),
    )

def mlp():
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 8))

class Strings(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 8)

    def forward(self, x):
        return "no logits"
"""
FEW = ["--networks", "2", "--randomised", "4", "--stages", "2", "--steps", "4", "--threads", "1"]
FOUR = ["--explainers", "grad-cam", "layer-cam", "eigen-cam", "occlusion"]


@pytest.fixture
def assay(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Command:
    """Run the command in a folder that holds networks: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ASSAY_DATA", raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    Path("nets.py").write_text(NETS)

    def run(*tokens: str) -> tuple[int, str, str]:
        code = call(app, ["explain", *tokens])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def refused(answer: tuple[int, str, str], *words: str) -> None:
    code, out, err = answer
    assert (code, out) == (2, "")
    line = err.splitlines()[-1]
    assert line.startswith("assay: ")
    assert "Traceback" not in err
    for word in words:
        assert word in line, line


def test_a_model_is_explained_and_judged(assay: Command) -> None:
    data = ["nets.py:cnn", "--data", "shapes", "--images", "12"]
    code, out, err = assay(*data, *FOUR, *FEW, "--out", "a", "--pictures", "3")
    assert code == 0, err
    assert "nets.py:cnn on shapes (test), 12 images" in out
    for name in FOUR[1:]:
        assert out.count(name) >= 3, "a row of areas, of correlations and of the pointing game"
    assert "a point at random" in out
    assert out.endswith("\na\n")
    folder = Path("a")
    assert sorted(path.name for path in folder.iterdir()) == [
        "arrays.safetensors",
        "curves.png",
        "explain.json",
        "maps.png",
        "record.json",
    ]
    told = json.loads((folder / "explain.json").read_text())
    assert set(told["explainers"]) == set(FOUR[1:])
    assert (told["n"], told["failed"], told["schema"]) == (12, {}, 1)
    cam = told["explainers"]["grad-cam"]
    assert cam["settings"]["name"] == "grad-cam"
    assert cam["pointing"]["rate"]["n"] == 12
    assert cam["randomisation"]["images"] == 4
    assert len(cam["curves"]["deletion"]["share"]) == 5

    # the arrays are the maps of those images, and what the figures come from
    arrays = load_file(folder / "arrays.safetensors")
    test = load_data("shapes", split="test")
    some = test.sample(12)
    assert torch.equal(arrays["ids"], some.ids)
    x = some.images.float() / 255
    clf = load_network(Inputs(model="nets.py:cnn", data="shapes"), test)
    assert torch.equal(arrays["targets"], clf.predict(x))
    maps = GradCAM()(clf, x, arrays["targets"])
    torch.testing.assert_close(arrays["grad-cam/map"], maps.values, rtol=0, atol=1e-5)
    gain = arrays["grad-cam/gain"].mean().item()
    assert cam["better_than_random"]["value"] == pytest.approx(gain)
    shown = np.asarray(Image.open(io.BytesIO((folder / "maps.png").read_bytes())))
    assert shown.shape[0] > 300
    assert shown.std() > 10


def test_the_same_command_writes_the_same_bytes(assay: Command) -> None:
    data = ["nets.py:cnn", "--data", "shapes", "--images", "6", "--quiet"]
    for out in ("a", "b"):
        code, said, err = assay(*data, "--explainers", "grad-cam", *FEW, "--out", out)
        assert (code, said, err) == (0, f"{out}\n", "")
    for name in ("explain.json", "arrays.safetensors", "maps.png", "curves.png"):
        assert Path("a", name).read_bytes() == Path("b", name).read_bytes(), name


def test_what_does_not_work_on_a_model_is_listed_with_the_reason(assay: Command) -> None:
    data = ["nets.py:mlp", "--data", "shapes", "--images", "4"]
    code, out, err = assay(*data, "--explainers", "grad-cam", "occlusion", *FEW, "--out", "a")
    assert code == 0, err
    assert "Not for this model" in out
    told = json.loads(Path("a/explain.json").read_text())
    assert "Grad-CAM explains networks with spatial layers" in told["failed"]["grad-cam"]
    assert list(told["explainers"]) == ["occlusion"]


def test_a_map_that_could_not_be_tried_on_random_weights_has_a_dash(assay: Command) -> None:
    Path("net.py").write_text(
        "from torch import nn\n"
        "def make():\n"
        "    net = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(1800, 8))\n"
        "    nn.init.zeros_(net[2].weight)\n"
        "    return net\n"
    )
    code, out, err = assay(
        *("net.py:make", "--data", "shapes", "--images", "4", "--explainers", "occlusion", *FEW)
    )
    assert code == 0, err
    assert "not run" in out
    assert "± –" not in out


def test_a_set_without_masks_has_no_pointing_game(assay: Command) -> None:
    Path("net.py").write_text(
        "from torch import nn\n"
        "def make():\n"
        "    return nn.Sequential(nn.Conv2d(1, 4, 5, 4), nn.Flatten(), nn.Linear(144, 10))\n"
    )
    data = ["net.py:make", "--data", "digits", "--images", "4"]
    code, out, err = assay(*data, "--explainers", "layer-cam", *FEW)
    assert code == 0, err
    assert "a point at random" not in out
    assert not list(Path().glob("*.json")), "without --out nothing is written"


def test_settings_from_a_file_and_from_flags(assay: Command) -> None:
    Path("mine.yaml").write_text(
        "explainers: [{name: occlusion, window: 4}, {name: grad-cam, layer: '1'}]\nsteps: 7\n"
    )
    code, out, err = assay("m", "--data", "shapes", "--config", "mine.yaml", "--print-config")
    assert code == 0, err
    made = FaithfulnessConfig.from_yaml(out)
    assert [one.name for one in made.explainers] == ["occlusion", "grad-cam"]
    assert made.explainers[1] == GradCAM(layer="1")
    assert made.steps == 7
    _, out, _ = assay(
        *("m", "--data", "shapes", "--config", "mine.yaml", "--explainers", "score-cam"),
        *("--steps", "9", "--deleted", "0.5", "--print-config"),
    )
    made = FaithfulnessConfig.from_yaml(out)
    assert [one.name for one in made.explainers] == ["score-cam"]
    assert (made.steps, made.deleted) == (9, 0.5)


def test_the_help_names_every_explainer(assay: Command) -> None:
    code, out, _ = assay("--help")
    assert code == 0
    plain = " ".join(out.replace("│", " ").split())
    for name in explainers():
        assert name in plain


class TestMistakes:
    def test_unknown_explainer(self, assay: Command) -> None:
        answer = assay("m", "--data", "shapes", "--explainers", "gradcam")
        refused(answer, "gradcam", "'grad-cam'")

    def test_explainer_that_stands_twice(self, assay: Command) -> None:
        answer = assay("m", "--data", "shapes", "--explainers", "grad-cam", "grad-cam")
        refused(answer, "explainers", "twice")

    def test_no_model(self, assay: Command) -> None:
        refused(assay("no.safetensors", "--data", "shapes"), "no.safetensors")

    def test_no_data(self, assay: Command) -> None:
        refused(assay("nets.py:cnn"), "--data")

    @pytest.mark.parametrize(
        ("flag", "value"), [("--images", "0"), ("--pictures", "-1"), ("--threads", "0")]
    )
    def test_numbers_that_mean_nothing(self, assay: Command, flag: str, value: str) -> None:
        refused(assay("nets.py:cnn", "--data", "shapes", flag, value), flag, value)

    def test_a_setting_out_of_range(self, assay: Command) -> None:
        refused(assay("nets.py:cnn", "--data", "shapes", "--survives", "2"), "survives", "'2'")

    def test_a_folder_below_a_file(self, assay: Command) -> None:
        Path("file").touch()
        answer = assay("nets.py:cnn", "--data", "shapes", "--out", "file/a")
        refused(answer, "file/a", "below a file")

    def test_a_model_that_gives_no_logits(self, assay: Command) -> None:
        answer = assay("nets.py:Strings", "--data", "shapes", "--images", "2", "--quiet")
        refused(answer, "str", "logits")

    def test_no_explainer_works(self, assay: Command) -> None:
        data = ["nets.py:mlp", "--data", "shapes", "--images", "2", "--quiet"]
        refused(assay(*data, "--explainers", "grad-cam"), "no explainer", "spatial")

    def test_images_that_do_not_fit(self, assay: Command) -> None:
        answer = assay("nets.py:cnn", "--data", "digits", "--images", "2")
        refused(answer, "fails on these images, (1, 28, 28) each", "3 channels")

    def test_classes_that_do_not_fit(self, assay: Command) -> None:
        Path("net.py").write_text(
            "from torch import nn\n"
            "def make():\n"
            "    return nn.Sequential(nn.Flatten(), nn.Linear(784, 3))\n"
        )
        answer = assay("net.py:make", "--data", "digits", "--images", "2")
        refused(answer, "3 outputs", "10 classes")
