"""Audit: a model in, a report out. The public function is `assay.audit`."""

from __future__ import annotations

from assay.auditing.conduct import Audit, audit
from assay.auditing.config import AuditConfig, Thresholds

__all__ = ["Audit", "AuditConfig", "Thresholds", "audit"]
