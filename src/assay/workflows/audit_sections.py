"""The sections of an audit side by side: a trial for each, on any engine, and one report.

Each section is measured by the same function as in one process, on evidence made from the same
images, so the report is the same but for its times. What was measured is kept beside the audits
until the report is written: a command that was stopped goes on, and one that ended begins anew.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from functools import lru_cache

from assay.auditing.conduct import Carrier, evidence_of
from assay.auditing.config import AuditConfig
from assay.auditing.evidence import Evidence
from assay.auditing.order import Examples
from assay.auditing.outcome import outcome, restored, unrun, written
from assay.auditing.rounds import Share
from assay.auditing.watch import Tick, Watch
from assay.config import canonical_json, digest
from assay.core.device import device_here
from assay.core.texts import TextClassifier
from assay.disk import write_atomic
from assay.errors import AssayError, expanded
from assay.inputs import Inputs, Loaded
from assay.runs.engine import execute
from assay.runs.files import from_json, to_json
from assay.runs.joining import code
from assay.runs.results import Results
from assay.runs.store import Store
from assay.runs.trial import Outcome, Trial
from assay.runs.worker import Workspace
from assay.train.precision import computing
from assay.workflows.audit_inputs import known_as, opened, parts_of
from assay.workflows.shards import Spread, alone, at_rest

MEASURED = "measured.json"


def spreadable(inputs: Inputs, budget: float | None) -> Inputs:
    """Return inputs whose threads are those of one worker.

    Raises:
        AssayError: the audit goes with one process alone.
    """
    if inputs.only_queried:
        raise AssayError(
            f"{inputs.model} can only be queried, and one process does that: leave out --workers "
            "and --engine; --concurrency sends several requests at a time to a service"
        )
    if budget is not None:
        raise AssayError(
            "--budget is shared out by one process, section after section: leave it out, or "
            "--workers and --engine"
        )
    return inputs.model_copy(update={"threads": inputs.threads or 1})


def carrier_of(
    spread: Spread,
    home: Store,
    inputs: Inputs,
    model: Loaded | TextClassifier,
    reference: str | None,
    marks: Mapping[str, str],
    *,
    progress: bool,
) -> Carrier:
    """Return what carries out the sections of an audit on an engine.

    Args:
        spread: the engine.
        home: the store, in a folder that all workers see.
        inputs: the model and the data.
        model: as it was loaded here.
        reference: the part that detectors are fitted on, or None.
        marks: fingerprints of the data by name.
        progress: whether a display is shown.
    """
    known = known_as(model, inputs)

    def carry(evidence: Evidence, watch: Watch) -> list[Share]:
        trials = section_trials(inputs, evidence.config, reference, known, marks)
        name = f".{digest([one.address for one in trials])[:12]}"
        folder = home.root / "audits" / name
        with home.using():
            folder.mkdir(exist_ok=True)
            with alone(folder, "this audit"):
                parts = Store(folder / "parts")
                results = execute(
                    trials,
                    parts,
                    engine=spread.ray(parts.root),
                    workers=spread.workers,
                    progress=progress,
                    rerun_failed=True,  # the command was given again
                )
                shares = joined(evidence, trials, results)
                shutil.rmtree(folder, ignore_errors=True)
        watch.took.update({share.section.name: share.seconds for share in shares})
        return shares

    return carry


def section_trials(
    inputs: Inputs,
    config: AuditConfig,
    reference: str | None,
    model: str,
    marks: Mapping[str, str],
) -> list[Trial]:
    """Return the trial of each section; known by the audit's settings, the model, the data, and all
    of assay's source, since what a section computes has no version of its own."""
    given = at_rest(inputs).model_dump_json()
    outliers = [
        str(path.absolute()) if (path := expanded(name)).exists() else name
        for name in config.outliers
    ]
    settings = config.model_dump(mode="json") | {"outliers": outliers}
    return [
        Trial(
            task="audit-section",
            config={"section": section.name, "audit": settings, "reference": reference},
            seed=config.seed,
            data={**marks, "images": str(inputs.images), "model": model, "code": code()},
            device=device_here(inputs.device),
            threads=inputs.threads or 1,
            label=section.name,
            places={"inputs": given},
        )
        for section in config.sections
    ]


def joined(evidence: Evidence, trials: list[Trial], results: Results) -> list[Share]:
    """Return what the sections came to; of one that failed, why.

    Raises:
        AssayError: none could be measured.
    """
    shares = []
    for section, trial in zip(evidence.config.sections, trials, strict=True):
        result = results.get(trial)
        if result is None:
            why = results.failures[trial.address].message
            shares.append(Share(section, unrun(section, evidence, why), run=False))
            continue
        held = from_json(result.path(MEASURED).read_bytes())
        found = restored(section, held, result.arrays)
        shares.append(Share(section, found, seconds=result.record["timings"]["section"]))
    if not any(share.run for share in shares):
        raise AssayError(
            f"no section could be measured: {results.failures[trials[0].address].message}"
        )
    return shares


# -- in a worker -------------------------------------------------------------------------------


class Telling:
    """What evidence tells is passed on to whichever trial works with it."""

    def __init__(self) -> None:
        self.to: Tick = lambda _: None

    def __call__(self, doing: str) -> None:
        self.to(doing)


@lru_cache(maxsize=1)
def _evidence(
    given: str, settings: str, reference: str | None, known: str, marks: str
) -> tuple[Evidence, Telling]:
    """Return the evidence of an audit; one process makes it once for all of its sections.

    Raises:
        AssayError: model or data cannot be loaded here, or are others by now.
    """
    inputs, config = Inputs.model_validate_json(given), AuditConfig.parse(json.loads(settings))
    data, model = opened(inputs)
    parts = parts_of(inputs, data, reference)
    if known_as(model, inputs) != known:
        raise AssayError(f"{inputs.model} has changed since the command began: give it again")
    if sorted(parts.marks.values()) != json.loads(marks):
        raise AssayError(f"{inputs.data} has changed since the command began: give it again")
    tell = Telling()
    evidence = evidence_of(
        model,
        Examples.of(parts.part).mixed(),
        parts.reference,
        parts.calibration,
        config,
        tell,
    )
    return evidence, tell


def measure(trial: Trial, work: Workspace) -> Outcome:
    """Measure one section of an audit.

    Files: `measured.json`, what the section came to (`auditing.outcome.written`). Arrays: what
    arrays.npz keeps of it. Timings: `section`.

    Raises:
        AssayError: the model or the data cannot be loaded here.
    """
    data = dict(trial.data)
    known = data.pop("model")
    marks = sorted(value for name, value in data.items() if name not in ("images", "code"))
    with computing(trial.threads):
        evidence, tell = _evidence(
            trial.places["inputs"],
            canonical_json(trial.config["audit"]),
            trial.config["reference"],
            known,
            canonical_json(marks),
        )
        (section,) = (
            one for one in evidence.config.sections if one.name == trial.config["section"]
        )
        stretches, begun = max(1, len(section.work(evidence))), 0

        def told(doing: str) -> None:
            nonlocal begun
            work.progress(begun / stretches, doing)
            begun += 1

        tell.to, clock = told, time.perf_counter()
        found = outcome(section, evidence)
        seconds = time.perf_counter() - clock
    write_atomic(work.path(MEASURED), to_json(written(found)))
    return Outcome({}, dict(found.arrays), {"section": seconds})
