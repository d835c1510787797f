"""One pass over a source, shared by everything that scores."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import torch
from torch import Tensor, nn

from assay.core.halves import halves
from assay.core.head import Head, find_head, watching
from assay.core.memory import in_parts
from assay.core.oracle import labels
from assay.core.source import Part, Source
from assay.errors import AssayError, unknown

if TYPE_CHECKING:
    from assay.core.classifier import Classifier

S = TypeVar("S", bound=str)
Statistic = Literal["mean", "max", "std"]
"""What is kept of a layer's channel: its mean over space or tokens, its largest value there, or its
standard deviation (divided by the number of places, as a population's)."""
STATISTICS: tuple[Statistic, ...] = ("mean", "max", "std")

NO_HEAD = "the model does not end in a linear layer"
NO_LOGITS = "the model gives probabilities, which are its logits but for a number per row"


class Reader(Protocol):
    """What says before the pass which layers it reads; detectors do, fitted or not."""

    def layers_of(self, model: nn.Module) -> Sequence[str]:
        """Return the layers that it reads of a model, as `embed` takes them."""
        ...


class Reconstructs(Protocol):
    """An autoencoder: images (N, C, H, W) in [0, 1] to images of the same shape. A variational one
    also has `evidence_bound`: images to a bound on their log-likelihood in nats, (N,)."""

    def __call__(self, x: Tensor, /) -> Tensor: ...


@dataclass(frozen=True)
class Embedding:
    """What a model made of a source.

    Attributes:
        logits: float32 (N, K).
        features: float32 (N, D), what the head reads; None without a head.
        layers: statistics of further layers by their name as it was given ("stages.2:max"),
            float32 (N, D_l).
        head: from features to logits, reproducing them within rounding; None without one.
        y: labels int64 (N,), or None where the source has none.
        source: where the rows came from, for detectors that need the inputs again.
        oracle: the model that was evaluated.
        autoencoder: what was handed in for detectors by reconstruction; see `with_autoencoder`.
        lacks: why there is no "head", or not a layer that a reader names, by its name.

    >>> e = clf.embed(x, y, layers=["0:max"])  # module 0, the largest value of each channel
    >>> e.logits.shape, e.features.shape, e.layers["0:max"].shape
    (torch.Size([12, 3]), torch.Size([12, 24]), torch.Size([12, 6]))
    >>> torch.allclose(e.head(e.features), e.logits, atol=1e-5)
    True
    """

    logits: Tensor
    features: Tensor | None
    layers: Mapping[str, Tensor] = field(default_factory=dict)
    head: Head | None = None
    y: Tensor | None = None
    source: Source | None = None
    oracle: Classifier | None = None
    autoencoder: Reconstructs | None = None
    lacks: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.logits)

    def rows(self, some: slice | Tensor) -> Embedding:
        """Return some of the rows: a slice, or their numbers int64 (M,)."""
        return replace(
            self,
            logits=self.logits[some],
            features=None if self.features is None else self.features[some],
            layers={name: values[some] for name, values in self.layers.items()},
            y=None if self.y is None else self.y[some],
            source=None
            if self.source is None
            else Part(self.source, tuple(torch.arange(len(self))[some].tolist())),
        )

    def halves(self) -> tuple[Embedding, Embedding]:
        """Return two halves of the rows, drawn so that both have every class; of its labels, or for
        want of them of its predictions."""
        one, other = halves(len(self), self.predictions if self.y is None else self.y)
        return self.rows(one), self.rows(other)

    def with_autoencoder(self, autoencoder: Reconstructs) -> Embedding:
        """Return it with an autoencoder that learned from the training images."""
        return replace(self, autoencoder=autoencoder)

    def batches(self) -> Iterator[tuple[slice, Tensor]]:
        """Yield the images again, float32 (B, C, H, W), and which rows they are.

        Raises:
            AssayError: if they were not kept.
        """
        if self.source is None:
            raise AssayError("the images are not there any more: this embedding has no source")
        start = 0
        for x, _ in _parts(self.oracle, self.source):
            yield slice(start, start + len(x)), x
            start += len(x)

    def to_dict(self) -> dict[str, Any]:
        """Return what a record keeps of it: everything but the arrays."""
        return {
            "n": len(self),
            "classes": self.logits.shape[1],
            "features": None if self.features is None else self.features.shape[1],
            "layers": {name: values.shape[1] for name, values in self.layers.items()},
        }

    def _repr_html_(self) -> str:
        about = self.to_dict()
        read = "no linear head" if self.features is None else f"{about['features']} features"
        return f"<p>Embedding of {about['n']:,} rows: {about['classes']} logits, {read}</p>"

    @property
    def probabilities(self) -> Tensor:
        """The softmax of the logits: float32 (N, K)."""
        return self.logits.softmax(1)

    @property
    def predictions(self) -> Tensor:
        """The class with the largest logit: int64 (N,); -1 where there is a NaN."""
        return labels(self.logits)


def embed(
    classifier: Classifier,
    source: Source,
    *,
    layers: Sequence[str] = (),
    readers: Iterable[Reader] = (),
) -> Embedding:
    """Run `source` through the classifier once and keep features, logits and statistics of layers.

    Args:
        classifier: the model; it comes back as it was.
        source: the images.
        layers: names of the model's modules, each with the statistic to keep after a colon
            ("stages.2:std"); without one it is the mean over space or tokens. Layers return
            (N, C, H, W), (N, T, C) or (N, C).
        readers: what the embedding is for, such as a list of detectors: their layers are kept too.
            What one of them cannot have it is told when it scores, and the others go on.

    Raises:
        AssayError: for one of `layers` that does not exist (the nearest name is given), or an empty
            source.
    """
    modules = dict(classifier.model.named_modules())
    wanted = {layer: module_and_statistic(layer, modules, STATISTICS) for layer in layers}
    lacks: dict[str, str] = {}
    for layer in _read_by(readers, classifier.model):
        try:
            wanted[layer] = module_and_statistic(layer, modules, STATISTICS)
        except AssayError as error:
            lacks[layer] = str(error)
    logits: list[Tensor] = []
    features: list[Tensor] = []
    kept: dict[str, list[Tensor]] = {layer: [] for layer in wanted}
    ys: list[Tensor] = []
    head: tuple[nn.Linear, Head] | None = None
    with (
        classifier.borrowed(),
        torch.no_grad(),
        watching(classifier.model) as linear,
        _statistics(wanted) as seen,
    ):

        def evaluate(x: Tensor) -> Tensor:
            nonlocal head
            seen.clear()
            out = classifier.logits(classifier.encode(x))
            reads, given = dict(linear.reads), dict(seen)
            if not logits:
                head = find_head(classifier, reads, x, out)
                linear.only(head and head[0])
            new: dict[str, Tensor] = {}
            read_by_head: list[Tensor] = []
            for layer in list(kept):
                values = given.get(layer, f"layer {layer!r} is not used by the model's forward")
                if isinstance(values, Tensor):
                    new[layer] = values[: len(out)]  # a model may be given padded parts
                    continue
                if layer in layers:
                    raise AssayError(values)
                lacks[layer] = values
                del kept[layer]
            if head is not None:
                read = reads.get(head[0])
                rows = out if read is None else read.values[: len(out)]
                if read is not None and head[1].reproduces(rows, out, read.eps):
                    read_by_head = [rows.float().cpu()]
                else:  # seen so in the first batch by accident
                    head = None
            answer = out.cpu()
            # All at the end: a part that memory does not suffice for is evaluated again.
            logits.append(answer)
            features.extend(read_by_head)
            for layer, statistic in new.items():
                kept[layer].append(statistic)
            return answer

        for x, y in _parts(classifier, source):
            in_parts(evaluate, max(1, len(x)), x, tally=classifier.tally, in_vain=False)
            ys.append(y.cpu())
    if not logits:
        raise AssayError("there is nothing to embed: the source is empty")
    if head is None:
        lacks["head"] = NO_HEAD if classifier.outputs == "logits" else NO_LOGITS
    y = torch.cat(ys)
    return Embedding(
        logits=torch.cat(logits),
        features=None if head is None else torch.cat(features),
        layers={name: torch.cat(parts) for name, parts in kept.items()},
        head=None if head is None else Head(head[1].weight.cpu(), head[1].bias.cpu()),
        y=None if bool((y < 0).all()) else y,
        source=source,
        oracle=classifier,
        lacks=lacks,
    )


def _parts(classifier: Classifier | None, source: Source) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the images and labels of a source, as many at a time as the classifier takes."""
    size = 256 if classifier is None else classifier.batch_size or 256
    for _, x, y in source.batches(size):
        rows = len(x) if classifier is None else classifier.rows_per_batch(x)
        yield from zip(torch.split(x, rows), torch.split(y, rows), strict=True)


def _read_by(readers: Iterable[Reader], model: nn.Module) -> dict[str, None]:
    """Return the layers that the readers name, each once; one that finds none will say so."""
    named: dict[str, None] = {}
    for reader in readers:
        with suppress(Exception):  # whatever another package's detector may raise
            named |= dict.fromkeys(reader.layers_of(model))
    return named


def module_and_statistic(
    layer: str, modules: Mapping[str, nn.Module], statistics: Sequence[S]
) -> tuple[nn.Module, S]:
    """Return the module and the statistic that a layer's name means: "stages.2:max", or the first
    of `statistics` where it names none.

    Raises:
        AssayError: there is no such module, or statistic.
    """
    if layer in modules:
        return modules[layer], statistics[0]
    name, colon, kind = layer.rpartition(":")
    if colon and name in modules:
        for statistic in statistics:
            if kind == statistic:
                return modules[name], statistic
        raise unknown("statistic", kind, statistics)
    raise unknown("layer", layer, [known for known in modules if known])


@contextmanager
def _statistics(
    wanted: Mapping[str, tuple[nn.Module, Statistic]],
) -> Iterator[dict[str, Tensor | str]]:
    """Yield what the last calls of layers have given: float32 (N, D), or why it is not that."""
    seen: dict[str, Tensor | str] = {}

    def keep(layer: str, statistic: Statistic) -> Any:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.ndim in (2, 3, 4):
                seen[layer] = _statistic(output.detach().float(), statistic).cpu()
            else:
                seen[layer] = f"layer {layer!r} returns no tensor (N, ...): name another layer"

        return hook

    handles = [
        module.register_forward_hook(keep(layer, statistic))
        for layer, (module, statistic) in wanted.items()
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _statistic(output: Tensor, kind: Statistic) -> Tensor:
    """Return a statistic (N, D) of a layer's output (N, D, H, W) over space, (N, T, D) over tokens;
    of (N, D) it is the output itself, and for the standard deviation 0."""
    places = output.mT if output.ndim == 3 else output.flatten(2) if output.ndim == 4 else output
    if places.ndim == 2:
        places = places[:, :, None]
    if kind == "mean":
        return places.mean(2)
    return places.amax(2) if kind == "max" else places.std(2, correction=0)
