"""One pass over a source, shared by everything that scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from assay.core.oracle import labels
from assay.core.source import Source
from assay.errors import AssayError, unknown

if TYPE_CHECKING:
    from assay.core.classifier import Classifier


@dataclass(frozen=True)
class Embedding:
    """What a model made of a source.

    Attributes:
        logits: float32 (N, K).
        features: float32 (N, D), what the last linear layer reads; None without such a layer.
        layers: further outputs by module name, float32 (N, D_l), averaged over space or tokens.
        head: the last linear layer itself; None without one.
        y: labels int64 (N,), or None where the source has none.
        source: where the rows came from, for detectors that need the inputs again.
        oracle: the model that was asked.
    """

    logits: Tensor
    features: Tensor | None
    layers: Mapping[str, Tensor] = field(default_factory=dict)
    head: nn.Linear | None = None
    y: Tensor | None = None
    source: Source | None = None
    oracle: Classifier | None = None

    def __len__(self) -> int:
        return len(self.logits)

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


def embed(classifier: Classifier, source: Source, *, layers: Sequence[str] = ()) -> Embedding:
    """Run `source` through the classifier once and keep features, logits and named layers.

    Raises:
        AssayError: for a layer that does not exist (the nearest name is given) or an empty source.
    """
    modules = dict(classifier.model.named_modules())
    for name in layers:
        if name not in modules:
            raise unknown("layer", name, [known for known in modules if known])
    seen: dict[str, Tensor] = {}
    calls: dict[nn.Linear, tuple[Tensor, Tensor]] = {}  # what each read and gave, latest last
    hooks: list[Any] = []

    def keep(name: str) -> Any:
        def hook(_: nn.Module, __: Any, output: Tensor) -> None:
            seen[name] = _pooled(name, output).cpu()

        return hook

    def watch(
        module: nn.Linear, inputs: tuple[Tensor, ...], named: dict[str, Tensor], output: Tensor
    ) -> None:
        read = inputs[0] if inputs else named["input"]
        calls.pop(module, None)
        calls[module] = (read.detach(), output.detach())

    logits: list[Tensor] = []
    features: list[Tensor] = []
    kept: dict[str, list[Tensor]] = {name: [] for name in layers}
    ys: list[Tensor] = []
    head: nn.Linear | None = None
    with classifier.borrowed(), torch.no_grad():
        try:
            hooks += [modules[name].register_forward_hook(keep(name)) for name in layers]
            hooks += [
                module.register_forward_hook(watch, with_kwargs=True)
                for module in modules.values()
                if isinstance(module, nn.Linear)
            ]
            for x, y in _parts(classifier, source):
                out = classifier.logits(classifier.encode(x))
                if not logits:
                    head = _head(calls, out, classifier)
                logits.append(out.cpu())
                ys.append(y.cpu())
                if head is not None:
                    features.append(calls[head][0].float().cpu())
                for name in layers:
                    if name not in seen:
                        raise AssayError(f"layer {name!r} is not used by the model's forward")
                    kept[name].append(seen[name])
        finally:
            for hook in hooks:
                hook.remove()
    if not logits:
        raise AssayError("there is nothing to embed: the source is empty")
    y = torch.cat(ys)
    return Embedding(
        logits=torch.cat(logits),
        features=torch.cat(features) if head is not None else None,
        layers={name: torch.cat(parts) for name, parts in kept.items()},
        head=head,
        y=None if bool((y < 0).all()) else y,
        source=source,
        oracle=classifier,
    )


def _parts(classifier: Classifier, source: Source) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the images and labels of a source, as many at a time as the classifier takes."""
    for _, x, y in source.batches(classifier.batch_size or 256):
        rows = classifier.rows_per_batch(x)
        yield from zip(torch.split(x, rows), torch.split(y, rows), strict=True)


def _pooled(name: str, output: Any) -> Tensor:
    """Return a layer's output as float32 (N, D): (N, D, H, W) averaged over space, (N, T, D) over
    tokens."""
    if not isinstance(output, Tensor) or output.ndim < 2:
        raise AssayError(f"layer {name!r} returns no tensor (N, ...): name another layer")
    values: Tensor = output.detach().float()
    if values.ndim == 2:
        return values.clone()  # what follows may work in place
    return values.mean(1) if values.ndim == 3 else values.flatten(2).mean(2)


def _head(
    calls: Mapping[nn.Linear, tuple[Tensor, Tensor]], logits: Tensor, classifier: Classifier
) -> nn.Linear | None:
    """Return the linear layer whose output is the model's."""
    if not calls:
        return None
    module, (_, output) = list(calls.items())[-1]
    if output.shape != logits.shape:
        return None
    same = torch.allclose(classifier.as_logits(output), logits, rtol=0, atol=0, equal_nan=True)
    return module if same else None
