"""Model parameter randomisation (Adebayo et al. 2018, "Sanity checks for saliency maps")."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from assay import stats
from assay.core.attribution import Attribution
from assay.core.classifier import Classifier
from assay.core.memory import Tally
from assay.core.random import Stream
from assay.errors import AssayError
from assay.explain.base import Explainer
from assay.explain.shift import rank_correlation
from assay.explain.together import explained, settled

Array = NDArray[np.float64]
Outcome = Literal["passes", "survives", "undecided", "not run"]


@dataclass(frozen=True, eq=False)
class Randomised:
    """How like its maps of the trained network an explainer's maps of random ones are.

    Both of the paper's rank correlations are here, of the absolute values and of the signed ones.
    The verdict is by the absolute ones: a random network may turn the sign of a map around, which
    brings the signed correlation to 0 though the map shows the same places.

    Attributes:
        share: float64 (S,), which share of the layers is random at each stage, from the top; the
            last is all of them.
        absolute, signed: float64 (N, S), Spearman's rank correlation with the map of the trained
            network, at the map's own resolution. 0 where the random network's map is the same
            everywhere; NaN where the trained one's is, or where there is no map.
        network: int64 (N,), which random network each image was explained for.
        places: how many values a map has.
        threshold: the correlation above which a map explains nothing of what was learnt.
        why: why there are no maps of random networks; empty where there are.
    """

    share: Array
    absolute: Array
    signed: Array
    network: NDArray[np.int64]
    places: int
    threshold: float
    why: str = ""

    def over_networks(self, values: Array) -> stats.Estimate:
        """Return the mean of some correlations (N,), with its interval over random networks.

        Networks are what is drawn at random, images are nested in them. Their means vary at least
        as much as correlations of that many places do by chance, 1 / (places - 1) for an image.
        """
        known = np.isfinite(values)
        each = [values[known & (self.network == k)] for k in np.unique(self.network)]
        means = [float(some.mean()) for some in each if len(some)]
        if not means:
            return stats.mean_interval([], "random networks")
        floor = 1 / max(1, self.places - 1) / (known.sum() / len(means))
        found = stats.mean_interval(means, "random networks", floor_variance=float(floor))
        return replace(found, low=max(-1.0, found.low), high=min(1.0, found.high))

    @property
    def correlation(self) -> stats.Estimate:
        """The rank correlation of absolute values once all layers are random."""
        return self.over_networks(self.absolute[:, -1])

    @property
    def verdict(self) -> Outcome:
        """Whether the maps survive the loss of all that was learnt, or pass: they do not."""
        found = self.correlation
        if found.n == 0:
            return "not run"
        judged = stats.judge(found.low, found.high, self.threshold)
        if judged == "undecided":
            return "undecided"
        return "survives" if judged == "holds" else "passes"

    def to_dict(self) -> dict[str, Any]:
        stages = range(len(self.share))
        return {
            "verdict": self.verdict,
            "threshold": self.threshold,
            "share_of_layers": self.share.tolist(),
            "absolute": [self.over_networks(self.absolute[:, k]).to_dict() for k in stages],
            "signed": [self.over_networks(self.signed[:, k]).to_dict() for k in stages],
            "images": int(np.isfinite(self.absolute[:, -1]).sum()),
            "why": self.why,
        }


def randomised(
    clf: Classifier,
    x: Tensor,
    explainers: Mapping[str, Explainer],
    maps: Mapping[str, Attribution],
    *,
    networks: int = 12,
    stages: int = 4,
    threshold: float = 0.5,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Randomised]:
    """Explain the same images, for the same classes, with more and more random weights.

    The images are split among several copies of the network, each with random weights of its own;
    in each the layers become random from the top down, as in the paper's cascade, until all of
    them are. The network itself stays as it is.

    What passes may be a bad map all the same: the test says which maps depend on what was learnt,
    not which are right (Binder et al. 2023, "Shortcomings of top-down randomization-based sanity
    checks for evaluations of deep neural network explanations").

    Args:
        clf: the classifier.
        x: float32 (N, C, H, W) in [0, 1].
        explainers: what is tested, by a name of your own.
        maps: those of each explainer of `x`, by the same names.
        networks: how many copies; at most one for each image.
        stages: how often maps are made anew on the way down; at most once for each layer.
        threshold: the rank correlation above which a map survives. At 0.5 a quarter of the
            variance of the ranks is there without anything learnt.
        seed: the stream of the weights.
        progress: told what is being done.

    Raises:
        AssayError: for a model that cannot be copied, that has nothing to make random, or that
            fails on a single image.

    >>> some = {"grad-cam": assay.explain.GradCAM()}
    >>> maps = {"grad-cam": some["grad-cam"](clf, x)}
    >>> found = assay.explain.randomised(clf, x, some, maps, networks=2, stages=1)["grad-cam"]
    >>> found.absolute.shape, found.share.tolist()
    ((12, 1), [1.0])
    """
    stream = Stream(seed).child("explain", "random weights")
    parts = np.array_split(np.arange(len(x)), min(networks, len(x)))
    explainers = settled(explainers, clf, x)  # random weights move no layer: looked for once
    found: dict[str, list[Array]] = {name: [] for name in explainers}
    why = dict.fromkeys(explainers, "")
    shares: list[float] = []
    same_targets = _of_same_targets(maps)
    for number, rows in enumerate(parts):
        if progress is not None:
            progress(f"random weights, network {number + 1} of {len(parts)}")
        alike: dict[str, list[Array]] = {name: [] for name in explainers}
        shares = []
        for share, twin in cascade(clf, x[:1], stages, stream.child(number)):
            shares.append(share)
            for names in same_targets:
                some = {name: explainers[name] for name in names}
                targets = maps[names[0]].targets[rows]
                for name, again in explained(some, twin, x[rows], targets, _silent).items():
                    why[name] = again.why or why[name]
                    alike[name].append(_kept(maps[name].raw[rows], again.maps))
        for name, stacked in alike.items():
            found[name].append(np.stack(stacked, axis=-1))
    network = np.concatenate([np.full(len(rows), k) for k, rows in enumerate(parts)])
    results = {}
    for name, pieces in found.items():
        absolute, signed = np.concatenate(pieces, axis=1)
        results[name] = Randomised(
            share=np.array(shares),
            absolute=absolute,
            signed=signed,
            network=network,
            places=maps[name].raw[0].numel(),
            threshold=threshold,
            why=why[name],
        )
    return results


def _of_same_targets(maps: Mapping[str, Attribution]) -> list[list[str]]:
    """Return the names of maps that explain the same classes: those can be made together."""
    groups: list[list[str]] = []
    for name, one in maps.items():
        for group in groups:
            if torch.equal(maps[group[0]].targets, one.targets):
                group.append(name)
                break
        else:
            groups.append([name])
    return groups


def _kept(before: Tensor, again: Attribution | None) -> Array:
    """Return how like the maps of a random network (None: it has none) those before are: (2, n)."""
    if again is None:
        return np.full((2, len(before)), np.nan)
    same = _alike(before, again.raw)
    if again.undefined is not None:
        same[:, again.undefined.cpu().numpy()] = np.nan
    return same


def _silent(doing: str) -> None:
    del doing


def _alike(before: Tensor, after: Tensor) -> Array:
    """Return the rank correlations of maps (n, h, w), of absolute values and signed: (2, n).

    One that is the same everywhere before has none (NaN); one that is so after has not survived: 0.
    """
    one, other = before.double().cpu().numpy(), after.double().cpu().numpy()
    found = np.stack([rank_correlation(abs(one), abs(other)), rank_correlation(one, other)])
    told = np.ptp(one.reshape(len(one), -1), axis=1) > 0
    return np.where(told, np.nan_to_num(found), np.nan)


def cascade(
    clf: Classifier, x: Tensor, stages: int, stream: Stream
) -> Iterator[tuple[float, Classifier]]:
    """Yield one copy of the classifier again and again, with more and more random layers.

    Args:
        clf: the classifier, which stays as it is.
        x: an image (1, C, H, W), for the order in which the layers are called.
        stages: how often; at most once for each layer.
        stream: what the weights are drawn from.

    Yields:
        the share of its layers that are random, rising to 1, and the copy.

    Raises:
        AssayError: as `randomised`.
    """
    twin = _twin(clf)
    layers = from_the_top(twin, x)
    if not layers:
        raise AssayError("the model has no parameters, so there is nothing to make random")
    stages, done = min(stages, len(layers)), 0
    for stage in range(1, stages + 1):
        until = math.ceil(len(layers) * stage / stages)
        for place in range(done, until):
            make_random(layers[place], stream.child("layer", place), twin.device)
        done = until
        yield done / len(layers), twin


def _twin(clf: Classifier) -> Classifier:
    """Return a classifier like `clf` around a copy of its model."""
    twin = copy.copy(clf)
    try:
        twin.model = copy.deepcopy(clf.model)
    except Exception as error:  # whatever a user's module may raise when copied
        raise AssayError(
            f"the model cannot be copied, so its weights are not made random: "
            f"{type(error).__name__}: {error}"
        ) from error
    twin.tally = Tally()
    return twin


def from_the_top(clf: Classifier, x: Tensor) -> list[nn.Module]:
    """Return the modules that hold something learnt themselves, the last to be called first.

    A container that holds parameters itself, such as the class token and the positions of a
    transformer, is called before what is in it, and comes after that here. Of a module that is
    called several times the last call counts; modules that are never called (such as those whose
    weights another one reads) come at the end.
    """
    layers = [module for module in clf.model.modules() if _learns(module)]
    called: list[nn.Module] = []
    handles = [
        module.register_forward_pre_hook(lambda module, _: called.append(module))
        for module in layers
    ]
    try:
        clf.query(x)
    finally:
        for handle in handles:
            handle.remove()
    order = {module: place for place, module in enumerate(called)}
    return sorted(layers, key=lambda module: -order.get(module, -1))


def _learns(module: nn.Module) -> bool:
    """Return whether a module has parameters or running statistics of its own."""
    own = next(module.parameters(recurse=False), None)
    return own is not None or getattr(module, "running_mean", None) is not None


@torch.no_grad()
def make_random(module: nn.Module, stream: Stream, device: torch.device) -> None:
    """Draw anew what a module itself has learnt, in place.

    By its own `reset_parameters`, which also takes the running statistics from a batch norm. What
    that leaves as it was, and all where there is none or it fails, keeps its values but in random
    order, so that the scale stays the network's; so do matrices and kernels that it makes the same
    throughout (a head that begins with zeros), behind which nothing would be random but silent.
    """
    before = [parameter.clone() for parameter in module.parameters(recurse=False)]
    reset = getattr(module, "reset_parameters", None)
    if callable(reset):
        with stream.seeding(device), suppress(Exception):  # whatever a user's method may raise
            reset()
    draw = stream.child("order").torch()
    for old, parameter in zip(before, module.parameters(recurse=False), strict=True):
        silent = parameter.ndim > 1 and bool((parameter == parameter.flatten()[0]).all())
        if torch.equal(old, parameter) or silent:
            parameter.copy_(_shuffled(old, draw))
    for buffer in module.buffers(recurse=False) if reset is None else ():
        if buffer.is_floating_point():  # of a batch norm that was frozen into buffers
            buffer.copy_(_shuffled(buffer, draw))


def _shuffled(values: Tensor, draw: torch.Generator) -> Tensor:
    order = torch.randperm(values.numel(), generator=draw).to(values.device)
    return values.flatten()[order].view_as(values)
