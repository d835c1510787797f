"""A model in, a report out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, cast

import torch
from numpy.typing import NDArray
from torch import Tensor

from assay.auditing import plausible, plausible_texts
from assay.auditing.checks import judged
from assay.auditing.config import AuditConfig
from assay.auditing.cost import affordable, pace_of
from assay.auditing.evidence import Evidence
from assay.auditing.images import image_evidence
from assay.auditing.order import Examples
from assay.auditing.outcome import NOT_MEASURED
from assay.auditing.policy import Policy
from assay.auditing.result import Audit
from assay.auditing.rounds import Share, in_turn, within_budget
from assay.auditing.texts import TextEvidence, text_evidence
from assay.auditing.timed import TIME, time_chapter
from assay.auditing.verdict import sentence, spoken
from assay.auditing.watch import Tick, Watch
from assay.core.classifier import Classifier
from assay.core.images import check_images
from assay.core.oracle import Oracle
from assay.core.source import TensorSource
from assay.core.texts import TextClassifier
from assay.core.tokens import check_texts
from assay.data.dataset import Dataset
from assay.data.textset import TextSet, in_memory
from assay.errors import AssayError
from assay.provenance import provenance
from assay.report.numerals import budget, interval, norm_name, with_unit
from assay.report.schema import AuditReport, Check, Flag

Carrier = Callable[[Evidence, Watch], list[Share]]
"""Carries out the sections of an audit, and returns what they came to in the order of the config;
`rounds.in_turn` does it here, one after another."""


def audit(
    model: Oracle[Any],
    x: Tensor | NDArray[Any] | Dataset | Sequence[str] | TextSet,
    y: Tensor | NDArray[Any] | None = None,
    *,
    reference: tuple[Any, Tensor] | None = None,
    calibration: tuple[Any, Tensor] | None = None,
    masks: Tensor | None = None,
    metadata: Mapping[str, Sequence[Any]] | None = None,
    config: AuditConfig | None = None,
    policy: Policy | None = None,
    title: str = "",
    command: str = "",
    data: dict[str, str] | None = None,
    progress: Tick | None = None,
    budget: float | None = None,
    carrier: Carrier = in_turn,
) -> Audit:
    """Put a classifier to the test and return what was found.

    A section that cannot be run, or an attack, an explainer or a detector in it, takes away its own
    chapter, check or row, which says why; the others are in the report.

    Args:
        model: a `Classifier`, which comes back untouched; or anything that can be queried, such as
            a `BlackBox`: then accuracy, calibration (from scores or logits) and attacks without
            gradients are in the report, and the other sections are not run.
        x: test images float32 (N, C, H, W) in [0, 1], at least 20, that it was not trained on; or a
            `Dataset`, which brings its labels, masks and fingerprint. Attacks, and a short budget,
            take the first ones: where their order goes by class they are drawn from all, by seed 0,
            and the array `rows` says where each stood. Of a `TextClassifier` a list of texts, or a
            `TextSet`: sections that look at pixels are then not run.
        y: their labels int64 (N,).
        reference: images and labels that detectors are fitted on, as a rule training data. None:
            a third of `x` fits, a third calibrates, and only the rest is scored.
        calibration: images and labels that the model was not trained on, for the detectors'
            thresholds. None: half of `reference` fits and the other half calibrates.
        masks: bool (N, H, W), where the object of each image is, if that is known: do maps point at
            it, and do they leave it?
        metadata: what else is known of each image, by the name of its column, a value for each
            (text, a number, or None): is the model worse on some of them? A `Dataset` brings its
            own.
        config: what is measured, and the thresholds.
        policy: thresholds that go before those of `config`, and the level of the intervals that are
            compared with them; None: 95 %.
        title: what the report is called; default: the model's class.
        command: what made it, for the report's last chapter.
        data: fingerprints of the data sets by name; default: that of `x` and `y`.
        progress: told what is being done, and about how long still.
        budget: seconds that it may take, from now on. What there is no time for is measured on
            fewer images or not run, and the report says so: see `auditing.rounds`. None: all that
            is asked for.

    Raises:
        AssayError: for images out of range or that the model cannot take, labels that do not fit
            its outputs, outputs that are NaN or undeclared probabilities, or a `Classifier` without
            a gradient.

    >>> from assay import auditing
    >>> config = auditing.AuditConfig(sections=("accuracy", "calibration"))
    >>> audited = assay.audit(clf, x.repeat(2, 1, 1, 1), y.repeat(2), config=config)
    >>> audited.save("report.html").name
    'report.html'
    """
    if budget is not None and not 0 < budget < math.inf:
        raise AssayError(f"budget is a number of seconds above 0, or None, not {budget!r}")
    started, clock = datetime.now().astimezone(), time.perf_counter()
    config = config if config is not None else AuditConfig()
    if isinstance(x, Dataset | TextSet):
        if y is not None:
            raise AssayError(f"a {type(x).__name__} brings its own labels: audit(clf, data)")
        data = data or {f"{x.name}/{x.split}": x.fingerprint}
        own = Examples.of(x)
        metadata = own.metadata if metadata is None else metadata
        masks = own.masks if masks is None else masks
        x, y = own.x, own.y
    if y is None:
        raise AssayError("audit needs labels: audit(clf, x, y), or audit(clf, dataset)")
    watch = Watch(progress, budget)
    texts = isinstance(model, TextClassifier)
    x, y = check_texts(x) if texts else check_images(cast(Tensor, x)), torch.as_tensor(y)
    examples = Examples(x, y, masks, metadata or {}).mixed()
    if budget is not None and len(x) == len(y) and hasattr(model, "query"):
        examples = examples.first(affordable(model, examples.x, budget, watch.clock))
    begun = watch.clock()
    evidence = evidence_of(model, examples, reference, calibration, config, watch.tick)
    watch.pace = pace_of(evidence, watch.clock() - begun, watch.clock)
    return conducted(
        evidence,
        watch,
        given=len(x),
        rows=examples.rows,
        policy=policy,
        title=title or type(getattr(model, "model", model)).__name__,
        command=command or "assay.audit(clf, x, y, ...), called from Python",
        data=data or {"x, y": _fingerprint(evidence)},
        inputs=_preprocessing(model, x),
        started=started,
        clock=clock,
        carrier=carrier,
    )


def evidence_of(
    model: Oracle[Any],
    examples: Examples,
    reference: tuple[Any, Tensor] | None,
    calibration: tuple[Any, Tensor] | None,
    config: AuditConfig,
    tick: Tick,
) -> Evidence:
    """Return what the sections share, of images or of texts, after the one clean pass.

    Raises:
        AssayError: as `audit` does.
    """
    x, y, masks, metadata = examples.x, examples.y, examples.masks, examples.metadata
    reference, calibration = _mixed(reference), _mixed(calibration)
    if isinstance(model, TextClassifier):
        return text_evidence(model, x, y, reference, calibration, metadata, config, tick)
    return image_evidence(model, x, y, reference, calibration, masks, metadata, config, tick)


def _mixed(given: tuple[Any, Tensor] | None) -> tuple[Any, Tensor] | None:
    """Return data that may be halved."""
    if given is None:
        return None
    examples = Examples(given[0], torch.as_tensor(given[1])).mixed()
    return examples.x, examples.y


def conducted(
    evidence: Evidence,
    watch: Watch,
    *,
    given: int,
    rows: Tensor | None = None,
    policy: Policy | None,
    title: str,
    command: str,
    data: dict[str, str],
    inputs: dict[str, Any],
    started: datetime,
    clock: float,
    carrier: Carrier = in_turn,
) -> Audit:
    """Run every section on the evidence, judge it, and return what was found.

    Args:
        evidence: checked, with the one clean pass over it.
        watch: what its sections are timed by, and its budget.
        given: images that there are; fewer are evidence where a budget is too short for all.
        rows: where each stood in what was given, if they were drawn from it.
        policy, title, command, data: as for `audit`.
        inputs: what the model is given, for the report's last chapter.
        started: when the audit began, and
        clock: what `time.perf_counter` said then.
        carrier: as for `audit`.
    """
    config, model = evidence.config, evidence.model
    if watch.budget is None:
        shares = carrier(evidence, watch)
    else:
        criteria = [one for section in config.sections for one in section.criteria(config)]
        counted = [one.code for one in criteria if one.gated] if policy is None else policy.checks
        shares = within_budget(evidence, watch, counted)
    found = [(share.section, share.found) for share in shares]
    values = [
        (evidence.asked(criterion), measured.values.get(criterion.code, NOT_MEASURED))
        for section, measured in found
        for criterion in section.criteria(config)
    ]
    if policy is not None:
        policy.refuse_unknown(criterion for criterion, _ in values)
        values = [(policy.asks(criterion), policy.sees(value)) for criterion, value in values]
    checks = tuple(judged(criterion, value) for criterion, value in values)
    chapters: dict[str, Any] = {}
    more: dict[str, Any] = {}
    arrays = {"labels": evidence.y.numpy(), _kind(evidence): evidence.answer.cpu().numpy()}
    if rows is not None:
        arrays["rows"] = rows.numpy()
        inputs |= {"order": "drawn by seed 0, since what was given goes by class"}
    for section, measured in found:
        for name, chapter in measured.chapters.items():
            (chapters if name in section.chapters else more)[name] = chapter
        arrays |= measured.arrays
    for check in checks:  # drawn with the threshold that it is judged by, a policy's too
        if check.code == "ROB-001" and "robustness" in chapters:
            asked = {"threshold": check.threshold}
            chapters["robustness"] = chapters["robustness"].model_copy(update=asked)
    if watch.budget is not None:
        more[TIME] = time_chapter(shares, evidence, watch, given)
    report = AuditReport(
        title=title,
        created=datetime.now().astimezone().isoformat(timespec="seconds"),
        answer=sentence([spoken(*one, check) for one, check in zip(values, checks, strict=True)]),
        summary=_summary(checks, config, evidence.kind),
        checks=checks,
        **chapters,
        more=more,
        flags=(
            *_doubts(evidence),
            *(flag for _, measured in found for flag in measured.flags),
        ),
        made=provenance(
            command=command,
            config=config.model_dump(mode="json")
            | {"inputs": inputs}
            | ({} if policy is None else {"policy": policy.model_dump(mode="json")})
            | ({} if watch.budget is None else {"budget": watch.budget}),
            seeds=(config.seed,),
            started=started,
            seconds=time.perf_counter() - clock,
            threads=torch.get_num_threads(),
            data=data,
            model=getattr(model, "fingerprint", ""),
        ),
    )
    return Audit(report, arrays, watch.took)


def _doubts(evidence: Evidence) -> tuple[Flag, ...]:
    """Return the reasons to think that the model is not given what it was trained on."""
    if isinstance(evidence, TextEvidence):
        return plausible_texts.flags_of(evidence)
    return plausible.flags_of(evidence) if evidence.kind == "images" else ()


def _preprocessing(model: Oracle[Any], x: Any) -> dict[str, Any]:
    """Return what the model is given, and what is done to it before the first layer."""
    if isinstance(model, TextClassifier):
        treated = list(model.treatments())
        return {"tokens": model.max_length, "access": model.access, "treated": treated}
    about: dict[str, Any] = {"images": list(x.shape[1:]), "access": model.access}
    if isinstance(model, Classifier):
        for name in ("mean", "std"):
            values = getattr(model, name)
            about[name] = None if values is None else values.flatten().tolist()
        about["outputs"] = model.outputs
        before = model.preprocess
        about["preprocess"] = None if before is None else getattr(before, "__name__", f"{before}")
    return about


def _fingerprint(evidence: Evidence) -> str:
    if evidence.kind == "texts":
        return in_memory("x", "", evidence.classes, list(evidence.x), evidence.y).fingerprint
    return TensorSource(evidence.x, evidence.y).fingerprint


def _kind(evidence: Evidence) -> str:
    """Return what the arrays call what the model answers."""
    access = evidence.model.access
    return {"labels": "predictions", "scores": "scores"}.get(access, "logits")


def _summary(checks: tuple[Check, ...], config: AuditConfig, kind: str = "images") -> str:
    """Return the main numbers: how often it is right, as the images are and under attack."""
    shown = {c.code: c.value for c in checks if c.value is not None}
    right, robust = shown.get("ACC-001"), shown.get("ROB-001")
    said = []
    if right is not None:
        value = f"{with_unit(right.value, 'fraction')} ({interval(right)})"
        said.append(f"right on {value} of the {kind} as they are")
    if robust is not None:
        value = f"{with_unit(robust.value, 'fraction')} ({interval(robust)})"
        if right is not None and right.n != robust.n:  # else it may look more robust than accurate
            value = f"{value} of {robust.n:,} of them"
        said.append(
            f"{'' if said else 'right '}on {value} when each may be changed by at most "
            f"{budget(config.eps, config.norm)} ({norm_name(config.norm)})"
        )
    return f"It is {', and '.join(said)}." if said else ""
