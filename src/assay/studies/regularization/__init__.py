"""The study of regularization: settings and claims, the variants, the page."""

from assay.studies.regularization.study import Regularization as Regularization
