"""A model in, a report out."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter
from torch import Tensor, nn

from assay.auditing import plausible
from assay.auditing.checks import Value, judged
from assay.auditing.config import AuditConfig
from assay.auditing.evidence import Evidence, Tick
from assay.auditing.policy import Policy
from assay.auditing.section import Measured, Section
from assay.auditing.texts import text_evidence
from assay.auditing.verdict import sentence, spoken
from assay.core.classifier import Classifier, check_gradient, check_images
from assay.core.oracle import Oracle, granted, unwrapped
from assay.core.source import TensorSource
from assay.core.texts import TextClassifier
from assay.core.tokens import check_texts
from assay.data.dataset import Dataset, to_float
from assay.data.textset import TextSet, in_memory
from assay.disk import write_atomic, writing_together
from assay.errors import AssayError, told
from assay.provenance import provenance
from assay.report.audit_page import render_audit
from assay.report.numerals import budget, interval, norm_name, with_unit
from assay.report.record import NotRun
from assay.report.schema import AuditReport, Chapter, Check, Flag
from assay.runs.files import write_arrays

MIN_IMAGES = 20


@dataclass(frozen=True, repr=False)
class Audit:
    """What an audit found, and the arrays it rests on.

    Attributes:
        report: everything that report.json holds.
        arrays: the labels of the test images and what the model says of them; for each attack at
            the audit's eps the adversarial images and which succeeded; the gallery's images and
            maps; what other sections keep.

    >>> from assay import auditing
    >>> config = auditing.AuditConfig(sections=("accuracy",))
    >>> audited = assay.audit(clf, x.repeat(2, 1, 1, 1), y.repeat(2), config=config)
    >>> [(check.code, check.verdict) for check in audited.checks]
    [('ACC-001', 'undecided')]
    """

    report: AuditReport
    arrays: dict[str, NDArray[Any]] = field(repr=False)

    @property
    def checks(self) -> tuple[Check, ...]:
        """The checks with their verdicts."""
        return self.report.checks

    def save(self, path: str | Path) -> Path:
        """Write the page to `path`, and report.json and arrays.npz beside it: all or none.

        Args:
            path: a file ending in .html, or a folder (then report.html in it); of one ending in
                .json the JSON alone is written.

        Raises:
            AssayError: the files cannot be written; or the page cannot be drawn, and then the JSON
                and the arrays are there all the same, and no older page beside them.
        """
        page = Path(path)
        if page.suffix.lower() == ".json":
            write_atomic(page, self.report.to_json())
            return page
        if page.suffix.lower() not in (".html", ".htm"):
            page = page / "report.html"
        undrawn: Exception | None = None
        html = ""
        try:
            html = render_audit(self.report)
        except Exception as error:  # whatever a report may hold that nobody has drawn yet
            undrawn = error
        with writing_together(page.parent) as part:
            write_arrays(part / "arrays.npz", self.arrays)
            write_atomic(part / page.with_suffix(".json").name, self.report.to_json())
            if undrawn is None:
                write_atomic(part / page.name, html)
        if undrawn is not None:
            page.unlink(missing_ok=True)
            raise AssayError(
                f"the page could not be drawn ({told(undrawn)}); what was measured is kept: "
                f"{page.with_suffix('.json')}, and arrays.npz beside it"
            ) from undrawn
        return page

    def to_dict(self) -> dict[str, Any]:
        """Return what report.json holds."""
        return self.report.model_dump(mode="json")

    def plot(self) -> Any:
        """Return a matplotlib figure: accuracy against the budget."""
        from assay.report.figures import accuracy_against_eps

        found = self.report.robustness
        if isinstance(found, NotRun):
            raise AssayError(f"there is no robustness chapter to plot: {found.not_run}")
        return accuracy_against_eps(found.curves, found.clean)

    def __str__(self) -> str:
        return str(self.report)

    def __repr__(self) -> str:
        return repr(self.report).replace("AuditReport", "Audit", 1)

    def _repr_html_(self) -> str:
        html: str = self.report._repr_html_()
        return html


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
) -> Audit:
    """Put a classifier to the test and return what was found.

    A section that cannot be run, or an attack, an explainer or a detector in it, takes away its own
    chapter, check or row, which says why; the others are in the report.

    Args:
        model: a `Classifier`, which comes back untouched; or anything that can be queried, such as
            a `BlackBox`: then accuracy, calibration (from scores or logits) and attacks without
            gradients are in the report, and the other sections are not run.
        x: test images float32 (N, C, H, W) in [0, 1], at least 20, that it was not trained on; or
            a `Dataset`, which brings its labels, masks and fingerprint. Of a `TextClassifier` a
            list of texts, or a `TextSet`: sections that look at pixels are then not run.
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
        progress: told what is being done.

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
    started, clock = datetime.now().astimezone(), time.perf_counter()
    config = config if config is not None else AuditConfig()
    if isinstance(x, TextSet):
        data = data or {f"{x.name}/{x.split}": x.fingerprint}
        y, x = x.labels, list(x.texts)
    elif isinstance(x, Dataset):
        if y is not None:
            raise AssayError("a Dataset brings its own labels: audit(clf, dataset)")
        data = data or {f"{x.name}/{x.split}": x.fingerprint}
        masks = x.masks if masks is None else masks
        metadata = x.metadata if metadata is None else metadata
        y, x = x.labels, to_float(x.images)
    if y is None:
        raise AssayError("audit needs labels: audit(clf, x, y), or audit(clf, dataset)")
    tick = progress if progress is not None else _silent
    evidence: Evidence
    if isinstance(model, TextClassifier):
        evidence = text_evidence(model, check_texts(x), y, reference, calibration, config, tick)
    else:
        images = check_images(cast(Tensor, x))
        evidence = _evidence(
            model,
            images,
            torch.as_tensor(y),
            reference,
            calibration,
            masks,
            metadata or {},
            config,
            tick,
        )
    return conducted(
        evidence,
        policy=policy,
        title=title or type(getattr(model, "model", model)).__name__,
        command=command or "assay.audit(clf, x, y, ...), called from Python",
        data=data or {"x, y": _fingerprint(evidence)},
        inputs=_preprocessing(model, x),
        started=started,
        clock=clock,
    )


def conducted(
    evidence: Evidence,
    *,
    policy: Policy | None,
    title: str,
    command: str,
    data: dict[str, str],
    inputs: dict[str, Any],
    started: datetime,
    clock: float,
) -> Audit:
    """Run every section on the evidence, judge it, and return what was found.

    Args:
        evidence: checked, with the one clean pass over it.
        policy, title, command, data: as for `audit`.
        inputs: what the model is given, for the report's last chapter.
        started: when the audit began, and
        clock: what `time.perf_counter` said then.
    """
    config, model = evidence.config, evidence.model
    found = [(section, outcome(section, evidence)) for section in config.sections]
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
    for section, measured in found:
        for name, chapter in measured.chapters.items():
            (chapters if name in section.chapters else more)[name] = chapter
        arrays |= measured.arrays
    report = AuditReport(
        title=title,
        created=datetime.now().astimezone().isoformat(timespec="seconds"),
        answer=sentence([spoken(*one, check) for one, check in zip(values, checks, strict=True)]),
        summary=_summary(checks, config, evidence.kind),
        checks=checks,
        **chapters,
        more=more,
        flags=(
            *(plausible.flags_of(evidence) if evidence.kind == "images" else ()),
            *(flag for _, measured in found for flag in measured.flags),
        ),
        made=provenance(
            command=command,
            config=config.model_dump(mode="json")
            | {"inputs": inputs}
            | ({} if policy is None else {"policy": policy.model_dump(mode="json")}),
            seeds=(config.seed,),
            started=started,
            seconds=time.perf_counter() - clock,
            threads=torch.get_num_threads(),
            data=data,
            model=getattr(model, "fingerprint", ""),
        ),
    )
    return Audit(report, arrays)


NOT_MEASURED = NotRun(not_run="the section measured nothing of it")


def outcome(section: Section, evidence: Evidence) -> Measured:
    """Return what a section measures; where it cannot be run, the reason in all of its places."""
    criteria = section.criteria(evidence.config)
    try:
        if why_not := evidence.refuses(section):
            raise AssayError(why_not)
        if not granted(evidence.model, section.needs):
            what = "a network" if section.needs == "gradient" else f"the model's {section.needs}"
            raise AssayError(
                f"it needs {what}; this model answers with {evidence.model.access} only"
            )
        return _fitting(section, section.measure(evidence), {c.code for c in criteria})
    except Exception as error:  # whatever a user's model, or another package's section, may raise
        why = NotRun(not_run=told(error))
        names = section.chapters or (section.name,)
        return Measured(dict.fromkeys(names, why), {c.code: why for c in criteria})


def _fitting(section: Section, found: Measured, codes: set[str]) -> Measured:
    """Return what a section measured, if the report can hold it.

    Raises:
        AssayError, ValidationError: it cannot, and why.
    """
    for name, chapter in found.chapters.items():
        known = AuditReport.model_fields if name in section.chapters else {}
        kind: Any = known[name].annotation if name in known else Chapter | NotRun
        TypeAdapter(kind).validate_python(chapter)
    TypeAdapter(tuple[Flag, ...]).validate_python(found.flags)
    for code, value in found.values.items():
        if code not in codes:
            raise AssayError(f"it has a value for {code}, which is none of its criteria")
        if not isinstance(value, Value | NotRun):
            raise AssayError(f"{code} is a {type(value).__name__}, not a Value or a NotRun")
    return found


def _evidence(
    model: Oracle[Tensor],
    x: Tensor,
    y: Tensor,
    reference: tuple[Tensor, Tensor] | None,
    calibration: tuple[Tensor, Tensor] | None,
    masks: Tensor | None,
    metadata: Mapping[str, Sequence[Any]],
    config: AuditConfig,
    tick: Tick,
) -> Evidence:
    """Return what is audited, checked, with the one clean pass over it."""
    if isinstance(model, nn.Module):
        raise unwrapped(model)
    if not (hasattr(model, "query") and hasattr(model, "access")):
        raise AssayError(
            f"audit takes an assay.Classifier(model, ...), not {type(model).__name__}; or what can "
            "be queried, such as assay.BlackBox(function, classes=..., access=...)"
        )
    x, y = check_images(x).detach().float().cpu(), torch.as_tensor(y).cpu()
    _check_labels(x, y)
    y = y.long()
    reference, calibration = (_images(part) for part in (reference, calibration))
    if reference is None and calibration is not None:
        raise AssayError("calibration= goes with reference=: what detectors are fitted on")
    for part in (reference, calibration):
        if part is not None and torch.equal(part[0], x):
            raise AssayError(
                "reference and calibration are not the images that are scored: give others, or none"
            )
    if masks is not None and (masks.dtype != torch.bool or masks.shape != x[:, 0].shape):
        raise AssayError(
            f"masks must be bool {tuple(x[:, 0].shape)}, one of each image's size, got "
            f"{masks.dtype} {tuple(masks.shape)}"
        )
    masks = None if masks is None else masks.cpu()
    for name, values in metadata.items():
        if len(values) != len(x):
            raise AssayError(f"metadata {name!r} has {len(values)} values for {len(x)} images")
    evidence = Evidence(model, x, y, config, reference, calibration, masks, tick, metadata)
    tick(f"evaluating the model on {len(x):,} images")
    silent = int((evidence.predictions < 0).sum())
    classes = evidence.classes
    if int(y.max()) >= len(classes):
        raise AssayError(
            f"the labels go up to {int(y.max())}, but the model has {len(classes)} outputs "
            f"(0 to {len(classes) - 1}): these data do not fit this model"
        )
    if isinstance(model, Classifier):
        if silent:
            raise AssayError(f"the model returns NaN or infinity for {silent} of {len(x)} images")
        check_gradient(model, x)
    return evidence


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


def _silent(_: str) -> None:
    """Say nothing."""


def _kind(evidence: Evidence) -> str:
    """Return what the arrays call what the model answers."""
    access = evidence.model.access
    return {"labels": "predictions", "scores": "scores"}.get(access, "logits")


def _check_labels(x: Tensor, y: Tensor) -> None:
    if y.ndim != 1 or len(y) != len(x):
        raise AssayError(f"y must hold one label per image ({len(x)},), got {tuple(y.shape)}")
    if y.is_floating_point() or y.dtype == torch.bool:
        raise AssayError(f"labels must be class numbers (int64), got {y.dtype}")
    if len(x) < MIN_IMAGES:
        raise AssayError(f"an audit needs at least {MIN_IMAGES} images, got {len(x)}")
    if int(y.min()) < 0:
        raise AssayError(f"labels must be 0 or more, got {int(y.min())}")


def _images(given: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor] | None:
    """Return images and labels as the audit works with them."""
    if given is None:
        return None
    return check_images(given[0]).detach().float().cpu(), torch.as_tensor(given[1]).cpu().long()


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
        said.append(
            f"{'' if said else 'right '}on {value} when each may be changed by at most "
            f"{budget(config.eps, config.norm)} ({norm_name(config.norm)})"
        )
    return f"It is {', and '.join(said)}." if said else ""
