"""`assay audit`: load, audit, keep in the store, say the result."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from assay.auditing import plausible
from assay.auditing.conduct import Carrier, audit
from assay.auditing.config import AuditConfig
from assay.auditing.policy import Policy
from assay.auditing.result import Audit
from assay.auditing.rounds import in_turn
from assay.auditing.watch import Tick
from assay.config import digest
from assay.core.texts import TextClassifier
from assay.disk import writable
from assay.errors import AssayError
from assay.inputs import Inputs, Loaded, scaled
from assay.models.http import HttpModel
from assay.report.answer import plain
from assay.report.formats import write_formats
from assay.report.terminal import summary
from assay.runs.audits import Kept, audit_of, compare_audits
from assay.runs.display import say
from assay.runs.remote import open_store
from assay.runs.store import Store
from assay.workflows.audit_inputs import Parts, known_as, opened, parts_of
from assay.workflows.audit_sections import carrier_of, spreadable
from assay.workflows.gate import Asked
from assay.workflows.shards import Spread


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
    spread: Spread | None = None,
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
        spread: where sections are measured, side by side; None: here, one after another.
        quiet: print nothing but the path of the report.
        command: what made it, for the report.
    """
    home, old, out = prepared(store, out, against, asked, config)
    if spread is not None:
        inputs = spreadable(inputs, budget)
    data, model = opened(inputs)
    for note in () if quiet else (*data.notes, *getattr(model, "notes", ())):
        say(note)
    for line in () if quiet else asked.planned(config, len(data), inputs.images):
        say(line)
    name = model.address if isinstance(model, HttpModel) else inputs.model_name
    console = Console(stderr=True, quiet=quiet, highlight=False)
    parts = parts_of(inputs, data, reference)
    for note in () if quiet else parts.notes:
        say(note)
    carrier: Carrier = in_turn
    if spread is not None:
        carrier = carrier_of(
            spread, home, inputs, model, reference, parts.marks, progress=not quiet
        )
    status = console.status("auditing")
    with status if spread is None else nullcontext():  # the engine shows the sections itself

        def tick(doing: str) -> None:
            status.update(doing)
            if not console.is_terminal:
                console.print(f"  {doing}", markup=False)

        found = examine(
            model,
            parts,
            config,
            policy=asked.policy,
            title=title or f"{name} on {data.name}{scaled(inputs)}",
            command=command,
            progress=tick,
            budget=budget,
            carrier=carrier,
        )
    made = found.report.made
    identity = {
        "model": known_as(model, inputs),
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
    model: Loaded | TextClassifier,
    parts: Parts,
    config: AuditConfig,
    *,
    policy: Policy | None = None,
    title: str,
    command: str,
    progress: Tick | None = None,
    budget: float | None = None,
    carrier: Carrier = in_turn,
) -> Audit:
    """Audit the model on its parts of the data, and say what was done to them before."""
    found = audit(
        model,
        parts.part,
        reference=parts.reference,
        calibration=parts.calibration,
        config=config,
        policy=policy,
        title=title,
        command=command,
        data=parts.marks,
        progress=progress,
        budget=budget,
        carrier=carrier,
    )
    made = found.report.made
    given = made.config["inputs"] | parts.brought
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
