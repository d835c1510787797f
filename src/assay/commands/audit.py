"""`assay audit MODEL --data DATA`: one report on a model that somebody brings."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from assay.cli import FLAGS
from assay.commands.flags import resolve, with_settings
from assay.errors import AssayError

app = App(
    name="audit",
    help_flags=(),
    version_flags=(),
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)


@app.default
def audit(*tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)]) -> int:
    """Audit a model: accuracy, calibration, robustness, attention, outliers; one report."""
    return int(audit_app()(list(tokens), exit_on_error=False, print_error=False) or 0)


def audit_app() -> App:
    """Return the App; the settings of an audit are flags made from `AuditConfig`."""
    from assay.auditing.config import AuditConfig

    def command(
        model: str,
        /,
        *,
        settings: dict[str, Any],
        data: Annotated[str, Parameter(group="Data")],
        weights: Annotated[Path | None, Parameter(group="Model")] = None,
        mean: Annotated[tuple[float, ...] | None, Parameter(group="Model")] = None,
        std: Annotated[tuple[float, ...] | None, Parameter(group="Model")] = None,
        outputs: Annotated[Literal["logits", "probabilities"], Parameter(group="Model")] = "logits",
        split: Annotated[str, Parameter(group="Data")] = "test",
        images: Annotated[int, Parameter(group="Data")] = 1000,
        reference_split: Annotated[str, Parameter(group="Data")] = "train",
        config: Annotated[Path | None, Parameter(group="Running")] = None,
        title: Annotated[str, Parameter(group="Running")] = "",
        out: Annotated[Path | None, Parameter(group="Running")] = None,
        store: Annotated[Path, Parameter(group="Running")] = Path("runs"),
        fail_on: Annotated[
            Literal["never", "fail", "undecided"], Parameter(group="Running")
        ] = "never",
        print_config: Annotated[bool, Parameter(group="Running")] = False,
        quiet: Annotated[bool, Parameter(group="Running")] = False,
    ) -> int:
        """Audit MODEL on a data set and write one self-contained report.

        Args:
            model: path.safetensors made by assay, or file.py:factory, a function of yours that
                returns a torch.nn.Module.
            data: a bundled name (digits, shapes), a hub id or a folder.
            weights: weights for file.py:factory: .safetensors, or a state dict (.pt).
            mean: per-channel mean that the model's inputs are normalised with.
            std: per-channel standard deviation likewise.
            outputs: what the model returns.
            split: the part of the data that is audited on.
            images: how many of its images are used, a stable random subset.
            reference_split: the part that detectors are fitted on; "none" for no reference. With
                "train", thresholds are calibrated on the validation split.
            config: a YAML file of settings; flags are laid over it.
            title: what the report is called; default: the names of model and data.
            out: the folder for report.html, report.json and arrays.npz; default: in the store.
            store: the folder that keeps trials, studies and audits.
            fail_on: exit with code 1 if a check has this verdict, or a worse one.
            print_config: only print the settings as YAML.
            quiet: print nothing but the path of the report.
        """
        made = resolve(AuditConfig, {}, config, settings)
        if print_config:
            sys.stdout.write(made.to_yaml())
            return 0
        if images < 1:
            raise AssayError(f"--images must be at least 1, got {images}")
        if reference_split == split:
            raise AssayError(
                f"--reference-split {split} is the part that is audited; detectors are never "
                'fitted on what they score: name another part, or "none"'
            )
        from assay.workflows import audit as running

        return running.run(
            running.Subject(
                model=model,
                weights=weights,
                mean=mean,
                std=std,
                outputs=outputs,
                data=data,
                split=split,
                images=images,
                reference=None if reference_split == "none" else reference_split,
                title=title,
            ),
            made,
            store=store,
            out=out,
            fail_on=fail_on,
            quiet=quiet,
            command=shlex.join(["assay", *sys.argv[1:]]),
        )

    app = App(
        name="assay audit",
        default_parameter=FLAGS,
        result_action="return_value",
        version_flags=(),
        suppress_keyboard_interrupt=False,
    )
    app.default(with_settings(command, AuditConfig, AuditConfig().model_dump(mode="json")))
    return app
