"""Checks of models exactly at their thresholds: rarely a verdict, of either kind."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from scipy.stats import binom

PATH = Path(__file__).resolve().parents[2] / "benchmarks" / "false_alarms.py"
AUDITS = 200


@pytest.fixture(scope="module")
def simulated() -> ModuleType:
    spec = importlib.util.spec_from_file_location("false_alarms", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["false_alarms"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "check", ["accuracy, 90 %", "robust accuracy, 50 %", "corruptions, 70 %",
              "gap of a slice, 10 points", "AUROC, 0.9"],
)  # fmt: skip
def test_a_model_at_the_threshold_is_rarely_judged(simulated: ModuleType, check: str) -> None:
    passes, fails = simulated.rates(*simulated.NULLS[check], 500, AUDITS)
    most = binom.ppf(0.999, AUDITS, 0.035) / AUDITS  # a little more than the nominal 2.5 %
    assert passes <= most
    assert fails <= most


def test_a_model_far_from_the_threshold_is_judged(simulated: ModuleType) -> None:
    null, threshold, direction = simulated.NULLS["accuracy, 90 %"]
    passes, fails = simulated.rates(null, threshold - 0.1, direction, 500, 50)
    assert (passes, fails) == (1.0, 0.0)
    passes, fails = simulated.rates(null, threshold + 0.08, direction, 500, 50)
    assert (passes, fails) == (0.0, 1.0)
