"""Kinds of images: found where the model is worse there, and not where it is not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.proportion import confint_proportions_2indep

from assay import stats
from assay.auditing.conduct import audit
from assay.auditing.config import AuditConfig
from assay.auditing.evidence import Evidence
from assay.auditing.sections.slices import Slice, Slices, properties, said, significant, tree_leaves
from assay.core.blackbox import BlackBox
from assay.errors import AssayError


def audited(wrong_in_the_dark: float, seed: int = 0, n: int = 600) -> object:
    """Images of one brightness each, and a model that is wrong on 10 % of the bright ones, and on
    so many of the dark ones."""
    draw = np.random.default_rng(seed)
    bright = draw.uniform(0.1, 0.9, n)
    y = draw.integers(0, 2, n)
    rate = np.where(bright < 0.4, wrong_in_the_dark, 0.1)
    said = np.where(draw.uniform(size=n) < rate, 1 - y, y)
    x = torch.from_numpy(bright).float()[:, None, None, None].expand(n, 3, 4, 4).contiguous()
    answers = iter(torch.from_numpy(said))
    model = BlackBox(
        lambda rows: np.array([int(next(answers)) for _ in rows]), classes=2, access="labels"
    )
    evidence = Evidence(model, x, torch.from_numpy(y), AuditConfig())
    return Slices().measure(evidence)


def test_a_kind_of_images_on_which_it_is_worse_is_found_and_named() -> None:
    found = audited(0.6)
    value = found.values["SLI-001"]  # type: ignore[attr-defined]
    assert value.detail.startswith("brightness ≤ ")
    assert value.estimate.low > 0.2
    chapter = found.chapters["slices"]  # type: ignore[attr-defined]
    assert "% of images with brightness ≤" in chapter.title
    assert chapter.name == "Slices"
    rows = {row[0].text: row[-1].text for row in chapter.tables[0].rows}
    assert rows[value.detail] == "worse"
    assert rows["class 0"] == "not known to be"


def test_where_there_is_none_none_is_called_so() -> None:
    called, covered = 0, 0
    for seed in range(40):
        found = audited(0.1, seed)
        rows = found.chapters["slices"].tables[0].rows  # type: ignore[attr-defined]
        called += any(row[-1].text == "worse" for row in rows)
        estimate = found.values["SLI-001"].estimate  # type: ignore[attr-defined]
        covered += estimate.low <= 0 <= estimate.high
    assert called <= 6, "5 % of audits, where nothing is to be found: P(more than 6 of 40) < 0.4 %"
    assert covered >= 33, "the slice is chosen on other images than it is tried on"


def test_properties_by_hand() -> None:
    flat = torch.full((1, 3, 4, 4), 0.25)
    edge = torch.zeros(1, 3, 4, 4)
    edge[..., 2:] = 1.0
    red = torch.zeros(1, 3, 4, 4)
    red[:, 0] = 0.6
    found = properties(torch.cat([flat, edge, red]))
    np.testing.assert_allclose(found["brightness"], [0.25, 0.5, 0.2], rtol=1e-6)
    np.testing.assert_allclose(found["colour"], [0, 0, 0.6], atol=1e-7)
    # two columns of four differ from their surroundings by a third
    np.testing.assert_allclose(found["sharpness"], [0, 1 / 6, 0], atol=1e-6)
    assert "colour" not in properties(torch.rand(2, 1, 4, 4))


def test_the_heading_says_what_was_found() -> None:
    dark, seven = Slice("brightness ≤ 0.4", 8, 20, 45, 50), Slice("class 7", 12, 20, 45, 50)
    assert said([], 12, "images") == "None of 12 kinds of images is known to be worse than the rest"
    alone = said([seven], 12, "images")
    assert alone == "Right on 60.0 % of class 7, on 90.0 % of the rest"
    assert said([seven, dark], 12, "images") == (
        "Right on 40.0 % of images with brightness ≤ 0.4, on 90.0 % of the rest; 2 of 12 kinds are "
        "worse"
    )


def test_a_slice_by_hand() -> None:
    one = Slice("dark", 8, 20, 45, 50)
    assert one.gap.value == pytest.approx(0.9 - 0.4)
    assert one.p < 1e-4
    assert Slice("bright", 18, 20, 45, 50).p > 0.5
    assert significant([0.001, 0.02, 0.04, 0.9]) == [True, True, False, False]


def test_too_few_images_or_nothing_wrong() -> None:
    with pytest.raises(AssayError, match="give more images"):
        audited(0.5, n=30)
    everything = np.ones(200, dtype=bool)
    table = {"brightness": np.random.default_rng(0).random(200)}
    assert tree_leaves(table, everything, everything, 2) == {}


@given(st.integers(0, 60), st.integers(1, 60), st.integers(0, 60), st.integers(1, 60))
def test_the_interval_of_a_difference_is_statsmodels(
    a: int, more_a: int, b: int, more_b: int
) -> None:
    ours = stats.independent_difference(a, a + more_a, b, b + more_b, "images")
    low, high = confint_proportions_2indep(a, a + more_a, b, b + more_b, method="newcomb")
    assert (ours.low, ours.high) == pytest.approx((low, high), abs=1e-9)
    assert ours.low <= ours.value <= ours.high


def test_metadata_of_images_makes_slices() -> None:
    draw = np.random.default_rng(0)
    n = 400
    phone, y = draw.uniform(size=n) < 0.4, draw.integers(0, 2, n)
    right = draw.uniform(size=n) < np.where(phone, 0.4, 0.95)
    said = torch.from_numpy(np.where(right, y, 1 - y))
    x = torch.rand(n, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    place = {x[row].numpy().tobytes(): int(said[row]) for row in range(n)}
    model = BlackBox(
        lambda rows: [place[row.tobytes()] for row in rows], classes=2, access="labels"
    )
    metadata = {"camera": ["phone" if one else "slr" for one in phone]}
    config = AuditConfig(sections=(Slices(),))
    found = audit(model, x, torch.from_numpy(y), metadata=metadata, config=config)
    (check,) = found.checks
    assert check.title.endswith("(camera = phone)")
    assert check.verdict == "fail"
    with pytest.raises(AssayError, match="metadata 'camera' has 3 values for 400 images"):
        audit(model, x, torch.from_numpy(y), metadata={"camera": ["a"] * 3}, config=config)
