"""Exported programs and TorchScript: files that are code, run only where the user trusts them."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import nn

from assay.core.classifier import Classifier
from assay.errors import AssayError, told
from assay.models.formats import Kind, program_in
from assay.models.loaders.base import Given, Loader


class Program(Loader):
    """A `.pt2` file of `torch.export`, or a TorchScript module."""

    name = "program"
    what = "a program"
    takes = frozenset({"mean", "std", "channels", "outputs", "trust_program"})

    def recognises(self, spec: str) -> bool:
        return program_in(Path(spec)) is not None

    def load(self, spec: str, given: Given) -> Classifier:
        """Return the program as a classifier, if the user trusts it.

        Raises:
            AssayError: he does not say so; or torch cannot load it.
        """
        kind = program_in(Path(spec))
        words = "an exported program (torch.export)" if kind == "exported" else "TorchScript"
        if not given.trust_program:
            raise AssayError(
                f"{spec} is {words}, code that runs when it is loaded, not weights alone: if you "
                "trust whoever made it, say --trust-program"
            )
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that TorchScript is deprecated
                module = _loaded(spec, kind)
        except Exception as error:  # whatever torch says of a file that it cannot read
            raise AssayError(f"{spec} cannot be loaded as {words}: {told(error)}") from error
        notes = [f"{spec} is {words}: its code is run, as --trust-program says"]
        return given.classifier(module, notes)


def _loaded(spec: str, kind: Kind | None) -> nn.Module:
    if kind == "script":
        module: nn.Module = torch.jit.load(spec, map_location="cpu")  # type: ignore[no-untyped-call]
        return module.eval()
    exported: nn.Module = torch.export.load(spec).module()
    return exported
