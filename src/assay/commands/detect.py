"""`assay detect MODEL --images FOLDER --reference DATA`: which images, or texts, are outliers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

from assay.commands.flags import flag_app, merge, resolve, run
from assay.commands.spreading import spread_of
from assay.errors import AssayError, unknown

if TYPE_CHECKING:
    from assay.inputs import Inputs
    from assay.ood import Detector

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
    *("images", "texts", "shards", "data", "weights", "mean", "std", "size"),
    *("detector", "also", "tpr", "save", "load", "lines", "out"),
    *("engine", "ray_address", "workers"),
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
        shards: Annotated[str | None, Parameter(group="Data")] = None,
        shards_split: Annotated[str, Parameter(group="Data")] = "test",
        data: Annotated[str | None, Reference] = None,
        split: Annotated[str, Split] = "train",
        detector: Annotated[str | None, How] = None,
        also: Annotated[list[str] | None, Parameter(group="Settings")] = None,
        save: Annotated[Path | None, Running] = None,
        load: Annotated[Path | None, Running] = None,
        lines: Annotated[Literal["csv", "json"], Running] = "csv",
        config: Annotated[Path | None, Running] = None,
        out: Annotated[Path | None, Running] = None,
        engine: Annotated[Literal["local", "ray"], Running] = "local",
        ray_address: Annotated[str | None, Running] = None,
        workers: Annotated[int | None, Running] = None,
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
            shards: in place of images, a set that is too large for one process: a folder of
                .parquet, .arrow or .npz files, or a hub id, which is streamed; needs no labels.
                Every shard is scored by itself, and not again when the command is given again.
            shards_split: which shards, where their paths name splits (test-00001.parquet).
            data: a bundled name (digits, shapes), a hub id or a folder: what the model was trained
                on. The detector is fitted on it, and its threshold on the validation split.
            split: the part of the reference that it is fitted on.
            detector: its name: knn unless another is given; --help-all lists them and their
                settings, such as --detector.k.
            also: with --shards, further detectors by name, with the settings that they have by
                default; they read the same pass.
            save: a .safetensors file to keep the fitted detector in.
            load: one that was kept, in place of --reference and --detector.
            lines: how they are written: csv, with a header and scores of 7 digits; or json, one
                object per line, with all digits.
            config: a YAML file of settings; flags are laid over it.
            out: a file for the lines; default: they are printed. With --shards a folder:
                scores.csv, shards.csv, detect.json, and trials/, what is done of each shard.
            engine: where shards are scored: local, or ray (extra `ray`), on the nodes of a
                cluster.
            ray_address: HOST:PORT of the cluster; default: RAY_ADDRESS, or Ray on this machine.
            workers: processes that score shards; default: cores / --threads (1).
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
        spread = spread_of(shards, engine, ray_address, workers)
        what = images or texts
        if (images, texts, shards).count(None) != 2:
            raise AssayError(
                "say what is to be scored: --images FOLDER, --shards FOLDER for a set in shards, "
                "or --texts FILE for a model of texts"
            )
        given = {"data": data or "", "split": split}
        if also and shards is None:
            raise AssayError("--also goes with --shards; give one --detector")
        if shards is not None and spread is not None:
            for flag, missing in {"--reference DATA": data, "--out DIR": out}.items():
                if missing is None:
                    raise AssayError(f"--shards needs {flag}")
            if save is not None or load is not None:
                raise AssayError(
                    "--save and --load go with --images: over --shards the fitted detectors are "
                    "kept in --out"
                )
            assert out is not None
            from assay.workflows import detect_shards

            return detect_shards.run(
                inputs.model_copy(update=given),
                made,
                [named_detector(name) for name in also or ()],
                shards,
                out,
                spread,
                split=shards_split,
                lines=lines,
                progress=not quiet,
                quiet=quiet,
            )
        assert what is not None
        from assay.workflows import detect as work

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


def named_detector(name: str) -> Detector:
    """Return a detector by its name, with the settings that it has by default.

    Raises:
        AssayError: there is none; names the nearest.
    """
    from assay.ood.registry import detectors

    known = detectors()
    if name not in known:
        raise unknown("detector", name, known)
    return known[name].parse({"name": name}, where="--also")
