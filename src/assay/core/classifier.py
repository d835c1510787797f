"""A user's model, wrapped: [0, 1] in, logits out, and the model given back as it was."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from assay.core.oracle import Access, Encoded
from assay.core.source import Source, TensorSource
from assay.errors import AssayError

if TYPE_CHECKING:
    from assay.core.embedding import Embedding

RANGE_TOLERANCE = 1e-6


class Classifier:
    """A model, its preprocessing and the names of its classes; differentiable.

    Args:
        model: any module from float32 (N, C, H, W) to logits (N, K); an output object with a
            `logits` attribute (Hugging Face) works too.
        mean, std: per-channel normalisation, applied inside, so that every budget is in pixel
            units of [0, 1]. None: no normalisation.
        classes: names of the outputs; None names them by number at the first query.
        outputs: "logits", or "probabilities" for a model that ends in a softmax: their logarithm
            is then used as logits, and reports carry a flag, since a saturated softmax hides
            gradients (Carlini et al. 2019).
        preprocess: a differentiable function on [0, 1] images to run before normalisation
            (a resize, say).
        batch_size: rows evaluated at a time; None chooses by the size of one input.

    The model is used in eval mode with frozen parameters, and put back exactly as it was: mode of
    every module, `requires_grad`, gradients and hooks, also after an exception.

    Raises:
        AssayError: for inputs outside [0, 1] (tolerance 1e-6), outputs that are NaN, that are
            probabilities although logits were declared, or whose number is not that of `classes`.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        mean: Sequence[float] | Tensor | None = None,
        std: Sequence[float] | Tensor | None = None,
        classes: Sequence[str] | None = None,
        outputs: Literal["logits", "probabilities"] = "logits",
        preprocess: Callable[[Tensor], Tensor] | None = None,
        batch_size: int | None = None,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise AssayError(f"a Classifier wraps a torch.nn.Module, not {type(model).__name__}")
        if outputs not in ("logits", "probabilities"):
            raise AssayError(f"outputs is 'logits' or 'probabilities', not {outputs!r}")
        self.model = model
        self.mean = None if mean is None else torch.as_tensor(mean, dtype=torch.float32)
        self.std = None if std is None else torch.as_tensor(std, dtype=torch.float32)
        if self.std is not None and bool((self.std <= 0).any()):
            raise AssayError(f"std must be positive, got {self.std.tolist()}")
        self.outputs = outputs
        self.preprocess = preprocess
        self.batch_size = batch_size
        self._classes = None if classes is None else tuple(str(name) for name in classes)
        self._queries = 0
        self._checked = False

    @property
    def access(self) -> Access:
        return "gradient"

    @property
    def queries(self) -> int:
        return self._queries

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names. Unnamed ones are numbers, known after the first query."""
        if self._classes is None:
            raise AssayError("the classes are not known before the first query; pass classes=")
        return self._classes

    @property
    def device(self) -> torch.device:
        first = next(self.model.parameters(), None)
        first = first if first is not None else next(self.model.buffers(), None)
        return first.device if first is not None else torch.device("cpu")

    @property
    def fingerprint(self) -> str:
        """A digest of the weights and the preprocessing, as 64 hexadecimal digits."""
        sha = hashlib.sha256(repr((type(self.model).__qualname__, self.outputs)).encode())
        for value in (self.mean, self.std):
            sha.update(repr(None if value is None else value.flatten().tolist()).encode())
        for key, tensor in sorted(self.model.state_dict().items()):
            sha.update(f"{key}{tuple(tensor.shape)}{tensor.dtype}".encode())
            sha.update(
                tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
            )
        return sha.hexdigest()

    def __repr__(self) -> str:
        known = f"{len(self._classes)} classes" if self._classes else "classes not yet known"
        return f"Classifier({type(self.model).__name__}, {known}, outputs={self.outputs!r})"

    # -- asking ------------------------------------------------------------------------------

    def query(self, x: Tensor) -> Tensor:
        """Return logits float32 (N, K) on the CPU or wherever `x` is, without gradients."""
        x = check_images(x)
        with self.borrowed(), torch.no_grad():
            rows = self.rows_per_batch(x)
            parts = [self.logits(Encoded(part)) for part in x.split(rows)]
        return torch.cat(parts).to(x.device)

    def predict(self, x: Tensor) -> Tensor:
        """Return the predicted class of every row, int64 (N,)."""
        return self.query(x).argmax(1)

    def encode(self, x: Tensor) -> Encoded:
        """Return the checked images: gradients are taken by pixels in [0, 1]."""
        return Encoded(check_images(x))

    def logits(self, e: Encoded) -> Tensor:
        """Return logits float32 (N, K), differentiable by `e.values`; one pass, no splitting.

        The model runs in the mode it is in: callers that ask many times hold `borrowed()`.
        """
        self._queries += len(e.values)
        output = self.model(self.normalise(e.values))
        output = getattr(output, "logits", output)
        if not self._checked:
            self._check_output(output, len(e.values))
        return self.as_logits(output)

    def normalise(self, x: Tensor) -> Tensor:
        """Return what the model itself takes, from images in [0, 1]."""
        x = x.to(self.device)
        if self.preprocess is not None:
            x = self.preprocess(x)
        if self.mean is not None:
            x = x - self.mean.to(x.device).view(1, -1, 1, 1)
        if self.std is not None:
            x = x / self.std.to(x.device).view(1, -1, 1, 1)
        return x

    def as_logits(self, output: Tensor) -> Tensor:
        """Return the model's output as float32 logits."""
        output = output.float()
        return output.clamp_min(1e-12).log() if self.outputs == "probabilities" else output

    def rows_per_batch(self, x: Tensor) -> int:
        """Return how many rows of `x` to evaluate at a time."""
        return self.batch_size or rows_that_fit(x)

    def embed(
        self, data: Tensor | Source, y: Tensor | None = None, *, layers: Sequence[str] = ()
    ) -> Embedding:
        """Return features and logits of every row, in one pass.

        Args:
            data: float32 (N, C, H, W) in [0, 1], or a source.
            y: labels int64 (N,) of a tensor; a source brings its own.
            layers: names of further modules whose outputs to keep (averaged over space).
        """
        from assay.core.embedding import embed

        source = TensorSource(data, y) if isinstance(data, Tensor) else data
        return embed(self, source, layers=layers)

    @contextmanager
    def borrowed(self) -> Iterator[nn.Module]:
        """Hold the model in eval mode with frozen parameters; put it back on the way out."""
        with borrowed(self.model) as model:
            yield model

    def _check_output(self, output: Any, rows: int) -> None:
        """Refuse, once, what is not logits (N, K) of the declared classes."""
        if not isinstance(output, Tensor):
            raise AssayError(
                f"the model returned {type(output).__name__}; a Classifier needs a tensor of "
                "logits (N, K), or an object with a `logits` attribute"
            )
        if output.ndim != 2 or len(output) != rows:
            raise AssayError(
                f"the model returned shape {tuple(output.shape)} for {rows} images; "
                f"a Classifier needs logits ({rows}, K)"
            )
        if self._classes is None:
            self._classes = tuple(str(k) for k in range(output.shape[1]))
        if output.shape[1] != len(self._classes):
            raise AssayError(
                f"the model has {output.shape[1]} outputs, but {len(self._classes)} classes "
                "are named; name one class per output"
            )
        values = output.detach().float()
        bad = int((~values.isfinite()).any(1).sum())
        if bad:
            raise AssayError(
                f"the model returns NaN or infinity for {bad} of {rows} images; "
                "check its weights and its normalisation (mean, std)"
            )
        sums = values.sum(1)
        normalised = bool((values >= 0).all() & ((sums - 1).abs() < 1e-3).all())
        if self.outputs == "logits" and normalised:
            raise AssayError(
                "the model returns probabilities (rows are positive and sum to 1), not logits: "
                'drop its softmax, or declare outputs="probabilities"'
            )
        if self.outputs == "probabilities" and not normalised:
            raise AssayError(
                'outputs="probabilities" was declared, but rows sum to '
                f'{float(sums.min()):.4g} … {float(sums.max()):.4g}; declare outputs="logits"'
            )
        self._checked = True


@contextmanager
def borrowed(model: nn.Module) -> Iterator[nn.Module]:
    """Hold `model` in eval mode with frozen parameters, and put back the mode of every module and
    the `requires_grad` of every parameter on the way out, also after an exception."""
    modes = [(module, module.training) for module in model.modules()]
    wants = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        for module, _ in modes:
            module.training = False
        for parameter, _ in wants:
            parameter.requires_grad_(False)
        yield model
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, want in wants:
            parameter.requires_grad_(want)


def check_images(x: Tensor) -> Tensor:
    """Return `x` clamped to [0, 1], if it is float images (N, C, H, W) within 1e-6 of that range.

    Raises:
        AssayError: names the shape, the dtype, or the least and greatest value seen.
    """
    if not isinstance(x, Tensor):
        raise AssayError(f"images must be a torch.Tensor (N, C, H, W), not {type(x).__name__}")
    if x.ndim != 4:
        raise AssayError(f"images must have shape (N, C, H, W), got {tuple(x.shape)}")
    if not x.is_floating_point():
        raise AssayError(f"images must be float in [0, 1], got {x.dtype}; divide by 255 first")
    if len(x) == 0:
        return x
    low, high = (float(v) for v in torch.aminmax(x.detach()))
    if not (low >= -RANGE_TOLERANCE and high <= 1 + RANGE_TOLERANCE):
        raise AssayError(
            f"images must lie in [0, 1], but the values seen go from {low:.6g} to {high:.6g}; "
            "pass raw pixels and give the normalisation to Classifier(mean=, std=)"
        )
    return x.clamp(0, 1) if low < 0 or high > 1 else x


def rows_that_fit(x: Tensor) -> int:
    """Return a batch size that keeps activations in cache on a CPU: 256 CIFAR images."""
    size = max(1, x[0].numel()) if len(x) else 1
    return max(8, min(512, 786_432 // size))
