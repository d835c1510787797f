"""The page of a study: answer first, claims on axes by unit, everything else folded."""

from __future__ import annotations

import hashlib
import re

import pytest
from pages import parse, read
from pydantic import ValidationError

from assay.report.record import EstimateModel
from assay.report.result import Claim, StudyResult
from assay.report.study_page import chapters, render_study, strips


@pytest.fixture(scope="module")
def study_page(study) -> str:
    return render_study(study)


def test_a_study_says_its_claims(study_page):
    text = read(study_page)
    assert "Do skip connections undo the degradation" in text
    assert "+22.1 points +19.0 to +25.2 n = 5 seeds holds" in text
    assert "−2.4 points −3.6 to −1.2 n = 5 seeds does not hold" in text
    assert "SKIP-3 matters from +1.0 points. About 9 more seeds would decide it" in text
    assert "5 seeds" not in text[: text.index("Claims")], "seeds of the study: one is made up"
    assert "9 runs, 8 min 8 s of work" in text
    assert ", all trials together 8 min 8 s" in text
    assert "smoke test" not in text
    assert "How this was made" in text
    assert study_page.count("<svg") == 2


def test_why_an_effect_matters_is_said_beside_it(study):
    why = "Below a point nobody would change the network."
    (first, *others) = study.claims
    told = study.model_copy(
        update={"claims": (first.model_copy(update={"why_delta": why}), *others)}
    )
    assert f"SKIP-1 matters from +2.0 points: {why}" in read(render_study(told))


def test_the_page_is_in_one_order_and_has_few_entries(study):
    (table,) = study.tables
    one, other = study.figures
    hero = one.model_copy(update={"role": "hero", "finding": "Skips win.", "narrow": other.svg})
    why = other.model_copy(update={"role": "why", "finding": "Gradients vanish.", "title": "x"})
    beside = one.model_copy(update={"beside": table.title, "finding": "A table in colours."})
    page = render_study(study.model_copy(update={"figures": (beside, why, other, hero)}))
    parser = parse(page)
    headings = re.findall(r"<h2>(.*?)</h2>", page)
    assert headings == [
        "Skips win.",
        "Claims",
        "Why",
        "Limits",
        "All the data",
        "How this was made",
    ]
    contents = page[page.index("<nav") : page.index("</nav>")]
    assert contents.count("<li>") == 6
    assert "<h3>Gradients vanish.</h3>" in page
    assert page.index('aria-label="Skips win."') < page.index('id="claims"')
    assert page.count("save SVG</button>") == 4
    folds = [a["id"] for tag, a in parser.tags if tag == "details" and a.get("class") == "fold"]
    assert folds == ["data-1", "data-2", "trials"]
    first = page[page.index('id="data-1"') : page.index('id="data-2"')]
    assert "A table in colours." in first
    assert "<table" in first
    assert [chapter.title for chapter in chapters(study)] == [
        "Test accuracy", "Learning curves", "Gradient norm by depth"
    ]  # fmt: skip


def test_four_limits_stand_in_the_open_and_an_old_computation_is_one(study):
    notes = tuple(f"Limit {i}." for i in range(6))
    page = render_study(study.model_copy(update={"notes": notes}))
    shown = read(page[page.index('id="limits"') : page.index('id="data"')])
    assert "an older computation" in shown
    assert "Limit 2." in shown
    assert "Limit 3." not in shown
    assert "Limit 5." in read(page[page.index('id="notes"') :])
    about = tuple(c.model_copy(update={"about": "networks and images"}) for c in study.claims)
    assert "an older computation" not in read(
        render_study(study.model_copy(update={"claims": about}))
    )


def claim(unit: str, value: float, half: float, delta: float, **more) -> Claim:
    found = EstimateModel(value=value, low=value - half, high=value + half, n=5, of="seeds")
    return Claim.model_validate(
        {"code": f"x.{unit}", "text": "It is so.", "delta": delta, "unit": unit,
         "estimate": found, "verdict": "holds", **more}
    )  # fmt: skip


def test_units_are_written_as_what_they_are(study):
    claims = (
        claim("fraction", 0.954, 0.02, 0.95),
        claim("factor", 1.959, 0.02, 0.2),
        claim("decades", 7.346, 0.2, 1.0),
        claim("points", 0.01, 0.005, 0.02, asks="equivalent", verdict="equivalent"),
    )
    text = read(render_study(study.model_copy(update={"claims": claims})))
    assert "95.4 % 93.4 to 97.4" in text
    assert "+95.4 points" not in text
    assert "×0.141 0.138 to 0.144" in text
    assert "matters from ×0.819" in text
    assert "4.5 × 10⁻⁸ 2.8 × 10⁻⁸ to 7.1 × 10⁻⁸" in text
    assert "matters from ±2.0 points" in text


def test_the_answer_leads_and_its_bold_words_are_bold(study):
    given = "**It wins: <b>+16.5</b> points.** The rest & more."
    page = render_study(study.model_copy(update={"answer": given}))
    assert (
        '<p class="summary"><strong>It wins: &lt;b&gt;+16.5&lt;/b&gt; points.</strong> '
        "The rest &amp; more.</p>"
    ) in page
    assert study.summary not in read(page)
    assert study.summary in read(render_study(study))


def test_counts_are_in_words_that_fit_and_a_smoke_test_says_so(study):
    holds = next(claim for claim in study.claims if claim.verdict == "holds")
    many = study.model_copy(update={"claims": (holds, holds), "preset": "smoke"})
    assert many.tally == {"holds": "2 hold"}
    text = read(render_study(many))
    assert "2 hold " in text
    assert "smoke test: not evidence" in text
    assert study.tally["does not hold"] == "1 does not hold"


def test_marks_are_shown_and_explained_and_what_is_common_is_said_once(study_page):
    text = read(study_page)
    table = study_page[study_page.index('<table class="cells sortable">') :]
    table = table[: table.index("</section>")]
    assert [len(re.findall(rf'<td class="{mark}" data-value', table)) for mark in MARKS] == [3, 1]
    best = re.search(r'<td class="best"[^>]*>(.*?)</td>', table, re.DOTALL).group(1)
    assert 'title="the best">●</span>' in best
    assert "68.5" in best
    assert "○ 67.2 % 65.9 to 68.5 60.1 % 58.8 to 61.4" in text, "n is said below"
    assert "● the best ○ cannot be told from the best" in text
    assert text.count("Each value: n = 5 seeds, 95 % interval.") == 1


MARKS = ("best", "within-noise")


def test_a_table_of_different_n_says_each(study):
    (table,) = study.tables
    first, *others = table.rows[0]
    other = others[0].model_copy(
        update={"estimate": others[0].estimate.model_copy(update={"n": 3}), "mark": None}
    )
    plain = table.model_copy(update={"rows": ((first, other, *others[1:]),)})
    text = read(render_study(study.model_copy(update={"tables": (plain,)})))
    assert "67.2 % 65.9 to 68.5, n = 3 60.1 % 58.8 to 61.4, n = 5" in text
    assert "Each value" not in text
    assert "● the best" not in text


def test_every_trial_is_there_behind_its_cell(study, study_page):
    tags = parse(study_page).tags
    ids = {a["id"] for _, a in tags if "id" in a}
    assert {f"t-{trial.address[:12]}" for trial in study.trials} <= ids
    assert [group.name for group in study.groups] == ["plain [7,7]", "with skips [7,7]"]
    assert [len(group.trials) for group in study.groups] == [5, 4]
    assert {group.id for group in study.groups} <= ids
    rows = [a["href"] for tag, a in tags if tag == "a" and a["href"].startswith("#trials-")]
    assert rows == ["#trials-1", "#trials-2"], "by name, and by its text"
    text = read(study_page)
    assert "▸" not in text
    assert "plain [7,7] 4 done 1 failed 4 min 4 s" in text
    assert "seed status test accuracy train loss time address" in text
    assert "4 failed loss is not finite at epoch 2 – – – ffffffffffff" in text
    assert "3 done 56.0 % 1.25 1 min 1 s 3aaaaaaaaaaa" in text
    assert "Each dot is a run: its test accuracy, from 50.0 % to 64.0 %" in text
    assert "assay show ADDRESS" in text


def test_dots_lie_where_their_metric_lies(study):
    found = strips(study)
    assert (found.name, found.low, found.high) == ("test_accuracy", 0.5, 0.64)
    assert found.places == {
        "trials-1": [0.0, 14.3, 28.6, 42.9],
        "trials-2": [57.1, 71.4, 85.7, 100.0],
    }
    bare = [trial.model_copy(update={"metrics": {}}) for trial in study.trials]
    assert strips(study.model_copy(update={"trials": tuple(bare)})).name == ""


def test_trials_are_linked_only_where_their_store_is(study, study_page):
    assert 'href="../' not in study_page
    inside = render_study(study.model_copy(update={"trials_at": "../../trials"}))
    for trial in study.trials:
        assert f'href="../../trials/{trial.address[:12]}/"' in inside
    for elsewhere in ("//host", "javascript:alert(1)", "https://host", "/trials", "../a/b"):
        with pytest.raises(ValidationError, match="trials_at"):
            StudyResult.model_validate({**study.model_dump(), "trials_at": elsewhere})


def test_a_study_of_a_thousand_trials_stays_small(study):
    first = study.trials[0]
    metrics = dict.fromkeys(("test_accuracy", "train_accuracy", "test_loss", "x"), 0.912345)
    lines = tuple(
        first.model_copy(
            update={
                "address": hashlib.sha256(bytes([cell, seed])).hexdigest(),
                "label": f"leaky ReLU, {cell} layers, batch norm",
                "seed": seed,
                "metrics": metrics,
            }
        )
        for cell in range(100)
        for seed in range(10)
    )
    many = study.model_copy(update={"trials": lines, "trials_at": "../../trials"})
    html = render_study(many)
    assert all(f'id="t-{trial.address[:12]}"' in html for trial in lines)
    assert len(html.encode()) - len(render_study(study).encode()) < 400_000
    assert len(many.to_json()) - len(study.to_json()) < 300_000


def test_a_result_is_read_as_it_was_written(study, tmp_path):
    path = tmp_path / "result.json"
    odd = study.model_copy(update={"summary": 'so\n "trials": [] and ,\n', "trials_at": "../../t"})
    for result in (odd, odd.model_copy(update={"trials": ()})):
        path.write_text(result.to_json())
        assert StudyResult.read(path) == result
    assert len(odd.to_json().splitlines()) < 275, "a trial is a line"


def test_text_of_a_study_is_escaped(study):
    bad = '"><script>alert("x")</script>{{ 7 * 7 }}'
    data = study.model_dump()
    data["question"] = data["summary"] = data["study"] = bad
    data["notes"] = [bad]
    data["claims"][0]["text"] = data["claims"][0]["note"] = data["claims"][0]["code"] = bad
    data["tables"][0]["title"] = bad
    data["tables"][0]["columns"] = [bad] * 4
    data["tables"][0]["rows"][0][0]["text"] = data["tables"][0]["rows"][0][0]["trials"] = bad
    data["figures"][0]["title"] = data["figures"][0]["caption"] = bad
    for key in ("label", "cell", "reason", "address"):
        data["trials"][8][key] = bad
    data["trials"][8]["metrics"] = {bad: 1.0}
    html = render_study(StudyResult.model_validate(data))
    tags = parse(html).tags
    assert sum(tag == "script" for tag, _ in tags) == 1, "only the page's own"
    assert not any(key.startswith("on") for _, attributes in tags for key in attributes)
    assert "{{ 7 * 7 }}" in read(html)
    assert html.count("&lt;script&gt;alert(") >= 14
