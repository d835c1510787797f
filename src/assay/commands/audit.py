"""`assay audit MODEL --data DATA`: one report on a model that somebody brings."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

from assay.commands.flags import flag_app, read_settings, resolve, run
from assay.commands.spreading import given_spread
from assay.config import parse_seconds
from assay.errors import AssayError

if TYPE_CHECKING:
    from assay.inputs import Inputs

app = App(
    name="audit",
    help_flags=(),
    version_flags=(),
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)


Running = Parameter(group="Running")
Format = Literal["markdown", "junit", "sarif", "model-card", "eval-results"]


FIRST = (
    *("data", "images", "weights", "mean", "std", "access", "eps"),
    *("budget", "policy", "out"),
)
"""What --help shows."""
SAVED = (".csv", ".tsv", ".jsonl", ".ndjson", ".npz")
"""How files of saved predictions end."""


@app.default
def audit(*tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)]) -> int:
    """Audit a model: accuracy, calibration, robustness, saliency, outliers; one report."""
    if "--data" not in tokens and any(_saved(token) for token in tokens):
        from assay.commands.audit_predictions import predictions_app

        return run(predictions_app, tokens)
    return run(audit_app, tokens)


def _saved(token: str) -> bool:
    """Return whether a token names a file of predictions: it ends as they do, and is no setting."""
    return not token.startswith("-") and token.lower().endswith(SAVED)


def audit_app(everything: bool) -> App:
    """Return the App; the settings of an audit are flags made from `AuditConfig`."""
    from assay.auditing.config import AuditConfig

    def command(
        *,
        inputs: Inputs,
        settings: dict[str, Any],
        reference_split: Annotated[str, Parameter(group="Data")] = "train",
        config: Annotated[Path | None, Running] = None,
        title: Annotated[str, Running] = "",
        out: Annotated[Path | None, Running] = None,
        store: Annotated[Path, Running] = Path("runs"),
        fail_on: Annotated[Literal["never", "fail", "undecided"], Running] = "never",
        checks: Annotated[list[str] | None, Running] = None,
        policy: Annotated[Path | None, Running] = None,
        formats: Annotated[list[Format] | None, Running] = None,
        against: Annotated[str | None, Running] = None,
        budget: Annotated[str | None, Running] = None,
        workers: Annotated[int | None, Running] = None,
        engine: Annotated[Literal["local", "ray"], Running] = "local",
        ray_address: Annotated[str | None, Running] = None,
        print_config: Annotated[bool, Running] = False,
        quiet: Annotated[bool, Running] = False,
    ) -> int:
        """Audit MODEL on a data set and write one self-contained report.

        `assay audit PREDICTIONS.csv` (or .tsv, .jsonl, .npz), without --data, takes what a model
        said of labelled examples in its place: columns label, and p_NAME or logit_NAME for each
        class, or prediction; accuracy, calibration and slices are then measured.

        Args:
            reference_split: the part that detectors are fitted on; "none", data without a train
                split, or --split all: part of what is audited, and the rest is scored. With
                "train", thresholds are calibrated on the validation split.
            config: a YAML file of settings; flags are laid over it.
            title: what the report is called; default: the names of model and data.
            out: the folder for report.html, report.json and arrays.npz; default: in the store.
            store: the folder that keeps trials, studies and audits.
            fail_on: exit with code 1 if a check that counts has this verdict, or a worse one; the
                order is pass, undecided, fail, not run.
            checks: the codes of the checks that count for --fail-on, such as ACC-001 ROB-001;
                default: all but OOD-..., COR-001 and SLI-001, which plain networks often fail.
            policy: a YAML file of checks, thresholds, how sure, and waivers with a reason and a
                last day; exit code 1: a check failed, 3: one is undecided or was not run.
            formats: further files beside the report: markdown, junit, sarif, model-card,
                eval-results.
            against: an older audit, as a folder, a report.json or a run: what got better or worse,
                in pairs where the images are the same.
            budget: the time that it may take once model and data are loaded, such as 60s or 5m: the
                checks that count go first, and the report says what was measured on fewer images
                or not run; default: whatever it takes.
            workers: measure sections side by side, in so many processes of --threads (default: 1);
                the report is the same but for its times.
            engine: where those run: local, or ray (extra `ray`), on the nodes of a cluster.
            ray_address: HOST:PORT of the cluster; default: RAY_ADDRESS, or Ray on this machine.
            print_config: only print the settings as YAML.
            quiet: print nothing but the path of the report.
        """
        made = resolve(AuditConfig, {}, config, settings)
        if print_config:
            sys.stdout.write(made.to_yaml())
            return 0
        if reference_split == inputs.split:
            raise AssayError(
                f"--reference-split {inputs.split} is the part that is audited; detectors are "
                'never fitted on what they score: name another part, or "none"'
            )
        wide = (engine, ray_address, workers) != ("local", None, None)
        from assay.auditing.policy import Policy
        from assay.workflows import audit as work
        from assay.workflows.gate import Asked

        asked = None
        if policy is not None:
            asked = Policy.parse(read_settings(policy), where=str(policy))
        return work.run(
            inputs,
            made,
            reference=None if reference_split == "none" else reference_split,
            title=title,
            store=store,
            out=out,
            asked=Asked(fail_on, checks or (), asked),
            formats=tuple(formats or ()),
            against=against,
            budget=None if budget is None else parse_seconds(budget),
            spread=given_spread(engine, ray_address, workers) if wide else None,
            quiet=quiet,
            command=work.command(sys.argv[1:]),
        )

    defaults = AuditConfig().model_dump(mode="json")
    return flag_app(
        "assay audit",
        command,
        AuditConfig,
        defaults,
        inputs={},
        first=FIRST,
        everything=everything,
    )
