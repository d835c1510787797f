"""Areas and curves against scikit-learn's, softmax scores against torch's, detectors against those
of pytorch-ood on a trained network's features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from networks.trained import mlp, trained
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve
from torch import Tensor, nn

from assay.core.classifier import Classifier
from assay.core.embedding import Embedding
from assay.data import load_data
from assay.data.outliers import noise
from assay.ood import (
    ASH,
    DICE,
    FDBD,
    GEN,
    KNN,
    ODIN,
    SCALE,
    Detector,
    Energy,
    Entropy,
    GradNorm,
    KLMatching,
    Mahalanobis,
    MaxLogit,
    MaxSoftmax,
    NNGuide,
    ReAct,
    RelativeMahalanobis,
    TemperatureScaling,
    ViM,
    evaluate,
)

from .peers import peer


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("shift", [-1.0, 0.0, 2.0])
def test_detection_is_scored_as_scikit_learn_does(shift: float, ties: bool) -> None:
    draw = torch.Generator().manual_seed(0)
    inside = torch.randn(300, 4, generator=draw)
    outside = torch.randn(200, 4, generator=draw) - shift
    if ties:
        inside, outside = inside.round(), outside.round()
    result = evaluate(
        MaxLogit().fit(Embedding(inside, None)), Embedding(inside, None), Embedding(outside, None)
    )
    truth = np.repeat([0, 1], [300, 200])
    scores = -torch.cat([inside, outside]).double().amax(1).numpy()
    assert result.auroc.value == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
    for found, kind, by in ((result.aupr_out, truth, scores), (result.aupr_in, 1 - truth, -scores)):
        assert found.value == pytest.approx(average_precision_score(kind, by), abs=1e-9)
    inliers, outliers, _ = roc_curve(truth, scores)
    ours = np.interp(inliers, *result.roc)
    vertical = np.diff(inliers, prepend=-1, append=2)
    lone = (vertical[:-1] > 0) & (vertical[1:] > 0)  # where the curve has one height only
    np.testing.assert_allclose(ours[lone], outliers[lone], atol=1e-12)
    # FPR95: of the thresholds that keep 95 % of the inliers, the lowest
    kept = np.quantile(scores[:300], 0.95, method="inverted_cdf")
    assert result.fpr95.value == pytest.approx((scores[300:] <= kept).mean())


def test_max_softmax_is_one_minus_torchs() -> None:
    logits = torch.randn(200, 10, generator=torch.Generator().manual_seed(0)) * 4
    e = Embedding(logits, None)
    expected = 1 - logits.double().softmax(1).amax(1)
    torch.testing.assert_close(MaxSoftmax().fit(e).score(e), expected, rtol=1e-9, atol=1e-12)


# -- pytorch-ood -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def theirs() -> Any:
    return peer("pytorch_ood.detector")


@pytest.fixture(scope="module")
def seen() -> dict[str, Embedding]:
    """What a trained network with 128 features makes of digits, and of noise and half digits."""
    clf = Classifier(trained("mlp-128", mlp(128)))
    x, y = load_data("digits", split="train").take(1200)
    test, labels = load_data("digits", split="test").take(300)
    static = noise("uniform", (1, 28, 28), 150, seed=0).take(150)[0]
    mixed = (test[:150] + test[150:]) / 2
    return {
        "train": clf.embed(x[:800], y[:800]),
        "held": clf.embed(x[800:], y[800:]),
        "test": clf.embed(torch.cat([test, static, mixed]), torch.cat([labels, labels])),
    }


def head_of(seen: dict[str, Embedding]) -> nn.Linear:
    head = seen["train"].head
    assert head is not None
    linear = nn.Linear(128, 10)
    with torch.no_grad():
        linear.weight.copy_(head.weight)
        linear.bias.copy_(head.bias)
    return linear


def flat(head: nn.Linear) -> Callable[[Tensor], Tensor]:
    return lambda maps: head(maps.flatten(1))


def of_logits(theirs: Any, name: str, **settings: Any) -> Callable[..., Tensor]:
    return lambda seen: getattr(theirs, name)(None, **settings).predict_logits(seen["test"].logits)


def of_fitted(made: Callable[[nn.Linear], Any]) -> Callable[..., Tensor]:
    def score(seen: dict[str, Embedding]) -> Tensor:
        detector = made(head_of(seen))
        detector.fit_features(seen["train"].features, seen["train"].y)
        found: Tensor = detector.predict_features(seen["test"].features)
        return found

    return score


def of_maps(made: Callable[[Callable[[Tensor], Tensor]], Any]) -> Callable[..., Tensor]:
    def score(seen: dict[str, Embedding]) -> Tensor:
        train, test = (seen[name].features for name in ("train", "test"))
        assert train is not None
        assert test is not None
        detector = made(flat(head_of(seen)))
        if hasattr(detector, "fit_feature_maps"):
            detector.fit_feature_maps(train[:, :, None, None], seen["train"].y)
        found: Tensor = detector.predict_feature_maps(test[:, :, None, None])
        return found

    return score


def of_held(theirs: Any, name: str) -> Callable[..., Tensor]:
    def score(seen: dict[str, Embedding]) -> Tensor:
        detector, (half, _) = getattr(theirs, name)(None), seen["held"].halves()
        detector.fit_logits(half.logits, half.y)
        found: Tensor = detector.predict_logits(seen["test"].logits).detach()
        return found

    return score


PAIRS: dict[str, tuple[Detector, Callable[[Any], Callable[..., Tensor]]]] = {
    "max-softmax": (MaxSoftmax(), lambda t: of_logits(t, "MaxSoftmax")),
    "max-logit": (MaxLogit(), lambda t: of_logits(t, "MaxLogit")),
    "energy": (Energy(), lambda t: of_logits(t, "EnergyBased")),
    "entropy": (Entropy(), lambda t: of_logits(t, "Entropy")),
    "gen": (GEN(), lambda t: of_logits(t, "GEN")),
    "kl-matching": (KLMatching(), lambda t: of_held(t, "KLMatching")),
    "temperature-scaling": (TemperatureScaling(), lambda t: of_held(t, "TemperatureScaling")),
    "mahalanobis": (Mahalanobis(), lambda t: of_fitted(lambda _: t.Mahalanobis(None))),
    "relative-mahalanobis": (
        RelativeMahalanobis(),
        lambda t: of_fitted(lambda _: t.RMD(None)),
    ),
    "knn": (KNN(), lambda t: of_fitted(lambda _: t.KNN(None, k=50))),
    "nnguide": (NNGuide(share=1), lambda t: of_fitted(lambda h: t.NNGuide(None, h))),
    "vim": (ViM(), lambda t: of_fitted(lambda h: t.ViM(None, 64, h.weight, h.bias))),
    "fdbd": (FDBD(), lambda t: of_fitted(lambda h: t.fDBD(None, h))),
    "dice": (DICE(), lambda t: of_fitted(lambda h: t.DICE(None, h.weight, h.bias, 0.9))),
    "react": (ReAct(), lambda t: of_maps(lambda h: t.ReAct(lambda x: x, h))),
    "ash-s": (ASH(), lambda t: of_maps(lambda h: t.ASH(None, h, percentile=0.9))),
    "ash-b": (
        ASH(variant="b"),
        lambda t: of_maps(lambda h: t.ASH(None, h, variant="ash-b", percentile=0.9)),
    ),
    "ash-p": (
        ASH(variant="p"),
        lambda t: of_maps(lambda h: t.ASH(None, h, variant="ash-p", percentile=0.9)),
    ),
    "scale": (SCALE(), lambda t: of_maps(lambda h: t.SCALE(None, h, percentile=0.85))),
}


def comparable(name: str, e: Embedding, train: Embedding) -> Embedding:
    """Return an embedding on which the two mean the same.

    pytorch-ood keeps probabilities within 1e-7 of 0 and 1, which GEN's small exponent makes much
    of; and of features that are constant on the training data it adds 1e-6 to the scatter, where
    the covariance is shrunk here. Softer logits and the units that are alive have neither.
    """
    if name == "gen":
        return replace(e, logits=e.logits / 4)
    if "mahalanobis" in name:
        assert e.features is not None
        assert train.features is not None
        return replace(e, features=e.features[:, (train.features > 0).double().mean(0) > 0.1])
    return e


def ranks_agree(ours: Tensor, others: Tensor) -> float:
    """The rank correlation; both have one sign."""
    return float(spearmanr(ours.numpy(), others.detach().numpy()).statistic)


@pytest.mark.parametrize("name", PAIRS)
def test_scores_are_in_the_order_of_pytorch_ood(
    name: str, theirs: Any, seen: dict[str, Embedding]
) -> None:
    detector, other = PAIRS[name]
    seen = {part: comparable(name, e, seen["train"]) for part, e in seen.items()}
    ours = detector.fit(seen["train"], calibrate=seen["held"]).score(seen["test"])
    assert len(ours.unique()) > 400
    assert ranks_agree(ours, other(theirs)(seen)) >= 0.999


def test_odin_and_the_gradient_norm_are_in_the_order_of_pytorch_ood(
    theirs: Any, seen: dict[str, Embedding]
) -> None:
    e = seen["test"].rows(slice(200, 400))
    assert e.oracle is not None
    model = e.oracle.model.double()
    x = torch.cat([part for _, part in e.batches()]).double()
    found = theirs.ODIN(model, eps=0.0014).predict(x)
    norms = theirs.GradNorm(model, param_filter=lambda name: name == "4.weight")
    expected = norms.predict(x)
    model.float()
    assert ranks_agree(ODIN().fit(e).score(e), found) >= 0.999
    assert ranks_agree(GradNorm().fit(e).score(e), expected) >= 0.999
