"""The study of saliency under attack: settings and claims, the page."""

from assay.studies.attention.study import Attention as Attention
