"""Models behind an address, asked over a real connection: right answers, and every wrong one."""

from __future__ import annotations

import asyncio
import base64
import gzip
import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import assay.models.http
from assay import Classifier
from assay.errors import AssayError
from assay.models import HttpModel
from assay.models.http import as_json

NAMES = ("cat", "dog", "owl")
Reply = Callable[[BaseHTTPRequestHandler, bytes], None]


class Service(ThreadingHTTPServer):
    """A service on loopback that does what `replies` say, one after the other; the last one stays.

    It keeps the requests it was sent.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.replies: list[Reply] = [classify("logits")]
        self.seen: list[tuple[dict[str, str], bytes]] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}/classify"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        service = self.server
        assert isinstance(service, Service)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        service.seen.append((dict(self.headers), body))
        replies = service.replies
        (replies.pop(0) if len(replies) > 1 else replies[0])(self, body)

    def log_message(self, *_: Any) -> None:
        pass


def say(content: bytes | str, status: int = 200, headers: dict[str, str] | None = None) -> Reply:
    def reply(handler: BaseHTTPRequestHandler, _: bytes) -> None:
        body = content.encode() if isinstance(content, str) else content
        handler.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            handler.send_header(key, value)
        handler.end_headers()
        handler.wfile.write(body)

    return reply


def network() -> nn.Module:
    layers = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    with torch.no_grad():
        layers[1].weight.copy_(torch.randn(3, 12, generator=torch.Generator().manual_seed(0)))
        layers[1].bias.zero_()
    return layers.requires_grad_(False)


NETWORK = network()


def classify(access: str) -> Reply:
    """Answer as a service of the documented form does."""

    def reply(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        file = io.BytesIO(base64.b64decode(json.loads(body)["images"]))
        logits = NETWORK(torch.from_numpy(np.load(file, allow_pickle=False)))
        answer = {"labels": logits.argmax(1), "scores": logits.softmax(1), "logits": logits}[access]
        say(json.dumps({access: answer.tolist()}))(handler, body)

    return reply


def hang_up(handler: BaseHTTPRequestHandler, _: bytes) -> None:
    handler.close_connection = True  # without a word


def break_off(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    say('{"labels": [0, 1', headers={"Content-Length": "500"})(handler, body)
    handler.close_connection = True


def slow(seconds: float) -> Reply:
    def reply(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        time.sleep(seconds)
        classify("labels")(handler, body)

    return reply


def drip(handler: BaseHTTPRequestHandler, _: bytes) -> None:
    """Send one byte after the other: each in time, the whole too late."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    for _ in range(200):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.05)


def drip_all(head: bytes, part: bytes) -> Reply:
    """Send `head`, and then `part` once in 50 ms, for 10 s."""

    def reply(handler: BaseHTTPRequestHandler, _: bytes) -> None:
        handler.wfile.write(head)
        for _ in range(200):
            handler.wfile.write(part)
            handler.wfile.flush()
            time.sleep(0.05)
        handler.close_connection = True

    return reply


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(assay.models.http, "FIRST_WAIT", 0.001)
    with Service() as running:
        running.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients that left
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def x() -> Tensor:
    return torch.rand(7, 3, 2, 2, generator=torch.Generator().manual_seed(1))


def refused(service: Service, x: Tensor, access: str = "labels", **settings: Any) -> str:
    """Return the one line with which the service is given up."""
    with pytest.raises(AssayError) as caught:
        HttpModel(service.url, classes=NAMES, access=access, **settings).query(x)  # type: ignore[arg-type]
    line = str(caught.value)
    assert line.isprintable()
    assert len(line) < 500
    return line.replace(service.url, "URL")


@pytest.mark.parametrize("access", ["labels", "scores", "logits"])
def test_answers_equal_those_of_the_same_model_here(
    access: Any, service: Service, x: Tensor
) -> None:
    service.replies = [classify(access)]
    model = HttpModel(service.url, classes=NAMES, access=access, batch_size=3)
    local = Classifier(NETWORK, classes=NAMES)
    logits = local.query(x)
    expected = {"labels": logits.argmax(1), "scores": logits.softmax(1), "logits": logits}[access]
    torch.testing.assert_close(model.query(x), expected, atol=1e-6, rtol=1e-6)
    assert torch.equal(model.predict(x), local.predict(x))
    assert len(service.seen) == 6  # batches of 3, 3 and 1, twice
    assert model.queries == 14
    assert model.repeated == 0
    assert (model.classes, model.access) == (NAMES, access)


def test_the_body_holds_exactly_the_images(x: Tensor) -> None:
    file = io.BytesIO(base64.b64decode(json.loads(as_json(x.numpy()))["images"]))
    assert np.array_equal(np.load(file, allow_pickle=False), x.numpy())


def test_a_service_of_another_form_is_met_by_two_functions(service: Service, x: Tensor) -> None:
    def tensorflow(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        images = torch.tensor(json.loads(body)["instances"])
        say(json.dumps({"predictions": NETWORK(images).softmax(1).tolist()}))(handler, body)

    service.replies = [tensorflow]
    model = HttpModel(
        service.url,
        classes=NAMES,
        access="scores",
        encode=lambda x: json.dumps({"instances": x.tolist()}).encode(),
        decode=lambda body: json.loads(body)["predictions"],
    )
    torch.testing.assert_close(model.query(x), NETWORK(x).softmax(1))
    model = HttpModel(service.url, classes=NAMES, access="scores", wire="instances")
    torch.testing.assert_close(model.query(x), NETWORK(x).softmax(1))
    service.replies = [say('{"scores": [[0.1, 0.2, 0.7]]}')]
    line = refused(service, x, "scores", wire="instances")
    assert "no JSON object with 'predictions'" in line
    assert "is it wire='instances'" in line


def test_null_is_no_answer(service: Service, x: Tensor) -> None:
    service.replies = [say('{"labels": [0, null, 1, 2, 0, 0, null]}')]
    model = HttpModel(service.url, classes=NAMES, access="labels")
    assert model.query(x).tolist() == [0, -1, 1, 2, 0, 0, -1]
    assert model.unanswered == 2
    for access, row in (("scores", [0.2, 0.5, 0.3]), ("logits", [-1.0, 4.0, 2.0])):
        row += [0.0] * (len(NAMES) - 3)
        for rows in ([row, None, row, [*row[1:], None], row, row, None], [None] * 7):
            service.replies = [say(json.dumps({access: rows}))]
            model = HttpModel(service.url, classes=NAMES, access=access)
            silent = [given is None or None in given for given in rows]
            assert model.query(x).isnan().all(1).tolist() == silent
            assert (model.predict(x) == -1).tolist() == silent
            assert model.unanswered == 2 * sum(silent)


def test_headers_are_sent_and_never_shown(service: Service, x: Tensor) -> None:
    service.replies = [say("no", 403)]
    line = refused(service, x, headers={"Authorization": "Bearer s3cret"})
    assert line == "URL answered 403 Forbidden: 'no'"
    sent = service.seen[0][0]
    assert sent["Authorization"] == "Bearer s3cret"
    assert sent["Content-Type"] == "application/json"
    assert sent["Accept-Encoding"] == "identity", "nothing is unpacked here"


@pytest.mark.parametrize(
    ("trouble", "timeout"),
    [
        (say("busy", 500), 30),
        (say("", 503), 30),
        (hang_up, 30),
        (break_off, 30),
        (slow(1.2), 0.8),
    ],
)
def test_what_passes_is_tried_again(
    trouble: Reply, timeout: float, service: Service, x: Tensor
) -> None:
    service.replies = [trouble, trouble, classify("labels")]
    model = HttpModel(service.url, classes=NAMES, access="labels", timeout=timeout, retries=2)
    assert torch.equal(model.query(x), NETWORK(x).argmax(1))
    assert model.repeated == 2
    assert model.queries == 7  # images, not attempts


def test_several_requests_are_under_way_at_once_and_answers_keep_their_order(
    service: Service,
) -> None:
    x = torch.rand(40, 3, 2, 2, generator=torch.Generator().manual_seed(2))
    lock, under_way, most = threading.Lock(), 0, 0

    def reply(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        time.sleep(0.05 if len(body) % 2 else 0.1)
        with lock:
            under_way -= 1
        classify("logits")(handler, body)

    service.replies = [reply]
    settings: dict[str, Any] = {"classes": NAMES, "access": "logits", "batch_size": 4}
    model = HttpModel(service.url, concurrency=3, **settings)
    torch.testing.assert_close(model.query(x), NETWORK(x))
    assert most == 3
    assert (len(service.seen), model.queries, model.batch_size) == (10, 40, 4)
    most = 0
    HttpModel(service.url, **settings).query(x[:12])
    assert most == 1


def test_a_fault_in_one_of_several_requests_is_met_alone(service: Service) -> None:
    x = torch.rand(12, 3, 2, 2, generator=torch.Generator().manual_seed(2))
    service.replies = [hang_up, say("", 500), classify("labels")]
    model = HttpModel(service.url, classes=NAMES, access="labels", batch_size=4, concurrency=3)
    assert torch.equal(model.query(x), NETWORK(x).argmax(1))
    assert model.repeated == 2
    service.replies = [say('{"labels": [0, 1, 2]}'), say('{"labels": [0, 1, 2, 0, 1]}')]
    with pytest.raises(AssayError, match="returned shape"):  # 3 and 5 answers to 4 images each
        model.query(x[:8])


def test_a_service_that_asks_to_be_left_alone_is(service: Service, x: Tensor) -> None:
    service.replies = [say("", 429, {"Retry-After": "1"}), classify("labels")]
    started = time.monotonic()
    HttpModel(service.url, classes=NAMES, access="labels").query(x)
    assert 1 <= time.monotonic() - started < 5
    service.replies = [say("", 429, {"Retry-After": "3600"})]
    seen = refused(service, x)
    assert "answered 429 Too Many Requests" in seen
    assert "left alone for 3,600 s (Retry-After): go on later" in seen


def test_not_more_requests_are_sent_in_a_second_than_allowed(service: Service, x: Tensor) -> None:
    service.replies = [classify("labels")]
    model = HttpModel(
        service.url, classes=NAMES, access="labels", batch_size=1, concurrency=4, rate=20
    )
    started = time.monotonic()
    model.query(x)
    assert time.monotonic() - started >= 6 / 20


def test_a_budget_of_queries_is_kept(service: Service, x: Tensor) -> None:
    service.replies = [classify("labels")]
    model = HttpModel(service.url, classes=NAMES, access="labels", most=10)
    model.query(x)
    with pytest.raises(AssayError, match=r"budget spent: 7 of 10 queries .* 7 more are needed"):
        model.query(x)
    assert len(service.seen) == 1
    model.query(x[:3])
    assert model.queries == 10


@pytest.mark.parametrize(
    ("reply", "line"),
    [
        (
            say("out of \x1b[31m\nmemory", 500),
            "URL answered 500 Internal Server Error: 'out of [31m memory' (in 3 attempts)",
        ),
        (slow(0.3), "URL has not answered within 0.1 s: allow it a longer timeout, or fewer"),
        (drip, "URL has not answered within 0.1 s"),
        (hang_up, "URL cannot be queried: RemoteProtocolError: Server disconnected without"),
        (break_off, "message body (received 16 bytes, expected 500)"),
    ],
)
def test_what_does_not_pass_is_given_up_after_the_attempts_allowed(
    reply: Reply, line: str, service: Service, x: Tensor
) -> None:
    service.replies = [reply]
    seen = refused(service, x, timeout=0.1 if "within" in line else 30, retries=2)
    assert line in seen
    assert seen.endswith("(in 3 attempts)")
    assert len(service.seen) == 3


@pytest.mark.parametrize(
    ("reply", "line"),
    [
        (drip, "has not answered within 0.3 s"),
        (drip_all(b"", b"H"), "has not answered within 0.3 s"),
        (drip_all(b"HTTP/1.1 200 OK\r\n", b"X-More: 1\r\n"), "has not answered within 0.3 s"),
        (
            drip_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0"),
            "has not answered within 0.3 s",
        ),
        (drip_all(b"HTTP/1.1 200 OK\r\n\r\n", b"["), "has not answered within 0.3 s"),
        (
            drip_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 99\r\n\r\n", b"n"),
            "answered 404 Not Found: 'nnnn",
        ),
    ],
)
def test_no_request_takes_longer_than_its_timeout_whatever_trickles_in(
    reply: Reply, line: str, service: Service, x: Tensor
) -> None:
    service.replies = [reply]
    started = time.monotonic()
    assert line in refused(service, x, timeout=0.3, retries=0)
    assert 0.25 < time.monotonic() - started < 5, "they would trickle for 10 s"


@pytest.mark.parametrize(
    ("reply", "line"),
    [
        (say("no such page", 404), "URL answered 404 Not Found: 'no such page'"),
        (say("", 204), "URL answered 204, not 200: an empty body"),
        (
            say("", 302, {"Location": "http://127.0.0.1:9/"}),
            "URL answered 302 Found: an empty body",
        ),
        (
            say("<html>\n\x00" + "a" * 10_000),
            "the answer of URL cannot be read (JSONDecodeError: Expecting value: line 1 column 1 "
            f"(char 0)): '<html> {'a' * 92}…'",
        ),
        (say(""), "column 1 (char 0)): an empty body"),
        (say(b"\xff\xfe\x00"), "the answer of URL cannot be read (UnicodeDecodeError"),
        (say("[" * 100_000), "the answer of URL cannot be read (RecursionError"),
        (say("[0, 1, 2, 0, 0, 0, 0]"), "the answer of URL is no JSON object with 'labels', but '["),
        (say('{"scores": []}'), "is it access='labels' that the service gives?"),
        (say('{"labels": [0, 1]}'), "URL returned shape (2,) for 7 images"),
        (say('{"labels": [0, 1, 2, 3, 0, 0, 0]}'), "URL returned the label 3; labels are whole"),
        (say('{"labels": "cat"}'), "URL returned str ('cat'), which is not an array of labels"),
        (say('{"labels": {"0": 1}}'), "URL returned dict ({'0': 1}), which is not an array"),
    ],
)
def test_nonsense_is_refused_at_once(reply: Reply, line: str, service: Service, x: Tensor) -> None:
    service.replies = [reply]
    seen = refused(service, x)
    assert line in seen
    assert len(service.seen) == 1  # asking again would not help


def test_scores_out_of_range_are_refused(service: Service, x: Tensor) -> None:
    service.replies = [say(json.dumps({"scores": [[0.5, 0.7, -0.2]] * 7}))]
    assert "URL returned scores that go down to -0.2" in refused(service, x, "scores")
    service.replies = [say(json.dumps({"scores": [[1e999, 0, 0]] * 7}))]
    assert "URL returned infinity" in refused(service, x, "scores")
    service.replies = [say(json.dumps({"scores": [[0.5, 0.5]] * 7}))]
    assert "URL returned shape (7, 2) for 7 images" in refused(service, x, "scores")


def test_an_endless_answer_is_not_read_to_its_end(
    service: Service, x: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assay.models.http, "MOST_BYTES", 2**20)
    service.replies = [say(b" " * (2**20 + 1))]
    assert "URL answers with more than 1 MiB" in refused(service, x)
    sent = []

    def pour(handler: BaseHTTPRequestHandler, _: bytes) -> None:
        handler.send_response(200)
        handler.end_headers()
        for part in range(64):
            handler.wfile.write(b" " * 2**20)
            sent.append(part)

    service.replies = [pour]
    assert "URL answers with more than 1 MiB" in refused(service, x)
    assert len(sent) < 32, "the rest is not read"


def test_an_answer_that_unpacks_to_far_more_is_not_unpacked(service: Service, x: Tensor) -> None:
    packed = gzip.compress(b" " * 2**26)
    service.replies = [say(packed, headers={"Content-Encoding": "gzip"})]
    assert "the answer of URL cannot be read (UnicodeDecodeError" in refused(service, x)


def test_it_works_where_an_event_loop_runs_already(service: Service, x: Tensor) -> None:
    async def cell() -> Tensor:
        return HttpModel(service.url, classes=NAMES, access="logits").query(x)

    torch.testing.assert_close(asyncio.run(cell()), NETWORK(x), atol=1e-6, rtol=1e-6)


def test_nobody_there_is_said_at_once(service: Service, x: Tensor) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        service.url = f"http://127.0.0.1:{other.getsockname()[1]}/"
    seen = refused(service, x)  # nobody listens there any more
    assert "URL cannot be queried: ConnectionRefusedError" in seen
    assert "attempts" not in seen


def test_a_key_in_the_url_is_sent_and_never_shown(service: Service, x: Tensor) -> None:
    service.replies = [say("no", 401)]
    service.url += "?key=s3cret"
    with pytest.raises(AssayError) as caught:
        HttpModel(service.url, classes=NAMES, access="labels").query(x)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("ftp://host/x", "'ftp://host/x' is not a URL of a service"),
        ("file:///etc/passwd", "is not a URL of a service"),
        ("http://", "'http://' is not a URL of a service"),
        ("http://host:port/x", "'http://host:port/x' is not a URL: Port could not be cast"),
        ("http://me:s3cret@host/x", "a URL holds no name and password; give them by headers="),
        ("http://host/a b?key=s3cret", "'http://host/a b' has characters that a URL must write"),
    ],
)
def test_urls_that_cannot_be_asked_are_refused_when_the_model_is_made(url: str, line: str) -> None:
    with pytest.raises(AssayError) as caught:
        HttpModel(url, classes=NAMES, access="labels")
    assert line in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"timeout": 0}, "timeout is a positive number of seconds, not 0"),
        ({"retries": -1}, "retries is at least 0, not -1"),
        ({"headers": {"A": "b\r\nC: d"}}, "the header 'A' has characters that none may have"),
        ({"access": "gradient"}, "access is 'labels', 'scores' or 'logits', not 'gradient'"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], line: str) -> None:
    with pytest.raises(AssayError, match=line):
        HttpModel(**{"url": "http://host/", "classes": NAMES, "access": "labels", **settings})
