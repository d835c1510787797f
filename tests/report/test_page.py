"""The pages say what the report says, and nothing can come in from outside."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest
from pages import parse, read
from pydantic import ValidationError

from assay.report.page import notebook, render_audit, render_study, strips, track
from assay.report.record import EstimateModel, NotRun
from assay.report.result import StudyResult
from assay.report.schema import AuditReport, Check, Confusion


@pytest.fixture(scope="module")
def audit_page(report) -> str:
    return render_audit(report)


@pytest.fixture(scope="module")
def study_page(study) -> str:
    return render_study(study)


def test_it_opens_with_the_checks(audit_page, report):
    text = read(audit_page)
    said = text[text.index("Each check compares") : text.index("How often the model is right")]
    for check in report.checks:
        assert check.code in said
        assert check.title in said
        assert check.reason in said
    assert "91.4 % 89.4 to 93.4, n = 1,000 pass" in said
    assert "4.6 % 2.6 to 6.6, n = 1,000 undecided" in said
    assert "3.1 % 1.1 to 5.1, n = 1,000 fail" in said
    assert "– not run" in said
    assert "threshold: at least 30.0 %" in said
    assert "threshold: at most 5.0 %" in said
    assert "1 fail 1 undecided 1 not run 2 pass" in text


def test_verdicts_have_words_and_colours(audit_page):
    for verdict in ("pass", "fail", "undecided", "not-run"):
        assert f'class="badge {verdict}">' in audit_page
    for verdict in ("pass", "fail", "undecided"):
        assert re.search(rf"\.{verdict}\b[^{{]*{{ color: var\(--", audit_page)


def test_every_chapter_says_its_numbers(audit_page):
    text = read(audit_page)
    for sentence in (
        "airplane 98.0 % 93.0 to 100.0, n = 100",
        "The mean confidence is 95.6 %",
        "cat dog 14 of",
        "8/255 3.1 % 1.1 to 5.1, n = 1,000 96.6 % 94.6 to 98.6, n = 914",
        "counted over correctly classified images",
        "Differences are amplified 10 times",
        "airplane, 97.0 % → bird , 88.0 %",
        "0.412 0.342 to 0.482, n = 58",
        "Empty maps, which explain nothing: 0 before the attack, 2 after",
        "max-softmax 0.930 0.910 to 0.950, n = 2,000",
        "raised More steps still help the attack FLAG-STEPS",
        "not checked The model answers at random",
        "clear Gradients are zero",
        "took 1 min 23 s",
        "torch 2.13.0",
        "eps: 0.03137",
    ):
        assert sentence in text, sentence


def test_the_command_can_be_copied(audit_page, report):
    parser = parse(audit_page)
    assert f"<pre>{report.made.command}</pre><button" in audit_page
    script = re.search(r"<script>(.*?)</script>", audit_page, re.DOTALL).group(1)
    seal = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = next(a["content"] for t, a in parser.tags if "http-equiv" in a)
    assert policy.startswith("default-src 'none';")
    assert f"script-src 'sha256-{seal}'" in policy, "a browser runs no script but this one"


@pytest.mark.parametrize("page", ["audit_page", "study_page"])
def test_pages_fetch_nothing(page, request):
    html = request.getfixturevalue(page)
    assert "://" not in html
    assert "@import" not in html
    for tag, attributes in parse(html).tags:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form")
        for key in ("src", "href", "srcset", "action"):
            assert (attributes.get(key) or "#").startswith(("#", "data:image/png;base64,"))
    assert not re.search(r"url\((?!#)", html)


@pytest.mark.parametrize("page", ["audit_page", "study_page"])
def test_pages_suit_dark_light_phone_and_paper(page, request):
    html = request.getfixturevalue(page)
    light = set(re.findall(r"(--[\w-]+):", html[: html.index("@media")]))
    dark = html[html.index("@media screen and (prefers-color-scheme: dark)") :]
    dark = dark[: dark.index("\n}")]
    needed = set(re.findall(r"var\((--[\w-]+)", html)) - {
        "--serif",
        "--sans",
        "--mono",
    }
    assert needed <= light
    assert needed <= set(re.findall(r"(--[\w-]+):", dark))
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in html
    assert "@media print" in html
    assert "@media (max-width" in html


@pytest.mark.parametrize("page", ["audit_page", "study_page"])
def test_contents_lead_somewhere_and_tags_are_closed(page, request):
    html = request.getfixturevalue(page)
    tags = parse(html).tags
    ids = [a["id"] for _, a in tags if "id" in a]
    assert len(ids) == len(set(ids))
    for tag, attributes in tags:
        if tag == "a":
            assert attributes["href"].removeprefix("#") in ids
    for name in (
        "div",
        "section",
        "table",
        "tr",
        "td",
        "th",
        "span",
        "svg",
        "g",
        "figure",
        "details",
    ):
        opened = len(re.findall(rf"<{name}\b(?![^>]*/>)", html))
        assert opened == html.count(f"</{name}>"), name


@pytest.mark.parametrize("page", ["audit_page", "study_page"])
def test_pages_are_for_those_who_do_not_see_them_too(page, request):
    html = request.getfixturevalue(page)
    assert re.search(r"<body>\s*<a class=\"skip\" href=\"#body\">", html)
    for tag, attributes in parse(html).tags:
        if tag == "th":
            assert attributes["scope"] in ("col", "row", "rowgroup")
        if tag == "svg":
            assert attributes["role"] == "img"
            assert attributes["aria-label"]
    assert "<th></th>" not in html


def test_a_figure_is_named_by_its_finding(study, study_page):
    for figure in study.figures:
        assert study_page.count(f' aria-label="{figure.title}">') == 1
    assert ' aria-label="gradient norms"' not in study_page
    assert "<title>Do skip connections undo the degradation of deep plain CNNs? ·" in study_page


@pytest.mark.parametrize("page", ["audit_page", "study_page"])
def test_a_page_may_fetch_send_and_be_moved_nowhere(page, request):
    (policy,) = re.findall(r'Security-Policy" content="([^"]+)"', request.getfixturevalue(page))
    said = dict(one.split(maxsplit=1) for one in policy.split("; "))
    for what in ("default-src", "base-uri", "form-action"):
        assert said[what] == "'none'", what


def test_a_page_stays_small(audit_page):
    assert len(audit_page.encode()) < 2_000_000


def hostile(report: AuditReport) -> AuditReport:
    bad = '<script>alert("x")</script>{{ 7 * 7 }}'
    data = report.model_dump()
    data["title"] = data["summary"] = data["made"]["command"] = bad
    data["made"]["config"] = {"model": bad}
    data["made"]["data"] = {bad: bad}
    data["checks"][0]["title"] = data["checks"][0]["reason"] = bad
    data["confusion"]["classes"] = [bad] * 10
    data["accuracy"]["per_class"][0]["name"] = bad
    data["gallery"]["items"][0]["label"] = f'"><img src=x onerror=alert(1)>{bad}'
    data["gallery"]["items"][0]["prediction"] = bad
    data["robustness"]["curves"][0]["attack"] = bad
    data["ood"]["results"][0]["detector"] = bad
    data["flags"][0]["detail"] = bad
    return AuditReport.model_validate(data)


def test_text_from_models_and_data_is_escaped(report):
    html = render_audit(hostile(report))
    tags = parse(html).tags
    assert sum(tag == "script" for tag, _ in tags) == 1, "only the page's own"
    assert not any(key.startswith("on") for _, attributes in tags for key in attributes)
    assert "{{ 7 * 7 }}" in read(html)
    assert html.count("&lt;script&gt;alert(") >= 12
    assert "<script>alert" not in notebook(hostile(report))


def test_a_chapter_that_was_not_run_says_why(report):
    names = (
        "accuracy",
        "calibration",
        "confusion",
        "robustness",
        "attention",
        "gallery",
        "hardly",
        "faithful",
        "ood",
    )
    bare = report.model_copy(
        update={name: NotRun(not_run=f"no {name} was possible") for name in names}
        | {"checks": (), "flags": ()}
    )
    text = read(render_audit(bare))
    for name in names:
        assert f"not run no {name} was possible" in text
    assert "No checks were requested." in text


def test_nothing_measured_is_a_dash_not_a_number(report):
    nothing = EstimateModel(value=None, low=None, high=None, n=0, of="images")
    check = Check(code="ACC-001", title="t", question="q", threshold=0.5, direction="at least",
                  value=nothing, verdict="not run")  # fmt: skip
    text = read(render_audit(report.model_copy(update={"checks": (check,)})))
    assert "– n = 0" in text
    assert "nan" not in text.lower().split()
    assert "None" not in text.split()


def test_many_classes_fold_away_and_worst_come_first(report):
    k = 40
    names = tuple(f"class {i}" for i in range(k))
    per_class = tuple(
        report.accuracy.per_class[0].model_copy(
            update={
                "name": names[i],
                "accuracy": EstimateModel(value=1 - i / 100, low=0.5, high=1, n=9, of="images"),
            }
        )
        for i in range(k - 1)
    )
    nothing = EstimateModel(value=None, low=None, high=None, n=0, of="images")
    unseen = report.accuracy.per_class[0].model_copy(
        update={"name": names[-1], "accuracy": nothing}
    )
    per_class = (unseen, *per_class)
    matrix = tuple(tuple(int(i == j) for j in range(k)) for i in range(k))
    many = report.model_copy(
        update={
            "accuracy": report.accuracy.model_copy(update={"per_class": per_class}),
            "confusion": Confusion(classes=names, matrix=matrix),
        }
    )
    html = render_audit(many)
    text = read(html)
    assert "The 15 classes with the lowest accuracy" in text
    assert text.index("class 38 62.0 %") < text.index("The other 25 classes")
    assert text.index("class 0 100.0 %") > text.index("The other 25 classes")
    assert text.index("class 39 –") > text.index("class 0 100.0 %"), (
        "no image: neither bad nor good"
    )


def test_a_study_says_its_claims(study_page):
    text = read(study_page)
    assert "Do skip connections undo the degradation" in text
    assert "+22.1 points +19.0 to +25.2, n = 5 seeds holds" in text
    assert "−2.4 points −3.6 to −1.2, n = 5 seeds does not hold" in text
    assert "undecided About 9 more seeds would decide it" in text
    assert "matters from +1.0 points" in text
    assert "9 trials , 8 min 8 s of work · " in text
    assert ", all trials together 8 min 8 s" in text
    assert "the last call" not in text
    assert "smoke test" not in text
    assert "How this was made" in text
    assert study_page.count("<svg") == 2


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
    table = study_page[study_page.index('<table class="cells">') :]
    table = table[: table.index("</section>")]
    assert [len(re.findall(rf'<td class="{mark}">', table)) for mark in MARKS] == [3, 1]
    best = re.search(r'<td class="best">(.*?)</td>', table, re.DOTALL).group(1)
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
    assert "Each dot is a trial: its test accuracy, from 50.0 % to 64.0 %" in text
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
    assert len(odd.to_json().splitlines()) < 265, "a trial is a line"


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


def estimate(value: float, low: float, high: float) -> EstimateModel:
    return EstimateModel(value=value, low=low, high=high, n=10, of="images")


def test_a_track_places_value_interval_and_threshold():
    where = track(estimate(0.5, 0.4, 0.6), "fraction", 0.8, "at least")
    assert where == {"start": 0.0, "end": 1.0, "value": 50, "low": 40, "high": 60,
                     "threshold": 80, "from": 80, "to": 100}  # fmt: skip
    small = track(estimate(0.04, 0.03, 0.05), "fraction", 0.05, "at most")
    assert small["end"] == 0.1
    assert (small["value"], small["from"], small["to"]) == (40, 0, 50)
    signed = track(estimate(-0.02, -0.03, -0.01), "points", 0.01, "at least")
    assert signed["start"] < -0.03
    assert 0 < signed["low"] < signed["value"] < signed["high"] < signed["threshold"] < 100
    assert track(None) is None
    assert track(EstimateModel(value=None, low=None, high=None, n=0, of="x")) is None


def test_the_notebook_face_has_checks_and_raised_flags(report):
    text = read(report._repr_html_())
    assert "ROB-001 Accuracy under PGD at 8/255 3.1 % 1.1 to 5.1 1,000 at least 30.0 % fail" in text
    assert "FLAG-STEPS" in text
    assert "FLAG-GRADIENT" not in text
