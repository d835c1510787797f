"""The study of hardening: settings and claims, the page."""

from assay.studies.hardening.study import Hardening as Hardening
