"""`assay audit`: load, audit, keep in the store, say the result."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from assay.auditing import plausible
from assay.auditing.conduct import Audit, audit
from assay.auditing.config import AuditConfig
from assay.auditing.policy import Policy
from assay.auditing.watch import Tick
from assay.config import digest
from assay.core.texts import TextClassifier
from assay.data import Dataset
from assay.data.called import has_parts
from assay.data.dataset import to_float
from assay.data.textset import TextSet
from assay.disk import writable
from assay.errors import AssayError
from assay.inputs import Inputs, Loaded, load, load_part, mark, scaled
from assay.models.http import HttpModel
from assay.report.answer import plain
from assay.report.formats import write_formats
from assay.report.terminal import summary
from assay.runs.audits import Kept, audit_of, compare_audits
from assay.runs.display import say
from assay.runs.remote import open_store
from assay.runs.store import Store
from assay.usercode import names_function
from assay.workflows.gate import Asked
from assay.workflows.texts import reads_texts, text_model, text_part

REFERENCE_IMAGES = 2000
"""How many images detectors are fitted on, and how many calibrated on, at most."""


def run(
    inputs: Inputs,
    config: AuditConfig,
    *,
    reference: str | None = "train",
    title: str = "",
    store: Path,
    out: Path | None,
    asked: Asked,
    formats: tuple[str, ...] = (),
    against: str | None = None,
    budget: float | None = None,
    quiet: bool,
    command: str,
) -> int:
    """Audit, write the report, record it in the store; return the exit code of what is asked.

    Args:
        inputs: the model and the data.
        config: what is measured.
        reference: the part of the data that detectors are fitted on, or None.
        title: what the report is called; "" names model and data.
        store: the folder that keeps audits.
        out: a folder for the report; None: in the store.
        asked: what makes the exit code another than 0.
        formats: further files beside the report, by their names in `FORMATS`.
        against: an older audit that this one is compared with: a run, a folder or a report.json.
        budget: seconds that the audit may take, once model and data are loaded; None: any number.
        quiet: print nothing but the path of the report.
        command: what made it, for the report.
    """
    home, old, out = prepared(store, out, against, asked, config)
    data: Dataset | TextSet
    model: Loaded | TextClassifier
    if reads_texts(inputs):
        data = text_part(inputs)
        model = text_model(inputs, data)
    else:
        data = load_part(inputs)
        model = load(inputs, data)
    for note in () if quiet else (*data.notes, *getattr(model, "notes", ())):
        say(note)
    for line in () if quiet else asked.planned(config, len(data), inputs.images):
        say(line)
    name = model.address if isinstance(model, HttpModel) else Path(inputs.model).name
    console = Console(stderr=True, quiet=quiet, highlight=False)
    with console.status("auditing") as status:

        def tick(doing: str) -> None:
            status.update(doing)
            if not console.is_terminal:
                console.print(f"  {doing}", markup=False)

        found = examine(
            inputs,
            model,
            data,
            config,
            reference=reference,
            policy=asked.policy,
            title=title or f"{name} on {data.name}{scaled(inputs)}",
            command=command,
            progress=tick,
            budget=budget,
        )
    made = found.report.made
    identity = {
        "model": made.model or ("" if isinstance(model, TextClassifier) else mark(inputs, model)),
        "data": made.data,
        "images": inputs.images,
        "config": config.model_dump(mode="json"),
        "torch": torch.__version__,
    } | ({} if budget is None else {"budget": budget})
    with home.using():
        page = keep(found, identity, title or Path(name).stem, home, out)
    return reported(found, page, config, asked, formats, old, quiet=quiet)


def prepared(
    store: Path, out: Path | None, against: str | None, asked: Asked, config: AuditConfig
) -> tuple[Store, Kept | None, Path | None]:
    """Return the store, the older audit, and the folder for the report, all looked at before any
    work is done.

    Raises:
        AssayError: one of them cannot be used, or something unknown is asked for.
    """
    asked.refuse_unknown(config)
    home = open_store(store)
    writable(home.root)
    old = None if against is None else audit_of(home, against)
    if against is not None and old is None:
        if Path(against).is_file():
            raise AssayError(f"--against {against} is no report of an audit: name its report.json")
        raise AssayError(f"--against {against}: there is no audit of this name, folder or file")
    return home, old, None if out is None else writable(out)


def reported(
    found: Audit,
    page: Path,
    config: AuditConfig,
    asked: Asked,
    formats: tuple[str, ...],
    old: Kept | None,
    *,
    quiet: bool,
) -> int:
    """Say what was found, write further files beside the page, and return the exit code."""
    for line in plausible.warnings(found.report.flags) if not quiet else ():
        say(line)
    write_formats(found.report, formats, page.parent)
    if not quiet:
        Console(highlight=False).print(summary(found.report))
    if old is not None:
        new = Kept(str(page.parent), found.report, page.parent)
        Console(highlight=False, stderr=quiet).print(compare_audits(old, new))
    print(page)
    code, lines = asked.judged(found.checks, config, date.today())
    for line in lines:
        print(line, file=sys.stderr)
    return code


def examine(
    inputs: Inputs,
    model: Loaded | TextClassifier,
    data: Dataset | TextSet,
    config: AuditConfig,
    *,
    reference: str | None,
    policy: Policy | None = None,
    title: str,
    command: str,
    progress: Tick | None = None,
    budget: float | None = None,
) -> Audit:
    """Audit the model on the images of `inputs`; detectors, which look inside, get reference
    images only where the model is a network."""
    part = data.sample(inputs.images)

    def other(split: str) -> Dataset | TextSet:
        read = text_part if isinstance(data, TextSet) else load_part
        return read(inputs, split, at_most=REFERENCE_IMAGES)

    fitted, calibration = None, None
    marks = {f"{data.name}/{inputs.split}": data.fingerprint}
    if inputs.only_queried or (names_function(inputs.data) and not has_parts(inputs.data)):
        reference = None  # what is scored must not be fitted on
    if reference is not None:
        try:
            known = other(reference)
        except AssayError as error:
            raise AssayError(
                f"{error}; detectors are fitted on it: name another part by --reference-split, or "
                "none"
            ) from error
        fitted = known.take(REFERENCE_IMAGES)
        marks[f"{data.name}/{reference}"] = known.fingerprint
    if reference == "train" and inputs.split != "validation":
        held = other("validation")  # the model was not trained on it
        calibration = held.take(REFERENCE_IMAGES)
        marks[f"{data.name}/validation"] = held.fingerprint
    found = audit(
        model,
        list(part.texts) if isinstance(part, TextSet) else to_float(part.images),
        part.labels,
        reference=fitted,
        calibration=calibration,
        masks=None if isinstance(part, TextSet) else part.masks,
        metadata=None if isinstance(part, TextSet) else part.metadata,
        config=config,
        policy=policy,
        title=title,
        command=command,
        data=marks,
        progress=progress,
        budget=budget,
    )
    if isinstance(data, TextSet):
        return found
    made = found.report.made
    side, crop = inputs.scaling
    given = made.config["inputs"] | {"size": side, "crop": crop, "channels": inputs.channels}
    about = made.model_copy(update={"config": made.config | {"inputs": given}})
    return replace(found, report=found.report.model_copy(update={"made": about}))


def keep(
    found: Audit, identity: Mapping[str, Any], name: str, store: Store, out: Path | None
) -> Path:
    """Write the report to the run's folder in the store, or to `out`; run.json last.

    Args:
        found: the audit.
        identity: what it is known by: the same is in the same folder.
        name: what the folder is called.
        store: where it is recorded.
        out: another folder for the report.
    """
    address = digest(identity)
    folder = store.run_folder("audit", name, address)
    page = found.save((out or folder) / "report.html")
    store.save_run(
        "audit",
        folder.name,
        {
            "name": found.report.title,
            "address": address,
            "config": dict(identity),
            "trials": [],
            "checks": [check.model_dump(mode="json") for check in found.checks],
            "headline": plain(found.report.answer),
            "report": str(page.absolute()),
        },
    )
    return page


def command(tokens: Sequence[str]) -> str:
    """Return the command that makes this report again, but for the secrets of a service: what its
    headers hold, and what follows a "?" in its address."""
    shown, in_header = ["assay"], False
    for token in tokens:
        flag, equals, value = token.partition("=")
        in_header = flag == "--header" or (in_header and not token.startswith("--"))
        if in_header and equals and flag == "--header":
            shown.append(f"--header={_name_alone(value)}")
        elif in_header and token != "--header":
            shown.append(_name_alone(token))
        else:
            shown.append(token.partition("?")[0] if "://" in token else token)
    return shlex.join(shown)


def _name_alone(header: str) -> str:
    return f"{header.partition(':')[0]}: …"
