"""A proxy before a server that delays, drops and fails requests, as networks and services do."""

from __future__ import annotations

import http.client
import random
import socket
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

Trouble = Literal[
    "slow", "hang", "drop", "lost answer", "trickle", "503", "expired", "skewed", "region", "login"
]

REFUSALS = {
    "503": (503, b"<Error><Code>SlowDown</Code><Message>Slow down</Message></Error>"),
    "expired": (
        403,
        b"<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message>"
        b"</Error>",
    ),
    "skewed": (403, b"<Error><Code>RequestTimeTooSkewed</Code><Message>Too far</Message></Error>"),
    "region": (301, b"<Error><Code>PermanentRedirect</Code><Message>Go there</Message></Error>"),
    "login": (200, b"<html>Log in to the network of this hotel</html>"),
}


class Proxy:
    """Forwards requests to `server`; use it as a context manager, `url` is where it listens.

    Attributes:
        shares: how often each trouble happens; "lost answer": the request is carried out, and the
            connection dropped before its answer; "trickle": the answer comes bit by bit.
        seen: how often each did.
    """

    def __init__(self, server: str, shares: dict[Trouble, float], seed: int = 0) -> None:
        self.server, self.shares, self.seen = urlsplit(server), shares, Counter[str]()
        self.rng, self.lock = random.Random(seed), threading.Lock()
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def __enter__(self) -> Proxy:
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.http.shutdown()
        self.http.server_close()

    def trouble(self) -> str:
        with self.lock:
            names = [*self.shares, ""]
            weights = [*self.shares.values(), max(0.0, 1 - sum(self.shares.values()))]
            (name,) = self.rng.choices(names, weights)
            self.seen[name] += 1
            return name

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            pause = 0.0  # seconds between the parts of an answer

            def log_message(self, *_: object) -> None:
                """Say nothing."""

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                trouble = proxy.trouble()
                if trouble in ("slow", "hang"):
                    time.sleep(0.2 if trouble == "slow" else 3.0)
                if trouble in ("drop", "hang"):
                    self.hang_up()
                elif trouble in REFUSALS:
                    status, content = REFUSALS[trouble]
                    self.send(status, content, {})
                else:
                    there = http.client.HTTPConnection(proxy.server.hostname, proxy.server.port)
                    there.request(self.command, self.path, body, dict(self.headers))
                    reply = there.getresponse()
                    content = reply.read()
                    there.close()
                    if trouble == "lost answer":
                        self.hang_up()
                    else:
                        self.pause = 0.2 if trouble == "trickle" else 0.0
                        self.send(reply.status, content, dict(reply.getheaders()))

            def send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
                self.send_response_only(status)
                for name, value in headers.items():
                    if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                        self.send_header(name, value)
                whole = {name.lower(): value for name, value in headers.items()}
                length = whole.get("content-length", "0") if self.command == "HEAD" else None
                self.send_header("Content-Length", length or str(len(content)))
                self.end_headers()
                if self.command != "HEAD":
                    for part in (content[:1], content[1:9], content[9:]):
                        self.wfile.write(part)
                        time.sleep(self.pause)

            def hang_up(self) -> None:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer

        return Handler
