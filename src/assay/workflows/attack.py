"""`assay attack`: load, attack part by part, keep, say the result."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from assay.attacks.base import Attack, Stop
from assay.auditing import plausible
from assay.core.classifier import Classifier, check_gradient
from assay.core.fast import Precision
from assay.data import Dataset
from assay.data.dataset import to_float
from assay.disk import writable, write_atomic
from assay.errors import AssayError, unknown
from assay.inputs import Inputs, called, described, load, load_part, mark, of_all_classes
from assay.models.http import ROWS
from assay.report.schema import Flag
from assay.runs.display import LINE_EVERY, say, until
from assay.runs.environment import surroundings
from assay.runs.files import to_json
from assay.workflows import attack_report as report
from assay.workflows.over import STATE_FILE, Progress, Targets, run_over

ATTACK, RECORD = "attack.json", "record.json"
SCHEMA = 1
LOOKED_AT = 256
LEAST_LIKELY: Literal["least-likely"] = "least-likely"


def run(
    attack: Attack,
    inputs: Inputs,
    out: Path,
    *,
    targets: str | None,
    stop: Stop,
    attack_wrong: bool,
    seed: int,
    precision: Precision,
    query_budget: int | None,
    time_limit: float | None,
    part: int | None,
    pictures: int,
    progress: bool,
    quiet: bool,
) -> int:
    """Attack, write everything to `out`, and say the result.

    `targets` is a class by name or number, "least-likely", or None; the rest is as for `run_over`.

    Raises:
        AssayError: for a model, data or settings that cannot be used, or a folder that was made
            with other ones.
    """
    out = writable(out)
    refuse_foreign(out, report.SHEET, report.PICTURES)
    data = load_part(inputs)
    if inputs.only_queried and precision != "float32":
        raise AssayError(
            f"--precision cannot be set for {inputs.model}, which can only be queried; it goes "
            "with a network"
        )
    oracle = load(inputs, data)
    data = of_all_classes(inputs, data, oracle)
    goal = target_class(targets, data.classes)
    chosen = images_of(data, inputs.images, goal)
    if isinstance(oracle, Classifier):
        try_out(oracle, chosen, attack)
    else:
        part = part or ROWS
    for note in () if quiet else (*data.notes, *getattr(oracle, "notes", ())):
        say(note)
    if not quiet and isinstance(oracle, Classifier):
        for line in plausible.warnings(looks(oracle, chosen)):
            say(line)
    known = {"name": called(inputs, oracle), "mark": mark(inputs, oracle)}
    settings: dict[str, Any] = {
        "targets": goal,
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
            batch_size=inputs.batch_size,
            part=part,
            model=known["mark"],
            progress=told,
            **settings,
        )
    raised = report.doubts(result)
    if not quiet and not isinstance(oracle, Classifier):  # a query may cost: of what it was asked
        for line in plausible.warnings(
            plausible.looked_at(
                oracle, result.inputs, result.labels, result.clean_prediction, oracle.classes
            )
        ):
            say(line)
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
    aim = data.classes[goal] if isinstance(goal, int) else goal
    title = report.heading(result, known["name"], described(inputs, data), aim)
    report.draw(result, chosen, out, pictures, title)
    write_atomic(out / ATTACK, to_json(about, indent=2))
    if not (out / RECORD).exists():  # of the call that attacked, not of one that read it again
        record = {"seconds": result.seconds, **surroundings()}
        write_atomic(out / RECORD, to_json(record, indent=2))
    if not quiet:
        Console(highlight=False).print(report.summary(result, raised, title))
    print(out)
    return 0


def refuse_foreign(out: Path, *more: str) -> None:
    """Refuse a folder with files of others under the names that this command writes to."""
    names = (ATTACK, RECORD, *more)
    theirs = [] if (out / STATE_FILE).exists() else [n for n in names if (out / n).exists()]
    if theirs:
        raise AssayError(
            f"--out {out} has {', '.join(theirs)}, but not the {STATE_FILE} of an attack: this "
            "would be written over; give another folder"
        )


# -- what is attacked --------------------------------------------------------------------------


def try_out(clf: Classifier, data: Dataset, attack: Attack) -> None:
    """Evaluate a network on two images first, so that what is wrong with it is one line.

    Raises:
        AssayError: it does not take them, or has no gradient where the attack needs one.
    """
    for _, x, _ in data.batches(2):
        clf.query(x)
        if attack.needs == "gradient":
            check_gradient(clf, x)
        return


def looks(clf: Classifier, data: Dataset) -> tuple[Flag, ...]:
    """Return the reasons to think that the network is not given what it was trained on, by at most
    `LOOKED_AT` of the images: an attack may take hours."""
    some = data.sample(min(LOOKED_AT, len(data)))
    x, y = to_float(some.images), some.labels
    return plausible.looked_at(clf, x, y, clf.predict(x), clf.classes)


def target_class(named: str | None, classes: tuple[str, ...]) -> Targets | None:
    """Return the class that `--targets` means: by its name, or else its number."""
    if named is None or named == LEAST_LIKELY:
        return None if named is None else LEAST_LIKELY
    if named in classes:
        return classes.index(named)
    if named.isdecimal() and int(named) < len(classes):
        return int(named)
    if named.isdecimal():
        raise AssayError(f"--targets {named}: there are the classes 0 to {len(classes) - 1}")
    raise unknown("class", named, [*classes, LEAST_LIKELY])


def images_of(data: Dataset, count: int, targets: Targets | None) -> Dataset:
    """Return the images that are attacked: a random subset, none of the target class."""
    if isinstance(targets, int):
        data = data.subset(data.labels != targets)
        if len(data) == 0:
            raise AssayError("--targets: every image is of this class already; name another one")
    return data if count >= len(data) else data.sample(count)


# -- what is shown -----------------------------------------------------------------------------


@contextmanager
def shown(progress: bool, what: str = "images") -> Iterator[Progress | None]:
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
                note = f"{_of(done, whole)} {what}{until(left(done, before, whole))}"
                bar.update(task, completed=done, total=whole, note=note)

            yield update
    else:
        said = started

        def line(done: int, before: int, whole: int | None) -> None:
            nonlocal said
            now = time.monotonic()
            if now - said >= LINE_EVERY or done == whole:
                said = now
                there = f" ({before:,} done already)" if before else ""
                rest = until(left(done, before, whole))
                say(f"{_of(done, whole)} {what} attacked{there}{rest}")

        yield line


def _of(done: int, whole: int | None) -> str:
    return f"{done:,}" if whole is None else f"{done:,}/{whole:,}"
