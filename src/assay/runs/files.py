"""Files of a run: JSON and arrays, the same bytes for the same content."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from assay.disk import BROKEN_ZIP, writing
from assay.errors import AssayError

Array = np.ndarray[Any, Any]


# -- JSON --------------------------------------------------------------------------------------


def to_json(data: Any, *, indent: int | None = None) -> str:
    """Return the one JSON text of `data`: keys sorted, floats exact, a newline at the end.

    JSON has no NaN and no infinity: such a float is written as {"$float": "nan"}, which
    `from_json` reads back. numpy scalars are written as the numbers they are.

    Raises:
        TypeError: for what JSON cannot hold (arrays belong in arrays.npz); names where it is.
    """
    separators = (",", ":") if indent is None else None
    plain = _plain(data, "")
    text = json.dumps(plain, sort_keys=True, separators=separators, indent=indent, allow_nan=False)
    return text + "\n"


def from_json(text: str | bytes) -> Any:
    """Return what `to_json` wrote.

    Raises:
        ValueError: for text that is not JSON.
    """
    return json.loads(text, object_hook=_revive)


def _plain(value: Any, where: str) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"$float": repr(value)}
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str) or key == "$float":
                raise TypeError(f"{where or 'top'}: key {key!r} cannot stand in JSON; use a str")
        return {key: _plain(item, f"{where}.{key}".lstrip(".")) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    hint = "; put it in the arrays" if hasattr(value, "shape") else ""
    raise TypeError(f"{where or 'top'}: {type(value).__name__} cannot stand in JSON{hint}")


def _revive(item: dict[str, Any]) -> Any:
    return float(item["$float"]) if item.keys() == {"$float"} else item


# -- arrays ------------------------------------------------------------------------------------


def write_arrays(path: Path, arrays: Mapping[str, Any], *, durable: bool = True) -> None:
    """Write an .npz whose bytes depend on the arrays alone: sorted, little-endian, no dates.

    Args:
        durable: wait for the disk, as `disk.writing` does.

    Raises:
        TypeError: for an array of Python objects.
    """
    with (
        writing(path, durable=durable) as file,
        zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive,
    ):
        for name in sorted(arrays):
            array = np.asarray(arrays[name], order="C")
            if array.dtype.hasobject:
                raise TypeError(f"array {name!r} holds Python objects; make it numeric or text")
            array = array.astype(array.dtype.newbyteorder("<"), copy=False)
            entry = zipfile.ZipInfo(f"{name}.npy")  # dated 1980, whenever it is written
            entry.create_system = 3  # the same on every system
            with archive.open(entry, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, version=(1, 0), allow_pickle=False)


class Arrays(Mapping[str, Array]):
    """The arrays of an .npz, each read when it is needed; no file means no arrays."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._names: list[str] | None = None

    def __getitem__(self, name: str) -> Array:
        if name not in self._list():
            raise KeyError(f"no array {name!r} in {self._path}; there are {self._list()}")
        try:
            with self._open() as archive, archive.open(f"{name}.npy") as member:
                array: Array = np.lib.format.read_array(member, allow_pickle=False)
        except BROKEN_ZIP as error:
            raise self._damaged(error) from error
        return array

    def __iter__(self) -> Iterator[str]:
        return iter(self._list())

    def __len__(self) -> int:
        return len(self._list())

    def _list(self) -> list[str]:
        if self._names is None:
            self._names = []
            if self._path.is_file():
                with self._open() as archive:
                    self._names = [name.removesuffix(".npy") for name in archive.namelist()]
        return self._names

    def _open(self) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(self._path)
        except BROKEN_ZIP as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> AssayError:
        return AssayError(
            f"{self._path} is damaged ({error}); run the study again to redo its trial"
        )
