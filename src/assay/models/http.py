"""A model behind an address: images are posted, answers are checked, failures are said plainly."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from assay.core.blackbox import Answers, BlackBox
from assay.core.oracle import Access
from assay.errors import AssayError, one_line
from assay.models.pace import LONGEST_WAIT, Pace, asked_wait

if TYPE_CHECKING:
    import ssl

Wire = Literal["npy", "instances"]
"""How images travel: a numpy file in base64, or lists of numbers as TensorFlow Serving has them."""

TIMEOUT = 30.0
"""Seconds that one request may take, if nothing else is said."""
ROWS = 64
"""Images in a request, if nothing else is said."""
FIRST_WAIT = 0.25
"""Seconds before a request is sent again; twice as long each further time."""
PASSING = (408, 425, 429, 500, 502, 503, 504)
"""Status codes that another attempt may not meet."""
MOST_BYTES = 64 * 2**20
"""Longest answer that is read, and"""
GLIMPSE = 1000
"""of an answer that is an error."""


class HttpModel:
    """A service that classifies images: an oracle that can only be queried.

    A batch is sent as one POST request, with a JSON body that holds a numpy file (.npy), float32
    (n, C, H, W) in [0, 1], in base64. The answer is JSON too, and has one entry per image under the
    name of the access:

        → {"images": "k05VTVBZAQB2AHsnZGVzY3InOiAnPGY0Jywg…"}
        ← {"labels": [3, 5, …]}, or {"scores": [[0.1, 0.9, …], …]}, or {"logits": [[…], …]}

    The service reads its images by `np.load(io.BytesIO(base64.b64decode(body["images"])))`. null
    for an image, or in its row, says that there is no answer. With wire="instances" both are lists
    of numbers:

        → {"instances": [[[[0.0, 0.5, …], …], …], …]}
        ← {"predictions": [[0.1, 0.9, …], …]}

    One that speaks otherwise still is met by `encode` and `decode`.

    Args:
        url: http://… or https://…; it is requested as it is, and redirects are not followed.
        classes: the names of the outputs, or how many there are.
        access: what the service answers: "labels", "scores" or "logits".
        timeout: seconds that one request may take.
        batch_size: images in a request.
        retries: how often a request is sent again that timed out, lost its connection, or met a
            status that may pass (408, 425, 429, 500, 502, 503, 504), after 0.25 s, 0.5 s, 1 s, …,
            or after as long as it asks for by Retry-After, if that is at most 60 s.
        concurrency: requests that may be under way at once.
        rate: requests that may be sent in a second, those that are sent again included; None: no
            limit.
        most: the budget: how many images it may be asked about; None: any number.
        headers: sent with every request (a token, say), and never shown.
        wire: the form of requests and answers, as above.
        encode: makes the body of a request from float32 (n, C, H, W) in [0, 1].
        decode: makes labels (n,), or scores or logits (n, K), from the body of an answer.

    Raises:
        AssayError: for a service that cannot be reached, is too slow, answers with another status
            than 200, or with what is not an answer for these images; as from a `BlackBox`.

    >>> service = assay.models.HttpModel("http://localhost:8000", classes=10, access="scores")
    >>> service.access
    'scores'
    """

    def __init__(
        self,
        url: str,
        *,
        classes: Sequence[str] | int,
        access: Answers,
        timeout: float = TIMEOUT,
        batch_size: int = ROWS,
        retries: int = 3,
        concurrency: int = 1,
        rate: float | None = None,
        most: int | None = None,
        headers: Mapping[str, str] | None = None,
        wire: Wire = "npy",
        encode: Callable[[NDArray[np.float32]], bytes] | None = None,
        decode: Callable[[bytes], Any] | None = None,
    ) -> None:
        self.address = _address(url)
        """Where the service is: without what follows a "?", which may hold a key."""
        if timeout <= 0:
            raise AssayError(f"timeout is a positive number of seconds, not {timeout:g}")
        if retries < 0:
            raise AssayError(f"retries is at least 0, not {retries}")
        for key, value in (headers or {}).items():
            if not (key + value).isascii() or not (key + value).isprintable():
                raise AssayError(f"the header {one_line(key)!r} has characters that none may have")
        self.url = url
        self.timeout = timeout
        self.retries = retries
        plain = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        self.headers = {**plain, **(headers or {})}
        self.encode = encode or {"npy": as_json, "instances": as_instances}[wire]
        self._key = "predictions" if wire == "instances" else access
        self.decode = decode or self._answers
        self._counting = threading.Lock()
        self.repeated = 0
        """Requests that were sent again."""
        self._pace = Pace(concurrency, rate)
        self.batch_size = batch_size
        """Images in a request."""
        self._box = BlackBox(
            self._all,
            classes=classes,
            access=access,
            batch_size=batch_size * concurrency,
            name=self.address,
            most=most,
        )
        self._tls = _tls()

    @property
    def classes(self) -> tuple[str, ...]:
        return self._box.classes

    @property
    def access(self) -> Access:
        return self._box.access

    @property
    def queries(self) -> int:
        """Images that were answered; those of a request that was sent again count once."""
        return self._box.queries

    @property
    def most(self) -> int | None:
        """How many images it may be asked about in all; None: any number. An audit goes by it."""
        return self._box.most

    @property
    def unanswered(self) -> int:
        """Images that came back without an answer."""
        return self._box.unanswered

    def __repr__(self) -> str:
        return f"HttpModel({self.address}, {len(self.classes)} classes, access={self.access!r})"

    def query(self, x: Tensor) -> Tensor:
        """Return labels int64 (N,), or scores or logits float32 (N, K), wherever `x` is.

        A row without an answer is -1, or NaN throughout.
        """
        return self._box.query(x)

    def predict(self, x: Tensor) -> Tensor:
        """Return the predicted class of every row, int64 (N,); -1 where there is no answer."""
        return self._box.predict(x)

    def _all(self, images: NDArray[np.float32]) -> Any:
        """Return what the service says about some batches, of which several are under way at once.
        Each is checked by itself: two wrong lengths can make a right one."""
        size = self.batch_size
        if len(images) <= size:
            return self._post(images)
        batches = [images[start : start + size] for start in range(0, len(images), size)]
        said = self._pace.all(
            lambda batch: self._box.numbers(self._post(batch), len(batch)), batches
        )
        return np.concatenate(said)

    def _post(self, images: NDArray[np.float32]) -> Any:
        """Return what the service says about one batch."""
        body = self._reply(self.encode(images))
        try:
            return self.decode(body)
        except AssayError:
            raise
        except Exception as error:
            raise AssayError(
                f"the answer of {self.address} cannot be read ({type(error).__name__}: "
                f"{one_line(str(error))}): {_shown(body)}"
            ) from error

    def _reply(self, body: bytes) -> bytes:
        """Return the body of the answer, after as many attempts as are allowed and worth it."""
        attempt = 0
        while True:
            try:
                return self._send(body)
            except _Failed as failed:
                if not failed.passing or attempt == self.retries:
                    times = f" (in {attempt + 1} attempts)" if attempt else ""
                    raise AssayError(f"{self.address} {failed}{times}") from failed.__cause__
                asked = failed.asked or 0.0
                if asked > LONGEST_WAIT:
                    raise AssayError(
                        f"{self.address} {failed}, and asks to be left alone for {asked:,.0f} s "
                        "(Retry-After): go on later, or ask less often (--rate)"
                    ) from failed.__cause__
            time.sleep(max(asked, FIRST_WAIT * 2**attempt))
            attempt += 1
            with self._counting:
                self.repeated += 1

    def _send(self, body: bytes) -> bytes:
        """Return the body of the answer to one request, or raise `_Failed`."""
        import httpx2
        from anyio.from_thread import start_blocking_portal

        self._pace.wait()
        try:
            # a thread of its own: there may be an event loop in this one, as in a notebook
            with start_blocking_portal() as portal:
                status, content, later = portal.call(self._exchange, body)
        except TimeoutError as error:
            raise _Failed(
                f"has not answered within {self.timeout:g} s: allow it a longer timeout, or "
                "fewer images in a request (batch_size)",
                passing=True,
            ) from error
        except (httpx2.TransportError, httpx2.InvalidURL, OSError) as error:
            reason = _cause(error)
            lost = isinstance(error, httpx2.NetworkError | httpx2.RemoteProtocolError)
            raise _Failed(
                f"cannot be queried: {type(reason).__name__}: {one_line(str(reason))}",
                passing=lost and not isinstance(error, httpx2.ConnectError),
            ) from error
        if status == 200:
            return content
        known = status in set(HTTPStatus)
        named = f"{status} {HTTPStatus(status).phrase}" if known and status >= 300 else f"{status}"
        named += ", not 200" if status < 300 else ""
        raise _Failed(
            f"answered {named}: {_shown(content)}",
            passing=status in PASSING,
            asked=asked_wait(later),
        )

    async def _exchange(self, body: bytes) -> tuple[int, bytes, str]:
        """Return the status and the body of the answer to one request, and what it says of when to
        ask again; of a body that is an error, as much as comes in time. Redirects are not followed,
        which would turn a POST into a GET and take the headers to another host.

        Raises:
            TimeoutError: the whole took too long, whatever still trickles in.
        """
        import anyio
        import httpx2

        status, content, later = 200, bytearray(), ""
        try:
            with anyio.fail_after(self.timeout):
                async with (
                    httpx2.AsyncClient(verify=self._tls, timeout=None) as client,
                    client.stream("POST", self.url, content=body, headers=self.headers) as answer,
                ):
                    status = answer.status_code
                    later = answer.headers.get("retry-after", "")
                    async for part in answer.aiter_raw():
                        content += part
                        if len(content) > (MOST_BYTES if status == 200 else GLIMPSE):
                            break
        except (TimeoutError, httpx2.TransportError):
            if status == 200:
                raise
        if status == 200 and len(content) > MOST_BYTES:
            raise _Failed(f"answers with more than {MOST_BYTES >> 20} MiB: {_shown(content)}")
        return status, bytes(content), later

    def _answers(self, body: bytes) -> Any:
        """Return what is under the name of the access, or "predictions", in a JSON answer."""
        said = json.loads(body)
        if isinstance(said, dict) and self._key in said:
            return said[self._key]
        asked = "wire='instances'" if self._key != self.access else f"access={self.access!r}"
        raise AssayError(
            f"the answer of {self.address} is no JSON object with {self._key!r}, but "
            f"{_shown(body)}: is it {asked} that the service gives?"
        )


class _Failed(Exception):
    """A request without an answer: what was seen, whether another attempt may do better, and after
    how many seconds the service asks for it."""

    def __init__(self, seen: str, *, passing: bool = False, asked: float | None = None) -> None:
        super().__init__(seen)
        self.passing = passing
        self.asked = asked


def _tls() -> ssl.SSLContext:
    """Return what certificates are checked with: made once, since it takes longer than a request.

    Raises:
        AssayError: the package that makes requests is not here.
    """
    try:
        import httpx2
    except ImportError as error:
        raise AssayError(
            "querying a service needs the package httpx2: pip install 'assay[data]'"
        ) from error
    return httpx2.create_ssl_context()


def _cause(error: BaseException) -> BaseException:
    """Return what the system said, of an error that the client gives a name of its own."""
    while (before := error.__cause__ or error.__context__) is not None:
        error = before
    if isinstance(error, BaseExceptionGroup):
        return _cause(error.exceptions[0])
    return error


def as_json(images: NDArray[np.float32]) -> bytes:
    """Return the body of a request: JSON that holds a numpy file in base64."""
    file = io.BytesIO()
    np.save(file, images, allow_pickle=False)
    return json.dumps({"images": base64.b64encode(file.getvalue()).decode()}).encode()


def as_instances(images: NDArray[np.float32]) -> bytes:
    """Return the body of a request: JSON that holds lists of numbers, exact."""
    return json.dumps({"instances": images.tolist()}).encode()


def _address(url: str) -> str:
    """Return scheme, host and path of a URL that can be queried."""
    seen = repr(one_line(url.partition("?")[0]))
    try:
        parts = urlsplit(url)
        _ = parts.port  # a ValueError where it is none
    except ValueError as error:
        raise AssayError(f"{seen} is not a URL: {one_line(str(error))}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise AssayError(f"{seen} is not a URL of a service: http://host:port/path")
    if "@" in parts.netloc:
        raise AssayError("a URL holds no name and password; give them by headers=")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise AssayError(f"{seen} has characters that a URL must write as %XX")
    return f"{parts.scheme}://{parts.netloc}{parts.path}"


def _shown(body: bytes | bytearray) -> str:
    """Return the beginning of a body, in one line."""
    return repr(one_line(body[:1000].decode(errors="replace"), 100)) if body else "an empty body"
