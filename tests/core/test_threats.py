"""Norm balls: every property that an attack relies on, for every norm, and numbers by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from assay.core.random import Stream
from assay.core.threats import Norm, NormBall
from assay.errors import AssayError

NORMS = ("linf", "l2", "l1", "l0")


def ball_of(norm: str, radius: float) -> NormBall:
    """A ball of a size that suits the norm, from a radius in [0, 1]."""
    scale = {"linf": 1.0, "l2": 4.0, "l1": 20.0}.get(norm)
    eps = round(radius * 12) if scale is None else radius * scale
    return NormBall(norm=norm, eps=eps)


@st.composite
def situations(draw: st.DrawFn) -> tuple[NormBall, Tensor, Tensor]:
    """A ball, images, and where an attacker might have gone: near, far, outside [0, 1]."""
    ball = ball_of(draw(st.sampled_from(NORMS)), draw(st.floats(0, 1)))
    n, c, h, w = (draw(st.integers(1, top)) for top in (3, 3, 5, 5))
    rng = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    x = torch.rand(n, c, h, w, generator=rng)
    if draw(st.booleans()):
        x = x.round()  # corners of [0, 1]
    move = torch.randn(n, c, h, w, generator=rng) * draw(st.sampled_from([1e-8, 1e-3, 0.1, 3.0]))
    if draw(st.booleans()):
        move = move * (torch.rand(n, c, h, w, generator=rng) < 0.2)
    return ball, x, x + move


@given(situations())
def test_projection_ends_inside(situation: tuple[NormBall, Tensor, Tensor]) -> None:
    ball, x, adv = situation
    end = ball.project(x, adv)
    assert bool(ball.contains(x, end).all())
    assert bool((ball.distance(x, end) <= ball.eps + 1e-5).all())
    assert float(end.min()) >= 0
    assert float(end.max()) <= 1


@given(situations())
def test_projection_is_idempotent(situation: tuple[NormBall, Tensor, Tensor]) -> None:
    ball, x, adv = situation
    end = ball.project(x, adv)
    assert torch.allclose(ball.project(x, end), end, atol=2e-6)


@given(situations())
def test_projection_leaves_what_is_inside_alone(
    situation: tuple[NormBall, Tensor, Tensor],
) -> None:
    ball, x, adv = situation
    adv = adv.clamp(0, 1)
    inside = ball.distance(x, adv) <= ball.eps
    assert torch.allclose(ball.project(x, adv)[inside], adv[inside], atol=1e-6)


@given(situations(), st.integers(0, 1000))
def test_random_start_is_inside(situation: tuple[NormBall, Tensor, Tensor], seed: int) -> None:
    ball, x, _ = situation
    start = ball.random_start(x, Stream(seed).rows(torch.arange(len(x))))
    assert bool(ball.contains(x, start).all())


@given(situations())
def test_rows_do_not_depend_on_each_other(situation: tuple[NormBall, Tensor, Tensor]) -> None:
    ball, x, adv = situation
    whole = ball.project(x, adv), ball.distance(x, adv), ball.steepest(adv - x)
    for i in range(len(x)):
        one, other = x[i : i + 1], adv[i : i + 1]
        alone = ball.project(one, other), ball.distance(one, other), ball.steepest(other - one)
        assert all(torch.allclose(a[i], b[0], atol=1e-6) for a, b in zip(whole, alone, strict=True))


@given(situations())
def test_contains_is_the_distance_and_the_range(situation: tuple[NormBall, Tensor, Tensor]) -> None:
    ball, x, adv = situation
    near = ball.distance(x, adv) <= ball.eps * (1 - 1e-4) - 1e-4
    far = ball.distance(x, adv) > ball.eps * (1 + 1e-4) + 1e-4
    valid = (adv.flatten(1).amin(1) >= 0) & (adv.flatten(1).amax(1) <= 1)
    beyond = (adv.flatten(1).amin(1) < -1e-5) | (adv.flatten(1).amax(1) > 1 + 1e-5)
    inside = ball.contains(x, adv)
    assert bool(inside[near & valid].all())
    assert not bool(inside[far | beyond].any())


# -- projections against what they should be ---------------------------------------------------


def images(n: int = 6, shape: tuple[int, ...] = (3, 4, 4), seed: int = 0) -> Tensor:
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(seed))


def moves(n: int = 6, shape: tuple[int, ...] = (3, 4, 4), seed: int = 1) -> Tensor:
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed))


def test_linf_projection_is_the_nearest_point_of_a_box() -> None:
    x, adv = images(), images() + moves()
    low, high = (x - 0.1).clamp(min=0), (x + 0.1).clamp(max=1)
    end = NormBall(norm="linf", eps=0.1).project(x, adv)
    assert torch.allclose(end, torch.maximum(torch.minimum(adv, high), low), atol=1e-7)


def test_l2_projection_is_the_closed_form() -> None:
    x = torch.full((6, 3, 4, 4), 0.5)
    end = NormBall(norm="l2", eps=0.4).project(x, x + moves())
    length = moves().flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    assert torch.allclose(end, x + 0.4 * moves() / length, atol=1e-6)


@pytest.mark.parametrize("eps", [0.0, 0.3, 1.0, 2.5])
def test_l1_projection_is_the_nearest_point_of_the_ball(eps: float) -> None:
    x = torch.full((6, 1, 2, 3), 0.5)
    move = moves(6, (1, 2, 3)) * 0.15 * torch.tensor([1, 2, 0.3, 1, 0.0, 1]).view(-1, 1, 1, 1)
    end = NormBall(norm="l1", eps=eps).project(x, x + move) - x
    for seen, wanted in zip(end.flatten(1).numpy(), move.flatten(1).double().numpy(), strict=True):
        # split into positive and negative parts, so that the L1 ball is a smooth constraint
        size = len(wanted)
        found = optimize.minimize(
            lambda z, wanted=wanted, size=size: ((z[:size] - z[size:] - wanted) ** 2).sum(),
            np.zeros(2 * size),
            bounds=[(0, 1)] * (2 * size),
            constraints={"type": "ineq", "fun": lambda z: eps - z.sum()},
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 500},
        )
        nearest = found.x[:size] - found.x[size:]
        assert seen == pytest.approx(nearest, abs=1e-5)


def test_l0_projection_keeps_the_pixels_that_moved_furthest() -> None:
    x = torch.full((1, 2, 1, 4), 0.5)
    move = torch.tensor([[[[0.1, 0.0, 0.3, -0.2]], [[0.1, 0.25, 0.0, 0.2]]]])
    end = NormBall(norm="l0", eps=2).project(x, x + move) - x
    # over channels: 0.141, 0.25, 0.3, 0.283
    expected = torch.tensor([[[[0.0, 0.0, 0.3, -0.2]], [[0.0, 0.0, 0.0, 0.2]]]])
    assert torch.allclose(end, expected, atol=1e-7)


def test_dense_l1_projections_of_real_size_count_as_inside() -> None:
    x = images(64, (3, 32, 32))
    for eps in (0.5, 1.0, 12.0):
        ball = NormBall(norm="l1", eps=eps)
        assert bool(ball.contains(x, ball.project(x, x + 0.001 * moves(64, (3, 32, 32)))).all())


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_projections_of_images_of_photographs_size_count_as_inside(norm: str) -> None:
    x, move = images(4, (3, 224, 224)), moves(4, (3, 224, 224))
    for eps in (0.5, 5.0, 50.0):
        ball = NormBall(norm=norm, eps=eps)
        assert bool(ball.contains(x, ball.project(x, x + 0.01 * move)).all())


def test_contains_is_not_generous() -> None:
    x = torch.full((1, 3, 32, 32), 0.5)
    for norm, eps in (("linf", 8 / 255), ("l2", 0.5), ("l1", 12.0)):
        ball = NormBall(norm=norm, eps=eps)
        for factor, inside in ((0.999, True), (1.001, False)):
            adv = x + factor * eps * ball.steepest(torch.ones_like(x))  # L1: one pixel beyond 1
            if norm == "l1":
                adv = x + factor * eps / x.numel()
            assert ball.contains(x, adv).item() is inside, (norm, factor)
    three = x.clone()
    three[0, 1, 0, :3] += 0.1
    assert ball_contains("l0", 3, x, three)
    assert not ball_contains("l0", 2, x, three)


def ball_contains(norm: str, eps: float, x: Tensor, adv: Tensor) -> bool:
    return bool(NormBall(norm=norm, eps=eps).contains(x, adv).item())


def test_nothing_that_is_not_a_number_is_inside() -> None:
    x = images()
    for norm in NORMS:
        adv = x.clone()
        adv[0, 0, 0, 0] = torch.nan
        adv[1, 0, 0, 0] = torch.inf
        assert ball_of(norm, 1).contains(x, adv).tolist() == [False, False, True, True, True, True]


# -- distances and steps by hand ----------------------------------------------------------------


def test_distances_by_hand() -> None:
    x = torch.zeros(1, 2, 2, 2)
    adv = torch.tensor([[[[0.3, 0.0], [0.0, 0.1]], [[0.4, 0.0], [0.0, 0.0]]]])
    expected = {"linf": 0.4, "l2": math.sqrt(0.26), "l1": 0.8, "l0": 2.0}
    for norm, distance in expected.items():
        seen = NormBall(norm=norm, eps=1).distance(x, adv)
        assert seen.dtype == torch.float32
        assert seen.tolist() == pytest.approx([distance])


def test_distances_of_many_small_moves_are_accurate() -> None:
    x, adv = torch.zeros(1, 3, 224, 224), torch.full((1, 3, 224, 224), 1e-3)
    assert NormBall(norm="l2", eps=1).distance(x, adv).item() == pytest.approx(
        1e-3 * math.sqrt(150_528), rel=1e-7
    )
    assert NormBall(norm="l1", eps=1).distance(x, adv).item() == pytest.approx(150.528, rel=1e-7)


def test_steps_by_hand() -> None:
    slope = torch.tensor([[[[3.0, -1.0]], [[-4.0, 0.0]]]])
    expected = {
        "linf": [1, -1, -1, 0],
        "l2": [3 / math.sqrt(26), -1 / math.sqrt(26), -4 / math.sqrt(26), 0],
        "l1": [0, 0, -1, 0],
        "l0": [1, 0, -1, 0],
    }
    for norm, step in expected.items():
        seen = NormBall(norm=norm, eps=1).steepest(slope).flatten().tolist()
        assert seen == pytest.approx(step), norm


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("scale", [1e-30, 1e-13, 1.0, 1e30])
def test_no_step_of_length_one_rises_more(norm: str, scale: float) -> None:
    ball = NormBall(norm=norm, eps=1)
    slope = moves() * scale
    step = ball.steepest(slope)
    assert ball.distance(torch.zeros_like(step), step).tolist() == pytest.approx([1.0] * 6)
    dual = {"linf": 1, "l2": 2, "l1": math.inf}[norm]
    unit = (slope / scale).flatten(1)
    rise = (unit * step.flatten(1)).sum(1)
    assert torch.allclose(rise, torch.linalg.vector_norm(unit, dual, dim=1), rtol=1e-5)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_one_pixel_is_the_one_whose_signs_rise_most(scale: float) -> None:
    slope = torch.zeros(1, 3, 1, 3)
    slope[0, :, 0, 1] = torch.tensor([1.0, 0.0, 0.0])  # longer in L2, but rises by 1
    slope[0, :, 0, 2] = torch.tensor([0.5, -0.5, 0.5])  # rises by 1.5
    step = NormBall(norm="l0", eps=1).steepest(slope * scale)
    assert step[0, :, 0, :2].abs().sum() == 0
    assert step[0, :, 0, 2].tolist() == [1, -1, 1]


class NoFloat64(TorchDispatchMode):
    """Refuses what MPS refuses: a float64 tensor on the device."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        if isinstance(made, Tensor) and made.device.type == "mps":
            assert made.dtype != torch.float64, f"{func} makes float64 on MPS"
        return made


@pytest.mark.parametrize("norm", NORMS)
def test_mps_is_never_given_float64(norm: str) -> None:
    ball = NormBall(norm=norm, eps=1)
    with FakeTensorMode(), NoFloat64():
        x = torch.rand(2, 3, 4, 4, device="mps")
        near = ball.project(x, x + 0.5)
        made = near, ball.contains(x, near), ball.distance(x, near), ball.steepest(near)
        assert {tensor.device.type for tensor in made} == {"mps"}


@pytest.mark.parametrize("norm", NORMS)
def test_no_gradient_is_no_step(norm: str) -> None:
    step = NormBall(norm=norm, eps=1).steepest(torch.zeros(2, 3, 4, 4))
    assert torch.equal(step, torch.zeros(2, 3, 4, 4))


# -- random starts ------------------------------------------------------------------------------


def starts(norm: str, eps: float, shape: tuple[int, ...] = (1, 1, 3), n: int = 20_000) -> Tensor:
    """Moves from the centre of [0, 1]: nothing is clipped while eps <= 0.5."""
    x = torch.full((n, *shape), 0.5)
    ball = NormBall(norm=norm, eps=eps)
    return (ball.random_start(x, Stream(1).rows(torch.arange(n))) - x).flatten(1)


def test_linf_starts_are_uniform_in_the_box() -> None:
    move = starts("linf", 0.3)
    for coordinate in move.T.numpy():
        assert stats.kstest(coordinate, stats.uniform(-0.3, 0.6).cdf).pvalue > 1e-4


def test_l2_starts_are_uniform_in_the_ball() -> None:
    move = starts("l2", 0.4)
    radius = move.norm(dim=1).numpy() / 0.4
    assert stats.kstest(radius**3, "uniform").pvalue > 1e-4
    # In three dimensions each coordinate of a uniform direction is uniform (Archimedes).
    direction = (move / move.norm(dim=1, keepdim=True)).numpy()
    for coordinate in direction.T:
        assert stats.kstest(coordinate, stats.uniform(-1, 2).cdf).pvalue > 1e-4


def test_l1_starts_are_uniform_in_the_ball() -> None:
    move = starts("l1", 0.4)
    size = move.abs().sum(1).numpy() / 0.4
    assert stats.kstest(size**3, "uniform").pvalue > 1e-4
    # A coordinate of the uniform L1 ball in n dimensions has |z| ~ Beta(1, n), any sign.
    for coordinate in move.T.numpy() / 0.4:
        assert stats.kstest(np.abs(coordinate), stats.beta(1, 3).cdf).pvalue > 1e-4
        assert stats.binomtest(int((coordinate > 0).sum()), len(coordinate)).pvalue > 1e-4
    # ... and the signs are independent: all eight octants are equally full
    octant = (move > 0).long() @ torch.tensor([4, 2, 1])
    assert stats.chisquare(octant.bincount(minlength=8).numpy()).pvalue > 1e-4


def test_l0_starts_redraw_so_many_pixels_anywhere() -> None:
    x = torch.full((5000, 2, 3, 3), 0.5)
    start = NormBall(norm="l0", eps=4).random_start(x, Stream(1).rows(torch.arange(5000)))
    changed = (start != x).any(1).flatten(1)
    assert changed.sum(1).tolist() == [4] * 5000
    assert stats.chisquare(changed.sum(0).numpy()).pvalue > 1e-4
    assert stats.kstest(start[start != x].numpy(), "uniform").pvalue > 1e-4


@pytest.mark.parametrize("norm", NORMS)
def test_a_start_depends_on_the_images_index_alone(norm: str) -> None:
    x, ball = images(8), ball_of(norm, 0.5)
    whole = ball.random_start(x, Stream(2).rows(torch.arange(8)))
    some = torch.tensor([6, 1])
    assert torch.equal(ball.random_start(x[some], Stream(2).rows(some)), whole[some])


# -- configs ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"eps": -0.1}, "cannot be negative"),
        ({"eps": 8}, "write 8/255"),
        ({"norm": "l0", "eps": 8 / 255}, "whole number"),
        ({"norm": "l3", "eps": 1}, "seen 'l3'"),
        ({"eps": "eight"}, "seen 'eight'"),
        ({"eps": math.nan}, "finite"),
    ],
)
def test_radii_that_make_no_sense_are_refused(settings_: dict[str, object], message: str) -> None:
    with pytest.raises(AssayError, match=message):
        NormBall(**settings_)


def test_a_ball_of_radius_zero_is_the_image_itself() -> None:
    x = images()
    for norm in NORMS:
        ball = NormBall(norm=norm, eps=0)
        assert torch.equal(ball.project(x, x + moves()), x)
        assert torch.equal(ball.random_start(x, Stream(0).rows(torch.arange(6))), x)


def test_more_pixels_than_there_are_is_all_of_them() -> None:
    x = images()
    ball = NormBall(norm="l0", eps=1000)
    adv = (x + moves()).clamp(0, 1)
    assert torch.allclose(ball.project(x, adv), adv, atol=1e-6)
    assert bool((ball.random_start(x, Stream(0).rows(torch.arange(6))) != x).all())


@pytest.mark.parametrize("norm", ["linf", "l2", "l1", "l0"])
def test_without_a_limit_all_of_the_box_is_inside(norm: Norm) -> None:
    ball = NormBall(norm=norm, eps=None)
    x, far = torch.zeros(2, 3, 4, 4), torch.ones(2, 3, 4, 4)
    assert not ball.limited
    assert bool(ball.contains(x, far).all())
    assert not bool(ball.contains(x, far * 1.01).any())
    assert torch.equal(ball.project(x, far * 2), far)
    assert float(ball.random_start(x, Stream(0).rows(range(2))).amax()) > 0.8
    assert NormBall.from_yaml(ball.to_yaml()) == ball
    assert ball.model_dump(mode="json") == {"norm": norm, "eps": None}
