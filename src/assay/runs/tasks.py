"""What tasks are called, and where the function of each is. Never imports one.

The address of a trial holds the name of its task. Names are stable, so that a function may move to
another module without orphaning results; those that had results before they had a name are known in
addresses by where they then were.
"""

from __future__ import annotations

from collections.abc import Mapping

FUNCTIONS: Mapping[str, str] = {
    "train": "assay.tasks.train:train",
    "autoencode": "assay.tasks.autoencode:autoencode",
    "attack": "assay.tasks.attack:attack",
    "attack-text": "assay.tasks.attack_text:attack",
    "course-attack": "assay.tasks.course_attack:course_attack",
    "transfer": "assay.tasks.transfer:transfer",
    "examine": "assay.tasks.examine:examine",
    "saliency-shift": "assay.tasks.saliency_shift:saliency_shift",
    "loss-surface": "assay.tasks.loss_surface:surface",
    "train-text": "assay.tasks.train_text:train",
    "text-features": "assay.tasks.text_features:embed",
    "read-text": "assay.tasks.read_text:read",
    "detect": "assay.tasks.detect:detect",
    "evade": "assay.tasks.evade:evade",
    "attack-shard": "assay.tasks.shards:attack",
    "fit-detectors": "assay.tasks.shards:fit",
    "score-shard": "assay.tasks.shards:score",
    "audit-section": "assay.workflows.audit_sections:measure",
}
"""The function of each task of ours, as "module:function"; a task elsewhere is named so itself."""

IN_ADDRESSES: Mapping[str, str] = {
    "train": "assay.studies.networks:train",
    "autoencode": "assay.studies.features:autoencode",
    "attack": "assay.studies.attacking:attack",
    "transfer": "assay.studies.transferring:transfer",
    "saliency-shift": "assay.studies.attending:attend",
    "loss-surface": "assay.studies.surface:surface",
}
"""What addresses call the tasks that are older than their names. Never changes."""

_NAMES = {old: name for name, old in IN_ADDRESSES.items()}


def named(task: str) -> str:
    """Return the stable name of a task, also of one that an old record calls by its module."""
    return _NAMES.get(task, task)


def in_address(task: str) -> str:
    """Return what an address calls a task."""
    return IN_ADDRESSES.get(task, task)


def function_of(task: str) -> str:
    """Return where the function of a task is, as "module:function"."""
    return FUNCTIONS.get(task, task)
