"""A report as a section of a Hugging Face model card, and as the hub's evaluation results."""

from __future__ import annotations

from collections.abc import Iterator

import yaml

from assay.report.formats.markdown import markdown, plain
from assay.report.schema import AuditReport, Check

METRICS = {"ACC-001": "accuracy", "ROB-001": "robust_accuracy", "CAL-001": "ece"}
"""What the hub calls the values of some checks; others go by their code."""


def model_card(report: AuditReport) -> str:
    """Return a card: metadata with `model-index`, and the report in Markdown below it.

    It goes into a model's README.md; metadata that is there already is merged by hand.
    """
    data = _data(report)
    results = [
        {
            "task": {"type": _task(report)},
            "dataset": {"type": data, "name": data},
            "metrics": [
                {"type": metric, "value": value, "name": check.title}
                for metric, value, check in _values(report)
            ],
        }
    ]
    index = {"model-index": [{"name": report.title, "results": results}]}
    head = yaml.safe_dump(index, sort_keys=False, allow_unicode=True)
    return f"---\n{head}---\n\n{markdown(report).replace('# ', '## Audit: ', 1)}"


def eval_results(report: AuditReport) -> str:
    """Return what goes into `.eval_results/` of a model's repository: an entry per value."""
    data = _data(report)
    entries = [
        {
            "dataset": {"id": data, "task_id": metric},
            "value": value,
            "date": report.created[:10],
            "notes": f"{check.code}: {plain(check.title)}, n = {_n(check):,}, by assay audit",
        }
        for metric, value, check in _values(report)
    ]
    return str(yaml.safe_dump(entries, sort_keys=False, allow_unicode=True))


def _values(report: AuditReport) -> Iterator[tuple[str, float, Check]]:
    for check in report.checks:
        if check.value is not None and check.value.value is not None:
            yield METRICS.get(check.code, check.code.lower()), check.value.value, check


def _n(check: Check) -> int:
    return 0 if check.value is None else check.value.n


def _task(report: AuditReport) -> str:
    """Return what the hub calls what the model does: texts are given to it as tokens."""
    texts = "tokens" in report.made.config.get("inputs", {})
    return "text-classification" if texts else "image-classification"


def _data(report: AuditReport) -> str:
    """Return the data set that was audited: the first name, without its split."""
    name = next(iter(report.made.data), "data")
    return name.rpartition("/")[0] or name
