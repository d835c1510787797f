"""An attack from the command line: load, attack part by part, keep, say what came of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console
from torch import Tensor

from assay.attacks.base import Attack, Stop
from assay.attacks.over import STATE_FILE, Progress, Targets, run_over
from assay.config import digest
from assay.core.blackbox import Answers
from assay.core.classifier import Classifier, check_gradient
from assay.core.device import device_here
from assay.core.fast import Precision
from assay.core.oracle import Oracle
from assay.data import Dataset, load_data
from assay.disk import write_atomic
from assay.errors import AssayError, unknown
from assay.models.http import ROWS, HttpModel
from assay.models.loading import fingerprint, load_oracle
from assay.runs.display import LINE_EVERY, say, until
from assay.runs.files import to_json, writable
from assay.runs.record import surroundings
from assay.workflows import attack_report as report
from assay.workflows import audit as auditing

ATTACK, RECORD = "attack.json", "record.json"
SCHEMA = 1
LEAST_LIKELY: Literal["least-likely"] = "least-likely"


@dataclass(frozen=True)
class Victim:
    """What is attacked, as it was named.

    Attributes:
        model: path.safetensors, file.py:factory, or with `access` file.py:function or a URL.
        weights, mean, std, outputs: of a factory's network.
        access, timeout, headers: of what can only be asked.
        data, split, images: the data set, its part, and how many of its images.
        targets: a class by name or number, "least-likely", or None.
        device: where the model computes.
    """

    model: str
    data: str
    weights: Path | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    outputs: Literal["logits", "probabilities"] = "logits"
    access: Answers | None = None
    timeout: float | None = None
    headers: dict[str, str] = field(default_factory=dict)
    split: str = "test"
    images: int = 1000
    targets: str | None = None
    device: str = "auto"


def run(
    attack: Attack,
    victim: Victim,
    out: Path,
    *,
    stop: Stop,
    attack_wrong: bool,
    seed: int,
    precision: Precision,
    batch_size: int | None,
    query_budget: int | None,
    time_limit: float | None,
    part: int | None,
    threads: int | None,
    pictures: int,
    progress: bool,
    quiet: bool,
) -> int:
    """Attack, write everything to `out`, and say what came of it.

    Raises:
        AssayError: for a model, data or settings that cannot be used, or a folder that was made
            with other ones.
    """
    writable(out)
    refuse_foreign(out)
    if threads is not None:
        torch.set_num_threads(threads)
    data = load_data(victim.data, split=victim.split)
    targets = target_class(victim.targets, data.classes)
    chosen = images_of(data, victim.images, targets)
    oracle = load(victim, data, batch_size, precision)
    if isinstance(oracle, Classifier):
        try_out(oracle, chosen, attack)
    else:
        part = part or ROWS
    known = {"name": name_of(victim, oracle), "mark": mark(victim, oracle)}
    settings: dict[str, Any] = {
        "targets": targets,
        "stop": stop,
        "attack_wrong": attack_wrong,
        "seed": seed,
        "precision": precision,
        "query_budget": query_budget,
        "time_limit": time_limit,
    }
    with shown(progress) as told:
        result = run_over(
            attack,
            oracle,
            chosen,
            folder=out,
            batch_size=batch_size,
            part=part,
            model=known["mark"],
            progress=told,
            **settings,
        )
    raised = report.doubts(result)
    about = {
        "schema": SCHEMA,
        **result.to_dict(),
        **settings,
        "clean_accuracy": report.clean_accuracy(result).to_dict(),
        "after_rounding": result.after_rounding.to_dict(),
        "silenced": int(result.silenced.sum()),
        "model": known,
        "data": {"name": data.name, "split": data.split, "fingerprint": chosen.fingerprint},
        "flags": [flag.to_dict() for flag in raised],
    }
    aim = data.classes[targets] if isinstance(targets, int) else targets
    title = report.heading(result, known["name"], data, aim)
    report.draw(result, chosen, out, pictures, title)
    write_atomic(out / ATTACK, to_json(about, indent=2))
    if not (out / RECORD).exists():  # of the call that attacked, not of one that looked again
        record = {"seconds": result.seconds, **surroundings()}
        write_atomic(out / RECORD, to_json(record, indent=2))
    if not quiet:
        Console(highlight=False).print(report.summary(result, raised, title))
    print(out)
    return 0


def refuse_foreign(out: Path) -> None:
    """Refuse a folder with files of others under the names that this command writes to."""
    names = (ATTACK, RECORD, report.SHEET, report.PICTURES)
    theirs = [] if (out / STATE_FILE).exists() else [n for n in names if (out / n).exists()]
    if theirs:
        raise AssayError(
            f"--out {out} has {', '.join(theirs)}, but not the {STATE_FILE} of an attack: this "
            "would be written over; give another folder"
        )


# -- what is attacked --------------------------------------------------------------------------


def load(
    victim: Victim, data: Dataset, batch_size: int | None, precision: Precision
) -> Oracle[Tensor]:
    """Return the model, on its device; one that can only be asked has the classes of the data.

    Raises:
        AssayError: for a model that cannot be loaded, or settings that do not go with it.
    """
    service = "://" in victim.model or victim.timeout is not None or bool(victim.headers)
    if victim.access is not None or service:
        given = {"--device": victim.device != "auto", "--precision": precision != "float32"}
        wrong = [flag for flag, is_given in given.items() if is_given]
        if wrong:
            raise AssayError(
                f"{', '.join(wrong)} cannot be set for {victim.model}, which can only be asked; "
                "they go with a network"
            )
        return load_oracle(
            victim.model,
            access=victim.access,
            classes=data.classes,
            batch_size=batch_size,
            timeout=victim.timeout,
            headers=victim.headers or None,
            weights=victim.weights,
            mean=victim.mean,
            std=victim.std,
            outputs=victim.outputs,
        )
    subject = auditing.Subject(
        model=victim.model,
        weights=victim.weights,
        mean=victim.mean,
        std=victim.std,
        outputs=victim.outputs,
        data=victim.data,
    )
    clf = auditing.load(subject, data)
    clf.model.to(device_here(victim.device))
    return clf


def try_out(clf: Classifier, data: Dataset, attack: Attack) -> None:
    """Ask a network about two images before the attack, so that what is wrong with it is one line.

    Raises:
        AssayError: it does not take them, or has no gradient where the attack needs one.
    """
    for _, x, _ in data.batches(2):
        clf.query(x)
        if attack.needs == "gradient":
            check_gradient(clf, x)
        return


def name_of(victim: Victim, oracle: Oracle[Tensor]) -> str:
    """Return what the model is called: of a service the address, without the key it may end in."""
    if isinstance(oracle, HttpModel):
        return oracle.address
    return "/".join(Path(victim.model).parts[-2:])


def mark(victim: Victim, oracle: Oracle[Tensor]) -> str:
    """Return what the model is known by when the command is given again.

    Of a network that is its weights and the code of its file; of a function the file; of a
    service its address, with a digest of the whole URL: what answers there may change, and nobody
    would know.
    """
    if isinstance(oracle, Classifier):
        code = fingerprint(victim.model) if ".py:" in victim.model else ""
        return digest([oracle.fingerprint, code])
    if isinstance(oracle, HttpModel):
        return f"{oracle.address} ({oracle.access}, {fingerprint(victim.model)[:12]})"
    return digest([fingerprint(victim.model), oracle.access])


def target_class(asked: str | None, classes: tuple[str, ...]) -> Targets | None:
    """Return the class that `--targets` means: by its name, or else its number."""
    if asked is None or asked == LEAST_LIKELY:
        return None if asked is None else LEAST_LIKELY
    if asked in classes:
        return classes.index(asked)
    if asked.isdecimal() and int(asked) < len(classes):
        return int(asked)
    if asked.isdecimal():
        raise AssayError(f"--targets {asked}: there are the classes 0 to {len(classes) - 1}")
    raise unknown("class", asked, [*classes, LEAST_LIKELY])


def images_of(data: Dataset, count: int, targets: Targets | None) -> Dataset:
    """Return the images that are attacked: a random subset, none of the class asked for."""
    if isinstance(targets, int):
        data = data.subset(data.labels != targets)
        if len(data) == 0:
            raise AssayError("--targets: every image is of this class already; name another one")
    return data if count >= len(data) else data.sample(count)


# -- what is shown -----------------------------------------------------------------------------


@contextmanager
def shown(progress: bool) -> Iterator[Progress | None]:
    """Give what shows how far it is: a bar on a terminal, a line now and then elsewhere."""
    started = time.monotonic()

    def left(done: int, before: int, whole: int | None) -> float | None:
        new = done - before
        if whole is None or new == 0:
            return None
        return (time.monotonic() - started) / new * (whole - done)

    if not progress:
        yield None
    elif sys.stderr.isatty():
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bar

        with Bar(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[note]}", style="dim"),
            console=Console(stderr=True),
            transient=True,
        ) as bar:
            task = bar.add_task("attacking", total=None, note="")

            def update(done: int, before: int, whole: int | None) -> None:
                note = f"{_of(done, whole)} images{until(left(done, before, whole))}"
                bar.update(task, completed=done, total=whole, note=note)

            yield update
    else:
        said = started

        def line(done: int, before: int, whole: int | None) -> None:
            nonlocal said
            now = time.monotonic()
            if now - said >= LINE_EVERY or done == whole:
                said = now
                there = f" ({before:,} there already)" if before else ""
                rest = until(left(done, before, whole))
                say(f"{_of(done, whole)} images attacked{there}{rest}")

        yield line


def _of(done: int, whole: int | None) -> str:
    return f"{done:,}" if whole is None else f"{done:,}/{whole:,}"
