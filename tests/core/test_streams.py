"""Random streams: what a row draws depends on its stream and its index, and on nothing else."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from assay.core.random import Rows, Stream
from assay.errors import AssayError

N = 20_000
P = 1e-4
"""Level of every statistical test: the streams are fixed, so a test that passes always passes."""

PINNED_ROOT = 1999793380834467432
PINNED_CHILD = 3910566477143100806
PINNED_INTEGERS = [[927, 959, 464, 101], [670, 294, 29, 74], [34, 39, 536, 734]]
PINNED_UNIFORM = [
    [0.8970349431037903, 0.5598655939102173],
    [0.5246756076812744, 0.8657798171043396],
    [0.7144152522087097, 0.10643112659454346],
]
PINNED_NORMAL = [
    [-0.0908436, 0.72502, 0.6501409],
    [1.9707797, -0.0293011, 0.4457968],
    [-0.2363887, -0.7006274, -0.4576002],
]
PINNED_REPEAT = [171, 295, 643, 304, 515, 345]


def rows(n: int = N, *names: str | int, seed: int = 0) -> Rows:
    return Stream(seed).child(*names).rows(torch.arange(n))


# -- pinned: these never change without a bump of every version that draws ---------------------


def test_pinned_seeds() -> None:
    assert Stream(0).integer() == PINNED_ROOT
    assert Stream(7).child("train", 3).integer() == PINNED_CHILD


def test_pinned_draws() -> None:
    drawn = Stream(42).child("pinned").rows([0, 1, 1_000_000])
    assert drawn.integers(1000, (4,)).tolist() == PINNED_INTEGERS
    assert drawn.uniform((2,)).tolist() == PINNED_UNIFORM
    assert drawn.normal((3,)).numpy() == pytest.approx(np.array(PINNED_NORMAL), abs=1e-6)
    assert drawn.repeat(2).integers(1000).tolist() == PINNED_REPEAT


def splitmix64(state: int, n: int) -> list[int]:
    """The first `n` outputs after `state`: the algorithm in Python integers."""
    mask, out = (1 << 64) - 1, []
    for _ in range(n):
        state = (state + 0x9E3779B97F4A7C15) & mask
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        out.append(z ^ (z >> 31))
    return out


def test_bits_are_those_of_splitmix64() -> None:
    # The first outputs from state 1234567, as Vigna's reference program prints them.
    reference = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert splitmix64(1234567, 3) == reference
    for state in (1234567, 0, (1 << 63) - 1):
        none = torch.zeros(1, dtype=torch.int64)
        drawn = Rows(torch.tensor([state]), none, none)
        seen = [value % (1 << 64) for value in drawn._bits(3)[0].tolist()]
        assert seen == splitmix64(state, 3)


def test_another_process_draws_the_same() -> None:
    code = (
        "import torch; from assay.core.random import Stream;"
        "r = Stream(5).child('a', 2).rows(torch.arange(4));"
        "print(r.integers(10**9).tolist(), Stream(5).numpy().integers(10**9))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "123"}
    seen = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    ).stdout
    here = Stream(5).child("a", 2).rows(torch.arange(4)).integers(10**9).tolist()
    assert seen.split("] ")[0] + "]" == str(here)
    assert int(seen.split("] ")[1]) == Stream(5).numpy().integers(10**9)


# -- independence of the batch ----------------------------------------------------------------


def every_kind(drawn: Rows) -> Tensor:
    return torch.cat(
        [
            drawn.uniform((3,)),
            drawn.normal((5,)),
            drawn.integers(100, (2,)).float(),
            drawn.uniform()[:, None],
        ],
        dim=1,
    )


def test_draws_do_not_depend_on_order_or_batch() -> None:
    whole = every_kind(rows(50))
    shuffled = torch.randperm(50, generator=torch.Generator().manual_seed(1))
    assert torch.equal(every_kind(Stream(0).rows(shuffled)), whole[shuffled])
    for size in (1, 7, 50):
        parts = [every_kind(Stream(0).rows(ids)) for ids in torch.arange(50).split(size)]
        assert torch.equal(torch.cat(parts), whole)


def test_rows_that_stay_go_on_where_they_were() -> None:
    alone, among = rows(10), rows(10)
    first = alone.uniform((4,))
    assert torch.equal(among.uniform((4,)), first)
    stays = torch.tensor([1, 4, 9])
    kept, masked = among[stays], among[torch.isin(torch.arange(10), stays)]
    expected = alone.normal((3,))[stays]
    assert torch.equal(kept.normal((3,)), expected)
    assert torch.equal(masked.normal((3,)), expected)
    assert torch.equal(among.uniform(), rows(10).uniform((5,))[:, 4]), "a part drew for the whole"


def test_how_many_are_asked_for_at_once_does_not_matter() -> None:
    one, other = rows(20), rows(20)
    whole = one.uniform((6,))
    parts = torch.cat([other.uniform((2,)), other.uniform((1, 3)).flatten(1)], dim=1)
    assert torch.equal(torch.cat([parts, other.uniform()[:, None]], 1), whole)


def test_repeats_are_grouped_by_row_and_independent_of_their_number() -> None:
    three = rows(6).repeat(3).uniform((2,)).view(6, 3, 2)
    five = rows(6).repeat(5).uniform((2,)).view(6, 5, 2)
    assert torch.equal(three, five[:, :3])
    drawn = rows(6)
    first, second = drawn.repeat(2).uniform(), drawn.repeat(2).uniform()
    everything = torch.cat([first, second, drawn.uniform(), rows(6).uniform()])
    assert len(everything.unique()) == len(everything)


def test_rows_know_which_of_their_data_set_they_are() -> None:
    rows = Stream(0).rows([7, 3, 9])
    kept = rows[torch.tensor([True, False, True])]
    assert (rows.ids.tolist(), kept.ids.tolist()) == ([7, 3, 9], [7, 9])
    assert kept.repeat(2).to("cpu").ids.tolist() == [7, 7, 9, 9]


def test_numpys_integers_draw_what_pythons_do() -> None:
    assert Stream(np.int64(3)).child(np.int64(4)).integer() == Stream(3).child(4).integer()
    assert Stream(0).child(str(np.str_("a"))).integer() == Stream(0).child(np.str_("a")).integer()
    for seed in (1.5, "a", None):
        with pytest.raises(AssayError, match=f"a seed is a whole number, not {seed!r}"):
            Stream(seed).child("attack").integer()  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Stream(0).child(0.5).integer()  # type: ignore[arg-type]


def test_different_names_are_different_streams() -> None:
    streams = [
        Stream(0),
        Stream(1),
        Stream(-1),
        Stream(0).child("1"),
        Stream(0).child(1),
        Stream(0).child("a", "b"),
        Stream(0).child("ab"),
        Stream(0).child("a", "b", 0),
        Stream(0).child("a, b"),
        Stream(0).child(0),
        Stream(0).child(0, 0),
    ]
    assert len({stream.integer() for stream in streams}) == len(streams)
    assert Stream(0).child("a").child("b") == Stream(0).child("a", "b")
    assert all(0 <= stream.integer() < 1 << 63 for stream in streams)


def test_generators_start_over_and_leave_the_ambient_ones_alone() -> None:
    state, legacy = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    stream = Stream(9).child("x")
    assert torch.equal(
        torch.rand(3, generator=stream.torch()), torch.rand(3, generator=stream.torch())
    )
    assert stream.numpy().random() == stream.numpy().random()
    every_kind(stream.rows([1, 2]))
    with stream.seeding():
        inside = torch.rand(3)
    with stream.seeding():
        assert torch.equal(torch.rand(3), inside)
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(np.random.get_state()[1], legacy)  # noqa: NPY002


# -- distributions ----------------------------------------------------------------------------


@pytest.mark.parametrize("names", [(), ("attack", 1)])
def test_uniform_is_uniform_over_rows_and_within_a_row(names: tuple[str | int, ...]) -> None:
    over_rows = rows(N, *names).uniform().numpy()
    within = rows(1, *names).uniform((N,))[0].numpy()
    for values in (over_rows, within):
        assert stats.kstest(values, "uniform").pvalue > P
    last_bits = (over_rows * 2**24).astype(np.int64) % 16
    assert stats.chisquare(np.bincount(last_bits, minlength=16)).pvalue > P


def test_uniform_stays_in_its_interval() -> None:
    values = rows(2000).uniform((1000,))
    assert float(values.min()) >= 0
    assert float(values.max()) < 1
    values = rows(2000).uniform((1000,), -0.25, 0.5)
    assert float(values.min()) >= -0.25
    assert float(values.max()) <= 0.5
    assert stats.kstest(values[:, 0].numpy(), stats.uniform(-0.25, 0.75).cdf).pvalue > P


def test_normal_is_standard_normal() -> None:
    assert stats.kstest(rows().normal().numpy(), "norm").pvalue > P
    values = rows(200).normal((500,)).numpy()
    assert stats.kstest(values.ravel(), "norm").pvalue > P
    flat = values.ravel()
    assert abs(stats.kurtosis(flat)) < 4 * np.sqrt(24 / flat.size)
    halves = np.corrcoef(values[:, :250].ravel(), values[:, 250:].ravel())[0, 1]
    assert abs(halves) < 4 / np.sqrt(50_000), "the two halves of Box and Muller are independent"
    squares = np.corrcoef(values[:, :250].ravel() ** 2, values[:, 250:].ravel() ** 2)[0, 1]
    assert abs(squares) < 4 / np.sqrt(50_000)


@pytest.mark.parametrize("high", [2, 7, 1000])
def test_integers_are_uniform(high: int) -> None:
    counts = np.bincount(rows(500).integers(high, (200,)).flatten().numpy(), minlength=high)
    assert len(counts) == high
    assert stats.chisquare(counts).pvalue > P


def test_large_integers_reach_both_ends() -> None:
    high = 2**31 - 1
    values = rows().integers(high).double() / high
    assert stats.kstest(values.numpy(), "uniform").pvalue > P


def correlation(a: Tensor, b: Tensor) -> float:
    return abs(float(np.corrcoef(a.double().numpy().ravel(), b.double().numpy().ravel())[0, 1]))


def test_rows_streams_seeds_and_repeats_are_uncorrelated() -> None:
    base = rows(2000).uniform((50,))
    bound = 4.5 / np.sqrt(base.numel())
    others = {
        "next row": rows(2001).uniform((50,))[1:],
        "next draw": rows(2000).uniform((51,))[:, 1:],
        "next seed": rows(2000, seed=1).uniform((50,)),
        "child": rows(2000, "x").uniform((50,)),
        "next restart": rows(2000, 1).uniform((50,)),
        "repeat": rows(2000).repeat(2)[torch.arange(0, 4000, 2)].uniform((50,)),
        "reversed": base.flip(0),
    }
    for name, other in others.items():
        assert correlation(base, other) < bound, name
    pairs = rows(2000).repeat(2).uniform((50,)).view(2000, 2, 50)
    assert correlation(pairs[:, 0], pairs[:, 1]) < bound


def test_neighbouring_rows_fill_the_square_evenly() -> None:
    values = (rows(N).uniform((2,)) * 8).long()
    within = values[:, 0] * 8 + values[:, 1]
    across = values[:-1, 0] * 8 + values[1:, 0]
    for cells in (within, across):
        assert stats.chisquare(np.bincount(cells.numpy(), minlength=64)).pvalue > P


def test_no_two_numbers_of_two_million_collide_more_than_chance() -> None:
    bits = rows(2000)._bits(1000)
    assert len(bits.flatten().unique()) == bits.numel()


@pytest.mark.cuda
def test_cuda_draws_the_same() -> None:
    here, there = rows(1000), rows(1000).to("cuda")
    assert torch.equal(here.uniform((20,), -0.1, 0.3), there.uniform((20,), -0.1, 0.3).cpu())
    assert torch.equal(here.integers(77, (20,)), there.integers(77, (20,)).cpu())
    assert torch.allclose(here.normal((21,)), there.normal((21,)).cpu(), atol=1e-5)
    assert torch.equal(here.repeat(3)._bits(2), there.repeat(3)._bits(2).cpu())


def test_seeding_on_mps_seeds_its_generator_and_puts_it_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = {"state": torch.tensor([5])}
    monkeypatch.setattr(torch.mps, "get_rng_state", lambda: held["state"])
    monkeypatch.setattr(torch.mps, "set_rng_state", lambda state: held.update(state=state))
    monkeypatch.setattr(torch.mps, "manual_seed", lambda n: held.update(state=torch.tensor([n])))
    stream = Stream(3).child("dropout", 1)
    with stream.seeding("mps"):
        assert int(held["state"]) == stream.integer()
    assert int(held["state"]) == 5


def test_coarse_draws_are_uniform_and_independent() -> None:
    drawn = rows(5).coarse((3, 4000)).flatten(1)
    assert drawn.min() >= 0
    assert drawn.max() < 1
    for row in drawn:
        counts = torch.histc(row, 100, 0, 1)
        assert stats.chisquare(counts.numpy()).pvalue > P
    for lag in (1, 2, 3, 4):  # four come of the same 64 bits
        seen = stats.pearsonr(drawn[:, :-lag].flatten(), drawn[:, lag:].flatten())
        assert seen.pvalue > P


def test_chances_are_those_asked_for_and_do_not_depend_on_the_batch() -> None:
    asked = torch.tensor([[0.0, 0.25], [1.0, 0.9], [0.5, 2**-16]])
    drawn = rows(3).chance(asked, 40_001)
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    assert torch.allclose(drawn.mean(2), asked, atol=0.01)
    assert float(drawn[0, 0].sum()) == 0
    assert float(drawn[1, 0].mean()) == 1
    alone = rows(3)[torch.tensor([1])].chance(asked[1:2], 40_001)
    assert torch.equal(alone, drawn[1:2])
    left, right = drawn[2, 0, :-1], drawn[2, 0, 1:]
    assert float((left * right).mean()) == pytest.approx(0.25, abs=0.01)


def test_coarse_draws_do_not_depend_on_the_batch() -> None:
    whole, part = rows(8), rows(8)[torch.tensor([5, 2])]
    assert torch.equal(whole.coarse((7,))[[5, 2]], part.coarse((7,)))
    assert torch.equal(whole.coarse((7,))[[5, 2]], part.coarse((7,)))
