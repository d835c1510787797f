"""From a name to a text classifier that is trained already."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from assay.core.texts import TextClassifier
from assay.errors import AssayError
from assay.models.encoders import located, read_classifier, read_tokenizer
from assay.models.textnet import is_text, load_text_file


def load_text(
    spec: str | Path,
    *,
    classes: Sequence[str] | None = None,
    max_length: int | None = None,
    batch_size: int | None = None,
) -> TextClassifier:
    """Return the text classifier that `spec` names, on the CPU, in eval mode.

    Args:
        spec: "path.safetensors" made by `assay train`; a folder that Hugging Face's
            save_pretrained wrote; or an id on the hub, "owner/name".
        classes: names of the outputs; None takes what the model calls them, and numbers where it
            does not.
        max_length: tokens after which a text is cut.
        batch_size: most texts evaluated at a time; None chooses by their length.

    Raises:
        AssayError: for files that are not there, are damaged, or need code to be run; for a model
            without a trained classification head.

    >>> _ = text_clf.model.save_pretrained("films"), text_clf.tokenizer.save_pretrained("films")
    >>> assay.load_text("films").query(["a good film"]).shape
    torch.Size([1, 2])
    """
    if str(spec).endswith(".safetensors") and Path(spec).is_file():
        if not is_text(spec):
            raise AssayError(f"{spec} holds tensors, but no text classifier of assay")
        return load_text_file(spec, batch_size=batch_size)
    found = located(spec)
    return TextClassifier(
        read_classifier(found),
        read_tokenizer(found),
        classes=classes or found.labels or None,
        max_length=max_length or found.max_length,
        batch_size=batch_size,
    )
