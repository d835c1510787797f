"""The pointing game, by hand and against chance."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from assay.core.attribution import Attribution
from assay.errors import AssayError
from assay.explain import pointing_game
from assay.explain.pointing import boxes


def peak(row: int, column: int, size: int = 8) -> np.ndarray:
    """A map of small values whose largest is at one place."""
    values = np.full((size, size), 0.1)
    values[row, column] = 1
    return values


def square(size: int = 8) -> np.ndarray:
    """An object of 2 by 3 pixels: rows 2 and 3, columns 4 to 6."""
    mask = np.zeros((size, size), dtype=bool)
    mask[2:4, 4:7] = True
    return mask


def test_hits_by_hand() -> None:
    maps = np.stack([peak(2, 4), peak(3, 6), peak(1, 4), peak(4, 7), np.zeros((8, 8))])
    masks = np.stack([square()] * 5)
    game = pointing_game(maps, masks, tolerance=0)
    assert game.hit.tolist() == [True, True, False, False, False]
    assert game.chance == 6 / 64
    assert (game.empty, game.tolerance) == (1, 0)
    assert (game.rate.value, game.rate.n) == (0.4, 5), "an empty map is a miss"
    # Wilson's interval of 2 in 5, by hand: (0.4 + z²/10 ± z √(0.4 · 0.6 / 5 + z²/100)) / (1 + z²/5)
    assert (game.rate.low, game.rate.high) == pytest.approx((0.1176, 0.7693), abs=1e-4)
    near = pointing_game(maps, masks, tolerance=1)
    assert near.hit.tolist() == [True, True, True, True, False], "corners are beside the object"
    assert near.chance == 20 / 64


def test_an_empty_map_does_not_point_at_its_first_pixel() -> None:
    mask = np.zeros((1, 4, 4), dtype=bool)
    mask[0, 0, 0] = True
    assert pointing_game(np.zeros((1, 4, 4)), mask).hit.tolist() == [False]
    assert pointing_game(np.ones((1, 4, 4)), mask).hit.tolist() == [True], "of several, the first"


def test_the_papers_tolerance_is_by_the_side_of_the_image() -> None:
    for size, reach in ((8, 0), (32, 1), (224, 7), (500, 15)):
        assert pointing_game(peak(0, 0, size)[None], square(size)[None]).tolerance == reach


def test_an_attribution_is_taken_as_it_is() -> None:
    values = torch.from_numpy(peak(2, 5)).float()[None]
    maps = Attribution(values, values, torch.tensor([False]), "", torch.tensor([0]))
    assert pointing_game(maps, square()[None]).to_dict() == {
        "rate": pointing_game(values.numpy(), square()[None]).rate.to_dict(),
        "chance": 6 / 64,
        "tolerance": 0,
        "empty": 0,
    }


def test_a_random_map_scores_what_chance_gives() -> None:
    draw = np.random.default_rng(0)
    masks = draw.random((3000, 6, 6)) < 0.3
    masks[:, 0, 0] = True
    game = pointing_game(draw.random((3000, 6, 6)), masks)
    assert game.rate.low < game.chance < game.rate.high
    assert 0.28 < game.chance < 0.36


def test_boxes_reach_from_the_first_to_the_last_pixel() -> None:
    mask = np.zeros((2, 5, 6), dtype=bool)
    mask[0, 1, 4] = mask[0, 3, 2] = True
    mask[1, 0, 0] = True
    expected = np.zeros((2, 5, 6), dtype=bool)
    expected[0, 1:4, 2:5] = True
    expected[1, 0, 0] = True
    assert np.array_equal(boxes(mask), expected)


def test_mistakes() -> None:
    with pytest.raises(AssayError, match=r"one shape, got \(1, 8, 8\) and \(1, 9, 9\)"):
        pointing_game(peak(0, 0)[None], square(9)[None])
    with pytest.raises(AssayError, match="1 of 2 masks are empty"):
        pointing_game(np.stack([peak(0, 0)] * 2), np.stack([square(), np.zeros((8, 8), bool)]))
