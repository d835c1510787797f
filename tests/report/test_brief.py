"""What `print` and a notebook show of results: short, and whole."""

from __future__ import annotations

from pages import parse, read

from assay.report.record import NotRun


def test_an_audit_is_printed_in_a_line_for_each_check(report):
    text = str(report.model_copy(update={"answer": "Accurate; **not robust**."}))
    lines = text.splitlines()
    assert lines[:2] == ["small CNN on CIFAR-10", "Accurate; not robust."]
    assert lines[2].split("  ")[0] == "fail"
    assert " ".join(lines[2].split()) == (
        "fail ROB-001 3.1 % (1.1 to 5.1, n = 1,000) Accuracy under PGD at 8/255"
    )
    assert len(lines) == 2 + len(report.checks)
    assert repr(report) == (
        "AuditReport('small CNN on CIFAR-10', 5 checks: 1 fail, 1 undecided, 1 not run, 2 pass)"
    )


def test_a_study_is_printed_in_a_line_for_each_claim(study):
    lines = str(study).splitlines()
    assert lines[0] == study.question
    assert lines[2].startswith("holds          SKIP-1  +22.1 points (+19.0 to +25.2, n = 5)  At")
    assert len(lines) == 2 + len(study.claims)
    assert repr(study) == (
        "StudyResult('skip', preset quick, claims: 1 holds, 1 does not hold, 1 undecided)"
    )


def test_no_part_of_a_result_is_long_when_it_is_printed(report, study):
    parts = [report.gallery, report.gallery.items[0], report.ood, report.accuracy, report.made]
    parts += [study.figures[0], study.tables[0], study.claims[0]]
    for part in parts:
        assert len(repr(part)) < 3000, type(part)
        assert len(str(part)) < 3000, type(part)
    assert "'data:image/png;base64," in repr(report.gallery.items[0])
    assert "… 6 in all)" in repr(report.gallery)


def test_a_notebook_shows_the_first_screen_of_an_audit(report):
    html = report.model_copy(update={"answer": "**Not robust**."})._repr_html_()
    text = read(html)
    assert text.startswith("small CNN on CIFAR-10 Not robust . The model is right on")
    assert "fail ROB-001 Accuracy under PGD at 8/255 3.1 % 1.1 to 5.1 1,000 at least 30.0 %" in text
    assert text.index("ROB-001") < text.index("ACC-001")
    assert "FLAG-STEPS" in text
    assert "FLAG-GRADIENT" not in text
    assert html.count("<svg") == 1
    assert html.count("<img") == 6
    assert "class=" not in html, "a notebook has styles of its own"
    bare = report.model_copy(
        update={name: NotRun() for name in ("robustness", "gallery", "fooled")}
    )._repr_html_()
    assert "<svg" not in bare
    assert "None" not in read(bare)


def test_a_notebook_shows_answer_figure_and_claims_of_a_study(study):
    first = study.figures[0].model_copy(update={"role": "hero"})
    html = study.model_copy(update={"figures": (first,)})._repr_html_()
    text = read(html)
    assert text.startswith(f"{study.question} {study.summary}")
    assert html.count("<svg") == 1
    assert "holds SKIP-1 At [7,7] the network with skips is better +22.1 points" in text
    for tag, attributes in parse(html).tags:
        if tag == "th":
            assert attributes["scope"] == "col"
