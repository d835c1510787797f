"""An attack over a set that is too large, or takes too long, for one call: part by part.

Every finished part is a file. After a kill -9 the same call goes on at the first part that is not
there, and ends with the same arrays to the byte: draws are keyed by an image's index in its data
set, so a part comes out as it would without the interruption. Memory holds one part at a time; the
arrays of the whole are mapped from the disk.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from assay.attacks.base import Attack, Stop
from assay.attacks.result import ARRAYS, AttackResult
from assay.attacks.runner import check_limits, run
from assay.core.batches import X, named
from assay.core.fast import FastReport, Precision
from assay.core.images import rows_that_fit
from assay.core.oracle import Oracle
from assay.core.source import Source
from assay.core.threats import T
from assay.errors import AssayError, one_line
from assay.workflows.parts import (
    cost_of,
    images_on_disk,
    join,
    texts_of,
    write_json,
    write_part,
    write_texts,
)

Targets = int | Literal["least-likely"]
"""What a targeted attack aims at: one class for all images, or of each the class, besides its
label, that the model thinks least likely (Kurakin et al. 2017)."""

Progress = Callable[[int, int, int | None], None]
"""Called with how many images are done, how many of those an earlier call did, and how many there
are (None: unknown)."""

ARRAYS_FILE, STATE_FILE = "arrays.safetensors", "state.json"
TEXTS_FILE = "texts.json"
PARTS_FOLDER, LOCK_FILE = "parts", ".lock"
TEXTS = 32
"""Texts per part where nobody says: their candidates, not they, fill a batch, and each takes a
second or so."""


def run_over(
    attack: Attack[X, T],
    oracle: Oracle[X],
    source: Source,
    *,
    folder: str | Path,
    targets: Targets | None = None,
    stop: Stop = "never",
    attack_wrong: bool = False,
    seed: int = 0,
    precision: Precision = "float32",
    batch_size: int | None = None,
    query_budget: int | None = None,
    time_limit: float | None = None,
    part: int | None = None,
    model: str | None = None,
    progress: Progress | None = None,
) -> AttackResult[X, T]:
    """Attack every image or text of a source, keeping each finished part in `folder`; go on where
    an earlier call with the same settings was stopped.

    In the end the folder holds arrays.safetensors, the arrays of the whole with the images' `ids`,
    and state.json; of texts also texts.json, what the attack made of each. Another call reads
    these, and does not query the model.

    Args:
        attack, oracle, stop, attack_wrong, seed, precision, batch_size: as for `run`.
        source: images and labels; where all labels are -1, the model's own predictions are taken.
        folder: where the parts are kept; made if it is not there.
        targets: a class that no image of the source has; or "least-likely", which costs a query
            per image and needs scores or logits.
        query_budget: queries per image, as for `run`.
        time_limit: seconds for the whole, earlier calls included. A part may take the share of
            the remaining time that its images have among the remaining images.
        part: images per part; None takes a batch (256 CIFAR images), or 32 texts. A kill costs one
            part at most; an attack of many stages is slower in small parts.
        model: what identifies the model, where the oracle has no `fingerprint`.
        progress: told about every finished part.

    Returns:
        The result of the whole: arrays on the CPU, mapped from the disk; queries, seconds and
        evaluations added up.

    Raises:
        AssayError: for a folder that was made with other settings (it names them), that another
            process works in, or that cannot be written; and whatever `run` raises, in which case
            the parts that are finished stay.
    """
    folder = Path(folder)
    if part is not None and part < 1:
        raise AssayError(f"a part has at least 1 image, not {part}")
    check_limits(query_budget, time_limit, batch_size)
    if time_limit == 0:
        raise AssayError("time_limit is a number of seconds above 0")
    if targets == "least-likely" and query_budget == 1:
        raise AssayError("query_budget is at least 2 where the least likely class is the target")
    size = part or _batch(source)
    settings = {
        "attack": attack.model_dump(mode="json"),
        "version": attack.VERSION,
        "model": model or _fingerprint(oracle),
        "data": source.fingerprint,
        "targets": targets,
        "stop": stop,
        "attack_wrong": attack_wrong,
        "seed": seed,
        "precision": precision,
        "query_budget": query_budget,
        "time_limit": time_limit,
        "part": size,
        "threads": torch.get_num_threads(),
        "device": torch.device(getattr(oracle, "device", "cpu")).type,
        "torch": torch.__version__,
    }
    ask = partial(
        run,
        attack,
        oracle,
        stop=stop,
        attack_wrong=attack_wrong,
        seed=seed,
        precision=precision,
        batch_size=batch_size,
    )

    def attacked(x: X, y: Tensor, ids: Tensor, limit: float | None) -> AttackResult[X, T]:
        labels = None if bool((y < 0).all()) else y
        if targets != "least-likely":
            return ask(
                x, labels, ids=ids, targets=targets, query_budget=query_budget, time_limit=limit
            )
        goal = least_likely(oracle, x, labels)
        left = None if query_budget is None else query_budget - 1
        result = ask(x, labels, ids=ids, targets=goal, query_budget=left, time_limit=limit)
        asked = {**result.evaluations, "forward": result.evaluations["forward"] + len(x)}
        return replace(result, queries=result.queries + 1, evaluations=asked)

    with _held(folder):
        finished = _finished(folder, settings)
        if finished is None:
            begin = {"settings": settings, "finished": None}
            finished = _all_parts(attacked, source, size, time_limit, folder, begin, progress)
            write_json(folder / STATE_FILE, {"settings": settings, "finished": finished})
        shutil.rmtree(folder / PARTS_FOLDER, ignore_errors=True)
        arrays = _arrays(folder / ARRAYS_FILE)
        held: dict[str, Any] = {name: arrays.get(name) for name in ARRAYS}
        if "adversarial" in arrays:
            held["inputs"] = images_on_disk(source, size, arrays["adversarial"].shape, folder)
        else:
            held["adversarial"] = _texts(folder / TEXTS_FILE)
            held["inputs"] = [text for _, x, _ in source.batches(size) for text in x]
        return AttackResult(
            **held,
            attack=attack,
            threat=attack.threat,
            seed=seed,
            stop=stop,
            seconds=finished["seconds"],
            evaluations=finished["evaluations"],
            refused=finished["refused"],
            fast=_report(finished["fast"]),
            oracle=oracle,
        )


def least_likely(oracle: Oracle[X], x: X, y: Tensor | None = None) -> Tensor:
    """Return the class that the model thinks least likely, int64 (N,), but never the label.

    Args:
        oracle: a model that answers with scores or logits.
        x: float32 (N, C, H, W) in [0, 1], or N texts.
        y: labels int64 (N,); None takes the model's own predictions.

    Raises:
        AssayError: for a model that only answers with labels.
    """
    if oracle.access == "labels":
        raise AssayError(
            "a model that answers with labels only does not say which class it thinks least "
            "likely: name the target"
        )
    answer = oracle.query(x).nan_to_num(nan=0.0)
    own = answer.argmax(1) if y is None else y.to(answer.device)
    return answer.scatter(1, own[:, None], math.inf).argmin(1)


def _all_parts(
    attacked: Callable[[Any, Tensor, Tensor, float | None], AttackResult[Any, Any]],
    source: Source,
    size: int,
    time_limit: float | None,
    folder: Path,
    state: Mapping[str, Any],
    progress: Progress | None,
) -> dict[str, Any]:
    """Attack the parts that are not there, join all of them, and return what they cost together.

    The folder is marked as that of `state` when there is a first part to keep in it.
    """
    files: list[Path] = []
    costs: list[dict[str, Any]] = []
    done, before, seconds = 0, 0, 0.0
    for ids, x, y in source.batches(size):
        file = folder / PARTS_FOLDER / f"{len(files):06d}.safetensors"
        cost = cost_of(file)
        if cost is None:
            limit = None
            if time_limit is not None:
                share = 1.0 if source.length is None else len(x) / (source.length - done)
                limit = share * max(0.0, time_limit - seconds)
            try:
                result = attacked(x, y, ids, limit)
            except AssayError as error:
                if not files:
                    raise
                raise AssayError(
                    f"{error}; {done:,} {named(x)} are done and kept, and the same call goes on "
                    "there"
                ) from error
            if not files:
                write_json(folder / STATE_FILE, state)
                file.parent.mkdir(exist_ok=True)
            cost = write_part(file, result, ids)
        else:
            before += len(x)
        done += len(x)
        seconds += cost["seconds"]
        files.append(file)
        costs.append(cost)
        if progress is not None:
            progress(done, before, source.length)
    if not files:
        raise AssayError("there is nothing to attack: the source has no images")
    if (texts := texts_of(files)) is not None:
        write_texts(folder / TEXTS_FILE, texts)
    join(files, folder / ARRAYS_FILE)
    kinds = sorted({kind for cost in costs for kind in cost["evaluations"]})
    reports = [cost["fast"] for cost in costs if cost["fast"] is not None]
    return {
        "seconds": seconds,
        "evaluations": {k: sum(cost["evaluations"].get(k, 0) for cost in costs) for k in kinds},
        "refused": sum(cost["refused"] for cost in costs),
        "fast": min(reports, key=_trust, default=None),
    }


def _trust(report: Mapping[str, Any]) -> tuple[bool, float]:
    """What orders reports of fast copies: that of a part without one, or of the worst one, is
    the least."""
    return report["used"], -(report["difference"] or 0.0)


# -- the folder --------------------------------------------------------------------------------


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Make the folder, and hold it against other processes."""
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK_FILE)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise AssayError(
            f"another process works in {folder}: wait for it, or give another folder"
        ) from error
    except OSError as error:
        raise AssayError(f"cannot write in {folder}: {error.strerror or error}") from error
    try:
        yield
    finally:
        if not (folder / STATE_FILE).exists():  # nothing here is ours
            (folder / LOCK_FILE).unlink(missing_ok=True)
            if made and not any(folder.iterdir()):
                folder.rmdir()
        lock.release()


def _finished(folder: Path, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what the whole cost if it is finished; otherwise see that the folder is for it.

    Raises:
        AssayError: the folder was made with other settings.
    """
    path = folder / STATE_FILE
    if not path.exists():
        for name in (ARRAYS_FILE, PARTS_FOLDER):
            if (folder / name).exists():
                raise AssayError(
                    f"{folder} has {name}, but not the {STATE_FILE} that says what it is of: give "
                    "another folder"
                )
        return None
    try:
        state = json.loads(path.read_text())
        then, now = _flat(state["settings"]), _flat(json.loads(json.dumps(settings)))
        finished: dict[str, Any] | None = state["finished"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise AssayError(f"{path} is not a state of this command: give another folder") from error
    changed = [key for key in {**then, **now} if then.get(key) != now.get(key)]
    if changed:
        said = [f"{key} was {_short(then.get(key))}, is {_short(now.get(key))}" for key in changed]
        raise AssayError(
            f"{folder} was made with other settings: {'; '.join(said)}. Give those it was made "
            "with to go on, or another folder"
        )
    return finished if (folder / ARRAYS_FILE).is_file() else None


def _arrays(path: Path) -> dict[str, Tensor]:
    """Return the arrays of the whole, mapped from the disk."""
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise AssayError(
            f"{path} cannot be read ({one_line(str(error))}): remove it, and the same call "
            "makes it again"
        ) from error


def _texts(path: Path) -> list[str]:
    """Return what an attack has made of the texts."""
    try:
        found: list[str] = json.loads(path.read_text())
        return found
    except (OSError, ValueError) as error:
        raise AssayError(
            f"{path} cannot be read ({one_line(str(error))}): remove {ARRAYS_FILE} beside it, and "
            "the same call makes both again"
        ) from error


def _flat(tree: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tree.items():
        inside = isinstance(value, Mapping)
        found |= _flat(value, f"{path}{key}.") if inside else {f"{path}{key}": value}
    return found


def _short(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    if len(text) == 64 and text.isalnum():  # a digest
        return f"{text[:12]}…"
    return one_line(text, 120)


def _fingerprint(oracle: Oracle[Any]) -> str:
    found = getattr(oracle, "fingerprint", None)
    if found is None:
        raise AssayError(
            f"a {type(oracle).__name__} does not say which model it is, so a later call could not "
            "know whether to go on: give model=, any text that is another for another model"
        )
    return str(found)


def _batch(source: Source) -> int:
    """Return a batch of the images of a source, which its first one gives the size of."""
    for _, x, _ in source.batches(1):
        return TEXTS if isinstance(x, list) else rows_that_fit(x)
    return 1


def _report(found: Mapping[str, Any] | None) -> FastReport | None:
    if found is None:
        return None
    unknown = found["difference"] is None
    return FastReport(**{**found, "difference": math.nan if unknown else found["difference"]})
