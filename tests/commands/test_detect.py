"""assay detect: a line for every image, a detector that is kept, and mistakes in one line."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from networks.trained import FOLDER, digit_net
from PIL import Image

from assay.cli import app, call
from assay.data import load_data
from assay.data.dataset import to_float
from assay.ood import FittedDetector, Reconstruction

MODEL = str(FOLDER / "natural.safetensors")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six digits, and below them two images of noise."""
    root = tmp_path / "images"
    (root / "other things").mkdir(parents=True)
    for k, image in enumerate(load_data("digits", split="test").images[:6, 0].numpy()):
        Image.fromarray(image).save(root / f"digit {k}.png")
    noise = np.random.default_rng(0).integers(0, 256, (2, 28, 28), dtype=np.uint8)
    for k, image in enumerate(noise):
        Image.fromarray(image).save(root / "other things" / f"noise, {k}.png")
    return root


def detect(*tokens: str | Path) -> int:
    return call(app, ["detect", MODEL, *map(str, tokens)])


def test_a_line_for_every_image(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reference = ("--reference", "digits", "--fitted-on", "1000")
    assert detect("--images", folder, *reference, "--detector", "knn", "--detector.k", "20") == 0
    out, err = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(out)))
    names = [f"digit {k}.png" for k in range(6)] + [f"other things/noise, {k}.png" for k in (0, 1)]
    assert [row["image"] for row in rows] == names
    assert [row["decision"] for row in rows] == ["inlier"] * 6 + ["outlier"] * 2
    assert len({row["threshold"] for row in rows}) == 1
    for row in rows:
        above = float(row["score"]) > float(row["threshold"])
        assert above == (row["decision"] == "outlier")
    assert "2 of 8 images score above the threshold of knn" in err
    assert "of fresh inliers it lets 95.0 % through, 95 % interval" in err
    assert "(500 calibrated it)" in err


def test_a_kept_detector_says_the_same_and_serves_in_five_lines(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept, out = tmp_path / "kept" / "gen.safetensors", tmp_path / "lines.jsonl"
    reference = ("--reference", "digits", "--fitted-on", "200", "--detector", "gen")
    assert detect("--images", folder, *reference, "--save", kept, "--quiet") == 0
    first, err = capsys.readouterr()
    assert err == ""
    assert detect("--images", folder, "--load", kept, "--lines", "json", "--out", out) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [list(row) for row in rows] == [["image", "score", "threshold", "decision"]] * 8
    said = [row["score"] for row in csv.DictReader(io.StringIO(first))]
    again = [float(text) for text in said]
    assert [row["score"] for row in rows] == pytest.approx(again, rel=1e-6)
    assert max(len(repr(row["score"])) for row in rows) > 15  # all digits, for programs
    assert max(len(text.partition("e")[0].strip("-0.")) for text in said) <= 8  # 7 and the point

    clf, detector = digit_net("natural"), FittedDetector.load(kept)
    x = to_float(load_data("digits", split="test").images[:6])
    scores = detector.score(clf.embed(x, readers=[detector]))
    assert torch.allclose(scores, torch.tensor(again[:6], dtype=torch.float64), rtol=1e-5)
    assert detector.about["reference"] == "digits (train), 200 images"


@pytest.mark.parametrize(
    "detector",
    [("reconstruction",), ("evidence-bound",), ("rank-average", "--detector.of", "reconstruction")],
    ids=lambda tokens: tokens[0],
)
def test_a_detector_by_reconstruction_trains_its_autoencoder_and_brings_it_along(
    detector: tuple[str, ...], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept, settings = tmp_path / "kept.safetensors", ("--fitted-on", "200", "--detector", *detector)
    if detector[0] == "rank-average":
        settings = (*settings, "--detector.of", "max-logit")
    fitting = (*settings, "--autoencoder-epochs", "15", "--reference", "digits")
    assert detect("--images", folder, *fitting, "--save", kept, "--quiet") == 0
    first = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    if detector[0] != "rank-average":  # in which max-logit has a say
        assert [row["decision"] for row in first[6:]] == ["outlier"] * 2
    assert detect("--images", folder, "--load", kept, "--quiet") == 0
    assert list(csv.DictReader(io.StringIO(capsys.readouterr().out))) == first


def test_a_detector_that_lost_its_autoencoder(
    folder: Path, tmp_path: Path, kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = tmp_path / "bare.safetensors"
    about = FittedDetector.load(kept).about
    FittedDetector(Reconstruction(), {"grey": torch.zeros(1)}, 10, 0.1, 0.95, about=about).save(
        bare
    )
    told = refused(capsys, "--images", folder, "--load", bare)
    assert "reads what an autoencoder makes of images, and brings none" in told


def test_settings_of_a_detector_that_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    for tokens in (("--detector", "knn"), ()):
        assert detect(*tokens, "--detector.k", "20", "--print-config", "--images", ".") == 0
        assert "k: 20" in capsys.readouterr().out


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector that is fitted on the digits."""
    path, images = tmp_path_factory.mktemp("kept"), tmp_path_factory.mktemp("one")
    Image.new("L", (28, 28)).save(images / "black.png")
    reference = ("--reference", "digits", "--fitted-on", "60", "--detector", "max-logit")
    saved = path / "d.safetensors"
    assert detect("--images", images, *reference, "--save", saved, "--out", path / "lines") == 0
    return saved


def refused(capsys: pytest.CaptureFixture[str], *tokens: str | Path) -> str:
    assert detect(*tokens) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (["--reference", "digits", "--detector", "knm"], "did you mean 'knn'"),
        ([], "give --reference DATA, or --load a detector"),
        (["--load", "nothing.safetensors"], "there is no detector at nothing.safetensors"),
        (["--reference", "digits", "--load", "d"], "--load brings a detector with its settings"),
        (["--load", "d", "--tpr", "0.9"], "leave --reference, --detector, --tpr and --config"),
        (["--reference", "digits", "--tpr", "95"], "less than 1"),
        (["--reference", "digits", "--reference-split", "validation"], "fitted on another"),
        (["--reference", "digits", "--fitted-on", "18"], "takes at least 19 rows"),
    ],
)
def test_mistakes_are_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], tokens: list[str], message: str
) -> None:
    if "18" in tokens:
        tokens = [*tokens, "--detector", "max-logit"]
    assert message in refused(capsys, "--images", folder, *tokens)


def test_images_that_cannot_be_scored(
    folder: Path, tmp_path: Path, kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    load = ("--load", kept, "--out", tmp_path / "out.csv")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "holds no images" in refused(capsys, "--images", empty, *load)
    assert "is not there" in refused(capsys, "--images", tmp_path / "no", *load)
    Image.new("L", (30, 20)).save(folder / "wide.png")
    wide = refused(capsys, "--images", folder, *load)
    assert "wide.png is 20×30, and the model is given 28×28 (1 of 9 images" in wide
    assert detect("--images", folder, *load, "--size", "28", "--quiet") == 0
    assert "is not the size that the" in refused(capsys, "--images", folder, *load, "--size", "20")
    (tmp_path / "out.csv").unlink()
    (folder / "broken.png").write_bytes(b"no image")
    assert "broken.png cannot be read as an image" in refused(capsys, "--images", folder, *load)
    assert not (tmp_path / "out.csv").exists()


def test_a_detector_of_another_model_is_refused(
    folder: Path, kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    robust = str(FOLDER / "robust.safetensors")
    assert call(app, ["detect", robust, "--images", str(folder), "--load", str(kept)]) == 2
    assert "was fitted on another model" in capsys.readouterr().err
    bare = tmp_path / "bare.safetensors"
    FittedDetector(FittedDetector.load(kept).detector, {}, 10, 0.0).save(bare)
    assert "does not say which model it is for" in refused(
        capsys, "--images", folder, "--load", bare
    )
