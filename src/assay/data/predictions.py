"""Saved predictions: a CSV, TSV, JSON-lines or .npz file of labels and what a model said of them.

    id,label,p_cat,p_dog,camera
    a1,cat,0.9,0.1,phone

| what | columns of a CSV | arrays of an .npz |
| --- | --- | --- |
| label | `label`: a class by its name, or its number | `label` or `labels`, (N,) |
| probabilities | `p_NAME` or `prob_NAME`, one each | `probabilities`, `probs`, `scores`, (N, K) |
| or logits | `logit_NAME`, one per class | `logits`, (N, K) |
| or the predicted class | `prediction` or `predicted` | `prediction` or `predictions`, (N,) |
| names of rows | `id`, `image` or `file_name` | `id` or `ids`, (N,) |
| names of classes | the columns' own | `classes`, (K,) |

Every other column, or array (N,), is metadata.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from assay.config import digest
from assay.core.blackbox import ALIKE_TOLERANCE, SUM_TOLERANCE, Answers
from assay.data.classes import by_name
from assay.data.textfiles import columns_of_lines, headed_once, is_missing
from assay.data.walk import listed, printable
from assay.disk import BROKEN_ZIP
from assay.errors import AssayError, distinct, expanded, one_line, told, unknown

LINES = frozenset({".csv", ".tsv", ".jsonl", ".ndjson"})
SUFFIXES = LINES | {".npz"}
LABELS = ("label", "labels", "y_true", "target", "truth", "class")
PREDICTIONS = ("prediction", "predictions", "predicted", "pred", "y_pred")
IDS = ("id", "ids", "image_id", "image", "file_name")
ARRAYS: Mapping[str, Answers] = {
    "probabilities": "scores",
    "probs": "scores",
    "scores": "scores",
    "logits": "logits",
}
OUTPUT = re.compile(r"(p|prob|probability|logit)[_.: ](.+)")
"""A column of outputs: what it holds, and of which class."""
SIZE = 2**31
"""Bytes that a file may have."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a model said of labelled examples, which themselves are not there.

    Attributes:
        name: of the file.
        classes: the names of the labels 0 .. K-1.
        labels: int64 (N,).
        answer: labels int64 (N,), or scores or logits float32 (N, K).
        access: which of them.
        ids: the names of the rows, which are in their order; () where there are none.
        metadata: further columns, each with a value per row: text, a number, or None.
        fingerprint: a digest of ids, labels and classes: equal where predictions are of the same
            examples, whatever they are.
        mark: a digest of what was said.
        notes: what was understood, a line each.

    >>> from pathlib import Path
    >>> _ = Path("said.csv").write_text("label,prediction\\ncat,cat\\ndog,cat\\n")
    >>> said = assay.data.load_predictions("said.csv")
    >>> said.classes, said.access
    (('cat', 'dog'), 'labels')
    """

    name: str
    classes: tuple[str, ...]
    labels: Tensor
    answer: Tensor
    access: Answers
    ids: tuple[str, ...]
    metadata: Mapping[str, tuple[Any, ...]]
    fingerprint: str
    mark: str
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)


def load_predictions(
    path: str | Path, *, classes: Sequence[str] | None = None, label: str | None = None
) -> Predictions:
    """Return the predictions in a file; the module says what its columns are called.

    Args:
        path: a .csv, .tsv, .jsonl or .npz file.
        classes: the names of the classes in the order of the outputs; None: as the file says.
        label: the column of the labels; None: one that is called so.

    Raises:
        AssayError: a column is missing, a value is none, a row does not sum to 1, or classes do not
            match; it names the row, the first being 1.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp(), "said.csv")
    >>> _ = file.write_text("label,p_cat,p_dog,camera\\ncat,0.9,0.1,phone\\ndog,0.7,0.3,phone\\n")
    >>> said = load_predictions(file)
    >>> said.classes, said.labels.tolist(), said.access, dict(said.metadata)
    (('cat', 'dog'), [0, 1], 'scores', {'camera': ('phone', 'phone')})
    """
    file = expanded(path)
    where = printable(str(file))
    if file.suffix.lower() not in SUFFIXES:
        raise AssayError(
            f"{where} is none of {', '.join(sorted(SUFFIXES))}, which hold predictions"
        )
    if not file.is_file():
        raise AssayError(f"{where} is not there, or no file")
    if file.stat().st_size > SIZE:
        raise AssayError(f"{where} has more than {SIZE >> 30} GiB: give fewer rows")
    if file.suffix.lower() == ".npz":
        columns, outputs, access, names = _arrays(file, where)
    else:
        columns, outputs, access, names = _lines(file, where)
    own = _named("label", LABELS, columns, label, where)
    truth = columns.pop(own)
    said = next((columns.pop(name) for name in PREDICTIONS if name in columns), None)
    ids = next((columns.pop(name) for name in IDS if name in columns), None)
    if not len(truth):
        raise AssayError(f"{where} is empty: it has no rows")
    _all_there(truth, f"column {own!r}", where)
    if said is not None:
        _all_there(said, "the predicted class", where)
    notes = []
    if outputs is None:
        if said is None:
            raise AssayError(
                f"{where} has labels but nothing that a model said (columns: "
                f"{one_line(', '.join([own, *columns]), 160)}): give p_NAME or logit_NAME for each "
                "class, or prediction; arrays probabilities, logits or prediction"
            )
        if classes is None:
            names = by_name({*map(_text, truth), *map(_text, said)})
    known = _classes(names, classes, None if outputs is None else outputs.shape[1], where)
    y = _numbers(truth, known, f"column {own!r}", where)
    answer: NDArray[Any]
    if outputs is None:
        assert said is not None
        answer = _numbers(said, known, "the predicted class", where)
    else:
        order = [names.index(name) for name in known] if names else list(range(len(known)))
        answer = _checked(outputs[:, order], access, where)
        if said is not None:
            named = _numbers(said, known, "the predicted class", where)
            other = int((named != answer.argmax(1)).sum())
            if other:
                notes.append(
                    f"the predicted class is not the one with the greatest output in {other:,} "
                    f"rows of {where}: the outputs are used"
                )
    rows = np.arange(len(y))
    if ids is not None:
        texts = np.array([_text(value) for value in ids])
        rows = np.argsort(texts, kind="stable")
        _once(texts, rows, where)
        ids = texts[rows].tolist()
    y, answer = y[rows], answer[rows]
    return Predictions(
        name=file.stem,
        classes=known,
        labels=torch.from_numpy(y),
        answer=torch.from_numpy(answer),
        access=access,
        ids=tuple(ids or ()),
        metadata={
            name: tuple(_plain(values[row]) for row in rows) for name, values in columns.items()
        },
        fingerprint=digest([list(known), y.tolist(), list(ids or ())]),
        mark=hashlib.sha256(np.ascontiguousarray(answer).tobytes()).hexdigest(),
        notes=tuple(notes),
    )


Read = tuple[dict[str, Any], NDArray[np.float64] | None, Answers, tuple[str, ...]]
"""Columns of a value per row, outputs (N, K) or None, what they are, the names of their columns."""


def _lines(file: Path, where: str) -> Read:
    read = columns_of_lines(file)
    headed_once(list(read), where)
    columns: dict[str, Any] = {name.strip(): values for name, values in read.items()}
    found = {name: match for name in columns if (match := OUTPUT.fullmatch(name))}
    kinds = {"logits" if match[1] == "logit" else "scores" for match in found.values()}
    if not found:
        return columns, None, "labels", ()
    if len(kinds) > 1:
        raise AssayError(f"{where} has columns of probabilities and of logits: keep one of them")
    of_class: dict[str, str] = {}
    for name, match in found.items():
        if (other := of_class.setdefault(match[2], name)) != name:
            raise AssayError(
                f"columns {other!r} and {name!r} of {where} are both outputs of the class "
                f"{match[2]!r}: keep one of them"
            )
    names = {one: _floats(columns.pop(name), name, where) for one, name in of_class.items()}
    order = by_name(names) if all(name.isdecimal() for name in names) else tuple(names)
    access: Answers = "logits" if kinds == {"logits"} else "scores"
    return columns, np.stack([names[name] for name in order], 1), access, order


def _arrays(file: Path, where: str) -> Read:
    try:
        with file.open("rb") as content, np.load(content, allow_pickle=False) as opened:
            found = {name: opened[name] for name in opened.files}
    except (MemoryError, *BROKEN_ZIP) as error:
        raise AssayError(f"{where} cannot be read as an .npz of arrays: {told(error)}") from error
    own = _named("label", LABELS, found, None, where)
    n = found[own].shape
    if len(n) != 1:
        raise AssayError(f"{own} of {where} has shape {n}: one label per row has (N,)")
    names = tuple(map(str, found.pop("classes", np.array([])).reshape(-1).tolist()))
    name = next((name for name in ARRAYS if name in found), None)
    columns = {key: array for key, array in found.items() if array.shape == n}
    if name is None:
        return columns, None, "labels", names
    outputs = found[name]
    columns.pop(name, None)
    if outputs.ndim != 2 or len(outputs) != n[0] or outputs.dtype.kind not in "fiu":
        raise AssayError(
            f"{name} of {where} is {outputs.dtype} {outputs.shape}: wanted are numbers (N, K), a "
            f"row for each of {n[0]:,} labels"
        )
    if names and len(names) != outputs.shape[1]:
        raise AssayError(f"{where} names {len(names)} classes, but {name} has {outputs.shape[1]}")
    return columns, outputs.astype(np.float64), ARRAYS[name], names


def _named(
    kind: str, usual: Sequence[str], columns: Mapping[str, Any], asked: str | None, where: str
) -> str:
    if asked is not None and asked not in columns:
        raise unknown(f"{kind} column of {where}", asked, list(columns))
    found = asked or next((name for name in usual if name in columns), None)
    if found is None:
        raise AssayError(
            f"{where} has no {kind} column (columns: {one_line(', '.join(columns), 160)}; looked "
            f"for {', '.join(usual)}): name it by --{kind}"
        )
    return found


def _classes(
    own: tuple[str, ...], asked: Sequence[str] | None, outputs: int | None, where: str
) -> tuple[str, ...]:
    """Return the names of the classes, in the order of the labels."""
    names = tuple(asked or own or map(str, range(outputs or 0)))
    if outputs is not None and len(names) != outputs:
        raise AssayError(
            f"--classes names {len(names)} ({listed(list(names), 5)}), but {where} has outputs for "
            f"{outputs}: the classes do not match"
        )
    if own and set(own) != set(names):
        raise AssayError(
            f"the classes of {where} are {listed(list(own), 5)}, and --classes says "
            f"{listed(list(names), 5)}: they do not match"
        )
    distinct(names, f"classes of {where}")
    if len(names) < 2:
        raise AssayError(f"{where} has the classes {listed(list(names), 5)}: give two or more")
    return names


def _all_there(values: Sequence[Any], what: str, where: str) -> None:
    """Refuse a row without a class, which would pass for a class of an empty name."""
    row = next((row for row, value in enumerate(values, start=1) if is_missing(value)), None)
    if row is not None:
        raise AssayError(f"{what} of row {row} of {where} is empty: give every row one")


def _numbers(
    values: Sequence[Any], classes: tuple[str, ...], what: str, where: str
) -> NDArray[np.int64]:
    """Return classes by their numbers; they stand there by name, or else by number."""
    by_name = {name: number for number, name in enumerate(classes)}
    texts = [_text(value) for value in values]
    if not any(text in by_name for text in texts) and all(text.isdecimal() for text in texts):
        by_name = {str(number): number for number in range(len(classes))}
    for row, text in enumerate(texts, start=1):
        if text not in by_name:
            raise AssayError(
                f"{what} of row {row} of {where} is {one_line(text, 40)!r}, which is none of the "
                f"{len(classes)} classes ({listed(list(classes), 5)})"
            )
    return np.array([by_name[text] for text in texts], dtype=np.int64)


def _checked(outputs: NDArray[np.float64], access: Answers, where: str) -> NDArray[np.float32]:
    """Return outputs as float32, if they are what they are called."""
    odd: NDArray[np.bool_] = np.asarray(~np.isfinite(outputs).all(1))
    if odd.any():
        row = int(odd.argmax())
        raise AssayError(
            f"row {row + 1} of {where} holds NaN or infinity ({int(odd.sum()):,} of {len(odd):,} "
            "rows): leave such rows out, or say what the model said of them"
        )
    sums = outputs.sum(1)
    unit = (outputs.min(1) >= 0) & (abs(sums - 1) <= SUM_TOLERANCE)
    if access == "scores" and not unit.all():
        row = int((~unit).argmax())
        raise AssayError(
            f"the probabilities in row {row + 1} of {where} go down to "
            f"{outputs[row].min():.4g} and sum to {sums[row]:.4g} ({int((~unit).sum()):,} of "
            f"{len(unit):,} rows): they are at least 0 and sum to 1; if they are logits, call them "
            "logit_NAME, or logits"
        )
    alike = len(outputs) > 1 and bool((abs(sums - 1) < ALIKE_TOLERANCE).all())
    if access == "logits" and alike and unit.all():
        raise AssayError(
            f"the logits of {where} are probabilities (rows are positive and sum to 1): call them "
            "p_NAME, or probabilities"
        )
    return outputs.astype(np.float32)


def _floats(values: Sequence[Any], name: str, where: str) -> NDArray[np.float64]:
    found = np.empty(len(values))
    for row, value in enumerate(values):
        try:
            found[row] = float(value)
        except (TypeError, ValueError) as error:
            raise AssayError(
                f"row {row + 1} of {where} has {one_line(repr(value), 40)} in column {name!r}, "
                "which is no number"
            ) from error
    return found


def _once(texts: NDArray[Any], rows: NDArray[np.int64], where: str) -> None:
    """Refuse an id that stands in two rows."""
    ordered = texts[rows]
    again = np.flatnonzero(np.asarray(ordered[1:] == ordered[:-1]))
    if len(again):
        first, second = (int(rows[again[0] + k]) + 1 for k in (0, 1))
        raise AssayError(
            f"rows {first} and {second} of {where} have the same id "
            f"{one_line(str(texts[first - 1]), 40)!r}: an example is counted once"
        )


def _text(value: Any) -> str:
    """Return a class or an id as text: 3.0, as tables write whole numbers with gaps, is 3."""
    return re.sub(r"^(\d+)\.0$", r"\1", str(value).strip())


def _plain(value: Any) -> Any:
    """Return a value of metadata in Python's own types; None where there is none."""
    value = value.item() if isinstance(value, np.generic) else value
    return None if value == "" or value is None or value != value else value
