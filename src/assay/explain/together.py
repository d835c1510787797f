"""Several explainers of the same images, from as few passes as give the same maps."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from assay.core.attribution import Attribution
from assay.core.classifier import Classifier
from assay.core.fast import Copies
from assay.errors import told
from assay.explain.base import Explainer, held
from assay.explain.cam import ActivationMap, passes
from assay.explain.layers import find_layer
from assay.explain.scorecam import ScoreCAM


@dataclass(frozen=True, eq=False)
class Explained:
    """What an explainer came to.

    Attributes:
        maps: of all images; None where it fails.
        why: why it does.
        seconds: what it took; of a pass that several share, each has an equal part.
    """

    maps: Attribution | None
    why: str
    seconds: float


def explained(
    explainers: Mapping[str, Explainer],
    clf: Classifier,
    x: Tensor,
    targets: Tensor,
    tick: Callable[[str], None],
    copies: Copies | None = None,
) -> dict[str, Explained]:
    """Explain the same images by several explainers, each as it would alone.

    Maps of one layer's activations come from one forward and one backward pass, and the layer to
    explain is looked for once. Explainers that fail together are called alone, and each says why.

    Args:
        explainers: by a name of your own.
        clf: the classifier.
        x: float32 (N, C, H, W) in [0, 1], checked.
        targets: int64 (N,), the classes to explain.
        tick: told which explainer is at work.
        copies: the classifier's fast copies, where they are made already.

    Returns:
        what each came to, in the order given.

    >>> from assay.explain.together import explained
    >>> some = {"one": assay.explain.GradCAM(), "other": assay.explain.LayerCAM()}
    >>> found = explained(some, clf, x, y, tick=print)
    one, other
    >>> found["other"].maps.values.shape
    torch.Size([12, 8, 8])
    """
    known = settled(explainers, clf, x)
    done: dict[str, Explained] = {}
    for names in sharing(known):
        tick(", ".join(names))
        done |= _in_one_pass({name: known[name] for name in names}, clf, x, targets)
    for name in known:
        if name not in done:
            tick(name)
            started = time.perf_counter()
            maps, why = None, ""
            try:
                maps = known[name].using(copies)(clf, x, targets)
            except Exception as error:  # whatever a user's module, or explainer, may raise
                why = told(error)
            done[name] = Explained(maps, why, time.perf_counter() - started)
    return {name: done[name] for name in known}


def settled(
    explainers: Mapping[str, Explainer], clf: Classifier, x: Tensor
) -> dict[str, Explainer]:
    """Return the explainers with the layer named that they would each look for; as they are where
    there is none, so that they say so themselves."""
    seeking = [
        name
        for name, one in explainers.items()
        if isinstance(one, ActivationMap | ScoreCAM) and one.layer is None
    ]
    found = dict(explainers)
    if not seeking:
        return found
    try:
        with held(clf):
            layer = find_layer(clf, x[:1])
    except Exception:  # whatever a user's module may raise
        return found
    return found | {name: found[name].model_copy(update={"layer": layer}) for name in seeking}


def sharing(explainers: Mapping[str, Explainer]) -> list[list[str]]:
    """Return the names of those that can share a pass: maps of activations of the same layer."""
    groups: dict[str, list[str]] = {}
    for name, one in explainers.items():
        if not isinstance(one, ActivationMap) or one.layer is None:
            continue
        kind = type(one)  # an author may have written more than `weigh`
        if kind.maps is ActivationMap.maps and kind.__call__ is ActivationMap.__call__:
            groups.setdefault(one.layer, []).append(name)
    return [names for names in groups.values() if len(names) > 1]


def _in_one_pass(
    explainers: Mapping[str, Explainer], clf: Classifier, x: Tensor, targets: Tensor
) -> dict[str, Explained]:
    """Return what explainers of one layer come to; nothing where one fails, whichever it is."""
    methods = [one for one in explainers.values() if isinstance(one, ActivationMap)]
    layer = methods[0].layer
    assert layer is not None
    started = time.perf_counter()
    try:
        with held(clf):
            raw, wanted = passes(methods, clf, x, targets, (layer,))
        maps = [
            one.finished(found[layer], wanted, layer, x)
            for one, found in zip(methods, raw, strict=True)
        ]
    except Exception:  # whatever a user's module, or explainer, may raise
        return {}
    each = (time.perf_counter() - started) / len(methods)
    return {name: Explained(found, "", each) for name, found in zip(explainers, maps, strict=True)}
