"""Audit: a model in, a report out. The public function is `assay.audit`.

A section from another package derives from `Section` and joins by an entry point in the group
`assay.sections` that names its class. Everything here is loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from assay.lazy import lazily

if TYPE_CHECKING:
    from assay.auditing.checks import Criterion as Criterion
    from assay.auditing.checks import Value as Value
    from assay.auditing.checks import Words as Words
    from assay.auditing.conduct import audit as audit
    from assay.auditing.config import AuditConfig as AuditConfig
    from assay.auditing.config import Thresholds as Thresholds
    from assay.auditing.evidence import Evidence as Evidence
    from assay.auditing.predicted import audit_predictions as audit_predictions
    from assay.auditing.result import Audit as Audit
    from assay.auditing.section import Measured as Measured
    from assay.auditing.section import Section as Section
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "checks": ["Criterion", "Value", "Words"],
            "conduct": ["audit"],
            "config": ["AuditConfig", "Thresholds"],
            "evidence": ["Evidence"],
            "predicted": ["audit_predictions"],
            "result": ["Audit"],
            "section": ["Measured", "Section"],
        },
    )
