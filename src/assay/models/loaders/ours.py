"""Networks that assay saved."""

from __future__ import annotations

from pathlib import Path

from assay.core.classifier import Classifier
from assay.errors import AssayError
from assay.models.loaders.base import EVERYTHING, Given, Loader
from assay.models.saved import built, saved
from assay.models.weights import load_weights, read_weights


class Ours(Loader):
    """A `.safetensors` file that `save_model` wrote."""

    name = "ours"
    what = "a file of assay"
    takes = EVERYTHING  # and refuses some in its own words

    def recognises(self, spec: str) -> bool:
        return Path(spec).suffix == ".safetensors"

    def load(self, spec: str, given: Given) -> Classifier:
        """Return the network, with what the file says where nothing else is given.

        Raises:
            AssayError: as `saved` does; for settings that go with models of other makers; or for
                weights that are not the network's.
        """
        if given.args or given.channels != "rgb" or given.trust_program:
            raise AssayError(
                "--model-args, --channels and --trust-program go with models of other makers, not "
                f"with {spec}"
            )
        path = Path(spec)
        found = saved(path)
        if given.weights is not None:
            raise AssayError(f"{spec} has its own weights; --weights goes with file.py:factory")
        module = built(found, path)
        load_weights(module, read_weights(path), path)
        return Classifier(
            module.eval(),
            mean=found.mean if given.mean is None else given.mean,
            std=found.std if given.std is None else given.std,
            classes=found.classes if given.classes is None else given.classes,
            outputs=given.outputs,
            batch_size=given.batch_size,
        )
