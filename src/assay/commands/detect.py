"""`assay detect MODEL --images FOLDER --reference DATA`: which images, or texts, are outliers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

from assay.commands.flags import flag_app, merge, resolve, run
from assay.errors import AssayError

if TYPE_CHECKING:
    from assay.inputs import Inputs

app = App(
    name="detect",
    help_flags=(),
    version_flags=(),
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)

Running = Parameter(group="Running")
Reference = Parameter(name="--reference", group="Data")
Split = Parameter(name="--reference-split", group="Data")
How = Parameter(name="--detector", group="Settings")

FIRST = (
    *("images", "texts", "data", "weights", "mean", "std", "size"),
    *("detector", "tpr", "save", "load", "lines", "out"),
)
"""What --help shows."""


@app.default
def detect(*tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)]) -> int:
    """Score images or texts by how unlike the training data they are; say which are outliers."""
    return run(detect_app, tokens)


def detect_app(everything: bool) -> App:
    """Return the App; the settings are flags made from `DetectConfig`."""
    from assay.workflows.detect import DetectConfig

    def command(
        *,
        inputs: Inputs,
        settings: dict[str, Any],
        images: Annotated[Path | None, Parameter(group="Data")] = None,
        texts: Annotated[Path | None, Parameter(group="Data")] = None,
        data: Annotated[str | None, Reference] = None,
        split: Annotated[str, Split] = "train",
        detector: Annotated[str | None, How] = None,
        save: Annotated[Path | None, Running] = None,
        load: Annotated[Path | None, Running] = None,
        lines: Annotated[Literal["csv", "json"], Running] = "csv",
        config: Annotated[Path | None, Running] = None,
        out: Annotated[Path | None, Running] = None,
        print_config: Annotated[bool, Running] = False,
        quiet: Annotated[bool, Running] = False,
    ) -> int:
        """Print for every image of a folder, or text of a file, its OOD score (higher: more unlike
        the training data), the threshold that lets a share `--tpr` of fresh inliers through, and
        the decision.

        Args:
            images: the folder; image files in folders of it are scored too, and need no labels.
            texts: in place of images, a file of texts for a model of texts: .txt (one per line),
                .csv, .tsv, .jsonl or .parquet (the column of texts); they need no labels.
            data: a bundled name (digits, shapes), a hub id or a folder: what the model was trained
                on. The detector is fitted on it, and its threshold on the validation split.
            split: the part of the reference that it is fitted on.
            detector: its name: knn unless another is given; --help-all lists them and their
                settings, such as --detector.k.
            save: a .safetensors file to keep the fitted detector in.
            load: one that was kept, in place of --reference and --detector.
            lines: csv, with a header; or json, one object per line.
            config: a YAML file of settings; flags are laid over it.
            out: a file for the lines; default: they are printed.
            print_config: only print the settings as YAML.
            quiet: print nothing but the lines.
        """
        if detector is not None:
            settings = merge({"detector": {"name": detector}}, settings)
        if load is not None and (data is not None or settings or config is not None):
            raise AssayError(
                "--load brings a detector with its settings and its threshold: leave --reference, "
                "--detector, --tpr and --config away, or fit anew without --load"
            )
        made = resolve(DetectConfig, {}, config, settings)
        if print_config:
            sys.stdout.write(made.to_yaml())
            return 0
        what = images or texts
        if what is None or (images is not None and texts is not None):
            raise AssayError(
                "say what is to be scored: --images FOLDER, or --texts FILE for a model of texts"
            )
        from assay.workflows import detect as work

        given = {"data": data or "", "split": split}
        return work.run(
            inputs.model_copy(update=given),
            made,
            what,
            texts=texts is not None,
            save=save,
            load=load,
            lines=lines,
            out=out,
            quiet=quiet,
        )

    defaults = DetectConfig().model_dump(mode="json")
    return flag_app(
        "assay detect",
        command,
        DetectConfig,
        defaults,
        inputs={"data": ""},
        first=FIRST,
        everything=everything,
    )
