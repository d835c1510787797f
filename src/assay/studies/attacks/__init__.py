"""The study of attacks: settings and claims, the page."""

from assay.studies.attacks.study import Attacks as Attacks
