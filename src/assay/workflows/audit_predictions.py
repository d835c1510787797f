"""`assay audit PREDICTIONS.csv`: read, audit, keep in the store, say the result."""

from __future__ import annotations

from pathlib import Path

from assay.auditing.config import AuditConfig
from assay.auditing.predicted import audit_predictions
from assay.data.predictions import load_predictions
from assay.runs.display import say
from assay.workflows.audit import keep, prepared, reported
from assay.workflows.gate import Asked


def run(
    file: Path,
    config: AuditConfig,
    *,
    label: str | None = None,
    classes: tuple[str, ...] | None = None,
    title: str = "",
    store: Path,
    out: Path | None,
    asked: Asked,
    formats: tuple[str, ...] = (),
    against: str | None = None,
    quiet: bool,
    command: str,
) -> int:
    """Audit saved predictions; return the exit code of what is asked.

    Args:
        file, label, classes: as for `load_predictions`.
        config, title, store, out, asked, formats, against, quiet, command: as for `audit.run`.
    """
    home, old, out = prepared(store, out, against, asked, config)
    said = load_predictions(file, classes=classes, label=label)
    for note in () if quiet else said.notes:
        say(note)
    enough = config.model_copy(
        update={"sections": tuple(section for section in config.sections if section.saved)}
    )
    for line in () if quiet else asked.planned(enough, len(said), len(said)):
        say(line)
    found = audit_predictions(
        said, config=config, policy=asked.policy, title=title, command=command
    )
    identity = {
        "model": said.mark,
        "data": found.report.made.data,
        "images": len(said),
        "config": config.model_dump(mode="json"),
    }
    with home.using():
        page = keep(found, identity, title or said.name, home, out)
    return reported(found, page, config, asked, formats, old, quiet=quiet)
