"""Shards that are files: tables of encoded images (.parquet, .arrow), arrays of pixels (.npz)."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from assay.data.decode import CHUNK
from assay.data.shard import Piece
from assay.data.tables import (
    IMAGE_COLUMNS,
    LABEL_COLUMNS,
    Table,
    column_of,
    declared_by,
    encoded,
    names_of,
)
from assay.data.walk import File, listed, printable, walk
from assay.disk import BROKEN_ZIP
from assay.errors import AssayError, told

SUFFIXES = frozenset({".parquet", ".arrow", ".npz"})
IMAGES, LABELS = ("images", "x", "image"), ("labels", "y", "label")
"""What the arrays of an .npz may be called."""


class TableShard:
    """The rows of a .parquet or .arrow file."""

    def __init__(self, root: Path, name: str) -> None:
        try:
            import pyarrow  # noqa: F401
        except ImportError as error:
            raise AssayError(
                f"reading shard {printable(name)} needs the package pyarrow: "
                "pip install 'assay[data]'"
            ) from error
        self.parts = tuple(name.split("/"))
        self.table = Table(root, File(self.parts, (0, 0, 0), (0, 0)))
        self.schema = self.table.schema
        self.declared = declared_by(self.schema)
        self.shown = f"shard {printable(name)}"

    @property
    def names(self) -> tuple[str, ...] | None:
        return names_of(self.declared, self._column("label", LABEL_COLUMNS))

    @property
    def rows(self) -> int:
        return self.table.rows

    def pieces(self, labelled: bool) -> Iterator[Piece]:
        columns = [self._column("image", IMAGE_COLUMNS)]
        columns += [self._column("label", LABEL_COLUMNS)] if labelled else []
        beside: set[tuple[str, ...]] | None = None
        for batch in self.table.batches(columns):
            values = batch.column(0).to_pylist()
            if beside is None and any(isinstance(v, dict) and v["bytes"] is None for v in values):
                below = walk(self.table.root, frozenset())  # rows that name files of the folder
                beside = {file.parts for file in below.files}
            images = [encoded(value, self.table, beside or set()) for value in values]
            yield Piece(images, batch.column(1).to_pylist() if labelled else [])

    def _column(self, kind: str, usual: tuple[str, ...]) -> str:
        return column_of(kind, None, usual, self.schema, self.declared, self.shown)


class ArrayShard:
    """The arrays of an .npz: uint8 images (N, C, H, W), (N, H, W, C) or (N, H, W), and int labels
    (N,). Images are read through the zip, so that memory holds `CHUNK` of them."""

    names = None

    def __init__(self, root: Path, name: str) -> None:
        self.path, self.shown = root / name, f"shard {printable(name)}"
        with self._reading():
            with zipfile.ZipFile(self.path) as archive:
                self.held = [member.removesuffix(".npy") for member in archive.namelist()]
            with self._member(IMAGES, "image") as (_, shape, dtype):
                self.shape = shape
        if dtype != np.uint8 or len(self.shape) not in (3, 4):
            raise AssayError(
                f"the images of {self.shown} are {dtype} {self.shape}; they must be uint8 "
                "(N, C, H, W), (N, H, W, C) or (N, H, W)"
            )

    @property
    def rows(self) -> int:
        return self.shape[0]

    def pieces(self, labelled: bool) -> Iterator[Piece]:
        with self._reading():
            labels = self._labels() if labelled else []
            with self._member(IMAGES, "image") as (file, shape, _):
                each = int(np.prod(shape[1:]))
                for start in range(0, self.rows, CHUNK):
                    count = min(CHUNK, self.rows - start)
                    pixels = np.frombuffer(file.read(count * each), np.uint8)
                    images = _channels_first(pixels.reshape(count, *shape[1:]))
                    yield Piece(images, labels[start : start + count])

    def _labels(self) -> list[Any]:
        with self._member(LABELS, "label") as (file, shape, dtype):
            labels = np.frombuffer(file.read(), dtype)
        if shape != (self.rows,) or dtype.kind not in "iu":
            raise AssayError(
                f"{self.shown} has {self.rows:,} images, but its labels are {dtype} {shape}: they "
                "must be one whole number for each"
            )
        found: list[Any] = labels.tolist()
        return found

    @contextmanager
    def _member(
        self, usual: Sequence[str], kind: str
    ) -> Iterator[tuple[IO[bytes], tuple[int, ...], np.dtype[Any]]]:
        """Give an array's content, after its header, with its shape and type."""
        name = next((name for name in usual if name in self.held), None)
        if name is None:
            raise AssayError(
                f"{self.shown} has no array of {kind}s (looked for {', '.join(usual)}), but "
                f"{listed(self.held)}"
            )
        with zipfile.ZipFile(self.path) as archive, archive.open(f"{name}.npy") as file:
            version = npy.read_magic(file)
            read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, columns_first, dtype = read(file)
            if columns_first and len(shape) > 1:
                raise ValueError("its arrays are in the order of Fortran: keep them in that of C")
            yield file, shape, dtype

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except BROKEN_ZIP as error:
            raise AssayError(f"{self.shown} cannot be read: {told(error)}") from error


def _channels_first(pixels: NDArray[Any]) -> NDArray[Any]:
    if pixels.ndim == 3:
        return pixels[:, None]
    if pixels.shape[1] in (1, 3):
        return pixels
    if pixels.shape[3] in (1, 3):
        return pixels.transpose(0, 3, 1, 2)
    raise ValueError(f"its images have the shape {pixels.shape[1:]}: neither 1 nor 3 channels")
