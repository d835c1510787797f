"""`assay audit PREDICTIONS.csv`: what saved predictions are enough for, as an audit."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from assay.commands.audit import Format, Running
from assay.commands.flags import flag_app, read_settings, resolve

FIRST = ("label", "classes", "policy", "formats", "against", "out")
"""What --help shows."""


def predictions_app(everything: bool) -> App:
    """Return the App; the settings of an audit are flags made from `AuditConfig`."""
    from assay.auditing.config import AuditConfig

    def command(
        predictions: Path,
        /,
        *,
        settings: dict[str, Any],
        label: Annotated[str | None, Parameter(group="Data")] = None,
        classes: Annotated[list[str] | None, Parameter(group="Data")] = None,
        config: Annotated[Path | None, Running] = None,
        title: Annotated[str, Running] = "",
        out: Annotated[Path | None, Running] = None,
        store: Annotated[Path, Running] = Path("runs"),
        fail_on: Annotated[Literal["never", "fail", "undecided"], Running] = "never",
        checks: Annotated[list[str] | None, Running] = None,
        policy: Annotated[Path | None, Running] = None,
        formats: Annotated[list[Format] | None, Running] = None,
        against: Annotated[str | None, Running] = None,
        print_config: Annotated[bool, Running] = False,
        quiet: Annotated[bool, Running] = False,
    ) -> int:
        """Audit what a model said: accuracy, calibration, slices by class and by metadata.

        Columns are label; p_NAME (probabilities) or logit_NAME for each class, or prediction; id,
        if there is one; all others are metadata. An .npz has arrays label, and probabilities or
        logits (N, K), or prediction.

        Args:
            predictions: a .csv, .tsv, .jsonl or .npz file.
            label: the column of the labels; default: one that is called label, y_true, target, …
            classes: the names of the classes in the order of their numbers; default: as the file
                says.
            config: a YAML file of settings; flags are laid over it.
            title: what the report is called; default: the name of the file.
            out: the folder for report.html, report.json and arrays.npz; default: in the store.
            store: the folder that keeps trials, studies and audits.
            fail_on: exit with code 1 if a check that counts has this verdict, or a worse one; the
                order is pass, undecided, fail, not run.
            checks: the codes of the checks that count for --fail-on, such as ACC-001 CAL-001.
            policy: a YAML file of checks, thresholds, how sure, and waivers with a reason and a
                last day; exit code 1: a check failed, 3: one is undecided or was not run.
            formats: further files beside the report: markdown, junit, sarif, model-card,
                eval-results.
            against: an older audit, as a folder, a report.json or a run: what got better or worse,
                in pairs where the examples are the same.
            print_config: only print the settings as YAML.
            quiet: print nothing but the path of the report.
        """
        made = resolve(AuditConfig, {}, config, settings)
        if print_config:
            sys.stdout.write(made.to_yaml())
            return 0
        from assay.auditing.policy import Policy
        from assay.workflows import audit_predictions as work
        from assay.workflows.audit import command as shown
        from assay.workflows.gate import Asked

        asked = None
        if policy is not None:
            asked = Policy.parse(read_settings(policy), where=str(policy))
        return work.run(
            predictions,
            made,
            label=label,
            classes=tuple(classes) if classes else None,
            title=title,
            store=store,
            out=out,
            asked=Asked(fail_on, checks or (), asked),
            formats=tuple(formats or ()),
            against=against,
            quiet=quiet,
            command=shown(sys.argv[1:]),
        )

    defaults = AuditConfig().model_dump(mode="json")
    return flag_app(
        "assay audit", command, AuditConfig, defaults, first=FIRST, everything=everything
    )
