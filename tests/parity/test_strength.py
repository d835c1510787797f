"""No weaker than the strongest of the peers: the table of benchmarks/strength.py, held to the line.

The slow tests take 1,000 images; ASSAY_PARITY_IMAGES takes fewer.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from assay import stats
from assay.core.classifier import Classifier
from assay.data import load_data

from .peers import benchmark, peer, trained

strength = benchmark("strength")
NAMES = tuple(strength.methods("natural"))
FEW = 120
Measured = Callable[[str, str], tuple[Any, dict[str, Any]]]
"""(kind of network, name of the method) → what ours came to, and what each peer did."""


@pytest.fixture(scope="module", autouse=True)
def _with_peers() -> None:
    peer("torchattacks")
    peer("foolbox")


@pytest.fixture(scope="module")
def measured(shared_data: Path) -> Measured:
    images = int(os.environ.get("ASSAY_PARITY_IMAGES", "1000"))
    x, y = load_data(str(shared_data / "cifar10"), split="test").take(images)

    @cache
    def measure(kind: str, name: str) -> tuple[Any, dict[str, Any]]:
        method = strength.methods(kind).get(name) or strength.auto(kind, name)
        return strength.measured(trained(kind), x, y, method)

    return measure


@pytest.mark.parametrize("name", ["FGSM", "PGD-20", "DeepFool"])
def test_on_digits_it_is_no_weaker(digit_nets: dict[str, Classifier], name: str) -> None:
    x, y = load_data("digits", split="test").take(FEW)
    method = strength.methods("digits")[name]
    ours, theirs = strength.measured(digit_nets["robust"], x, y, method)
    row = strength.row(name, "digits", method, ours, theirs)
    assert 0.2 < row.theirs < 0.8
    assert row.ours <= row.theirs + 0.02, strength.line(row)
    if method.ours.minimum_norm:
        # most pixels of digits are black: theirs adds up what clipping took away, and comes out
        # nearer by 2.4 % in the mean
        there = theirs[row.peer]
        both = ours.distance.isfinite() & there.distance.isfinite()
        apart = stats.mean_interval((ours.distance / there.distance)[both].log(), of="images")
        assert both.sum() > 80
        assert math.exp(apart.high) < 1.05, apart


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", strength.NETS)
def test_on_cifar_it_is_no_weaker(measured: Measured, kind: str, name: str) -> None:
    ours, theirs = measured(kind, name)
    row = strength.row(name, kind, strength.methods(kind)[name], ours, theirs)
    assert 0.05 < row.theirs < 0.95
    assert row.bound <= 0.005, strength.line(row)
    if row.their_distance is not None:
        assert row.our_distance <= 1.02 * row.their_distance, strength.line(row)


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("kind", strength.NETS)
def test_auto_fools_whatever_anybody_fools(measured: Measured, kind: str, norm: str) -> None:
    known = strength.methods(kind)
    names = [name for name in NAMES if known[name].ball.norm == norm]
    results = [measured(kind, name) for name in names]
    together = strength.union(
        [each for ours, theirs in results for each in (ours, *theirs.values())]
    )
    ours, _ = measured(kind, norm)
    assert ours.robust_accuracy > 0.05
    assert not bool((together.fooled & ~ours.fooled).any())
