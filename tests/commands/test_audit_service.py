"""`assay audit` of a service, over a real connection, and of a scikit-learn pipeline in a file."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.cli import app, call

FEW = ("--data", "digits", "--images", "60", "--attacked", "10", "--budgets", "8/255", "--quiet")


class Service(ThreadingHTTPServer):
    """The linear classifier behind /scores and /labels; the first request is one too many."""

    daemon_threads = True

    def __init__(self, weights: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        held = np.load(weights)
        self.weight, self.bias = held["weight"], held["bias"]
        self.asked = 0
        self.images = 0
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def scores(self, x: np.ndarray) -> np.ndarray:
        logits = x.reshape(len(x), -1) @ self.weight + self.bias
        raised = np.exp(logits - logits.max(1, keepdims=True))
        return raised / raised.sum(1, keepdims=True)


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        service: Any = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        service.asked += 1
        if service.asked == 1:
            self.send_response(429)
            self.send_header("Retry-After", "1")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        x = np.load(io.BytesIO(base64.b64decode(body["images"])))
        service.images += len(x)
        found = service.scores(x)
        kind = self.path.strip("/")
        said = {kind: (found.argmax(1) if kind == "labels" else found).tolist()}
        answer = json.dumps(said).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def service(models: Path) -> Iterator[Service]:
    with Service(models / "weights.npz") as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


def audited(model: str, folder: Path, *flags: str) -> dict[str, Any]:
    """Audit by the command line; return the report."""
    where = ("--out", str(folder / "out"), "--store", str(folder / "runs"))
    assert call(app, ["audit", model, *FEW, *where, *flags]) == 0
    found: dict[str, Any] = json.loads((folder / "out" / "report.json").read_text())
    return found


def verdicts(report: dict[str, Any]) -> dict[str, str]:
    return {check["code"]: check["verdict"] for check in report["checks"]}


@pytest.mark.parametrize("access", ["scores", "labels"])
def test_a_service_is_audited_as_far_as_it_answers(
    service: Service, tmp_path: Path, access: str
) -> None:
    square = ("--attacks", '{"name": "square", "queries": 20}')
    flags = square if access == "scores" else ("--sections", "accuracy", "calibration", "saliency")
    report = audited(f"{service.url}/{access}", tmp_path, "--access", access, *flags)
    found = verdicts(report)
    run = {code for code, verdict in found.items() if verdict != "not run"}
    scored = {"CAL-001", "ROB-001", "COR-001"} if access == "scores" else set()
    assert {"ACC-001"} | scored <= run
    assert "EXP-001" not in run
    reasons = {check["code"]: check["reason"] for check in report["checks"]}
    assert f"this model answers with {access} only" in reasons["EXP-001"]
    if access == "labels":
        assert "labels only" in reasons["CAL-001"]
    assert report["accuracy"]["overall"]["value"] > 0.7
    html = (tmp_path / "out" / "report.html").read_text()
    assert "What was not tested" in html
    assert service.asked > 1, "it was asked again after the 429"


def test_queries_and_time_of_a_service_have_their_budgets(service: Service, tmp_path: Path) -> None:
    flags = ("--access", "scores", "--max-queries", "90", "--budget", "5m")
    report = audited(f"{service.url}/scores", tmp_path, *flags)
    assert service.images <= 90
    found = verdicts(report)
    assert found["ACC-001"] != "not run"
    assert found["ROB-001"] == "not run"
    reasons = {check["code"]: check["reason"] for check in report["checks"]}
    assert "budget spent: an image is attacked with up to 1,002 queries" in reasons["ROB-001"]
    assert report["made"]["config"]["budget"] == 300
    assert "5 min" in report["more"]["time"]["title"]


PIPELINE = """
from pathlib import Path
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
held = np.load(Path(__file__).with_name("few.npz"))
pipeline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=60))
pipeline.fit(held["x"], held["y"])
scores = lambda x: pipeline.predict_proba(x.reshape(len(x), -1))
labels = lambda x: pipeline.predict(x.reshape(len(x), -1))
"""


def test_a_pipeline_of_scikit_learn_is_a_function_in_a_file(tmp_path: Path) -> None:
    from assay.data import load_data

    x, y = load_data("digits", split="train").take(400)
    np.savez(tmp_path / "few.npz", x=x.flatten(1).numpy(), y=y.numpy())
    (tmp_path / "skl.py").write_text(PIPELINE)
    only = ("--sections", "accuracy", "calibration", "faithfulness")
    report = audited(f"{tmp_path}/skl.py:scores", tmp_path, "--access", "scores", *only)
    assert report["accuracy"]["overall"]["value"] > 0.7
    found = verdicts(report)
    assert found["CAL-001"] != "not run"
    assert "not_run" in report["faithful"]
    again = audited(f"{tmp_path}/skl.py:labels", tmp_path, "--access", "labels", *only)
    assert again["accuracy"]["overall"]["value"] == report["accuracy"]["overall"]["value"]
    assert verdicts(again)["CAL-001"] == "not run"


@pytest.mark.parametrize("budget", ["0s", "soon", "5 days", "9" * 400])
def test_what_is_no_time_is_refused(
    budget: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--data", "digits", "--access", "scores", "--budget", budget]
    assert call(app, ["audit", f"{tmp_path}/box.py:f", *flags]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "60s, 5m or 1h" in err
