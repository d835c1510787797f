"""The pages say what the report says, and nothing can come in from outside."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest
from pages import parse, read

from assay.report.audit_page import render_audit
from assay.report.page import track
from assay.report.record import EstimateModel
from assay.report.schema import AuditReport
from assay.report.study_page import render_study


@pytest.fixture(scope="module")
def audit_page(report) -> str:
    return render_audit(report)


@pytest.fixture(scope="module")
def study_page(study) -> str:
    return render_study(study)


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
    assert "<script>alert" not in hostile(report)._repr_html_()


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


def test_no_heading_tears_a_number_from_its_unit(audit_page, study):
    finding = {"finding": "Skips gain 4.1 % and 2.0 points"}
    figures = tuple(figure.model_copy(update=finding) for figure in study.figures)
    page = render_study(study.model_copy(update={"figures": figures}))
    assert "Skips gain 4.1\u00a0% and 2.0\u00a0points</" in page
    for html in (audit_page, page):
        headings = re.findall(r"<(?:h[1-3]|summary)>.*?</(?:h[1-3]|summary)>", html, re.DOTALL)
        assert not [one for one in headings if re.search(r"\d (%|points?\b)", one)]
