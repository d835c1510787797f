"""Sets in shards: the numbers of the whole, nothing done twice, and what is broken is named."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from engines import Here
from networks.trained import FOLDER, digit_net
from PIL import Image

from assay.attacks import PGD
from assay.cli import app, call
from assay.data import load_data, load_predictions
from assay.data.dataset import Dataset, to_float
from assay.data.shards import Reading, batches, classes_of, shape_of, shards_in
from assay.errors import AssayError
from assay.ood import Energy, FittedDetector, MaxSoftmax
from assay.tasks.reconstructing import autoencoder_of
from assay.workflows import shards as working
from assay.workflows.attack_shards import alike
from assay.workflows.over import run_over

MODEL = str(FOLDER / "robust.safetensors")
N, CUTS = 60, (0, 17, 37, 60)
PGD_3 = ("--attack", "pgd", "--eps", "0.1", "--steps", "3", "--quiet")
READ = Reading((1, 28, 28), False, None, tuple("0123456789"))


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_data("digits", split="test").subset(range(N))


def write_npz(folder: Path, data: Dataset, cuts: Sequence[int] = CUTS) -> Path:
    folder.mkdir()
    for k, rows in enumerate(map(slice, cuts, cuts[1:])):
        held = {"images": data.images[rows].numpy(), "labels": data.labels[rows].numpy()}
        np.savez(folder / f"part-{k}.npz", **held)
    return folder


def encoded(image: torch.Tensor) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image[0].numpy()).save(file, "PNG")
    return file.getvalue()


def write_parquet(folder: Path, data: Dataset, names: Sequence[str] | None = None) -> Path:
    """Write shards as `datasets` does, with the names of the classes in the order of `names`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = list(names or data.classes)
    feature = {"label": {"names": names, "_type": "ClassLabel"}}
    about = {b"huggingface": json.dumps({"info": {"features": feature}}).encode()}
    folder.mkdir()
    for k, rows in enumerate(map(slice, CUTS, CUTS[1:])):
        images = [{"bytes": encoded(image), "path": None} for image in data.images[rows]]
        labels = [names.index(data.classes[y]) for y in data.labels[rows].tolist()]
        table = pa.table({"image": images, "label": labels}).replace_schema_metadata(about)
        pq.write_table(table, folder / f"test-{k:05d}.parquet", compression="none")
    return folder


Command = Callable[..., tuple[int, list[str]]]


@pytest.fixture
def assay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run a command on shards, in this process: (exit code, the trials that it ran)."""
    monkeypatch.chdir(tmp_path)

    def run(*tokens: str, most: float = float("inf")) -> tuple[int, list[str]]:
        engine = Here(tmp_path / "out", most=most)
        monkeypatch.setattr(working, "execute", engine.execute)
        return call(app, list(tokens)), [one.label.removeprefix("shard ") for one in engine.taken]

    return run


def arrays(out: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Return the arrays of all shards in `out`, in the order of their images."""
    parts = [dict(np.load(file)) for file in out.glob("trials/*/arrays.npz")]
    parts.sort(key=lambda part: int(part["ids"][0]))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def read_csv(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text())))


# -- attacks -----------------------------------------------------------------------------------


@pytest.mark.parametrize("write", [write_npz, write_parquet])
def test_shards_have_the_numbers_of_the_whole(
    write: Callable[..., Path], digits: Dataset, assay: Command, tmp_path: Path
) -> None:
    write(tmp_path / "set", digits)
    code, ran = assay("attack", MODEL, "--shards", "set", *PGD_3, "--out", "out")
    assert (code, len(ran)) == (0, 3)
    clf = digit_net("robust")
    whole = run_over(PGD(eps=0.1, steps=3), clf, digits, folder=tmp_path / "whole")
    found = arrays(tmp_path / "out")
    for name in ("correct", "success", "distance", "queries", "adversarial_prediction"):
        assert np.array_equal(found[name], getattr(whole, name).numpy()), name
    about = json.loads((tmp_path / "out" / "attack.json").read_text())
    assert about["robust_accuracy"] == whole.robust_accuracy.to_dict()
    assert about["success_rate"] == whole.success_rate.to_dict()
    assert about["after_rounding"] == whole.after_rounding.to_dict()
    assert about["median_distance"] == pytest.approx(whole.median_distance)
    rows = read_csv(tmp_path / "out" / "shards.csv")
    assert [int(row["n"]) for row in rows] == [17, 20, 23]
    assert sum(int(row["success"]) for row in rows) == about["success"] > 0
    said = load_predictions(tmp_path / "out" / "predictions.npz")
    assert said.classes == digits.classes
    assert torch.equal(said.answer, whole.clean_prediction)
    assert torch.equal(said.labels, digits.labels)
    assert len(set(said.metadata["shard"])) == 3


def test_what_is_done_is_not_done_again(digits: Dataset, assay: Command, tmp_path: Path) -> None:
    write_npz(tmp_path / "set", digits)
    command = ("attack", MODEL, "--shards", "set", *PGD_3, "--out", "out")
    assert assay(*command, most=1) == (130, ["part-0.npz"])
    assert assay(*command) == (0, ["part-1.npz", "part-2.npz"])
    first = (tmp_path / "out" / "attack.json").read_bytes()
    assert assay(*command) == (0, [])
    assert (tmp_path / "out" / "attack.json").read_bytes() == first
    (tmp_path / "set" / "part-0.npz").rename(tmp_path / "set" / "part-00.npz")
    assert assay(*command) == (0, [])  # known by what it holds, not by its name
    held = {"images": digits.images[:5].numpy(), "labels": digits.labels[:5].numpy()}
    np.savez(tmp_path / "set" / "part-2.npz", **held)
    np.savez(tmp_path / "set" / "part-3.npz", **held)
    assert assay(*command) == (0, ["part-2.npz", "part-3.npz"])
    assert assay(*command, "--seed", "1") == (
        0,
        ["part-00.npz", *(f"part-{k}.npz" for k in (1, 2, 3))],
    )


def test_a_broken_shard_is_named_and_the_others_count(
    digits: Dataset, assay: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_parquet(tmp_path / "set", digits)
    broken = folder / "test-00001.parquet"
    whole = broken.read_bytes()
    png = encoded(digits.images[17 + 4])
    assert whole.count(png) == 1
    broken.write_bytes(whole.replace(png, b"\0" * len(png)))
    command = ("attack", MODEL, "--shards", "set", *PGD_3, "--out", "out")
    assert assay(*command)[0] == 1
    said = capsys.readouterr().err
    assert "row 4 of shard test-00001.parquet cannot be read as an image" in said
    assert "1 of 3 shards are missing" in said
    about = json.loads((tmp_path / "out" / "attack.json").read_text())
    assert about["n"] == 40
    assert [one["shard"] for one in about["missing"]] == ["shard test-00001.parquet"]
    assert assay(*command) == (1, ["test-00001.parquet"])  # tried again
    broken.write_bytes(whole)
    assert assay(*command) == (0, ["test-00001.parquet"])
    assert json.loads((tmp_path / "out" / "attack.json").read_text())["n"] == N
    broken.write_bytes(whole[:500])
    assert assay(*command)[0] == 2
    assert "test-00001.parquet cannot be read" in capsys.readouterr().err


def test_labels_go_by_the_names_of_classes(digits: Dataset, tmp_path: Path) -> None:
    names = digits.classes[::-1]
    (first, *_), reading = shards_in(write_parquet(tmp_path / "set", digits, names), "test"), READ
    assert classes_of(first) == names
    ((ids, images, labels),) = batches(first, reading, 100)
    assert labels.tolist() == digits.labels[:17].tolist()
    assert torch.equal(images, digits.images[:17])
    assert ids.tolist() == list(range(17))


def test_a_shard_of_the_target_class_alone_is_done_and_counts_nothing(
    digits: Dataset, assay: Command, tmp_path: Path
) -> None:
    """As where shards are sorted by class; of no other image there is nothing to say."""
    mine = digits.labels == 3
    write_npz(tmp_path / "set", digits.subset(mine), (0, int(mine.sum())))
    (tmp_path / "set" / "part-0.npz").rename(tmp_path / "set" / "alone.npz")
    command = ("attack", MODEL, "--shards", "set", *PGD_3, "--out", "out", "--targets", "3")
    assert assay(*command)[0] == 2
    write_npz(tmp_path / "more", digits, (0, 30))
    (tmp_path / "more" / "part-0.npz").rename(tmp_path / "set" / "part-0.npz")
    assert assay(*command) == (0, ["part-0.npz"])
    about = json.loads((tmp_path / "out" / "attack.json").read_text())
    assert about["n"] == int((digits.labels[:30] != 3).sum())
    assert about["missing"] == []


def test_targets_leave_their_own_class_out(digits: Dataset, assay: Command, tmp_path: Path) -> None:
    write_npz(tmp_path / "set", digits)
    command = ("attack", MODEL, "--shards", "set", *PGD_3, "--out", "out", "--targets", "3")
    assert assay(*command)[0] == 0
    found = arrays(tmp_path / "out")
    assert len(found["ids"]) == int((digits.labels != 3).sum()) < N
    assert set(found["adversarial_prediction"][found["success"]]) == {3}


def test_shards_that_differ_by_more_than_chance_are_told() -> None:
    # counts 30 of 50 and 10 of 50: χ² = (2·10²/20 + 2·10²/30) = 16.67 with one degree of freedom
    assert alike([(30, 50), (10, 50)]) == pytest.approx(4.456e-5, rel=1e-3)
    assert alike([(30, 50)]) is alike([(50, 50), (20, 20)]) is None


MISTAKES = {
    "nothing": ((), "say what is attacked: --data DATA, or --shards FOLDER"),
    "both": (("--data", "digits", "--shards", "set"), "--data and --shards were given"),
    "no folder": (("--shards", "sett"), "the folder of shards sett is not there"),
    "no shards": (("--shards", "empty"), "holds no shards: no .parquet, .arrow or .npz"),
    "engine": (("--data", "digits", "--engine", "ray"), "--engine spreads the shards of a set"),
    "address": (("--shards", "set", "--ray-address", "a:1"), "without --engine ray"),
    "workers": (("--shards", "set", "--workers", "0"), "--workers must be at least 1, got 0"),
    "time": (("--shards", "set", "--time-limit", "3"), "--time-limit does not go with --shards"),
    "least": (("--shards", "set", "--targets", "least-likely"), "name a class"),
    "kind": (("--shards", "floats"), "are float64 (3, 1, 28, 28); they must be uint8"),
    "label": (("--shards", "many"), "row 1 of shard a.npz has the label 12"),
    "size": (("--shards", "wide"), "takes images of 1 channel, but those of wide have 3"),
    "split": (("--shards", "split"), "no shards of the split 'test', but of train"),
}


@pytest.mark.parametrize("which", MISTAKES)
def test_mistakes_are_one_line(
    which: str, assay: Command, digits: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokens, words = MISTAKES[which]
    write_npz(tmp_path / "set", digits)
    images, labels = digits.images[:3].numpy(), digits.labels[:3].numpy()
    sets = {
        "empty": None,
        "floats": {"images": images / 255.0, "labels": labels},
        "many": {"images": images, "labels": np.array([1, 12, 3])},
        "wide": {"images": np.zeros((3, 3, 8, 9), np.uint8), "labels": labels},
    }
    for name, held in sets.items():
        (tmp_path / name).mkdir()
        if held is not None:
            np.savez(tmp_path / name / "a.npz", **held)
    (tmp_path / "split").mkdir()
    np.savez(tmp_path / "split" / "train-0.npz", images=images, labels=labels)
    code, _ = assay("attack", MODEL, *PGD_3, "--out", "out", *tokens)
    said = capsys.readouterr().err
    assert code == 2, said
    assert words in said
    assert len(said.strip().splitlines()) == 1
    assert not (tmp_path / "out" / "attack.json").exists()


# -- detectors ---------------------------------------------------------------------------------


def test_detectors_score_shards_as_they_score_the_whole(
    digits: Dataset, assay: Command, tmp_path: Path
) -> None:
    write_npz(tmp_path / "set", digits)
    tokens = ("--reference", "digits", "--fitted-on", "200", "--detector", "energy")
    command = ("detect", MODEL, "--shards", "set", *tokens, "--also", "max-softmax", "--out", "out")
    code, ran = assay(*command, "--quiet")
    assert (code, len(ran)) == (0, 4)
    assert assay(*command, "--quiet") == (0, [])
    clf = digit_net("robust")
    held = load_data("digits", split="validation").sample(200)
    e = clf.embed(to_float(digits.images))
    rows = read_csv(tmp_path / "out" / "scores.csv")
    about = json.loads((tmp_path / "out" / "detect.json").read_text())
    for place, detector in enumerate((Energy(), MaxSoftmax())):
        known = clf.embed(load_data("digits", split="train").sample(200))
        fitted = detector.fit(known, calibrate=clf.embed(held))
        scores = [float(row["score"]) for row in rows if row["detector"] == detector.name]
        assert scores == pytest.approx(fitted.score(e).tolist())
        outliers = int(fitted.is_outlier(e).sum())
        assert about["detectors"][place]["flagged"] == outliers
        assert about["detectors"][place]["share"]["n"] == N
    assert max(len(row["score"].partition("e")[0].strip("-0.")) for row in rows) <= 8  # 7 digits
    assert rows[-1]["image"] == "part-2.npz:22"
    assert assay(*command[:-2], "--quiet", "--out", "out", "--also", "energy")[0] == 2  # twice


def test_detectors_by_reconstruction_learn_their_autoencoder_once_for_all_shards(
    digits: Dataset, assay: Command, tmp_path: Path
) -> None:
    write_npz(tmp_path / "set", digits)
    tokens = ("--reference", "digits", "--fitted-on", "100", "--autoencoder-epochs", "2")
    command = ("detect", MODEL, "--shards", "set", *tokens, "--detector", "reconstruction")
    code, ran = assay(*command, "--also", "max-logit", "--out", "out", "--quiet")
    assert (code, len(ran)) == (0, 4)
    (kept,) = (tmp_path / "out" / "trials").glob("*/0-reconstruction.safetensors")
    fitted = FittedDetector.load(kept)
    e = digit_net("robust").embed(to_float(digits.images))
    expected = fitted.score(e.with_autoencoder(autoencoder_of(fitted, kept))).tolist()
    rows = read_csv(tmp_path / "out" / "scores.csv")
    scores = [float(row["score"]) for row in rows if row["detector"] == "reconstruction"]
    assert scores == pytest.approx(expected, rel=1e-5)


# -- what shards are kept in -------------------------------------------------------------------


def test_arrays_come_with_channels_first_last_or_not_at_all(tmp_path: Path) -> None:
    x = np.arange(150 * 4 * 5 * 3, dtype=np.uint64).astype(np.uint8).reshape(150, 4, 5, 3)
    for name, images in {
        "a-last": x,
        "b-first": x.transpose(0, 3, 1, 2).copy(),
        "c-grey": x[..., 0].copy(),
    }.items():
        np.savez_compressed(tmp_path / f"{name}.npz", x=images, y=np.zeros(150, np.int16))
    last, first, grey = shards_in(tmp_path, "test")
    assert (last.first, first.first, grey.first) == (0, 150, 300)
    assert [shape_of(one) for one in (last, first, grey)] == [(3, 4, 5), (3, 4, 5), (1, 4, 5)]
    read = Reading((3, 4, 5), False, None, ("a",))
    for one in (last, first):
        found = torch.cat([images for _, images, _ in batches(one, read, 64)])
        assert np.array_equal(found.numpy(), x.transpose(0, 3, 1, 2))
    with pytest.raises(AssayError, match=r"c-grey.npz are 1 × 4 × 5, not 3 × 4 × 5"):
        next(batches(grey, read, 64))


def test_a_set_on_the_hub_is_streamed_shard_by_shard(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    hub = pytest.importorskip("huggingface_hub")
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(digits.classes))}
    )

    def rows(parts: list[tuple[int, int]]) -> Any:
        for a, b in parts:
            for k in range(a, b):
                image = {"bytes": encoded(digits.images[k]), "path": None}
                yield {"image": image, "label": int(digits.labels[k])}

    def load(name: str, *, split: str, revision: str, streaming: bool) -> Any:
        assert (name, split, revision, streaming) == ("me/digits", "test", "c0ffee", True)
        parts = list(pairwise(CUTS))
        given = {"parts": parts}
        return datasets.IterableDataset.from_generator(rows, features=features, gen_kwargs=given)

    monkeypatch.setattr(hub, "dataset_info", lambda *_, **__: SimpleNamespace(sha="c0ffee"))
    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.chdir(tmp_path)
    found = shards_in("me/digits", "test")
    assert [str(one) for one in found] == ["1 of 3", "2 of 3", "3 of 3"]
    assert len({one.digest for one in found}) == 3
    assert classes_of(found[1]) == digits.classes
    assert shape_of(found[1]) == (1, 28, 28)
    read = list(batches(found[1], READ, 15))
    assert torch.equal(torch.cat([images for _, images, _ in read]), digits.images[17:37])
    assert torch.equal(torch.cat([labels for *_, labels in read]), digits.labels[17:37])
    assert read[0][0][0] == 2**32

    def away(*_: object, **__: object) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr(hub, "dataset_info", away)
    with pytest.raises(AssayError, match="hub did not answer"):
        shards_in("me/digits", "test")


# -- killed ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_command_that_is_killed_goes_on_at_the_shard_it_was_at(tmp_path: Path) -> None:
    write_npz(tmp_path / "set", load_data("digits", split="test"), range(0, 1001, 100))
    words = ["attack", MODEL, "--attack", "pgd", "--eps", "0.1", "--steps", "40"]
    words += ["--shards", "set", "--workers", "1", "--out"]
    command = [sys.executable, "-m", "assay.cli", *words]
    assert subprocess.run([*command, "whole"], cwd=tmp_path, check=False).returncode == 0
    running = subprocess.Popen([*command, "out"], cwd=tmp_path, start_new_session=True)
    while len(list(tmp_path.glob("out/trials/*/record.json"))) < 3:
        time.sleep(0.05)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    done = {p: p.stat().st_mtime_ns for p in tmp_path.glob("out/trials/*/record.json")}
    assert 3 <= len(done) < 10
    assert subprocess.run([*command, "out"], cwd=tmp_path, check=False).returncode == 0
    assert {p: p.stat().st_mtime_ns for p in done} == done
    for file in ("arrays.npz", "metrics.json"):
        for path in tmp_path.glob(f"whole/trials/*/{file}"):
            assert (
                tmp_path / "out" / path.relative_to(tmp_path / "whole")
            ).read_bytes() == path.read_bytes()
