"""Tasks have names that outlive the modules of their functions."""

from __future__ import annotations

import pytest

from assay.errors import AssayError
from assay.runs.tasks import FUNCTIONS, IN_ADDRESSES
from assay.runs.trial import Trial
from assay.runs.worker import load_task
from assay.tasks.train import TrainNetwork

PINNED = {
    "train": "597aefb9a4091c531d9e81bfd670a71e6a41be95691d0d7b2ba043f4962c3cc4",
    "autoencode": "ed39d7b71fd3c3263cb7ca19f0735c3705eefc6595ac6ee62b96f28d0d9c6bae",
    "attack": "0d05d539ac9fa4691c1b64d405b466a39657212ec44014a74c891ad09b54408f",
    "transfer": "0cbdda3c2c6daf0d9c59c038e44d4999f54d9d75a13b950e8f64b6a6ac1e1c58",
    "saliency-shift": "24bd52bfeb5d011a6b24c7df62c0be693686bdc87c2285ec3ac37882e57f8dcb",
    "loss-surface": "c96427d354594e15a38efca3d66ffdf1f73f9373271f251a755e72d3205df037",
}
"""Addresses that stores and published studies hold: written down once, when tasks had no names."""


def trial(task: str, train: str = "train") -> Trial:
    return Trial(
        task=task,
        config={"data": "cifar10"},
        seed=3,
        needs=(Trial(task=train, config={}, torch="2.13.0"),),
        data={"cifar10/test": "c" * 64},
        versions={"CNN": 1},
        torch="2.13.0",
    )


@pytest.mark.parametrize("task", PINNED)
def test_addresses_are_those_of_results_that_there_are(task: str) -> None:
    assert trial(task).address == PINNED[task]


@pytest.mark.parametrize("task", IN_ADDRESSES)
def test_a_task_that_an_old_record_calls_by_its_module_is_the_same(task: str) -> None:
    old = trial(IN_ADDRESSES[task], IN_ADDRESSES["train"])
    assert old == trial(task)
    assert old.task == task


def test_a_training_keeps_its_address() -> None:
    marks = {"cifar10/train": "a" * 64, "cifar10/validation": "b" * 64, "cifar10/test": "c" * 64}
    (one,) = TrainNetwork().trials((3,), "cpu", "label", {3: marks})
    assert one.model_copy(update={"torch": "2.13.0"}).address == (
        "28c56ddb1f2d462c2f9b7a5cb78c97405fbdb1a7da452413fc554dc3a8893787"
    )


@pytest.mark.parametrize("task", FUNCTIONS)
def test_every_task_is_there(task: str) -> None:
    assert callable(load_task(task))


def test_a_task_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(AssayError, match=r"'trian': it is neither one of train, .* nor 'module:"):
        load_task("trian")
