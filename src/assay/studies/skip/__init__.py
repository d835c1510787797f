"""The study of degradation by depth: settings and claims, the names of its networks, the page."""

from assay.studies.skip.study import Skip as Skip
