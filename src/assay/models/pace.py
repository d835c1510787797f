"""How requests to a service are spread: so many at once, so many a second, and how long to wait
before one is sent again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

from assay.errors import AssayError

In = TypeVar("In")
Out = TypeVar("Out")

MOST_AT_ONCE = 64
LONGEST_WAIT = 60.0
"""Seconds that a service may ask to be left alone for (Retry-After); one that asks for more is
given up."""


class Pace:
    """Sends requests in order of time, not faster than it is allowed to.

    Args:
        concurrency: requests that may be under way at once, 1 to 64.
        rate: requests that may be sent in a second; None: as many as there are.

    >>> Pace(4).all(lambda x: x * x, [1, 2, 3])
    [1, 4, 9]
    """

    def __init__(self, concurrency: int = 1, rate: float | None = None) -> None:
        if not 1 <= concurrency <= MOST_AT_ONCE:
            raise AssayError(f"concurrency is from 1 to {MOST_AT_ONCE} requests, not {concurrency}")
        if rate is not None and not 0 < rate < float("inf"):
            raise AssayError(f"rate is a positive number of requests a second, not {rate:g}")
        self.concurrency = concurrency
        self.rate = rate
        self._next = 0.0
        self._lock = threading.Lock()

    def all(self, send: Callable[[In], Out], requests: Iterable[In]) -> list[Out]:
        """Return the answers to requests in order; the first error ends those not yet sent."""
        waiting = list(requests)
        if self.concurrency == 1 or len(waiting) < 2:
            return [send(one) for one in waiting]
        with ThreadPoolExecutor(self.concurrency) as pool:
            under_way = [pool.submit(send, one) for one in waiting]
            try:
                return [one.result() for one in under_way]
            except BaseException:
                for one in under_way:
                    one.cancel()
                raise

    def wait(self) -> None:
        """Return when the next request may be sent."""
        if self.rate is None:
            return
        with self._lock:
            now = time.monotonic()
            at = max(now, self._next)
            self._next = at + 1 / self.rate
        time.sleep(at - now)


def asked_wait(header: str) -> float | None:
    """Return the seconds that a Retry-After header asks for: a number of them, or a date; None
    where it says nothing that can be read.

    >>> asked_wait("2"), asked_wait(""), asked_wait("Wed, 21 Oct 2015 07:28:00 GMT")
    (2.0, None, 0.0)
    >>> asked_wait("Wed, 21 Oct 2015 07:28:00 +99999999999999999")
    """
    text = header.strip()
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return max(0.0, (at - datetime.now(UTC)).total_seconds())
