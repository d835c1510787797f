"""Image sets in files, read by the `datasets` library: parquet, image folders, hub repositories."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from assay.config import digest
from assay.data.cache import cached, finish, start_array, writing
from assay.data.decode import CHUNK, Encoded, Unreadable, in_order
from assay.data.splits import held_out
from assay.errors import AssayError, told, unknown

if TYPE_CHECKING:
    from assay.data.dataset import Dataset

VERSION = 2  # raised when the same files would be decoded, ordered or split differently

IMAGE_COLUMNS = ("image", "img", "images", "picture")
LABEL_COLUMNS = ("label", "fine_label", "labels", "class", "target")


@dataclass(frozen=True)
class Asked:
    """What of an image set is wanted, by the user's own words; None: found."""

    image_column: str | None = None
    label_column: str | None = None
    size: int | None = None
    labelled: bool = True
    """Whether labels are needed; otherwise they are not read, and are -1."""


def folder_set(folder: Path, split: str, asked: Asked, cache: Path) -> Dataset:
    """Return a split of the image set in a local folder, decoded if it is not in the cache."""
    key = digest([VERSION, vars(asked), _files(folder)])
    name = folder.resolve().name
    return _through_cache(
        cache / f"{name}-{key[:16]}", name, split, asked, origin={"folder": str(folder.resolve())}
    )


def hub_set(hub_id: str, split: str, asked: Asked, cache: Path) -> Dataset:
    """Return a split of a repository of the Hugging Face hub, fetched and decoded once."""
    key = digest([VERSION, vars(asked), hub_id])
    name = hub_id.split("/")[-1]
    return _through_cache(cache / f"{name}-{key[:16]}", name, split, asked, origin={"hub": hub_id})


def _through_cache(
    entry: Path, name: str, split: str, asked: Asked, origin: dict[str, str]
) -> Dataset:
    found = cached(entry, split, name)
    if found is None:
        with writing(entry) as making:
            # another process may have made it while we waited for the lock
            if cached(entry, split, name) is None:
                source = _open(origin, making / "datasets", asked)
                _make(source, split, asked.size, making, entry)
        found = cached(entry, split, name)
    if found is None:
        raise AssayError(f"the images just kept in {entry / split} are gone or damaged; try again")
    return found


def _files(folder: Path) -> list[tuple[str, int, int]]:
    """Return (path, bytes, time of change) of every file below `folder`: what the cache is for."""
    seen = []
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(place, name)
            if not name.startswith(".") and path.is_file():
                stat = path.stat()
                seen.append((str(path.relative_to(folder)), stat.st_size, stat.st_mtime_ns))
    return seen


# -- opening a set ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Opened:
    """An image set whose images are not decoded yet.

    `codes` maps what stands in the label column to 0 .. K-1; None where it already is that.
    """

    where: str
    splits: dict[str, Any]
    image: str
    label: str | None
    classes: tuple[str, ...]
    codes: dict[Any, int] | None
    origin: dict[str, str]

    @property
    def carved(self) -> bool:
        """Whether validation has to be taken from train."""
        return "train" in self.splits and "validation" not in self.splits


def _open(origin: dict[str, str], scratch: Path, asked: Asked) -> Opened:
    try:
        import datasets
        import PIL  # noqa: F401
    except ImportError as error:
        raise AssayError(
            f"reading image sets needs the package {error.name}: pip install 'assay[data]'"
        ) from error
    if "folder" in origin:
        where = origin["folder"]
        found = _open_folder(Path(where), scratch)
    else:
        where = origin["hub"]
        found, origin = _open_hub(where, scratch)
    splits = {_STANDARD.get(str(split), str(split)): rows for split, rows in found.items()}
    features = next(iter(splits.values())).features or {}
    image = _column("image", asked.image_column, IMAGE_COLUMNS, features, _holds_images, where)
    label = None
    classes: tuple[str, ...] = ()
    codes = None
    if asked.labelled:
        label = _column("label", asked.label_column, LABEL_COLUMNS, features, _holds_labels, where)
        classes, codes = _classes(features[label], label, splits)
    columns = [image] if label is None else [image, label]
    splits = {
        split: rows.select_columns(columns).cast_column(image, datasets.Image(decode=False))
        for split, rows in splits.items()
    }
    return Opened(where, splits, image, label, classes, codes, origin)


_STANDARD = {
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "dev": "validation",
    "testing": "test",
    "eval": "test",
}


def _open_folder(folder: Path, scratch: Path) -> Any:
    import datasets

    kinds = Counter(Path(name).suffix.lower() or "no suffix" for name, _, _ in _files(folder))
    if not kinds:
        raise AssayError(f"{folder} holds no images: it is empty")
    if not kinds.keys() & _readable():
        seen = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(3))
        raise AssayError(
            f"{folder} holds no images, but {seen}; wanted are parquet files, or image files in "
            "one folder per class"
        )
    try:
        # streamed: nothing is copied, and the library's own cache stays out of the home folder
        return datasets.load_dataset(str(folder), streaming=True, cache_dir=str(scratch))
    except Exception as error:  # the library raises whatever its readers do
        raise AssayError(f"{folder} cannot be read as an image set: {told(error)}") from error


def _readable() -> set[str]:
    from PIL import Image

    return {".parquet", ".arrow", *Image.registered_extensions()}


def _open_hub(hub_id: str, scratch: Path) -> tuple[Any, dict[str, str]]:
    import datasets
    import huggingface_hub

    origin, revision = {"hub": hub_id}, None
    if not huggingface_hub.constants.HF_HUB_OFFLINE:
        try:  # one short question, since load_dataset tries for half a minute without a network
            revision = huggingface_hub.dataset_info(hub_id, timeout=10).sha
        except huggingface_hub.errors.RepositoryNotFoundError as error:
            raise AssayError(
                f"there is no data set {hub_id!r} on the Hugging Face hub, or it is not public"
            ) from error
        except Exception as error:
            raise _unreachable(hub_id, error) from error
        origin["revision"] = str(revision)
    try:
        found = datasets.load_dataset(hub_id, revision=revision, cache_dir=str(scratch))
    except (ConnectionError, huggingface_hub.errors.OfflineModeIsEnabled) as error:
        raise _unreachable(hub_id, error) from error
    except Exception as error:
        raise AssayError(f"{hub_id} cannot be read as an image set: {told(error)}") from error
    return found, origin


def _unreachable(hub_id: str, error: Exception) -> AssayError:
    name = hub_id.split("/")[-1]
    return AssayError(
        f"{hub_id} is not in a local folder, and the Hugging Face hub did not answer "
        f"({type(error).__name__}); without a network, put its files in a folder {name}/ and set "
        f"ASSAY_DATA to the folder that holds {name}/"
    )


def _column(
    kind: str, asked: str | None, usual: tuple[str, ...], features: Any, fits: Any, where: str
) -> str:
    """Return the column to read: the one asked for, a usual name, or the only one that fits."""
    if asked is not None:
        if asked not in features:
            raise unknown(f"{kind} column of {where}", asked, features)
        if not fits(features[asked]):
            raise AssayError(f"column {asked!r} of {where} holds no {kind}s: {features[asked]}")
        return asked
    fitting = [name for name in features if fits(features[name])]
    for name in usual:
        if name in fitting:
            return name
    if kind == "label":  # another whole number may be anything, a class label is one
        fitting = [name for name in fitting if type(features[name]).__name__ == "ClassLabel"]
    if len(fitting) == 1:
        return str(fitting[0])
    raise AssayError(
        f"{where} has no column of {kind}s (columns: {', '.join(features)}; looked for "
        f"{', '.join(usual)}); put image files in one folder per class, or name it in Python by "
        f"load_data({kind}_column=…)"
    )


def _holds_images(feature: Any) -> bool:
    if type(feature).__name__ == "Image":
        return True
    if isinstance(feature, dict):  # how parquet keeps an image without saying that it is one
        return "bytes" in feature
    return getattr(feature, "dtype", "") in ("binary", "large_binary")


def _holds_labels(feature: Any) -> bool:
    kind = getattr(feature, "dtype", "")
    return isinstance(kind, str) and (kind.startswith(("int", "uint", "string")) or kind == "bool")


def _classes(
    feature: Any, label: str, splits: dict[str, Any]
) -> tuple[tuple[str, ...], dict[Any, int] | None]:
    """Return the class names, and what turns a value of the label column into its number.

    Without declared names, the classes are the sorted values seen in any split, so that every
    split numbers them alike.
    """
    if type(feature).__name__ == "ClassLabel":
        return tuple(feature.names), None
    values = {
        value
        for rows in splits.values()
        for batch in rows.select_columns([label]).iter(batch_size=10_000)
        for value in batch[label]
        if value is not None
    }
    ordered = sorted(values)
    return tuple(str(value) for value in ordered), {v: i for i, v in enumerate(ordered)}


# -- decoding it -----------------------------------------------------------------------------


def _make(source: Opened, split: str, size: int | None, making: Path, entry: Path) -> None:
    """Decode a split into `entry`; both train and validation where one is taken from the other."""
    offered = [*source.splits, *(["validation"] if source.carved else [])]
    if split not in offered:
        raise AssayError(
            f"{source.where} has no split {split!r}, but {' and '.join(offered)}; in a folder of "
            "images each split is a folder (train/, test/) with one folder per class in it"
        )
    carve = source.carved and split in ("train", "validation")
    rows = source.splits["train" if carve else split]
    seen = f"{source.where} ({'train' if carve else split})"

    labels = _labels(source, rows, seen)
    heads = _decoded("look", source, rows, seen)
    channels, heights, widths, keys = np.array([row for part in heads for row in part]).T
    if size is None:
        sizes = Counter(zip(heights.tolist(), widths.tolist(), strict=True)).most_common(3)
        if len(sizes) > 1:
            shown = ", ".join(f"{n} of {height}×{width}" for (height, width), n in sizes)
            raise AssayError(
                f"the images of {seen} differ in size ({shown}, …): scale them first, "
                "or in Python by load_data(size=…)"
            )
    colours = int(channels.max())  # grey images among coloured ones are made coloured
    shape = (colours, size or int(heights[0]), size or int(widths[0]))

    out = held_out(keys, labels) if carve else np.zeros(len(labels), dtype=bool)
    parts = {"train": ~out, "validation": out} if carve else {split: ~out}
    if not parts[split].any():
        raise AssayError(
            f"{seen} has too few images ({len(labels)}) to hold some out for validation: a class "
            "gives one in ten"
        )
    parts = {name: mask for name, mask in parts.items() if mask.any()}
    with ExitStack() as stack:
        files = {}
        for name, mask in parts.items():
            (making / name).mkdir()
            file = start_array(making / name / "images.npy", (int(mask.sum()), *shape))
            files[name] = stack.enter_context(file)
        start = 0
        for pixels in _decoded("decode", source, rows, seen, colours, size):
            for name, mask in parts.items():
                files[name].write(pixels[mask[start : start + len(pixels)]].tobytes())
            start += len(pixels)
    for name, mask in parts.items():
        finish(
            making,
            entry,
            name,
            labels=labels[mask],
            classes=source.classes,
            origin=source.origin | {"image_column": source.image, "label_column": source.label},
        )


def _labels(source: Opened, rows: Any, seen: str) -> NDArray[np.int64]:
    column = source.label or source.image
    values = [
        value
        for batch in rows.select_columns([column]).iter(batch_size=10_000)
        for value in batch[column]
    ]
    if not values:
        raise AssayError(f"{seen} holds no images")
    if source.label is None:
        return np.full(len(values), -1)
    for row, value in enumerate(values):
        if value is None or (source.codes is None and not 0 <= value < len(source.classes)):
            raise AssayError(
                f"row {row} of {seen} has no label: {source.label} is {value}, and there are "
                f"{len(source.classes)} classes"
            )
    if source.codes is not None:
        values = [source.codes[value] for value in values]
    return np.array(values, dtype=np.int64)


def _decoded(function: str, source: Opened, rows: Any, seen: str, *more: Any) -> Iterator[Any]:
    """Yield `look` or `decode` of the images, a chunk at a time."""

    def chunks() -> Iterator[tuple[Any, ...]]:
        for batch in rows.iter(batch_size=CHUNK):
            yield [_encoded(value) for value in batch[source.image]], *more

    try:
        yield from in_order(function, chunks())
    except Unreadable as error:
        row, reason = error.args
        raise AssayError(f"row {row} of {seen} cannot be read as an image: {reason}") from error


def _encoded(value: Any) -> Encoded:
    if value is None:
        return b""
    if value["bytes"] is not None:
        return bytes(value["bytes"])
    return str(value["path"])
