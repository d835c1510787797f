"""What `assay train` says at its end."""

from __future__ import annotations

from typing import Any

import pytest

from assay.tasks.train import TrainNetwork
from assay.workflows.train import went_on

ONE = {"name": "pgd", "eps": 0.1, "steps": 1}


@pytest.mark.parametrize(
    ("settings", "before", "said"),
    [
        ({"adversary": ONE}, 0, "with noise"),
        ({"adversary": ONE}, 1, "half the step"),
        ({"adversary": ONE | {"steps": 2}}, 0, "half the step"),
        ({"hardening": {"name": "n-fgsm"}}, 0, "half the step"),
    ],
)
def test_what_a_collapse_led_to_is_said(settings: dict[str, Any], before: int, said: str) -> None:
    made = TrainNetwork.parse({"recipe": {"guard": {}}, **settings})
    assert said in went_on(made.model_dump(mode="json", exclude_none=True), before)


def test_of_a_collapse_that_is_only_noted_nothing_follows() -> None:
    made = TrainNetwork.parse({"recipe": {"guard": {"response": "note"}}, "adversary": ONE})
    assert went_on(made.model_dump(mode="json", exclude_none=True), 0) == ""
