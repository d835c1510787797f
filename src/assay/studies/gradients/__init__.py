"""The study of vanishing gradients: settings and claims, the networks, the page."""

from assay.studies.gradients.study import Gradients as Gradients
