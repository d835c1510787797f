"""How far attention moved: numbers worked out by hand, scipy beside them, and edges."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from assay.core.attribution import Attribution
from assay.errors import AssayError
from assay.explain import saliency_shift
from assay.explain.shift import (
    centre_distance,
    energy_under,
    entropy,
    gini,
    inside,
    most_and_least,
    of_mates,
    overlap,
    rank_correlation,
)


def grid(*rows: list[float]) -> np.ndarray:
    return np.array([rows], dtype=np.float64)


def test_overlap_by_hand() -> None:
    # Of ten pixels the top 20 % are two. a: pixels 0 and 1; b: pixels 1 and 2; one in three.
    a = grid([1.0, 0.9, 0.1, 0, 0], [0, 0, 0, 0, 0.2])
    b = grid([0.1, 0.9, 1.0, 0, 0], [0, 0, 0, 0, 0.2])
    assert overlap(a, b).tolist() == [1 / 3]
    assert overlap(a, a).tolist() == [1.0]
    # The top 40 % are four, and all four that are positive are in both.
    assert overlap(a, b, top=0.4).tolist() == [1.0]


def test_overlap_with_few_positive_pixels_and_with_ties() -> None:
    few, other = grid([1.0, 0, 0, 0, 0], [0] * 5), grid([0, 1.0, 0, 0, 0], [0] * 5)
    assert overlap(few, other).tolist() == [0.0]  # no zeros are counted to fill up the 20 %
    ties = grid([1.0, 0.5, 0.5, 0.5, 0], [0] * 5)
    assert overlap(ties, grid([1.0, 0.5, 0, 0, 0], [0] * 5)).tolist() == [0.5]


def test_rank_correlation_by_hand() -> None:
    # Ranks 1 2 3 4 against 2 1 4 3: 1 - 6 · 4 / (4 · 15) = 0.6
    a, b = grid([0.1, 0.2], [0.3, 0.4]), grid([0.2, 0.1], [0.9, 0.8])
    np.testing.assert_allclose(rank_correlation(a, b), [0.6])
    np.testing.assert_allclose(rank_correlation(a, 1 - a), [-1.0])


def test_centre_by_hand() -> None:
    # Mass 1 at (0, 0) and 3 at (0, 4): the centre is (0, 3). The other sits at (4, 0): 5 pixels.
    a, b = np.zeros((1, 5, 5)), np.zeros((1, 5, 5))
    a[0, 0, 0], a[0, 0, 4], b[0, 4, 0] = 0.25, 0.75, 1.0
    np.testing.assert_allclose(centre_distance(a, b), [5.0])


@given(st.integers(0, 10_000))
def test_rank_correlation_is_scipys_with_ties(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = (np.maximum(rng.integers(-3, 5, (3, 4, 5)), 0) / 4 for _ in range(2))
    expected = [spearmanr(p.ravel(), q.ravel()).statistic for p, q in zip(a, b, strict=True)]
    np.testing.assert_allclose(rank_correlation(a, b), expected, atol=1e-12)


def test_a_map_against_itself_has_not_moved() -> None:
    maps = np.random.default_rng(0).random((4, 8, 8))
    still = saliency_shift(maps, maps)
    np.testing.assert_allclose(still.overlap, 1)
    np.testing.assert_allclose(still.correlation, 1)
    np.testing.assert_allclose(still.distance, 0, atol=1e-12)


def test_a_map_moved_by_pixels_is_moved_by_that_many() -> None:
    before, after = np.zeros((1, 12, 12)), np.zeros((1, 12, 12))
    before[0, 2:5, 2:5] = 1
    after[0, 5:8, 6:9] = 1
    moved = saliency_shift(before, after)
    np.testing.assert_allclose(moved.distance, [5.0])
    assert moved.overlap.tolist() == [0.0]
    assert moved.correlation[0] < 0


def test_maps_that_explain_nothing_are_left_out_not_averaged_in() -> None:
    some, none = np.random.default_rng(0).random((2, 6, 6)), np.zeros((2, 6, 6))
    mixed = np.stack([some[0], none[1]])
    shift = saliency_shift(some, mixed)
    assert shift.empty.tolist() == [False, True]
    for part in (shift.overlap, shift.correlation, shift.distance, shift.entropy, shift.gini):
        assert np.isnan(part).tolist() == [False, True]
    assert shift.to_dict() == {
        "n": 1,
        "empty": 1,
        "overlap": 1.0,
        "correlation": pytest.approx(1.0),
        "distance": pytest.approx(0.0),
        "entropy": 0.0,
        "gini": 0.0,
        "clinging": None,
        "inside": None,
    }
    assert saliency_shift(none, some).to_dict()["overlap"] is None


def test_attributions_are_taken_as_they_are() -> None:
    values = torch.rand(2, 5, 5, generator=torch.Generator().manual_seed(0))
    flags = torch.zeros(2, dtype=torch.bool)
    maps = Attribution(values, values, flags, "conv", torch.zeros(2, dtype=torch.int64))
    turned = Attribution(values.flip(2), values, flags, "conv", maps.targets)
    seen = saliency_shift(maps, turned)
    expected = saliency_shift(values.numpy(), values.flip(2).numpy())
    np.testing.assert_array_equal(seen.overlap, expected.overlap)
    columns = np.arange(5)
    centre = (values[0].double().sum(0).numpy() * columns).sum() / float(values[0].double().sum())
    assert math.isclose(seen.distance[0], abs(4 - 2 * centre), rel_tol=1e-9)


def test_maps_of_different_shape_and_a_silly_fraction_are_mistakes() -> None:
    with pytest.raises(AssayError, match="one shape"):
        saliency_shift(np.ones((1, 4, 4)), np.ones((1, 5, 5)))
    with pytest.raises(AssayError, match="fraction"):
        overlap(np.ones((1, 4, 4)), np.ones((1, 4, 4)), top=20)


def test_entropy_and_gini_by_hand() -> None:
    even, one, half = np.ones((1, 2, 4)), np.zeros((1, 2, 4)), np.zeros((1, 2, 4))
    one[0, 1, 2], half[0, 0] = 0.3, 1.0
    # An even map over 4 of 8 pixels has 2 bits of 3; sorted it is 0 0 0 0 1 1 1 1, whose Gini is
    # the sum of (2i - 9) / 8 over i = 5..8, (1 + 3 + 5 + 7) / 8 = 2, over 4.
    np.testing.assert_allclose([entropy(m)[0] for m in (even, half, one)], [1, 2 / 3, 0])
    np.testing.assert_allclose([gini(m)[0] for m in (even, half, one)], [0, 0.5, 7 / 8])


@given(st.integers(0, 10_000))
def test_gini_is_half_the_mean_difference_over_the_mean(seed: int) -> None:
    maps = np.random.default_rng(seed).random((3, 4, 5)) ** 2
    for found, values in zip(gini(maps), maps.reshape(3, -1), strict=True):
        apart = np.abs(values[:, None] - values[None, :]).mean()
        np.testing.assert_allclose(found, apart / (2 * values.mean()))


def test_energy_under_a_map_by_hand() -> None:
    maps = grid([1.0, 1.0], [0.0, 0.0])
    energy = grid([3.0, 1.0], [0.0, 0.0])  # its mean is 1; where the map looks it is 2
    np.testing.assert_allclose(energy_under(maps, energy), [2.0])
    np.testing.assert_allclose(energy_under(np.ones((1, 2, 2)), energy), [1.0])
    np.testing.assert_allclose(energy_under(maps, np.full((1, 2, 2), 7.0)), [1.0])


def test_a_map_that_goes_to_the_perturbation_clings() -> None:
    before, after = grid([1.0, 0.0], [0.0, 0.0]), grid([0.0, 0.0], [0.0, 1.0])
    changed = np.zeros((1, 3, 2, 2))
    changed[0, 1, 1, 1] = -0.1
    shift = saliency_shift(before, after, perturbation=changed)
    assert shift.clinging.tolist() == pytest.approx([4.0])  # all of it, against a quarter
    assert saliency_shift(after, before, perturbation=changed).clinging.tolist() == pytest.approx(
        [-4.0]
    )
    assert np.isnan(saliency_shift(before, after).clinging).all()


def test_the_share_inside_the_object() -> None:
    maps, masks = grid([0.5, 0.25], [0.25, 0.0]), np.array([[[True, False], [True, False]]])
    assert inside(maps, masks).tolist() == [0.75]
    assert np.isnan(inside(maps, np.zeros_like(masks))).all()
    left = saliency_shift(maps, maps[:, :, ::-1], masks=masks)
    assert left.inside.tolist() == [-0.5]


def test_what_does_not_fit_the_maps_is_refused() -> None:
    maps = np.random.default_rng(0).random((2, 4, 4))
    with pytest.raises(AssayError, match=r"perturbation of shape \(2, 3, 5, 4\) do not fit"):
        saliency_shift(maps, maps, perturbation=np.zeros((2, 3, 5, 4)))
    with pytest.raises(AssayError, match=r"perturbation of shape \(2, 4, 4\) do not fit"):
        saliency_shift(maps, maps, perturbation=np.zeros((2, 4, 4)))
    with pytest.raises(AssayError, match=r"masks of shape \(2, 1, 4, 4\)"):
        saliency_shift(maps, maps, masks=np.ones((2, 1, 4, 4), dtype=bool))
    with pytest.raises(AssayError, match="masks of shape"):
        saliency_shift(maps, maps, masks=np.zeros((1, 4, 4), dtype=bool))


def test_maps_that_are_not_finite_are_refused_by_row() -> None:
    maps = np.random.default_rng(0).random((3, 4, 4))
    bad, worse = maps.copy(), maps.copy()
    bad[2, 1, 1], worse[0, 0, 0] = np.nan, np.inf
    for before, after in ((bad, worse), (worse, bad)):
        with pytest.raises(AssayError, match=r"2 of 3 pairs of maps hold NaN.*: rows 0, 2;"):
            saliency_shift(before, after)
    with pytest.raises(AssayError, match=r"12 of 12 .* rows 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, …;"):
        saliency_shift(np.ones((12, 2, 2)), np.full((12, 2, 2), np.nan))


def test_a_mate_is_the_next_image_of_the_class() -> None:
    maps = np.ones((5, 2, 2)) * np.arange(1, 6)[:, None, None] / 5
    assert of_mates(maps, np.array([0, 1, 0, 2, 0]))[:, 0, 0].tolist() == pytest.approx(
        [0.6, 0, 1.0, 0, 0.2]
    )


def test_ends_are_ordered_and_the_hardly_moved_were_fooled() -> None:
    overlap = np.array([0.5, np.nan, 0.1, 0.9, 0.8, 0.3])
    fooled = np.array([True, True, False, False, True, True])
    most, least = most_and_least(overlap, fooled, 2)
    assert most.tolist() == [2, 5]
    assert least.tolist() == [4, 0]
