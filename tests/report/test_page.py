"""The pages say what the report says, and nothing can come in from outside."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest
from pages import parse, read

from assay.report.page import notebook, render_audit, track
from assay.report.record import EstimateModel, NotRun
from assay.report.schema import AuditReport, Check, Confusion
from assay.report.study_page import render_study


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
        "--hue",
        "--natural",
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
