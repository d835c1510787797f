"""Encoded images → arrays, in worker processes.

The workers run this file as a script: of ours it imports `core.crop` alone, which loads nothing
more, so they start in a fraction of a second, and the user's own script is not imported again, as
multiprocessing would. Threads do not help here: for small images most of the time is spent in
Python, under its lock.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import os
import pickle
import subprocess
import sys
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from assay.core.crop import middle_square

if TYPE_CHECKING:
    from PIL.Image import Image

    from assay.data.altered import Cause

CHUNK = 128  # images handed to a worker at a time
FORMATS = (
    *("PNG", "JPEG", "MPO", "GIF", "BMP", "DIB", "WEBP", "TIFF", "PPM", "JPEG2000", "AVIF"),
    *("TGA", "ICO", "PCX", "SGI"),
)
"""What is read. Pillow knows more, among them some that run a program (EPS: Ghostscript)."""
GREY, COLOUR = ("1", "L", "LA"), ("P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV")

Encoded = bytes | str  # the bytes of an image file, or the path of one


class Unreadable(Exception):
    """An image that cannot be used: its position in the chunk, and why."""


def suffixes() -> frozenset[str]:
    """Return what the names of image files end with, in small letters."""
    from PIL import Image

    readable = _formats()
    return frozenset(end for end, kind in Image.registered_extensions().items() if kind in readable)


def look(images: Sequence[Encoded]) -> list[tuple[int, int, int]]:
    """Return (channels, height, width) of each image, from its header."""
    with _large_ones():
        return [_each(index, image, _look) for index, image in enumerate(images)]


def keys(images: Sequence[Encoded]) -> list[int]:
    """Return a 63-bit digest of each image file's bytes."""
    return [_each(index, image, _key) for index, image in enumerate(images)]


def decode(
    images: Sequence[Encoded],
    channels: int,
    height: int,
    width: int,
    scaled: bool,
    crop: float | None = 1.0,
    mode: str = "bicubic",
) -> tuple[np.ndarray[Any, Any], list[tuple[int, Cause]]]:
    """Return the pixels, uint8 (n, C, H, W), C = `channels` (1 or 3); and which images are not what
    a viewer shows or the file holds (see `data.altered`), each by its position and why.

    If `scaled`, each image is brought to height × width (which are then the same) as `crop` says
    (see `core.crop`), interpolated by `mode` (nearest, bilinear or bicubic); otherwise all images
    must have that size.
    """
    pixels = np.empty((len(images), channels, height, width), dtype=np.uint8)
    altered: list[tuple[int, Cause]] = []
    with _large_ones():
        for index, image in enumerate(images):
            how = (channels, height, width, scaled, crop, mode)
            pixels[index], causes = _each(index, image, _decode, *how)
            altered += [(index, cause) for cause in causes]
    return pixels, altered


@contextmanager
def _large_ones() -> Iterator[None]:
    """Read large images without a warning; those that Pillow calls bombs it refuses."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def _each(index: int, image: Encoded, function: Any, *args: Any) -> Any:
    from PIL import UnidentifiedImageError

    try:
        if not image:
            raise ValueError("there is none in this row")
        return function(image, *args)
    except UnidentifiedImageError as error:
        empty = not isinstance(image, bytes) and not Path(image).stat().st_size
        why = "the file is empty" if empty else "it is not an image in a known format"
        raise Unreadable(index, why) from error
    except MemoryError:
        raise
    except Exception as error:  # the readers of Pillow raise whatever comes to them
        raise Unreadable(index, _one_line(str(error)) or type(error).__name__) from error


def _opened(image: Encoded) -> Image:
    from PIL import Image

    return Image.open(io.BytesIO(image) if isinstance(image, bytes) else image, formats=_formats())


def _content(image: Encoded) -> bytes:
    return image if isinstance(image, bytes) else Path(image).read_bytes()


@cache
def _formats() -> tuple[str, ...]:
    """Return the formats of `FORMATS` that this Pillow was built with."""
    from PIL import Image

    Image.init()
    return tuple(kind for kind in FORMATS if kind in Image.OPEN)


def _look(data: Encoded) -> tuple[int, int, int]:
    with _opened(data) as image:
        if image.mode not in GREY + COLOUR:
            raise ValueError(f"its pixels have mode {image.mode}; 8 bits per channel are needed")
        width, height = image.size
        if _turned(image) >= 5:  # lies on its side
            width, height = height, width
        return 1 if image.mode in GREY else 3, height, width


def _key(data: Encoded) -> int:
    digest = hashlib.blake2b(_content(data), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def _decode(
    data: Encoded,
    channels: int,
    height: int,
    width: int,
    scaled: bool,
    crop: float | None,
    interpolation: str,
) -> tuple[np.ndarray[Any, Any], list[Cause]]:
    from PIL import ImageOps

    # from memory: from a file Pillow maps some TIFF images, and then scrambles those on their side
    with _opened(_content(data)) as opened:
        image: Image = opened
        if turned := _turned(opened) > 1:
            image = ImageOps.exif_transpose(opened)
        causes = drops(image)
        mode = "L" if channels == 1 else "RGB"
        if image.mode != mode:
            image = image.convert(mode)
        if scaled:
            image = brought(image, height, width, crop, interpolation)
        if image.size != (width, height):
            raise ValueError(f"it is {image.height}×{image.width}, not {height}×{width}")
        pixels = np.asarray(image)
        if _several(opened):
            causes.append("several")
        if turned:
            causes.append("turned")
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1), causes


def drops(image: Image) -> list[Cause]:
    """Return whether a picture has a pixel that shows through, which "L" and "RGB" know nothing of.

    Only what can be transparent at all is looked at: it costs an image of another kind nothing.
    """
    if "A" in image.getbands():
        alpha = image.getchannel("A")
    elif "transparency" in image.info:
        alpha = image.convert("RGBA").getchannel("A")
    else:
        return []
    # numpy takes a tenth of the time of getextrema, which would be felt in 50,000 images
    return ["transparent"] if np.asarray(alpha).min() < 255 else []


def _several(image: Image) -> bool:
    """Whether a file holds more pictures than the first, which was read already.

    Those that a camera adds for itself (MPO: a smaller one, the other eye) are not meant.
    """
    try:
        return image.format != "MPO" and bool(getattr(image, "is_animated", False))
    except Exception:  # what comes after the first cannot be read: it was not wanted
        return True


def brought(
    image: Image, height: int, width: int, crop: float | None, mode: str = "bicubic"
) -> Image:
    """Return a picture brought to height × width as `crop` says (see `core.crop`)."""
    from PIL.Image import Resampling

    if image.size == (width, height):
        return image
    box = None if crop is None or crop == 1 else _box(image, width, crop)
    if crop == 1:
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side))
    return image.resize((width, height), Resampling[mode.upper()], box)


def _box(image: Image, side: int, crop: float) -> tuple[float, float, float, float]:
    """Return the left, top, right and bottom of what is kept of an image, in its own pixels."""
    (high, wide), (top, left) = middle_square(image.height, image.width, side, crop)
    x, y = image.width / wide, image.height / high
    return left * x, top * y, (left + side) * x, (top + side) * y


def _turned(image: Image) -> int:
    """Return the orientation that a camera wrote into the file, 1 to 8; 1 is upright.

    Any other value says nothing: the image is taken as it is.
    """
    if "exif" not in image.info:
        return 1
    said = image.getexif().get(0x0112, 1)
    return said if isinstance(said, int) and 1 <= said <= 8 else 1


def _one_line(text: str) -> str:
    return " ".join(text.split())[:200]


# -- the pool --------------------------------------------------------------------------------


def in_order(name: str, chunks: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
    """Yield the answer of `look`, `keys` or `decode` (the `name`) to each chunk, in order.

    One chunk is worked on here; more, by one process per core, with at most two chunks per process
    held at a time.

    Raises:
        Unreadable: with the position counted over all chunks.
    """
    rest = iter(chunks)
    first, second = next(rest, None), next(rest, None)
    done = 0
    try:
        if first is None:
            return
        if second is None:
            yield _FUNCTIONS[name](*first)
            return
        count = _cores()
        with _Workers(count) as workers:
            waiting: deque[tuple[int, Future[Any]]] = deque()
            for chunk in itertools.chain((first, second), rest):
                waiting.append((len(chunk[0]), workers.submit(name, *chunk)))
                if len(waiting) >= 2 * count:
                    size, answer = waiting.popleft()
                    yield answer.result()
                    done += size
            for size, answer in waiting:
                yield answer.result()
                done += size
    except Unreadable as error:
        index, reason = error.args
        raise Unreadable(done + index, reason) from error


_FUNCTIONS: dict[str, Callable[..., Any]] = {"look": look, "keys": keys, "decode": decode}


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Workers:
    """Processes that run this file, each driven by a thread that waits for its answers."""

    def __init__(self, count: int) -> None:
        self.threads = ThreadPoolExecutor(count)
        self.processes = [
            subprocess.Popen(
                [sys.executable, "-P", __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C ends them through us, without their tracebacks
            )
            for _ in range(count)
        ]
        self.idle = deque(self.processes)

    def submit(self, *request: Any) -> Future[Any]:
        return self.threads.submit(self._ask, request)

    def _ask(self, request: tuple[Any, ...]) -> Any:
        process = self.idle.popleft()  # there is one per thread
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            pickle.dump(request, process.stdin, protocol=5)
            process.stdin.flush()
            kind, answer = pickle.load(process.stdout)
        except (EOFError, BrokenPipeError) as error:
            raise OSError("a process that decodes images was ended from outside") from error
        finally:
            self.idle.append(process)
        if kind == "unreadable":
            raise Unreadable(*answer)
        return answer

    def __enter__(self) -> _Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self.threads.shutdown(cancel_futures=True)
        for process in self.processes:
            process.communicate()  # closes its stdin, at which it ends


def _serve() -> None:
    """Answer requests on stdin until it is closed."""
    while True:
        try:
            name, *arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            answer = ("done", _FUNCTIONS[name](*arguments))
        except Unreadable as error:
            answer = ("unreadable", error.args)
        pickle.dump(answer, sys.stdout.buffer, protocol=5)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    _serve()
