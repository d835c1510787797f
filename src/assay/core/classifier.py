"""A user's model, wrapped: [0, 1] in, logits out, and the model given back as it was."""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from assay.core.borrowed import borrowed, check_weights, modes_of, put_back, same
from assay.core.images import check_channels, check_images, rows_that_fit
from assay.core.memory import Tally, in_parts
from assay.core.oracle import Access, Encoded, gradient, labels, no_gradient, quantized
from assay.core.outputs import Outputs, could_be_probabilities, logits_in
from assay.core.source import Source, TensorSource, as_bytes
from assay.core.user_code import user_code
from assay.errors import AssayError, distinct

if TYPE_CHECKING:
    from assay.core.embedding import Embedding, Reader

MOST_PADDED = 2**28
"""Values that a batch may be padded to (1 GiB of float32)."""


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
        batch_size: rows evaluated at a time; None chooses by the size of one input. A batch that
            does not fit in memory is halved, and so are those after it. A model that takes batches
            of this size alone is given parts that are padded to it.
        notes: what was understood when it was loaded, a line each, for whoever reads the report.

    The model is used in eval mode with frozen parameters, and put back exactly as it was: mode of
    every module, `requires_grad`, gradients and hooks, also after an exception. Buffers that its
    forward writes in eval mode, such as a counter, are put back too; one that changes its weights
    is refused, with its weights as they were.

    What the model returns is checked on the first rows it is evaluated on, its shape every time.
    Later NaN and infinities are returned as they are, and `predict` says -1 there: a row without an
    answer is never right.

    Raises:
        AssayError: for a model whose weights are not there yet (lazy, or on the meta device) or
            complex; for inputs outside [0, 1] (tolerance 1e-6), a model that changes its weights,
            that answers NaN to all of its first batch, that gives probabilities although logits
            were declared, that gives integers or complex numbers, or whose number of outputs is 1,
            or not that of `classes`; for whatever the model or `preprocess` raises; for
            one image that alone does not fit in memory.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
    >>> own = assay.Classifier(net, mean=[0.5] * 3, std=[0.25] * 3, classes=("a", "b", "c"))
    >>> own.query(torch.rand(5, 3, 8, 8)).shape, own.access
    (torch.Size([5, 3]), 'gradient')
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        mean: Sequence[float] | Tensor | None = None,
        std: Sequence[float] | Tensor | None = None,
        classes: Sequence[str] | None = None,
        outputs: Outputs = "logits",
        preprocess: Callable[[Tensor], Tensor] | None = None,
        batch_size: int | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        if not isinstance(model, nn.Module):
            raise AssayError(f"a Classifier wraps a torch.nn.Module, not {type(model).__name__}")
        if outputs not in ("logits", "probabilities"):
            raise AssayError(f"outputs is 'logits' or 'probabilities', not {outputs!r}")
        if batch_size is not None and batch_size < 1:
            raise AssayError(f"batch_size is at least 1, or None, not {batch_size}")
        check_weights(model)
        self.model = model
        self.mean = None if mean is None else torch.as_tensor(mean, dtype=torch.float32).cpu()
        self.std = None if std is None else torch.as_tensor(std, dtype=torch.float32).cpu()
        if self.std is not None and bool((self.std <= 0).any()):
            raise AssayError(f"std must be positive, got {self.std.tolist()}")
        self.outputs = outputs
        self.preprocess = preprocess
        self.batch_size = batch_size
        self.notes = tuple(notes)
        named = None if classes is None else distinct(map(str, classes), "classes of the model")
        self._classes = named
        self.tally = Tally()
        self._checked = False
        self._alike = 0  # rows seen that could be probabilities; one alone may be by accident
        self._integers = bool(quantized(model))
        self._only_whole = False  # whether parts are padded to batch_size
        self._written: dict[str, tuple[Tensor, Tensor]] | None = None

    @property
    def access(self) -> Access:
        return "gradient"

    @property
    def queries(self) -> int:
        return self.tally.queries

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names. Unnamed ones are numbers, known after the first query."""
        if self._classes is None:
            raise AssayError("the classes are not known before the first query; pass classes=")
        return self._classes

    @property
    def device(self) -> torch.device:
        first = next(chain(self.model.parameters(), self.model.buffers()), None)
        return first.device if first is not None else torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        """What the model computes in: the type of its first floating-point parameter."""
        found = (p.dtype for p in self.model.parameters() if p.is_floating_point())
        return next(found, torch.float32)

    @property
    def fingerprint(self) -> str:
        """A digest of modules, weights and preprocessing, as 64 hexadecimal digits.

        Of a module it sees the class, the settings that it prints, and its state; not the code of
        its `forward`. Of `preprocess` it sees the source, or what the callable prints.
        """
        sha = hashlib.sha256(f"{self.outputs}{described(self.preprocess)}".encode())
        for value in (self.mean, self.std):
            sha.update(repr(None if value is None else value.flatten().tolist()).encode())
        for name, module in self.model.named_modules():
            sha.update(_plain(f"{name}{type(module).__qualname__}{module.extra_repr()}").encode())
        for key, tensor in sorted(self.model.state_dict().items()):
            if not isinstance(tensor, Tensor):  # a module's own extra state
                sha.update(_plain(f"{key}{tensor!r}").encode())
                continue
            sha.update(f"{key}{tuple(tensor.shape)}{tensor.dtype}".encode())
            sha.update(as_bytes(tensor))
        return sha.hexdigest()

    def __repr__(self) -> str:
        known = f"{len(self._classes)} classes" if self._classes else "classes not yet known"
        return f"Classifier({type(self.model).__name__}, {known}, outputs={self.outputs!r})"

    # -- querying ----------------------------------------------------------------------------

    def __call__(self, x: Tensor | NDArray[Any]) -> Tensor:
        """Return logits float32 (N, K), as `query` does."""
        return self.query(x)

    def query(self, x: Tensor | NDArray[Any]) -> Tensor:
        """Return logits float32 (N, K) on the CPU or wherever `x` is, without gradients."""
        x = check_images(x)
        if not len(x) and self._classes:  # a model may not take a batch of none
            return torch.zeros((0, len(self._classes)), device=x.device)
        with self.borrowed(), torch.no_grad():
            rows = self.rows_per_batch(x)
            answer = in_parts(lambda part: self.logits(Encoded(part)), rows, x, tally=self.tally)
        return answer.to(x.device)

    def predict(self, x: Tensor | NDArray[Any]) -> Tensor:
        """Return the predicted class of every row, int64 (N,); -1 where it has no answer."""
        return labels(self.query(x))

    def encode(self, x: Tensor) -> Encoded:
        """Return the checked images: gradients are taken by pixels in [0, 1]."""
        return Encoded(check_images(x))

    def logits(self, e: Encoded) -> Tensor:
        """Return logits float32 (N, K), differentiable by `e.values`; one pass, no splitting.

        The model runs in the mode it is in: callers that query it many times hold `borrowed()`.
        """
        if self._integers and e.values.requires_grad:
            raise no_gradient(self)  # before torch advises on it
        self.tally.queries += len(e.values)
        x = self.normalise(e.values)
        if self._written is None and not any(mode for _, mode in modes_of(self.model)):
            with self._watched():
                output = self.answered(self.model, x)
        else:
            output = self.answered(self.model, x)
        if not self._checked:
            self._check_values(output)
        return self.as_logits(output)

    def answered(self, model: nn.Module, x: Tensor) -> Tensor:
        """Return what a module returns for `x` as it takes it: a tensor (N, K).

        Args:
            model: this classifier's, or a copy of it.
            x: images as `normalise` returns them.
        """
        rows, size = len(x), self.batch_size
        try:
            if self._only_whole and size and rows:
                return self._in_wholes(model, x, size)
            with user_code(x):
                output = model(x)
            return self.shaped(output, rows)
        except AssayError:
            if self._only_whole or not size or rows in (0, size):
                raise
            if size * x[0].numel() > MOST_PADDED:
                raise
            with suppress(AssayError):
                answer = self._in_wholes(model, x, size)
                self._only_whole = True
                return answer
            raise

    def _in_wholes(self, model: nn.Module, x: Tensor, size: int) -> Tensor:
        """Evaluate in parts of exactly `size` rows, the last one padded by its last row."""
        answers = []
        for part in torch.split(x, size):
            padding = part[-1:].expand(size - len(part), *part.shape[1:])
            with user_code(x):
                output = model(torch.cat([part, padding]))
            answers.append(self.shaped(output, size)[: len(part)])
        return torch.cat(answers)

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """See, once, what of its state a forward pass in eval mode writes.

        Raises:
            AssayError: its parameters; they are as before.
        """
        parameters = dict(self.model.named_parameters())
        state: dict[str, Tensor] = {**parameters, **dict(self.model.named_buffers())}
        before = {name: (tensor, tensor.detach().clone()) for name, tensor in state.items()}
        try:
            yield
        finally:
            after = dict[str, Tensor](self.model.named_parameters())
            after |= dict(self.model.named_buffers())
            written = {
                name: (tensor, kept)
                for name, (tensor, kept) in before.items()
                if after.get(name) is not tensor or not same(tensor, kept)
            }
            put_back(self.model, written)
        changed = [name for name in written if name in parameters]
        if changed:
            raise AssayError(
                f"the model's forward changes its own weights ({', '.join(changed[:3])}"
                f"{', …' if len(changed) > 3 else ''}), so that its answers depend on what it was "
                "asked before; they were put back: take the change out of its forward"
            )
        self._written = written

    def trained(self, x: Tensor) -> Tensor:
        """Return logits float32 (N, K), differentiable by the weights, of images in [0, 1], in the
        model's own mode; nothing is counted or checked."""
        output = self.model(self.normalise(x))
        return self.as_logits(getattr(output, "logits", output))

    def normalise(self, x: Tensor) -> Tensor:
        """Return what the model itself takes, from images in [0, 1].

        It is a tensor of its own: a model that works in place does not write into `x`.
        """
        x = x.to(self.device, torch.float32, copy=True)
        if self.preprocess is not None:
            with user_code(x, "preprocess"):
                x = self.preprocess(x)  # it may give what belongs to others, or another type
            x = x.to(torch.promote_types(x.dtype, torch.float32), copy=True)
        check_channels(x, self.mean, self.std)
        if self.mean is not None:
            x = x.sub_(self.mean.to(x.device).view(1, -1, 1, 1))
        if self.std is not None:
            x = x.div_(self.std.to(x.device).view(1, -1, 1, 1))
        return x.to(self.dtype)

    def shaped(self, output: Any, rows: int) -> Tensor:
        """Return what the model returned for `rows` images, if it is a tensor (rows, K).

        Raises:
            AssayError: it is something else.
        """
        logits = logits_in(output, rows, self._classes)
        if self._classes is None:
            self._classes = tuple(str(k) for k in range(logits.shape[1]))
        return logits

    def as_logits(self, output: Tensor) -> Tensor:
        """Return the model's output as float32 logits."""
        output = output.float()
        return output.clamp_min(1e-12).log() if self.outputs == "probabilities" else output

    def rows_per_batch(self, x: Tensor) -> int:
        """Return how many rows of `x` to evaluate at a time."""
        return self.batch_size or rows_that_fit(x)

    def embed(
        self,
        data: Tensor | NDArray[Any] | Source,
        y: Tensor | NDArray[Any] | None = None,
        *,
        layers: Sequence[str] = (),
        readers: Iterable[Reader] = (),
    ) -> Embedding:
        """Return features and logits of every row, in one pass.

        Args:
            data: float32 (N, C, H, W) in [0, 1], or a source.
            y: labels int64 (N,) of a tensor; a source brings its own.
            layers: names of further modules to keep a statistic of: "stages.2:max" (see `embed` in
                `assay.core.embedding`).
            readers: what the embedding is for, such as a list of detectors: the layers that they
                read are kept too.
        """
        from assay.core.embedding import embed

        if isinstance(data, Tensor | np.ndarray):
            data = TensorSource(check_images(data), None if y is None else torch.as_tensor(y))
        source = data
        return embed(self, source, layers=layers, readers=readers)

    @contextmanager
    def borrowed(self) -> Iterator[nn.Module]:
        """Hold the model in eval mode with frozen parameters; put it back on the way out."""
        known = self._written is not None  # else it is seen in here, with the values it has now
        buffers = dict(self.model.named_buffers()) if self._written else {}
        before = {n: (buffers[n], buffers[n].clone()) for n in self._written or () if n in buffers}
        try:
            with borrowed(self.model) as model:
                yield model
        finally:
            put_back(self.model, before if known else self._written or {})

    def _check_values(self, output: Tensor) -> None:
        """Refuse, once, outputs (N, K) that are not the logits or probabilities declared."""
        if len(output) == 0:
            return
        alike = could_be_probabilities(output, self.outputs)
        self._alike += alike
        if alike and self._alike > 1:
            raise AssayError(
                "the model returns probabilities (rows are positive and sum to 1), not logits: "
                "drop its softmax, or declare them by --outputs probabilities "
                '(in Python, outputs="probabilities")'
            )
        self._checked = not alike


def check_gradient(clf: Classifier, x: Tensor) -> None:
    """See that the outputs have a gradient with respect to the images (N, C, H, W).

    Raises:
        AssayError: they have none.
    """

    def ask(part: Tensor) -> Tensor:
        return gradient(clf, part, part, lambda logits, _: logits.logsumexp(1))[1]

    with clf.borrowed():
        in_parts(ask, 2, x[:2].detach(), tally=clf.tally, kind="gradient")


def described(function: Callable[..., Any] | None) -> str:
    """Return the source of a function, or what another callable prints."""
    try:
        return (
            inspect.getsource(function) if inspect.isfunction(function) else _plain(f"{function}")
        )
    except OSError:  # typed at a prompt
        return _plain(f"{function}")


def _plain(text: str) -> str:
    """Return `text` without addresses in memory, which differ from run to run."""
    return re.sub(r"0x[0-9a-fA-F]+", "", text)
