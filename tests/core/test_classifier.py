"""The wrapper around a user's model: what goes in, what comes out, and what is left behind."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.core.classifier import Classifier
from assay.core.images import check_images, rows_that_fit
from assay.core.oracle import Encoded, gradient
from assay.errors import AssayError

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


def small_net(classes: int = 4) -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(24, classes),
    )


class Says(nn.Module):
    """Answers with fixed rows, cyclically, whatever it is shown."""

    def __init__(self, *rows: list[float]) -> None:
        super().__init__()
        self.rows = torch.tensor(rows)

    def forward(self, x: Tensor) -> Tensor:
        return self.rows[torch.arange(len(x)) % len(self.rows)] + 0 * x.sum()


@pytest.fixture
def x() -> Tensor:
    draw = torch.Generator().manual_seed(0)
    return torch.rand(10, 3, 8, 8, generator=draw) * torch.rand(10, 3, 1, 1, generator=draw)


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(logits, y, reduction="none")


# -- what comes out ---------------------------------------------------------------------------


def test_predictions_are_the_models_own(x: Tensor) -> None:
    model = small_net().eval()
    normalised = (x - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    with torch.no_grad():
        own = model(normalised)
    wrapped = Classifier(model.train(), mean=MEAN, std=STD)
    assert torch.allclose(wrapped.query(x), own, atol=1e-6)
    assert torch.equal(wrapped.predict(x), own.argmax(1))
    assert len(own.argmax(1).unique()) > 1, "a constant prediction would prove nothing"


def test_real_accuracy_through_the_wrapper_is_the_models_own() -> None:
    from sklearn.datasets import load_digits

    digits = load_digits()
    x = torch.tensor(digits.images / 16, dtype=torch.float32)[:, None]
    y = torch.tensor(digits.target)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(model((x - 0.3) / 0.4), y).backward()
        optimizer.step()
    with torch.no_grad():
        own = (model((x - 0.3) / 0.4).argmax(1) == y).float().mean()
    wrapped = (Classifier(model, mean=[0.3], std=[0.4]).predict(x) == y).float().mean()
    assert own > 0.9
    assert wrapped == own


@pytest.mark.parametrize("size", [1, 3, 7, 10, 64])
def test_answers_do_not_depend_on_the_batch_size(x: Tensor, size: int) -> None:
    model = small_net()
    whole = Classifier(model).query(x)
    assert torch.allclose(Classifier(model, batch_size=size).query(x), whole, atol=1e-6)


def test_every_row_counts_as_a_query(x: Tensor) -> None:
    clf = Classifier(small_net(), batch_size=4)
    clf.query(x)
    gradient(clf, x[:3], torch.zeros(3, dtype=torch.long), cross_entropy)
    assert clf.queries == 13


def test_an_output_object_with_logits_works(x: Tensor) -> None:
    class HuggingFaceLike(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return SimpleNamespace(logits=x.mean((2, 3)) - 0.5)

    assert torch.allclose(Classifier(HuggingFaceLike()).query(x), x.mean((2, 3)) - 0.5)


def test_declared_probabilities_are_used_as_their_logarithm(x: Tensor) -> None:
    model = small_net().eval()
    with torch.no_grad():
        expected = model(x).log_softmax(1)
    clf = Classifier(nn.Sequential(model, nn.Softmax(1)), outputs="probabilities")
    assert torch.allclose(clf.query(x), expected, atol=1e-4)


def test_gradients_flow_through_preprocessing_and_normalisation(x: Tensor) -> None:
    clf = Classifier(
        nn.Sequential(nn.Flatten(), nn.Linear(12, 2, bias=False)),
        mean=MEAN,
        std=STD,
        preprocess=lambda images: F.avg_pool2d(images, 4),
    )
    weight = clf.model[1].weight[0].view(3, 2, 2)
    _, slope = gradient(clf, x, torch.zeros(10), lambda logits, _: logits[:, 0])
    by_hand = weight.repeat_interleave(4, 1).repeat_interleave(4, 2) / 16
    by_hand = by_hand / torch.tensor(STD).view(3, 1, 1)
    assert torch.allclose(slope, by_hand.expand_as(slope), atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_models_of_other_precisions_answer_in_float32(x: Tensor, dtype: torch.dtype) -> None:
    reference = Classifier(small_net(), mean=MEAN, std=STD).query(x)
    answer = Classifier(small_net().to(dtype), mean=MEAN, std=STD).query(x)
    assert answer.dtype == torch.float32
    assert torch.allclose(answer, reference, atol=0.05)


def test_float64_images_are_taken(x: Tensor) -> None:
    clf = Classifier(small_net())
    assert torch.allclose(clf.query(x.double()), clf.query(x), atol=1e-6)


# -- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 255.0), (-1.0, 1.0), (-2e-6, 1.0), (0.0, 1 + 2e-6)]
)
def test_images_out_of_range_name_both_ends(x: Tensor, low: float, high: float) -> None:
    x = x * 0.5 + 0.25
    x[0, 0, 0, 0], x[1, 0, 0, 0] = low, high
    with pytest.raises(AssayError) as raised:
        Classifier(small_net()).query(x)
    assert f"go from {low:.6g} to {high:.6g};" in str(raised.value)


def test_images_within_the_tolerance_are_clamped(x: Tensor) -> None:
    x[0, 0, 0, 0], x[1, 0, 0, 0] = -1e-6, 1 + 9e-7
    checked = check_images(x)
    assert float(checked.min()) == 0
    assert float(checked.max()) == 1
    assert float(x.min()) < 0, "the caller's tensor stays as it is"


def test_nan_pixels_are_refused(x: Tensor) -> None:
    x[3, 0, 0, 0] = torch.nan
    with pytest.raises(AssayError, match="nan to nan"):
        Classifier(small_net()).query(x)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(3, 8, 8), r"shape \(N, C, H, W\), got \(3, 8, 8\)"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "divide by 255"),
        (np.zeros((1, 3, 8, 8), np.uint8), "divide by 255"),
        ([[[[0.5]]]], "a tensor or an array"),
    ],
)
def test_what_is_no_batch_of_images_is_refused(images: Any, message: str) -> None:
    with pytest.raises(AssayError, match=message):
        Classifier(small_net()).query(images)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_undeclared_probabilities_name_the_flag(x: Tensor, dtype: torch.dtype) -> None:
    model = nn.Sequential(small_net(), nn.Softmax(1)).to(dtype)
    with pytest.raises(AssayError, match='outputs="probabilities"'):
        Classifier(model).query(x)


def test_undeclared_probabilities_are_found_when_asked_one_image_at_a_time(x: Tensor) -> None:
    clf = Classifier(nn.Sequential(small_net(), nn.Softmax(1)), batch_size=1)
    with pytest.raises(AssayError, match="declare them by --outputs probabilities"):
        clf.query(x)


def test_one_row_of_logits_may_sum_to_one_by_accident(x: Tensor) -> None:
    clf = Classifier(Says([0.25, 0.75], [2.0, -1.5]), batch_size=None)
    assert torch.equal(clf.query(x[:1]), torch.tensor([[0.25, 0.75]]))
    assert len(clf.query(x)) == 10


def test_logits_declared_as_probabilities_are_refused(x: Tensor) -> None:
    with pytest.raises(AssayError, match="these are logits: drop --outputs prob"):
        Classifier(small_net(), outputs="probabilities").query(x)


def test_a_model_that_answers_nan_throughout_is_refused(x: Tensor) -> None:
    model = small_net()
    with torch.no_grad():
        model[6].weight[0, 0] = torch.nan
    with pytest.raises(AssayError, match="NaN or infinity for all of the first 10 images"):
        Classifier(model).query(x)


def test_single_nan_rows_are_answered_and_never_right(x: Tensor) -> None:
    clf = Classifier(Says([3.0, 0.0], [torch.nan, torch.nan], [0.0, torch.nan]))
    answer = clf.query(x[:3])
    assert answer.isnan().any(1).tolist() == [False, True, True]
    assert clf.predict(x[:3]).tolist() == [0, -1, -1]


def test_a_class_masked_with_minus_infinity_is_an_answer(x: Tensor) -> None:
    clf = Classifier(Says([3.0, -torch.inf, 0.0], [1.0, -torch.inf, 2.0]))
    assert clf.query(x[:2])[:, 1].tolist() == [-torch.inf, -torch.inf]
    assert clf.predict(x[:2]).tolist() == [0, 2]
    with pytest.raises(AssayError, match="NaN or infinity for all of the first 2 images"):
        Classifier(Says([-torch.inf, -torch.inf], [torch.inf, 0.0])).query(x[:2])


def test_a_later_nan_does_not_stop_a_long_job(x: Tensor) -> None:
    model = small_net()
    clf = Classifier(model)
    clf.query(x)
    with torch.no_grad():
        model[6].weight[0, 0] = torch.nan
    assert clf.predict(x).tolist() == [-1] * 10


def test_one_output_is_no_classifier(x: Tensor) -> None:
    for classes in (None, ["a"]):
        with pytest.raises(AssayError, match="at least 2 classes, but the model has 1 outputs"):
            Classifier(small_net(1), classes=classes).query(x)


def test_a_wrong_number_of_classes_is_refused(x: Tensor) -> None:
    with pytest.raises(AssayError, match="4 outputs, but 3 classes"):
        Classifier(small_net(), classes=["a", "b", "c"]).query(x)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (lambda x: x, r"shape \(10, 3, 8, 8\) for 10 images"),
        (lambda x: x.mean((2, 3))[:4], r"shape \(4, 3\) for 10 images"),
        (lambda x: {"scores": x}, "returned dict"),
    ],
)
def test_outputs_that_are_no_logits_are_refused(x: Tensor, output: Any, message: str) -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return output(x)

    with pytest.raises(AssayError, match=message):
        Classifier(Odd()).query(x)


def test_broadcasting_does_not_make_grey_images_coloured() -> None:
    with pytest.raises(AssayError, match="3 values, but the images have 1 channels"):
        Classifier(small_net(), mean=MEAN, std=STD).query(torch.rand(2, 1, 8, 8))


def test_wrong_arguments_are_refused_at_once() -> None:
    with pytest.raises(AssayError, match="not function"):
        Classifier(lambda x: x)  # type: ignore[arg-type]
    with pytest.raises(AssayError, match="not 'probs'"):
        Classifier(small_net(), outputs="probs")  # type: ignore[arg-type]
    with pytest.raises(AssayError, match="std must be positive"):
        Classifier(small_net(), std=[0.0, 1, 1])


def test_unnamed_classes_are_numbers_once_known(x: Tensor) -> None:
    clf = Classifier(small_net())
    with pytest.raises(AssayError, match="pass classes="):
        _ = clf.classes
    clf.query(x)
    assert clf.classes == ("0", "1", "2", "3")


def test_no_images_are_no_error(x: Tensor) -> None:
    clf = Classifier(small_net())
    assert clf.query(x[:0]).shape == (0, 4)
    assert clf.query(x).shape == (10, 4)


# -- what is left behind ----------------------------------------------------------------------


def state_of(model: nn.Module) -> dict[str, Any]:
    return {
        "mode": {name: module.training for name, module in model.named_modules()},
        "wants": {name: p.requires_grad for name, p in model.named_parameters()},
        "grad": {
            name: None if p.grad is None else p.grad.tolist()
            for name, p in model.named_parameters()
        },
        "values": {name: v.tolist() for name, v in model.state_dict().items()},
        "hooks": {
            name: (list(m._forward_hooks), list(m._forward_pre_hooks), list(m._backward_hooks))
            for name, m in model.named_modules()
        },
    }


def lived_in_net(mode: str) -> nn.Sequential:
    """A net as one meets it: gradients from training, a frozen layer, hooks, some mode."""
    model = small_net()
    model.train(mode == "train")
    if mode == "mixed":
        model.train()
        model[1].eval()
    F.cross_entropy(model(torch.rand(4, 3, 8, 8)), torch.arange(4)).backward()
    model[0].weight.requires_grad_(False)
    model[2].register_forward_hook(lambda *_: None)
    return model


def ask(clf: Classifier, x: Tensor) -> None:
    clf.query(x)
    clf.predict(x)
    clf.embed(x, layers=["0", "4"])
    with clf.borrowed():
        gradient(clf, x, torch.zeros(len(x), dtype=torch.long), cross_entropy)


@pytest.mark.parametrize("mode", ["train", "eval", "mixed"])
def test_the_model_is_given_back_as_it_was(x: Tensor, mode: str) -> None:
    model = lived_in_net(mode)
    before = copy.deepcopy(state_of(model))
    ask(Classifier(model), x)
    assert state_of(model) == before


@pytest.mark.parametrize("mode", ["train", "eval", "mixed"])
@pytest.mark.parametrize("method", ["query", "embed", "gradient"])
def test_the_model_is_given_back_after_an_exception(x: Tensor, mode: str, method: str) -> None:
    model = lived_in_net(mode)
    rows: list[int] = []

    def fail_later(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        rows.append(len(inputs[0]))
        if len(rows) >= 2:
            raise RuntimeError("in the middle")

    model[4].register_forward_pre_hook(fail_later)
    before = copy.deepcopy(state_of(model))
    clf = Classifier(model, batch_size=4)
    with pytest.raises(AssayError, match="in the middle") as caught:  # noqa: PT012
        if method == "gradient":
            with clf.borrowed():
                for _ in range(2):
                    gradient(clf, x, torch.zeros(10, dtype=torch.long), cross_entropy)
        else:
            getattr(clf, method)(x)
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert state_of(model) == before


def test_loans_may_be_nested(x: Tensor) -> None:
    model = lived_in_net("mixed")
    before = copy.deepcopy(state_of(model))
    clf = Classifier(model)
    with clf.borrowed():
        clf.query(x)
        assert not any(module.training for module in model.modules())
        assert not any(p.requires_grad for p in model.parameters())
    assert state_of(model) == before


@pytest.mark.parametrize("normalised", [False, True])
def test_a_model_that_works_in_place_does_not_touch_the_images(x: Tensor, normalised: bool) -> None:
    class InPlace(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.sub_(0.5).relu_().mean((2, 3)) - 1

    before = x.clone()
    clf = Classifier(InPlace(), mean=MEAN if normalised else None)
    answer = clf.query(x)
    again, slope = gradient(clf, x, torch.zeros(10, dtype=torch.long), cross_entropy)
    assert torch.equal(x, before)
    assert torch.equal(again, answer)
    assert float(slope.abs().max()) > 0


# -- fingerprints -----------------------------------------------------------------------------


def test_the_fingerprint_is_the_same_for_the_same_model() -> None:
    one, other = Classifier(small_net(), mean=MEAN), Classifier(small_net(), mean=MEAN)
    assert one.fingerprint == other.fingerprint
    other.model.train()
    other.query(torch.rand(2, 3, 8, 8))
    assert one.fingerprint == other.fingerprint


def changed_weight(model: nn.Sequential) -> nn.Module:
    with torch.no_grad():
        model[6].weight[2, 3] += 1e-7
    return model


def changed_buffer(model: nn.Sequential) -> nn.Module:
    model[1].running_var[1] += 1e-6
    return model


def changed_activation(model: nn.Sequential) -> nn.Module:
    model[2] = nn.Tanh()
    return model


def changed_stride(model: nn.Sequential) -> nn.Module:
    model[0].stride = (2, 2)
    return model


@pytest.mark.parametrize(
    "change", [changed_weight, changed_buffer, changed_activation, changed_stride]
)
def test_the_fingerprint_sees_one_change_in_the_model(change: Any) -> None:
    assert Classifier(change(small_net())).fingerprint != Classifier(small_net()).fingerprint


def halved(x: Tensor) -> Tensor:
    return x / 2


@pytest.mark.parametrize("kind", [torch.float16, torch.uint8])
def test_preprocessing_to_another_type_is_normalised_in_float32(kind: torch.dtype) -> None:
    x, mean = torch.tensor([[[[0.5]]]]), 1 / 3
    clf = Classifier(nn.Flatten(), preprocess=lambda x: (100 * x).to(kind), mean=[mean], std=[0.7])
    assert clf.normalise(x).item() == ((torch.tensor(50.0) - mean) / 0.7).item()


def test_the_fingerprint_sees_the_preprocessing() -> None:
    model = small_net()
    made = [
        Classifier(model),
        Classifier(model, mean=MEAN),
        Classifier(model, std=MEAN),
        Classifier(model, mean=STD),
        Classifier(model, preprocess=halved),
        Classifier(model, preprocess=lambda x: x),
        Classifier(model, preprocess=nn.AvgPool2d(2)),
        Classifier(model, preprocess=nn.AvgPool2d(3)),
        Classifier(model, outputs="probabilities"),
    ]
    assert len({clf.fingerprint for clf in made}) == len(made)


def test_fingerprints_of_models_without_weights_or_with_odd_ones() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("nothing", torch.zeros(0))
            self.register_buffer("steps", torch.ones(2, 3, dtype=torch.bfloat16).t())
            self.register_buffer("seen", torch.tensor(True))

        def get_extra_state(self) -> Any:
            return {"scale": 3}

        def set_extra_state(self, state: Any) -> None: ...

    assert len(Classifier(Odd()).fingerprint) == 64
    assert len(Classifier(nn.Flatten()).fingerprint) == 64


def test_batches_get_smaller_as_images_get_larger() -> None:
    assert rows_that_fit(torch.zeros(1, 3, 32, 32)) == 256
    assert rows_that_fit(torch.zeros(1, 3, 224, 224)) == 5
    assert rows_that_fit(torch.zeros(1, 3, 1024, 1024)) == 1
    assert rows_that_fit(torch.zeros(1, 1, 4, 4)) == 512
    assert rows_that_fit(torch.zeros(0, 3, 32, 32)) >= 1


def test_the_encoding_is_the_checked_images(x: Tensor) -> None:
    clf = Classifier(small_net())
    assert torch.equal(clf.encode(x).values, x)
    with pytest.raises(AssayError):
        clf.encode(x + 1)
    assert Encoded(x).mask is None
