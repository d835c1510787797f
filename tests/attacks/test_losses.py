"""The losses that attackers make rise, by hand and by what they must not depend on."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from assay.attacks import PGD
from assay.attacks.losses import LOSSES, cross_entropy, dlr, dlr_targeted, margin, towards

Z = torch.tensor([[1.0, 5.0, 2.0, 4.0]])


def at(*classes: int) -> Tensor:
    return torch.tensor([classes] if len(classes) > 1 else list(classes))


def test_dlr_by_hand() -> None:
    # in order 5, 4, 2, 1: the label's lead on the best other, over 5 - 2
    assert dlr(Z, at(1)).item() == pytest.approx(-(5 - 4) / (5 - 2))
    assert dlr(Z, at(2)).item() == pytest.approx((5 - 2) / (5 - 2))


def test_targeted_dlr_by_hand() -> None:
    # the target's lead on the label, over 5 - (2 + 1) / 2
    assert dlr_targeted(Z, at(1, 0)).item() == pytest.approx(-(5 - 1) / (5 - 1.5))
    assert dlr_targeted(Z, at(2, 3)).item() == pytest.approx((4 - 2) / (5 - 1.5))


def test_with_few_classes_what_is_left_of_them_serves() -> None:
    assert dlr(Z[:, :2], at(1)).item() == pytest.approx(margin(Z[:, :2], at(1)).item()) == -4
    assert dlr_targeted(Z[:, :2], at(1, 0)).item() == -4
    assert dlr_targeted(Z[:, :3], at(1, 0)).item() == pytest.approx(-(5 - 1) / (5 - 1))


@given(scale=st.floats(0.1, 100), shift=st.floats(-50, 50), label=st.integers(0, 3))
def test_dlr_changes_neither_with_scale_nor_with_shift(
    scale: float, shift: float, label: int
) -> None:
    pair = at(label, (label + 1) % 4)
    for loss, y in ((dlr, at(label)), (dlr_targeted, pair)):
        assert loss(Z * scale + shift, y).item() == pytest.approx(loss(Z, y).item(), abs=1e-4)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("target", [0, 1, 2, 3])
def test_the_targeted_form_leads_to_the_target_whatever_its_rank(name: str, target: int) -> None:
    z = Z.clone().requires_grad_(True)
    loss = towards(LOSSES[name])
    (slope,) = torch.autograd.grad(loss(z, at(target)).sum(), z)
    others = [k for k in range(4) if k != target]
    ahead = Z + 0.1 * slope
    assert float(slope[0, target]) > 0
    assert margin(ahead, at(target)).item() < margin(Z, at(target)).item()
    assert float(slope[0, others].min()) < 0


def test_equal_logits_give_no_nan() -> None:
    z = torch.zeros(1, 5, requires_grad=True)
    (slope,) = torch.autograd.grad(dlr(z, at(1)).sum(), z)
    assert bool(slope.isfinite().all())


def test_ce_is_understood() -> None:
    assert PGD.parse({"loss": "ce"}) == PGD(loss="cross_entropy")
    assert PGD.parse({"loss": "ce"}).objective(False) is cross_entropy
