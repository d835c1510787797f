"""Two results side by side: what is matched, how far apart it is, and what is not compared."""

from __future__ import annotations

import json
import math

import pytest
from pages import parse, read

from assay.report.comparison import change, compare_results
from assay.report.page import render_comparison
from assay.report.record import EstimateModel
from assay.report.result import StudyResult


def signed(value: float, half: float, level: float = 0.95) -> EstimateModel:
    ends = {"low": value - half, "high": value + half}
    return EstimateModel(value=value, **ends, n=5, of="seeds", level=level)


@pytest.fixture
def other(study) -> StudyResult:
    """The study again, on other data, with one claim turned and one row, figure and trial less."""
    data = json.loads(study.to_json())
    data["made"]["data"] = {"test": "12ab" * 16}
    data["made"]["versions"]["torch"] = "2.14.0"
    data["made"]["config"] = {"data": "mnist", "attacks": [{"name": "pgd", "eps": 0.1}]}
    data["claims"][0] |= {"verdict": "undecided", "estimate": signed(0.021, 0.04).model_dump()}
    data["claims"][1]["delta"] = 0.05
    del data["claims"][2]
    table = data["tables"][0]
    table["rows"] = table["rows"][1:]
    table["columns"] = [*table["columns"][:3], "[9,9]"]
    table["rows"][0][1]["estimate"] = signed(0.585, 0.01).model_dump()
    data["figures"] = data["figures"][1:]
    data["trials"] = data["trials"][:3]
    return StudyResult.model_validate(data)


def test_the_difference_has_the_interval_of_zou_and_donner():
    moved = change(signed(0.5, 0.03), signed(0.6, 0.04), "fraction")
    assert moved.value == pytest.approx(0.1)
    assert (moved.low, moved.high) == pytest.approx((0.05, 0.15)), "3, 4, 5"
    assert (moved.unit, moved.clear) == ("points", True)
    lopsided = EstimateModel(value=0.5, low=0.5, high=0.62, n=5, of="seeds")
    moved = change(lopsided, signed(0.6, 0.05), "number")
    assert moved.low == pytest.approx(0.1 - math.hypot(0.05, 0.12))
    assert moved.high == pytest.approx(0.15)
    assert (moved.unit, moved.clear) == ("number", False)


def test_no_interval_where_there_cannot_be_one():
    one = signed(0.5, 0.03)
    assert change(one, one, "points").low is None, "the same number"
    assert change(one, signed(0.6, 0.03, level=0.99), "points").low is None
    endless = EstimateModel(value=0.5, low=None, high=None, n=1, of="seeds")
    assert change(one, endless, "points").high is None
    assert not change(one, endless, "points").clear
    nothing = EstimateModel(value=None, low=None, high=None, n=0, of="seeds")
    assert change(one, nothing, "points") is None
    assert change(None, one, "points") is None


def test_what_both_have_is_matched(study, other):
    both = compare_results(study, other, ("one", "two"))
    codes = [(pair.code, pair.a is not None, pair.b is not None) for pair in both.claims]
    assert codes == [("SKIP-1", True, True), ("SKIP-2", True, True), ("SKIP-3", True, False)]
    assert both.claims[0].change.value == pytest.approx(-0.2)
    assert both.claims[2].change is None
    (table,) = both.tables
    assert table.columns == ("[2,2]", "[5,5]", "[7,7]", "[9,9]")
    plain, skips = table.rows
    assert plain.name == "plain"
    assert all(cell.b is None for cell in plain.cells)
    first = skips.cells[0]
    assert (first.column, first.change.value) == ("[2,2]", pytest.approx(-0.1))
    assert [(cell.a is None, cell.b is None) for cell in skips.cells[2:]] == [
        (False, True),
        (True, False),
    ]
    assert [(title, a is None, b is None) for title, a, b in both.figures] == [
        ("Learning curves", False, True),
        ("Gradient norm by depth", False, False),
    ]
    assert ("data", "cifar10", "mnist") in both.settings
    assert [path for path, *_ in both.settings] == ["data", "attacks.pgd.eps", "attacks.pgd.steps"]
    assert len(both.shared) == 3


def test_what_cannot_be_compared_is_said(study, other):
    said = " ".join(compare_results(study, other, ("one", "two")).cautions)
    assert "They were run on different data (test)" in said
    assert "different versions: torch 2.13.0 and 2.14.0." in said
    assert "SKIP-2 was judged against different effects that matter" in said
    assert "The figure “Learning curves” is in A alone." in said
    assert compare_results(study, study, ("one", "two")).cautions == ()


def test_two_different_studies_are_not_compared(study, other):
    foreign = other.model_copy(update={"study": "gradients", "question": "Do gradients vanish?"})
    both = compare_results(study, foreign, ("one", "two"))
    assert not both.comparable
    assert [(p.a is None, p.b is None) for p in both.claims] == [(False, True)] * 3 + [
        (True, False)
    ] * 2
    assert (both.tables, both.figures, both.settings) == ((), (), ())
    text = read(render_comparison(both))
    assert "Two different studies" in text
    assert "A is of the study 'skip' and B of 'gradients'" in text
    assert "Do gradients vanish?" in text
    assert "B − A" not in text
    assert "Settings that differ" not in text


def test_tables_of_other_titles_are_matched_by_their_columns(study):
    renamed = study.tables[0].model_copy(update={"title": "The six cells"})
    both = compare_results(study, study.model_copy(update={"tables": (renamed,)}), ("a", "b"))
    assert [table.title for table in both.tables] == ["Test accuracy"]
    assert not both.cautions
    other = renamed.model_copy(update={"columns": ("x", "y", "z", "w")})
    both = compare_results(study, study.model_copy(update={"tables": (other,)}), ("a", "b"))
    assert both.tables == ()
    assert "The table “The six cells” is in B alone." in both.cautions


def test_the_page_shows_both_and_how_far_apart_they_are(study, other):
    html = render_comparison(compare_results(study, other, ("skip-quick-12", "docs/results/skip")))
    text = read(html)
    assert "A skip-quick-12" in text
    assert "B docs/results/skip" in text
    assert (
        "SKIP-1 holds +22.1 points +19.0 to +25.2, n = 5 seeds −2.2 +29.0 matters from +2.0 points "
        "undecided +2.1 points −1.9 to +6.1, n = 5 seeds −2.2 +29.0 matters from +2.0 points "
        "−20.0 points −25.1 to −14.9 another verdict"
    ) in text
    assert "with skips [7,7] [2,2] 68.5 % 67.2 to 69.8, n = 5 58.5 % 57.5 to 59.5, n = 5" in text
    assert "−10.0 points −11.6 to −8.4" in text
    assert '<span class="num clear-change"><b>−10.0' in html.replace("\u202f", " ")
    assert "B has no such figure." in text
    assert html.count("<svg") == 3
    assert "attacks.pgd.steps 20 –" in text
    assert "Trials in both: 3." in text
    ids = [a["id"] for _, a in parse(html).tags if "id" in a]
    assert len(html.encode()) < 1_000_000
    assert {"claims", "table-1", "figure-1", "settings", "made"} <= set(ids)


def test_the_page_escapes_what_results_say(study):
    bad = '"><script>alert(1)</script>'
    data = json.loads(study.to_json())
    data["question"] = data["summary"] = data["claims"][0]["text"] = bad
    data["tables"][0]["rows"][0][0]["text"] = data["tables"][0]["title"] = bad
    data["made"]["config"] = {bad: bad}
    hostile = StudyResult.model_validate(data)
    html = render_comparison(compare_results(study, hostile, (bad, "two")))
    assert sum(tag == "script" for tag, _ in parse(html).tags) == 1
    assert "<script>alert" not in html
