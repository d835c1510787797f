"""What the terminal shows."""

from __future__ import annotations

import re

from rich.console import Console

from assay.report.numerals import full
from assay.report.schema import Check
from assay.report.terminal import answer, study_summary, summary


def printed(renderable) -> str:
    console = Console(width=160, no_color=True)
    with console.capture() as caught:
        console.print(renderable)
    return " ".join(caught.get().replace("\u00a0", " ").split())


def test_an_audit_in_the_terminal(report):
    text = printed(summary(report))
    assert report.summary in text
    assert (
        "fail ROB-001 3.1 % (1.1 to 5.1, n = 1,000) Accuracy under PGD at 8/255: at least 30.0 %"
    ) in text
    assert "– SVHN told from test data (AUROC): at least 80.0 %" in text
    assert "! FLAG-STEPS: More steps still help the attack." in text
    assert "FLAG-GRADIENT" not in text


def test_a_study_in_the_terminal(study):
    text = printed(study_summary(study))
    assert "undecided SKIP-3 +1.3 points (−0.6 to +3.2, n = 5)" in text
    assert "Matters from +1.0 points. About 9 more seeds would decide." in text
    assert "! 1 of 9 trials failed" in text
    assert study.summary in text
    assert "smoke test" not in text


def test_the_answer_is_in_place_of_the_summary_and_a_smoke_test_says_so(study):
    answered = {"answer": "**It wins: +16.5 points.** The rest is open.", "preset": "smoke"}
    text = printed(study_summary(study.model_copy(update=answered)))
    assert "smoke test: not evidence It wins: +16.5 points. The rest is open. " in text
    assert study.summary not in text


def test_one_more_seed_is_one(study):
    claim = study.claims[2].model_copy(update={"seeds_needed": 1, "images_needed": 2})
    text = printed(study_summary(study.model_copy(update={"claims": (claim,)})))
    assert "About 1 more seed or 2 more images would decide." in text
    of_texts = (claim.model_copy(update={"inputs": "texts"}),)
    text = printed(study_summary(study.model_copy(update={"claims": of_texts})))
    assert "About 1 more seed or 2 more texts would decide." in text


def test_claims_are_whole_on_a_narrow_terminal(study):
    console = Console(width=60, no_color=True)
    with console.capture() as caught:
        console.print(study_summary(study))
    shown = caught.get()
    assert max(map(len, shown.splitlines())) <= 60
    assert "…" not in shown
    for claim in study.claims:
        assert claim.code in shown
        assert claim.verdict in shown
        assert claim.text in " ".join(shown.split())
        if claim.estimate:
            value = full(claim.estimate, claim.unit)
            assert any(value in line for line in shown.splitlines()), "value and interval: a line"


def test_brackets_in_names_are_not_markup(report):
    check = Check(code="X-1", title="[red]cat[/red] [link=a]", question="", threshold=None,
                  direction="at least", verdict="not run")  # fmt: skip
    text = printed(summary(report.model_copy(update={"checks": (check,)})))
    assert "[red]cat[/red] [link=a]" in text


def test_no_number_is_torn_from_its_unit():
    console = Console(width=24, no_color=True)
    with console.capture() as caught:
        console.print(answer("**The accuracy stays at 50.0 %.** It is 12.3 points more."))
    lines = [line.rstrip() for line in caught.get().splitlines()]
    assert lines == ["The accuracy stays at", "50.0 %. It is", "12.3 points more."]
    console = Console(width=24, force_terminal=True, color_system="standard")
    with console.capture() as caught:
        console.print(answer("**The accuracy stays at 50.0 %.** It is 12.3 points more."))
    bold = re.findall("\x1b\\[1m([^\x1b]*)", caught.get())
    assert " ".join(bold).split() == ["The", "accuracy", "stays", "at", "50.0", "%."]


def test_advice_that_two_checks_share_is_given_once(report):
    one = report.checks[0].model_copy(update={"advice": "train it on attacked images"})
    other = one.model_copy(update={"code": "ZZZ-001"})
    text = printed(summary(report.model_copy(update={"checks": (one, other)})))
    assert text.count(one.advice) == 1
    assert f"What to do: as for {one.code}" in text
