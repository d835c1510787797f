"""Random weights: what is made random, that the model stays, and which maps survive."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from contract.untouched import untouched
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from assay.core.attribution import Attribution
from assay.core.classifier import Classifier
from assay.core.random import Stream
from assay.data.digits import digits
from assay.errors import AssayError
from assay.explain import EigenCAM, Explainer, GradCAM, HiResCAM, IntegratedGradients, randomised
from assay.explain.randomise import Randomised, cascade, from_the_top, make_random

from .nets import LeNet, Patches, TorchViT, hugging_face, images, residual, seeded, vit

if TYPE_CHECKING:
    from collections.abc import Mapping


class Edges(Explainer):
    """How much brighter a pixel is than the one beside it: looks at no model at all."""

    name: str = "edges"

    def maps(
        self, clf: Classifier, x: Tensor, targets: Tensor | None
    ) -> tuple[Tensor, Tensor, str]:
        del clf
        assert targets is not None
        return (x - x.roll(1, dims=3)).abs().mean(1), targets, ""


def first_weight(model: nn.Module) -> float:
    return float(next(model.parameters()).detach().flatten()[0])


class Flat(Explainer):
    """The same everywhere, once the weight of the first layer is another; or from the start."""

    name: str = "flat"
    first: float
    always: bool = False

    def maps(
        self, clf: Classifier, x: Tensor, targets: Tensor | None
    ) -> tuple[Tensor, Tensor, str]:
        assert targets is not None
        same = self.always or first_weight(clf.model) != self.first
        return torch.ones_like(x[:, 0]) if same else x.mean(1), targets, ""


class Breaks(Flat):
    """Refuses once the weights are others, or fails."""

    ours: bool = True

    def maps(
        self, clf: Classifier, x: Tensor, targets: Tensor | None
    ) -> tuple[Tensor, Tensor, str]:
        if first_weight(clf.model) != self.first:
            raise AssayError("not these weights") if self.ours else IndexError("no such weight")
        return super().maps(clf, x, targets)


def tried(
    clf: Classifier, x: Tensor, explainers: Mapping[str, Explainer], **settings: int
) -> dict[str, Randomised]:
    y = clf.predict(x)
    maps = {name: explainer(clf, x, y) for name, explainer in explainers.items()}
    return randomised(clf, x, explainers, maps, **settings)


# -- what survives -----------------------------------------------------------------------------


def test_an_explainer_that_ignores_the_weights_is_caught_and_grad_cam_is_not(
    digit_nets: dict[str, Classifier],
) -> None:
    clf, x = digit_nets["natural"], digits("test").take(48)[0]
    known = {"edges": Edges(), "grad-cam": GradCAM(), "gradients": IntegratedGradients(steps=8)}
    with untouched(clf.model):
        found = tried(clf, x, known, networks=12, stages=3)
    edges, cam = found["edges"], found["grad-cam"]
    assert edges.verdict == "survives"
    assert (edges.absolute == 1).all()
    assert (edges.signed == 1).all()
    assert cam.verdict == "passes"
    assert cam.correlation.high < 0.5
    assert (cam.correlation.n, cam.correlation.of) == (12, "random networks")
    # digits are black where there is no stroke, and so are maps that multiply by the image: the
    # paper's section 5 finds the input in the product, whatever the gradient is
    product = found["gradients"]
    assert product.verdict == "survives"
    assert abs(product.over_networks(product.signed[:, -1]).value) < 0.3
    assert cam.absolute.shape == (48, 3)
    np.testing.assert_array_equal(cam.network, np.repeat(range(12), 4))
    assert cam.share[-1] == 1


def test_the_class_that_was_explained_stays() -> None:
    clf, x = Classifier(seeded(residual)), images(4)
    asked: list[Tensor] = []

    class Asks(Edges):
        def maps(
            self, clf: Classifier, x: Tensor, targets: Tensor | None
        ) -> tuple[Tensor, Tensor, str]:
            assert targets is not None
            asked.append(targets.clone())
            return super().maps(clf, x, targets)

    y = torch.tensor([2, 0, 1, 1])
    maps = {"asks": Asks()(clf, x, y)}
    asked.clear()
    randomised(clf, x, {"asks": Asks()}, maps, networks=2, stages=2)
    assert [some.tolist() for some in asked] == [[2, 0], [2, 0], [1, 1], [1, 1]]


def test_correlations_are_those_of_the_maps_at_their_own_resolution() -> None:
    clf, x = Classifier(seeded(residual)), images(2)
    y = clf.predict(x)
    found = tried(clf, x, {"cam": HiResCAM(layer="1")}, networks=1, stages=1)["cam"]
    (_, twin), *_ = cascade(clf, x[:1], 1, Stream(0).child("explain", "random weights").child(0))
    before, after = (HiResCAM(layer="1")(one, x, y).raw.flatten(1) for one in (clf, twin))
    for row in range(2):
        for kind, values in (("signed", lambda v: v), ("absolute", torch.abs)):
            ranks = [values(v[row]).argsort().argsort().double() for v in (before, after)]
            expected = float(torch.corrcoef(torch.stack(ranks))[0, 1])
            assert getattr(found, kind)[row, 0] == pytest.approx(expected, abs=1e-6)
    assert found.places == before.shape[1] == 32 * 32


def test_maps_that_say_nothing() -> None:
    model, x = seeded(residual), images(4)
    first = first_weight(model)
    known = {
        "goes": Flat(first=first),
        "never": Flat(first=first, always=True),
        "breaks": Breaks(first=first),
        "fails": Breaks(first=first, ours=False),
    }
    found = tried(Classifier(model), x, known, networks=2, stages=1)
    assert found["goes"].absolute.tolist() == [[0.0]] * 4, "what became nothing has not survived"
    assert found["goes"].verdict == "passes"
    assert np.isnan(found["never"].absolute).all(), "nothing there that could survive"
    assert found["never"].verdict == "not run"
    assert (found["breaks"].verdict, found["breaks"].why) == ("not run", "not these weights")
    assert found["breaks"].to_dict()["images"] == 0
    assert (found["fails"].verdict, found["fails"].why) == ("not run", "IndexError: no such weight")


# -- verdicts ----------------------------------------------------------------------------------


def alike(*means: float, places: int = 10_001, threshold: float = 0.5) -> Randomised:
    """Two images for each network, 0.1 below and above its mean."""
    last = np.array([[mean - 0.1, mean + 0.1] for mean in means]).reshape(-1, 1)
    network = np.repeat(range(len(means)), 2)
    return Randomised(np.array([1.0]), last, last, network, places, threshold)


def test_the_interval_is_over_networks() -> None:
    # means 0.1, 0.2, 0.3: mean 0.2, deviation 0.1, t(2, 0.975) = 4.3027
    found = alike(0.1, 0.2, 0.3).correlation
    assert found.n == 3
    assert found.value == pytest.approx(0.2)
    assert found.high - found.value == pytest.approx(4.3027 * 0.1 / math.sqrt(3), abs=1e-4)


def test_networks_that_agree_vary_as_much_as_chance_has_it() -> None:
    # 26 places and 2 images for a network: variance 1 / 25 / 2; t(3, 0.975) = 3.1824
    found = alike(0.2, 0.2, 0.2, 0.2, places=26).correlation
    assert found.high - 0.2 == pytest.approx(3.1824 * math.sqrt(1 / 50) / 2, abs=1e-4)


@pytest.mark.parametrize(
    ("means", "verdict"),
    [
        ((0.8, 0.81, 0.79), "survives"),
        ((0.2, 0.21, 0.19), "passes"),
        ((0.4, 0.6, 0.5), "undecided"),
        ((0.2,), "undecided"),
        ((math.nan, math.nan), "not run"),
    ],
)
def test_verdicts(means: tuple[float, ...], verdict: str) -> None:
    assert alike(*means).verdict == verdict
    assert alike(*means).to_dict()["verdict"] == verdict


def test_the_threshold_is_a_setting() -> None:
    assert alike(0.2, 0.21, 0.19, threshold=0.1).verdict == "survives"


# -- what is made random -----------------------------------------------------------------------


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    """The modules of which anything is not as it was."""
    return {
        name.rpartition(".")[0] for name in before if not torch.equal(before[name], after[name])
    }


def test_the_cascade_goes_from_the_top_down() -> None:
    model, x = seeded(LeNet).train(), images(1)
    before = weights(model)
    seen = []
    with untouched(model):
        for share, twin in cascade(Classifier(model), x, 10, Stream(0)):
            assert twin.model is not model
            seen.append((share, changed(before, twin.model.state_dict())))
    assert seen == [
        (0.25, {"fc2"}),
        (0.5, {"fc2", "fc1"}),
        (0.75, {"fc2", "fc1", "conv2"}),
        (1.0, {"fc2", "fc1", "conv2", "conv1"}),
    ]
    some = [share for share, _ in cascade(Classifier(model), x, 3, Stream(0))]
    assert some == [0.5, 0.75, 1.0]


def test_layers_are_in_the_order_of_their_calls() -> None:
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(4, 3)
            self.unused = nn.Linear(2, 2)
            self.norm = nn.BatchNorm2d(4, affine=False)
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.head(self.norm(self.conv(x)).mean((2, 3)))
            return out

    model = Backwards()
    found = from_the_top(Classifier(model), images(1))
    assert found == [model.head, model.norm, model.conv, model.unused]


NOT_CALLED = [f"encoder.layers.{n}.self_attn.out_proj" for n in range(2)]


@pytest.mark.parametrize(
    ("make", "bottom"),
    [
        (vit, ["patches", ""]),  # a class token and positions, of the model itself
        (residual, ["0"]),
        (TorchViT, ["patch", "", *NOT_CALLED]),
        (hugging_face, ["vit.embeddings.patch_embeddings.projection", "vit.embeddings"]),
    ],
)
def test_what_a_container_itself_has_learnt_comes_after_what_is_in_it(
    make: object, bottom: list[str]
) -> None:
    model = seeded(make)
    names = {module: name for name, module in model.named_modules()}
    found = [names[module] for module in from_the_top(Classifier(model), images(1))]
    assert found[0] in ("head", "4", "classifier")
    assert found[-len(bottom) :] == bottom


def test_batch_norm_forgets_its_statistics() -> None:
    model = seeded(residual)
    *_, (_, twin) = cascade(Classifier(model), images(1), 2, Stream(0))
    for module in twin.model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert bool((module.running_mean == 0).all())
            assert bool((module.running_var == 1).all())


class Own(nn.Module):
    """A parameter of its own, which nothing resets."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.arange(60.0).view(3, 20))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight


class Fails(Own):
    def reset_parameters(self) -> None:
        raise NotImplementedError


@pytest.mark.parametrize("kind", [Own, Fails])
def test_what_cannot_be_reset_keeps_its_values_in_another_order(kind: type[Own]) -> None:
    module = kind()
    make_random(module, Stream(0), torch.device("cpu"))
    moved = module.weight.detach().flatten()
    assert torch.equal(moved.sort().values, torch.arange(60.0))
    assert int((moved == torch.arange(60.0)).sum()) < 10


def test_weight_norm_and_attention_are_made_random_too() -> None:
    linear = parametrizations.weight_norm(nn.Linear(20, 30))
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 20), linear)
    weight = linear.weight.detach().clone()
    *_, (_, twin) = cascade(Classifier(model), images(1, size=8), 1, Stream(0))
    after = twin.model[2].weight.detach()
    assert float(torch.corrcoef(torch.stack([weight.flatten(), after.flatten()]))[0, 1]) < 0.2
    vit = seeded(Patches)
    with torch.no_grad():  # as if trained: a norm starts as what it is reset to
        for parameter in vit.parameters():
            parameter.add_(0.1)
    before = weights(vit)
    *_, (_, twin) = cascade(Classifier(vit), images(1), 1, Stream(0))
    holding = {name.rpartition(".")[0] for name, _ in vit.named_parameters()}
    assert changed(before, twin.model.state_dict()) == holding


def test_the_same_seed_gives_the_same_weights() -> None:
    clf, x = Classifier(seeded(residual)), images(4)
    state = torch.random.get_rng_state()
    one, other, third = (
        tried(clf, x, {"cam": EigenCAM()}, networks=2, stages=2, seed=seed)["cam"].absolute
        for seed in (0, 0, 1)
    )
    assert torch.equal(torch.random.get_rng_state(), state), "drew from the ambient generator"
    np.testing.assert_array_equal(one, other)
    assert not np.array_equal(one, third)
    twice = tried(clf, x[:1].repeat(2, 1, 1, 1), {"cam": EigenCAM()}, networks=2, stages=1)["cam"]
    assert twice.absolute[0] != twice.absolute[1], "networks have weights of their own"


# -- mistakes ----------------------------------------------------------------------------------


def test_a_model_without_weights() -> None:
    class Bright(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([x.mean((1, 2, 3)), -x.mean((1, 2, 3))], 1)

    with pytest.raises(AssayError, match="no parameters"):
        tried(Classifier(Bright()), images(2), {"edges": Edges()})


def test_a_model_that_cannot_be_copied() -> None:
    class Held(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = seeded(residual)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.net(x)
            return out

        def __deepcopy__(self, memo: object) -> None:
            raise TypeError("held by a lock")

    with pytest.raises(AssayError, match=r"cannot be copied.*held by a lock"):
        tried(Classifier(Held()), images(2), {"edges": Edges()})


def test_fewer_images_than_networks() -> None:
    found = tried(Classifier(seeded(residual)), images(3), {"edges": Edges()}, networks=12)
    assert found["edges"].network.tolist() == [0, 1, 2]


def test_an_attribution_is_compared_by_what_is_not_scaled() -> None:
    clf, x = Classifier(seeded(residual)), images(2)
    found = Edges()(clf, x, clf.predict(x))
    upside_down = Attribution(found.values, -found.raw, found.empty, "", found.targets)
    result = randomised(clf, x, {"edges": Edges()}, {"edges": upside_down}, networks=2, stages=1)
    assert result["edges"].signed.tolist() == [[-1.0], [-1.0]]
    assert result["edges"].absolute.tolist() == [[1.0], [1.0]]
    assert result["edges"].verdict == "survives", "the same places, whatever their sign"


class Silent(nn.Linear):
    def reset_parameters(self) -> None:
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)


def test_a_head_that_begins_with_zeros_is_random_and_not_silent() -> None:
    """Behind it no map would be left to compare, and every explainer would pass."""
    module = Silent(4, 6)
    with torch.no_grad():
        module.weight.copy_(torch.arange(24.0).view(6, 4))
    make_random(module, Stream(0), torch.device("cpu"))
    assert torch.equal(module.weight.detach().flatten().sort().values, torch.arange(24.0))
    assert module.weight[0].tolist() != [0, 1, 2, 3]


class Frozen(nn.Module):
    """A batch norm whose all is in buffers, as in detection backbones."""

    def __init__(self) -> None:
        super().__init__()
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, torch.arange(1.0, 31.0))

    def forward(self, x: Tensor) -> Tensor:
        return x


def test_what_is_frozen_into_buffers_is_made_random_too() -> None:
    module = Frozen()
    make_random(module, Stream(0), torch.device("cpu"))
    for name, buffer in module.named_buffers():
        assert torch.equal(buffer.sort().values, torch.arange(1.0, 31.0)), name
        assert int((buffer == torch.arange(1.0, 31.0)).sum()) < 10, name


def test_the_layer_is_looked_for_once_whatever_the_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from assay.explain import together

    looked: list[str] = []
    find = together.find_layer

    def counted(clf: Classifier, x: Tensor) -> str:
        looked.append(find(clf, x))
        return looked[-1]

    clf, x = Classifier(seeded(residual)), images(4)
    maps = {"grad-cam": GradCAM()(clf, x)}
    monkeypatch.setattr(together, "find_layer", counted)
    found = randomised(clf, x, {"grad-cam": GradCAM()}, maps, networks=2, stages=2)["grad-cam"]
    assert looked == [maps["grad-cam"].layer]
    assert not found.why
