"""What the terminal shows."""

from __future__ import annotations

from rich.console import Console

from assay.report.schema import Check
from assay.report.terminal import study_summary, summary


def printed(renderable) -> str:
    console = Console(width=160, no_color=True)
    with console.capture() as caught:
        console.print(renderable)
    return " ".join(caught.get().replace("\u00a0", " ").split())


def test_an_audit_in_the_terminal(report):
    text = printed(summary(report))
    assert report.summary in text
    assert "Accuracy under PGD at 8/255 3.1 % (1.1 to 5.1, n = 1,000) at least 30.0 % fail" in text
    assert "SVHN told from test data (AUROC) – at least 80.0 % not run" in text
    assert "! FLAG-STEPS: More steps still help the attack." in text
    assert "FLAG-GRADIENT" not in text


def test_a_study_in_the_terminal(study):
    text = printed(study_summary(study))
    assert "+1.3 points (−0.6 to +3.2, n = 5) +1.0 points undecided" in text
    assert "about 9 more seeds would decide" in text
    assert "! 1 of 9 trials failed" in text


def test_brackets_in_names_are_not_markup(report):
    check = Check(code="X-1", title="[red]cat[/red] [link=a]", question="", threshold=None,
                  direction="at least", verdict="not run")  # fmt: skip
    text = printed(summary(report.model_copy(update={"checks": (check,)})))
    assert "[red]cat[/red] [link=a]" in text
