"""`assay attack` on what can only be queried, and on models that must not be believed."""

from __future__ import annotations

import base64
import io
import json
import re
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from attacked import BARE, ON_DIGITS, Command, about, contents, refused, to_unit
from safetensors.torch import load_file
from torch import Tensor

from assay.data import Dataset
from assay.models import http

BLACK = {
    "square": ("scores", ("--eps", "0.2", "--queries", "60")),
    "one-pixel": ("logits", ("--eps", "12", "--population", "40", "--steps", "10")),
    "genetic": ("scores", ("--eps", "0.4", "--steps", "60")),
    "hopskipjump": ("labels", ("--queries", "300")),
}


@pytest.mark.parametrize("name", BLACK)
def test_a_function_of_numpy_arrays_is_enough(
    assay: Command, models: Path, digits: Dataset, name: str
) -> None:
    access, settings = BLACK[name]
    command = (f"@box.py:{access}", "--access", access, *BARE, "--attack", name, *settings)
    code, out, err = assay(*command, "--stop", "fooled", "--out", "out")
    assert (code, out, err) == (0, "out\n", "")
    arrays, said = load_file("out/arrays.safetensors"), about("out")
    won = arrays["success"]
    assert int(won.sum()) >= 2
    with np.load(models / "weights.npz") as kept:
        held = dict(kept)

    def told(x: Tensor) -> Tensor:
        flat = x.flatten(1).double().numpy()
        return torch.from_numpy((flat @ held["weight"] + held["bias"]).argmax(1))

    clean = to_unit(digits.images)
    assert torch.equal(told(clean) == digits.labels, arrays["correct"])
    assert torch.equal(told(arrays["adversarial"]) != digits.labels, won | ~arrays["correct"])
    assert said["median_queries"] == float(arrays["queries"][won].double().quantile(0.5))
    assert said["fast"] is None
    assert int(arrays["queries"].sum()) == said["evaluations"]["forward"]
    assert said["evaluations"]["gradient"] == 0


@pytest.mark.parametrize("name", BLACK)
def test_a_query_budget_is_kept(assay: Command, name: str) -> None:
    access, settings = BLACK[name]
    command = (f"@box.py:{access}", "--access", access, *BARE, "--attack", name, *settings)
    code, _, err = assay(*command, "--query-budget", "45", "--out", "out")
    assert (code, err) == (0, "")
    arrays = load_file("out/arrays.safetensors")
    assert int(arrays["queries"].max()) <= 45
    if name == "hopskipjump":  # it has a success from its first steps on, and brings it nearer
        assert bool(arrays["success"][arrays["correct"]].all())
    else:
        assert bool((arrays["cut"] == (arrays["correct"] & ~arrays["success"])).all())
        assert bool(arrays["cut"].any())


def test_a_time_limit_is_kept_and_said(assay: Command) -> None:
    endless = ("--attack", "square", "--eps", "0.01", "--queries", "1000000", "--time-limit", "0.4")
    tokens = ("@box.py:scores", "--access", "scores", *ON_DIGITS, *endless, "--part", "12")
    started = time.monotonic()
    code, out, _ = assay(*tokens, "--out", "out")
    assert code == 0
    assert time.monotonic() - started < 10
    standing = about("out")["correct"] - about("out")["success"]
    assert about("out")["cut"] == standing > 10
    assert re.search(rf"given up early, because of a limit +{standing} ", out)
    assert json.loads(Path("out/record.json").read_text())["seconds"] > 0.35


class Service(BaseHTTPRequestHandler):
    """Answers with labels as long as `answers` lasts, then with `trouble`."""

    weights: Any
    answers = 0
    trouble = b""
    seconds = 0.0

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        images = np.load(io.BytesIO(base64.b64decode(body["images"])))
        logits = images.reshape(len(images), -1) @ self.weights["weight"] + self.weights["bias"]
        reply = json.dumps({"labels": logits.argmax(1).tolist()}).encode()
        type(self).answers -= 1
        if type(self).answers < 0:
            time.sleep(self.seconds)
            reply = self.trouble
        self.send_response(200)
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def url(models: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(http, "FIRST_WAIT", 0.001)
    with np.load(models / "weights.npz") as kept:
        monkeypatch.setattr(Service, "weights", dict(kept), raising=False)
    monkeypatch.setattr(Service, "answers", 10**9)
    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        server.daemon_threads = True
        server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients that left
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/classify"
        server.shutdown()
        thread.join()


LABELS = ("--access", "labels", *BARE, "--attack", "hopskipjump", "--queries", "120")


def test_a_service_is_asked_as_a_function_is(assay: Command, url: str) -> None:
    code, _, err = assay(f"{url}?key=s3cret", "--header", "Token: t0ken", *LABELS, "--out", "out")
    assert (code, err) == (0, "")
    assert assay("@box.py:labels", *LABELS, "--out", "here")[0] == 0
    assert contents("out")["arrays.safetensors"] == contents("here")["arrays.safetensors"]
    said = about("out")["model"]
    assert said["name"] == url
    assert re.fullmatch(rf"{url} \(labels, [0-9a-f]{{12}}\)", said["mark"])
    code, _, err = assay(f"{url}?key=another", *LABELS, "--out", "out")
    assert (code, err.count("\n")) == (2, 1)
    assert f"out was made with other settings: model was {said['mark']}, is {url} (labels, " in err
    for path in Path("out").rglob("*"):
        assert path.is_dir() or not re.search(b"s3cret|t0ken", path.read_bytes()), path


@pytest.mark.parametrize(
    ("trouble", "seconds", "words"),
    [
        (b"<html>", 0.0, "cannot be read"),
        (b'{"labels": [3]}', 0.0, "returned shape (1,)"),
        (b"", 3.0, "has not answered within 0.2 s"),
    ],
)
def test_a_service_that_fails_is_one_line_and_the_command_goes_on(
    assay: Command,
    url: str,
    monkeypatch: pytest.MonkeyPatch,
    trouble: bytes,
    seconds: float,
    words: str,
) -> None:
    monkeypatch.setattr(Service, "trouble", trouble)
    monkeypatch.setattr(Service, "seconds", seconds)
    command = (url, *LABELS, "--part", "8", "--timeout", "0.2" if seconds else "30")
    plenty = 10**9
    assert assay(*command, "--out", "calm")[0] == 0
    whole = plenty - Service.answers
    monkeypatch.setattr(Service, "answers", 0)
    refused(assay(*command, "--out", "out"), url, words)
    monkeypatch.setattr(Service, "answers", whole // 2)
    code, out, err = assay(*command, "--out", "out")
    assert (code, out) == (2, "")
    assert re.fullmatch(rf"assay: .*{url} .*; (8|16) images are done and kept, .*\n", err), err
    assert not Path("out/attack.json").exists(), "there is no result yet"
    monkeypatch.setattr(Service, "answers", plenty)
    assert assay(*command, "--out", "out")[0] == 0
    assert plenty - Service.answers < whole, "what was done was asked again"
    assert contents("out") == contents("calm")


PGD = ("--attack", "pgd", "--eps", "0.1", "--steps", "20", "--part", "8")
SQUARE = ("--access", "scores", "--attack", "square", "--eps", "0.1", "--queries", "25")


@pytest.mark.parametrize(
    ("model", "how", "words"),
    [
        (
            "nets.py:gone",
            PGD,
            r"the model fails on these .*\(nets\.py, line \d+\): KeyError: 'gone'",
        ),
        ("nets.py:shrinks", PGD, r"the model returned shape \(\d, 10\) for \d images"),
        ("box.py:gone", (*SQUARE, "--part", "8"), r"gone fails .*\(box\.py, .*: KeyError: 'gone'"),
    ],
)
def test_a_model_that_fails_in_the_search_is_one_line_and_the_command_goes_on(
    assay: Command,
    monkeypatch: pytest.MonkeyPatch,
    model: str,
    how: tuple[str, ...],
    words: str,
) -> None:
    code, out, err = assay(f"@{model}", *BARE, *how, "--out", "out")
    assert (code, out) == (2, "")
    assert re.fullmatch(rf"assay: .*{words}.*; (8|16) images are done and kept, .*\n", err), err
    assert not Path("out/attack.json").exists(), "there is no result yet"
    monkeypatch.setenv("WELL", "yes")
    assert assay(f"@{model}", *BARE, *how, "--out", "out")[0] == 0
    assert assay(f"@{model}", *BARE, *how, "--out", "calm")[0] == 0
    assert contents("out") == contents("calm")


def test_a_model_that_fails_on_the_way_back_is_one_line(assay: Command) -> None:
    refused(
        assay("@nets.py:broken", *BARE, *PGD, "--out", "out"),
        "the model fails on these images, (1, 28, 28) each",
        "modified by an inplace operation",
    )


def test_the_default_part_of_a_black_box_is_small(assay: Command) -> None:
    command = ("--data", "digits", "--images", "70", "--threads", "1", "--pictures", "0")
    noise = ("--attack", "noise", "--eps", "0.1")
    assert assay("@box.py:labels", "--access", "labels", *command, *noise, "--out", "out")[0] == 0
    assert json.loads(Path("out/state.json").read_text())["settings"]["part"] == 64


# -- what must not be believed -----------------------------------------------------------------


@pytest.mark.parametrize("model", ["@nets.py:silent", "@box.py:silent"])
def test_no_answer_is_counted_and_never_a_success(
    assay: Command, digits: Dataset, model: str
) -> None:
    access = ("--access", "scores") if "box" in model else ()
    square = ("--attack", "square", "--eps", "0.6", "--queries", "40", "--out", "out")
    code, out, _ = assay(model, *access, *ON_DIGITS, *square)
    assert code == 0
    arrays = load_file("out/arrays.safetensors")
    silent = digits.images[:, 0, 14, 14] > 127
    assert 3 < int(silent.sum()) < 20
    assert torch.equal(arrays["clean_prediction"] == -1, silent)
    assert not bool((silent & (arrays["correct"] | arrays["success"])).any())
    assert bool(arrays["success"].any())
    won = arrays["adversarial"][arrays["success"]][:, 0, 14, 14]
    assert float(won.max()) <= 0.5, "an image that has no answer is no success"
    assert about("out")["unanswered"] == int(silent.sum())
    line = rf"without an answer \(never a success\) +{int(silent.sum())}"
    assert re.search(line, out)


def test_no_answer_once_attacked_is_neither_a_success_nor_robust(assay: Command) -> None:
    pgd = ("--attack", "pgd", "--eps", "0.101", "--steps", "3", "--out", "out")
    code, out, _ = assay("@nets.py:grey", *ON_DIGITS, *pgd)
    assert code == 0
    said = about("out")
    assert (said["unanswered"], said["success"]) == (0, 0)
    assert said["silenced"] == said["correct"] > 10
    assert said["robust_accuracy"]["value"] == 0.0
    assert re.search(rf"without an answer once attacked .* +{said['silenced']} ", out)
    assert "0.0 % (" in next(line for line in out.splitlines() if "under this attack" in line)


@pytest.mark.parametrize(
    ("model", "tokens", "codes"),
    [
        ("@nets.py:net", (), []),
        ("@nets.py:steps", (), ["REL-001"]),
        ("@nets.py:noisy", (), ["REL-005"]),
        ("@nets.py:soft", ("--outputs", "probabilities"), ["REL-001", "REL-006"]),
    ],
)
def test_flags_are_raised_where_they_are_due(
    assay: Command, model: str, tokens: tuple[str, ...], codes: list[str]
) -> None:
    pgd = ("--attack", "pgd", "--steps", "3", "--eps", "0.1", "--pictures", "0", "--out", "out")
    code, out, _ = assay(model, *tokens, *ON_DIGITS, *pgd)
    assert code == 0
    raised = [flag["code"] for flag in about("out")["flags"]]
    assert re.findall(r"^! (REL-\d+)", out, re.MULTILINE) == raised
    # whatever is asked again of a randomised model, rounded or not, is another answer
    assert [code for code in raised if "REL-005" not in codes or code != "REL-007"] == codes
