"""The study of fine-tuning: settings and claims, its methods, the page."""

from assay.studies.sentiment.study import Sentiment as Sentiment
