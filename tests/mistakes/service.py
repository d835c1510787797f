"""A service that answers each path in another wrong way."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ANSWERS: dict[str, tuple[int, str]] = {
    "/fails": (500, "<h1>out of\norder</h1>"),
    "/away": (404, "not here"),
    "/closed": (401, "who are you?"),
    "/page": (200, "<html>hello</html>"),
    "/cut": (200, '{"labels": [0, 1'),
    "/other": (200, '{"answer": 42}'),
    "/words": (200, '{"labels": ["cat", "dog"]}'),
    "/few": (200, '{"labels": []}'),
    "/nan": (200, '{"scores": [[NaN, NaN]]}'),
    "/deep": (200, "[" * 100_000),
    "/nothing": (204, ""),
    "/empty": (200, ""),
    "/floats": (200, json.dumps({"labels": [0.5] * 20})),
    "/yes": (200, json.dumps({"labels": [True] * 20})),
    "/busy": (503, "later"),
}


class Wrong(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/flood":
            self._flood()
            return
        if self.path == "/round":
            self.send_response(307)
            self.send_header("Location", "/round")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        status, body = ANSWERS[self.path]
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if status == 503:
            self.send_header("Retry-After", "100000000")
        self.end_headers()
        self.wfile.write(body.encode())

    def _flood(self) -> None:
        """Answer without an end: until the other side hangs up."""
        self.send_response(200)
        self.end_headers()
        try:
            self.wfile.write(json.dumps({"labels": []}).encode()[:-2])
            while True:
                self.wfile.write(b"1," * 500_000)
        except OSError:
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass


class Service(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Wrong)

    def handle_error(self, *_: Any) -> None:
        """Whoever asks may hang up."""
