"""Fits that cannot be, or that come with a caveat; never a NaN without a word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.covariance import LedoitWolf
from torch import nn

from assay.core.classifier import Classifier
from assay.core.embedding import Embedding
from assay.core.head import Head
from assay.errors import AssayError
from assay.ood import (
    ASH,
    FDBD,
    KNN,
    SCALE,
    Detector,
    Energy,
    GradNorm,
    Mahalanobis,
    MahalanobisPlusPlus,
    NNGuide,
    ReAct,
    RelativeMahalanobis,
    ViM,
    detectors,
)

BY_VALUES = [
    kind() for kind in detectors().values() if kind().reads() <= {"logits", "features", "head"}
]
"""Those that need neither images nor a model."""
ids = [detector.name for detector in BY_VALUES]
GAUSSIANS: Sequence[Detector] = (Mahalanobis(), MahalanobisPlusPlus(), RelativeMahalanobis())


def made(n: int, width: int, seed: int = 0, classes: int = 3, shift: float = 0.0) -> Embedding:
    """Features that are not negative, each class with a unit of its own, and a head."""
    draw = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % classes
    h = torch.randn(n, width, generator=draw).abs() * 0.3 + shift
    h[torch.arange(n), y % width] += 1.0
    own = torch.Generator().manual_seed(99)
    head = Head(torch.randn(classes, width, generator=own), torch.randn(classes, generator=own))
    return Embedding(head(h), h, head=head, y=y)


@pytest.mark.parametrize("detector", GAUSSIANS, ids=lambda one: one.name)
def test_fewer_rows_than_features_are_shrunk_and_said(detector: Detector) -> None:
    fitted = detector.fit(made(60, 100))
    assert fitted.notes[0].startswith("the covariance of 60 rows with 100 features is singular")
    far = made(60, 100, seed=2)
    assert far.features is not None
    far = replace(far, features=torch.rand(60, 100, generator=torch.Generator().manual_seed(3)))
    inside, outside = fitted.score(made(60, 100, seed=1)), fitted.score(far)
    assert bool(torch.cat([inside, outside]).isfinite().all())
    above = float((outside[:, None] > inside).double().mean())
    assert above > (0.5 if isinstance(detector, MahalanobisPlusPlus) else 0.9)


def test_it_is_shrunk_as_scikit_learn_does() -> None:
    e = made(60, 100)
    assert e.features is not None
    assert e.y is not None
    fitted = Mahalanobis().fit(e)
    means = torch.stack([e.features[e.y == k].mean(0) for k in range(3)])
    expected = LedoitWolf(assume_centered=True).fit((e.features - means[e.y]).double().numpy())
    assert float(fitted.state["shrinkage"]) == pytest.approx(expected.shrinkage_, rel=1e-4)
    away = (made(5, 100, seed=1).features[:, None] - means).double().numpy()  # type: ignore[index]
    by_hand = np.einsum("nkd,de,nke->nk", away, expected.precision_, away).min(1)
    assert fitted.score(made(5, 100, seed=1)).numpy() == pytest.approx(by_hand, rel=1e-3)


@pytest.mark.parametrize("detector", GAUSSIANS, ids=lambda one: one.name)
def test_a_feature_that_is_constant_and_one_that_is_twice_another(detector: Detector) -> None:
    def with_dead(e: Embedding, value: float = 0.0) -> Embedding:
        assert e.features is not None
        more = [torch.full((len(e), 1), value), 2 * e.features[:, :1]]
        return replace(e, features=torch.cat([e.features, *more], 1))

    fitted = detector.fit(with_dead(made(300, 5)))
    assert "300 rows with 7 features is singular, and was shrunk by" in fitted.notes[0]
    quiet, awake = (
        fitted.score(with_dead(made(50, 5, 1))),
        fitted.score(with_dead(made(50, 5, 1), 2)),
    )
    assert bool(torch.cat([quiet, awake]).isfinite().all())
    if isinstance(detector, RelativeMahalanobis):  # what no row has cancels
        torch.testing.assert_close(awake, quiet)
    else:
        assert float(awake.min()) > float(quiet.max()), "a unit that was never active is"


@pytest.mark.parametrize("detector", [*GAUSSIANS, ViM()], ids=lambda one: one.name)
def test_features_that_never_vary(detector: Detector) -> None:
    e = made(50, 4)
    flat = replace(e, features=torch.ones(50, 4))
    with pytest.raises(AssayError, match=r"are all the same|have nothing"):
        detector.fit(flat)


@pytest.mark.parametrize("detector", GAUSSIANS, ids=lambda one: one.name)
def test_a_class_without_rows_is_named(detector: Detector) -> None:
    e = made(90, 4)
    assert e.y is not None
    fitted = detector.fit(e, torch.where(e.y == 1, 0, e.y))
    assert fitted.notes == (
        "1 of 3 classes have no row to learn from (1): their images may score as outliers",
    )
    unknown = detector.fit(e, torch.where(e.y == 1, -1, e.y))
    assert unknown.notes == fitted.notes
    for y in (None, torch.full((90,), -1)):
        with pytest.raises(AssayError, match=f"{detector.name.replace('+', '.')} learns from lab"):
            detector.fit(replace(e, y=None), y)


@pytest.mark.parametrize("detector", BY_VALUES, ids=ids)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_is_found_before_it_is_learned(detector: Detector, bad: float) -> None:
    train, held = made(90, 6), made(60, 6, seed=1)
    assert train.features is not None
    if "features" in detector.reads():
        h = train.features.clone()
        h[[7, 12], 2] = bad
        broken = replace(train, features=h)
    elif bad != bad:
        z = train.logits.clone()
        z[[7, 12], 2] = bad
        broken = replace(train, logits=z)
    else:
        return
    message = r"cannot learn from NaN or infinity: 2 of 90 .*the first is row 7"
    if detector.learns_from != "held-out":
        with pytest.raises(AssayError, match=f"{detector.name.replace('+', '.')} {message}"):
            detector.fit(broken, calibrate=held)
    with pytest.raises(AssayError, match="NaN"):  # and it is not scored with a NaN
        detector.fit(train, calibrate=held).score(
            replace(
                broken, features=broken.features * float("nan"), logits=broken.logits * torch.nan
            )  # type: ignore[operator]
        )


def test_fewer_rows_than_neighbours() -> None:
    with pytest.raises(AssayError, match="knn looks for 50 neighbours, and was given 40 rows"):
        KNN().fit(made(40, 4))
    with pytest.raises(AssayError, match="nnguide looks for 10 neighbours, and was given 9 rows"):
        NNGuide().fit(made(9, 4))
    assert KNN(k=40).fit(made(40, 4)).score(made(3, 4)).shape == (3,)


def test_vim_needs_something_outside_its_subspace() -> None:
    e = made(90, 6)
    assert e.features is not None
    with pytest.raises(AssayError, match=r"outside 3 of 6 dimensions, where .* have nothing"):
        ViM().fit(e.rows(slice(0, 2)))
    with pytest.raises(AssayError, match="sets 6 dimensions apart, and there are 6"):
        ViM(dimensions=6).fit(e)
    with pytest.raises(AssayError, match=r"mean of the largest logit .* is -"):
        ViM().fit(replace(e, logits=e.logits - 100))


@pytest.mark.parametrize("detector", [ASH(), ASH(variant="b"), SCALE()], ids=["s", "b", "scale"])
def test_sums_of_features_that_are_negative_scale_nothing(detector: Detector) -> None:
    e = made(90, 6)
    assert e.features is not None
    below = e.features.clone()
    below[3, 2] = -0.1
    with pytest.raises(AssayError, match=r"those of a ReLU, which are not negative; 0\.2 % of"):
        detector.fit(replace(e, features=below))


def test_a_class_that_is_masked_out() -> None:
    head = made(90, 6).head
    assert head is not None
    masked = Head(head.weight, head.bias.clone().index_fill(0, torch.tensor(1), -torch.inf))

    def of(seed: int) -> Embedding:
        e = made(90, 6, seed)
        assert e.features is not None
        return replace(e, head=masked, logits=masked(e.features))

    for detector in BY_VALUES:
        fitted = detector.fit(of(0), calibrate=of(1))
        assert bool(fitted.score(of(2)).isfinite().all()), detector.name


def test_classes_with_the_same_weights_have_no_boundary() -> None:
    e = made(90, 6)
    assert e.head is not None
    weight = e.head.weight.clone()
    weight[1] = weight[0]
    head = Head(weight, e.head.bias)
    twins = replace(e, head=head, logits=head(e.features))
    assert bool(FDBD().fit(twins).score(twins).isfinite().all())
    one = Head(weight[:1].expand(3, -1), e.head.bias)
    same = replace(e, head=one, logits=one(e.features))
    assert FDBD().fit(same).score(same).unique().tolist() == [0]


def test_a_model_without_a_linear_head_loses_what_reads_one() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        clf = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(16, 3), nn.Tanh()))
    x = torch.rand(120, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    y = torch.arange(120) % 3
    train, held = clf.embed(x[:60], y[:60]), clf.embed(x[60:], y[60:])
    for detector in BY_VALUES:
        if detector.reads() == {"logits"}:
            assert detector.fit(train, calibrate=held).calibrated_on in (30, 60)
            continue
        with pytest.raises(AssayError, match=f"^{detector.name.replace('+', '.')} needs .*linear"):
            detector.fit(train, calibrate=held)


def test_a_model_that_takes_one_image_at_a_time() -> None:
    class Alone(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(16, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert len(x) == 1, "no batches"
            out: torch.Tensor = self.head(x.flatten(1))
            return out

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        clf = Classifier(Alone(), batch_size=1)
    x = torch.rand(120, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    y = torch.arange(120) % 3
    train, held = clf.embed(x[:60], y[:60]), clf.embed(x[60:], y[60:])
    for kind in detectors().values():
        if "autoencoder" not in kind().reads():
            assert kind().fit(train, calibrate=held).score(held).shape == (60,)


# -- properties ------------------------------------------------------------------------------------


@given(
    seed=st.integers(0, 1000),
    n=st.integers(3, 80),
    width=st.integers(1, 12),
    scale=st.sampled_from([1e-20, 1e-3, 1.0, 1e4]),
    dead=st.booleans(),
)
def test_a_score_is_a_number_or_an_error(
    seed: int, n: int, width: int, scale: float, dead: bool
) -> None:
    def of(number: int) -> Embedding:
        e = made(n, width, seed=number)
        assert e.head is not None
        assert e.features is not None
        h = (e.features * scale).index_fill(1, torch.tensor(0), 0.0) if dead else e.features * scale
        return replace(e, features=h, logits=e.head(h))

    for detector in BY_VALUES:
        try:
            fitted = detector.fit(of(seed), calibrate=of(seed + 1), tpr=0.4)
        except AssayError:
            continue
        assert not bool(fitted.score(of(seed + 2)).isnan().any()), detector.name


@settings(max_examples=10)
@given(seed=st.integers(0, 1000), size=st.integers(1, 40))
def test_scores_do_not_depend_on_batches(seed: int, size: int) -> None:
    e = made(40, 6, seed=seed)
    for detector in BY_VALUES:
        fitted = detector.fit(made(90, 6), calibrate=made(90, 6, seed=1))
        whole = fitted.score(e)
        parts = [fitted.score(e.rows(slice(k, k + size))) for k in range(0, 40, size)]
        torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-5, atol=1e-6)


@given(seed=st.integers(0, 1000), gap=st.floats(0.1, 20))
def test_confidence_falls_as_the_largest_logit_rises(seed: int, gap: float) -> None:
    """The more the predicted class leads, the lower every score of the logits."""
    draw = torch.Generator().manual_seed(seed)
    z = torch.randn(8, 4, generator=draw)
    ahead = z.scatter_add(1, z.argmax(1, keepdim=True), torch.full((8, 1), gap))
    train, held = made(90, 6, classes=4), made(90, 6, seed=1, classes=4)
    for detector in BY_VALUES:
        if detector.reads() == {"logits"} and detector.name != "kl-matching":
            fitted = detector.fit(train, calibrate=held)
            before, after = (fitted.score(Embedding(one, None)) for one in (z, ahead))
            assert bool((after < before).all()), detector.name


@given(away=st.floats(0.5, 50), more=st.floats(1.1, 4))
def test_distances_rise_with_the_distance(away: float, more: float) -> None:
    e = made(90, 6)
    assert e.features is not None
    near = e.features.mean(0) + torch.tensor([away, 0, 0, 0, 0, 0])
    far = e.features.mean(0) + torch.tensor([away * more + 9, 0, 0, 0, 0, 0])
    rows = replace(e, features=torch.stack([near, far]), logits=torch.zeros(2, 3), y=None)
    low, high = Mahalanobis().fit(e).score(rows).tolist()
    assert high > low


def test_clipping_and_norms_are_monotone() -> None:
    e = made(90, 6)
    assert e.features is not None
    longer = replace(e, features=2 * e.features)
    assert bool((GradNorm().fit(e).score(longer) < GradNorm().fit(e).score(e)).all())
    one = ReAct(percentile=0.999999).fit(e)
    torch.testing.assert_close(one.score(e), Energy().fit(e).score(e), rtol=1e-4, atol=1e-4)
