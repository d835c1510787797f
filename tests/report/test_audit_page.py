"""The page of an audit: verdict, pictures, checks, then what each chapter found."""

from __future__ import annotations

import re

import pytest
from pages import parse, read

from assay.report.audit_page import place, render_audit, stretches
from assay.report.record import EstimateModel, NotRun
from assay.report.result import Table
from assay.report.schema import Chapter, Check, Confusion


@pytest.fixture(scope="module")
def page(report) -> str:
    return render_audit(report)


def between(text: str, start: str, end: str) -> str:
    return text[text.index(start) : text.index(end)]


def test_the_verdict_is_the_first_sentence(report):
    answer = "Accurate & calibrated; **not robust**."
    html = render_audit(report.model_copy(update={"answer": answer}))
    assert '<p class="summary">Accurate &amp; calibrated; <strong>not robust</strong>.</p>' in html
    assert html.index('class="summary"') < html.index("<svg") < html.index('id="checks"')
    assert f"<title>Does it hold up? {report.title} · assay</title>" in html


def test_checks_are_rows_with_failures_first(page):
    said = between(read(page), "verdict check value", "A check passes or fails only where")
    rows = [
        "fail Accuracy under PGD at 8/255 ROB-001 3 .1 % 1.1 to 5.1 n = 1,000 at least 30.0 %",
        "undecided Calibration error CAL-001 4 .6 % 2.6 to 6.6 n = 1,000 at most 5.0 %",
        "not run SVHN told from test data (AUROC) OOD-002 – at least 80.0 %",
        "pass Clean accuracy ACC-001 91 .4 % 89.4 to 93.4 n = 1,000 at least 80.0 %",
    ]
    assert [said.index(row) for row in rows] == sorted(said.index(row) for row in rows)
    assert "SVHN was not given" in said
    assert "Flags up: FLAG-STEPS" in said
    assert "1 fail 1 undecided 1 not run 2 pass" in read(page)


def test_what_was_not_tested_is_a_chapter_by_reason(report):
    checks = [one for one in report.checks if one.verdict != "not run"]
    why = "the budget of 60 s was spent"
    for code in ("OOD-002", "OOD-003"):
        lost = {"code": code, "verdict": "not run", "reason": why, "value": None}
        checks.append(report.checks[0].model_copy(update=lost))
    gone = {"checks": tuple(checks), "ood": NotRun(not_run=why)}
    html = render_audit(report.model_copy(update=gone))
    text = read(html[html.index('id="not-tested"') :])
    assert f"OOD-002, OOD-003, Unfamiliar inputs: {why}" in text
    assert '<a href="#not-tested">' in html


def test_what_to_do_stands_below_what_does_not_pass(report):
    checks = tuple(
        one.model_copy(update={"advice": f"mend {one.code}", "flags": ()}) for one in report.checks
    )
    text = read(render_audit(report.model_copy(update={"checks": checks})))
    for check in checks:
        assert (f"What to do: mend {check.code}." in text) == (check.verdict != "pass")


def test_an_option_of_a_command_stays_on_one_line(report):
    failed = report.checks[0].model_copy(
        update={"verdict": "fail", "advice": "see <b>that</b> (--images, --train-images 3)"}
    )
    html = render_audit(report.model_copy(update={"checks": (failed,)}))
    whole = '<span class="option">--images</span>, <span class="option">--train-images</span> 3'
    assert f"see &lt;b&gt;that&lt;/b&gt; ({whole})." in html


def test_flags_that_are_up_stand_at_the_checks_and_settled_ones_fold(page):
    cautions = re.search(r'<ul class="cautions">(.*?)</ul>', page, re.DOTALL).group(1)
    assert "FLAG-STEPS" in cautions
    assert "FLAG-RANDOM" not in cautions
    text = read(page)
    assert "raised More steps still help the attack FLAG-STEPS" in text
    assert "not checked The model answers at random" in text
    assert "not found: 1 clear Gradients are zero" in text


def test_two_pictures_lead(report, page):
    assert "PGD, 20 steps leaves 3.1 % right at L∞ 8/255, of 91.4 % without attack" in read(page)
    assert "3 images that fool it at L∞ 8/255" in read(page)
    leading = between(page, 'class="heroes"', 'id="checks"')
    assert leading.count("<img") == 6
    assert leading.count("<svg") == 1
    bare = {name: NotRun() for name in ("robustness", "fooled", "gallery")}
    assert 'class="heroes' not in render_audit(report.model_copy(update=bare))
    one = render_audit(report.model_copy(update={"fooled": NotRun(), "gallery": NotRun()}))
    assert 'class="heroes one"' in one


def test_chapters_are_headed_by_what_they_found(page):
    headings = re.findall(r"<h2>(.*?)</h2>", page.replace("\u00a0", " "))
    for found in (
        "91.4 % of 1,000 images are classified correctly; of “truck” 80.0 %",
        "Confidence is off by 4.6 points on average, mostly too high",
        "The commonest mistake: “cat” taken for “dog”, 14 of",
        "FLAG-STEPS is a reason not to trust some of these figures",
        "grad-cam explains this model best; 1 other cannot be told from it",
        "max-logit tells outliers best: 95.2 % of pairs are in the right order for uniform noise",
    ):
        assert any(heading.startswith(found) for heading in headings), (found, headings)


def test_the_contents_name_the_parts(page):
    contents = re.search(r"<nav.*?</nav>", page, re.DOTALL).group(0)
    assert read(contents) == (
        "Checks Accuracy Robustness Saliency Unfamiliar inputs Not tested How this was made"
    )


def test_verdicts_have_words_and_colours(page):
    for verdict in ("pass", "fail", "undecided", "not-run"):
        assert f'class="badge {verdict}">' in page
    for verdict in ("pass", "fail", "undecided"):
        assert re.search(rf"\.{verdict}\b[^{{]*{{ color: var\(--", page)


def test_every_chapter_says_its_numbers(page):
    text = read(page)
    for sentence in (
        "airplane 98.0 % 93.0 to 100.0, n = 100",
        "expected calibration error, the gap between the two averaged over images, "
        "is 4.6 % (3.6 to 5.6, n = 1,000)",
        "The mean confidence is 95.6 %",
        "cat dog 14 of",
        "8/255 3.1 % 1.1 to 5.1, n = 1,000 96.6 % 94.6 to 98.6, n = 914",
        "counted over correctly classified images",
        "Differences are amplified 10 times",
        "airplane, 97.0 % → bird , 88.0 %",
        "0.412 0.342 to 0.482, n = 58",
        "Empty maps, which explain nothing: 0 before the attack, 2 after",
        "max-softmax 0.930 0.910 to 0.950, n = 2,000",
        "took 1 min 23 s",
        "torch 2.13.0",
        "eps: 0.03137",
    ):
        assert sentence in text, sentence


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
    assert all(one.off for one in stretches(bare))
    text = read(render_audit(bare))
    for name in names:
        assert f"not run no {name} was possible" in text
    assert "No checks were requested." in text


def test_nothing_measured_is_a_dash_not_a_number(report):
    nothing = EstimateModel(value=None, low=None, high=None, n=0, of="images")
    check = Check(code="ACC-001", title="t", question="q", threshold=0.5, direction="at least",
                  value=nothing, verdict="not run")  # fmt: skip
    text = read(render_audit(report.model_copy(update={"checks": (check,)})))
    assert "n = 0 at least 50.0 %" in text
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
    text = read(render_audit(many))
    assert "The 15 classes with the lowest accuracy" in text
    assert "of “class 38” 62.0 %" in text
    drawn = re.findall(r">(class \d+)</text>", render_audit(many))
    assert drawn[:15] == [f"class {i}" for i in range(38, 23, -1)]
    assert text.index("class 0 100.0 %") > text.index("Accuracy of each class as numbers")


def test_chapters_of_other_sections_stand_in_their_part(report):
    table = Table(title="By kind", columns=("kind", "accuracy"), rows=(("blur", "51"),))
    blur = Chapter(
        title="Blur costs 23 points", lead="Of five.", tables=(table,), part="robustness"
    )
    slices = Chapter(title="The dark ones fare worst", name="Slices")
    more = {"corruptions": blur, "slices": slices, "gone": NotRun(not_run="no images")}
    html = render_audit(report.model_copy(update={"more": more}))
    places = [html.index(f'<section id="{id}"') for id in (
        "robustness", "section-corruptions", "flags", "gallery", "section-slices", "section-gone"
    )]  # fmt: skip
    assert places == sorted(places)
    contents = read(re.search(r"<nav.*?</nav>", html, re.DOTALL).group(0))
    assert "Unfamiliar inputs Slices gone not run Not tested How" in contents
    assert "corruptions" not in contents
    text = read(html)
    assert "Blur costs 23 points Of five. By kind" in text
    assert "gone not run no images" in text


def check(value: float, low: float, high: float, **more) -> Check:
    estimate = EstimateModel(value=value, low=low, high=high, n=10, of="images")
    asked = {"code": "X-1", "title": "t", "question": "q", "threshold": 0.8, "verdict": "fail"}
    return Check(**{"direction": "at least", **asked, **more}, value=estimate)


def test_bars_of_checks_have_one_scale():
    where = place(check(0.5, 0.4, 0.6))
    assert where == {"value": 50, "low": 40, "high": 60, "threshold": 80, "from": 80, "to": 100}
    small = place(check(0.04, 0.03, 0.05, threshold=0.05, direction="at most"))
    assert (small["value"], small["from"], small["to"]) == (4, 0, 5)
    assert place(check(0.03, 0.02, 0.04, unit="number"))["value"] == 3
    odd = place(check(12, 11, 13, threshold=10, unit="number"))
    assert odd["end"] > 13
    assert 0 < odd["threshold"] < odd["value"] < 100
    assert place(check(0.1, 0.05, 0.15).model_copy(update={"value": None})) is None


def test_a_table_beside_the_rule_holds_who_has_no_rank(report):
    best, other = report.faithful.explainers
    gone = other.model_copy(update={"verdict": "survives"})
    faithful = {"within_noise": (), "explainers": (gone, best)}
    html = render_audit(
        report.model_copy(update={"faithful": report.faithful.model_copy(update=faithful)})
    )
    text = read(html)
    assert "grad-cam explains this model best " in text
    assert "Without a rank: hires-cam. The reason: maps that survive random weights" in text
    ruled = html[html.index('<tbody class="ruled">') :]
    assert "hires-cam" in ruled[: ruled.index("</tbody>")]
    assert "grad-cam<" not in ruled[: ruled.index("</tbody>")]


def test_preprocessing_and_settings_are_there_and_folded(report):
    inputs = {"images": [1, 28, 28], "access": "gradient", "mean": [0.13], "std": [0.31],
              "outputs": "logits", "preprocess": None}  # fmt: skip
    made = report.made.model_copy(update={"config": {"inputs": inputs}})
    html = render_audit(report.model_copy(update={"made": made}))
    text = read(html)
    assert "images 1 × 28 × 28 (channels × height × width)" in text
    assert "normalised by mean 0.13; standard deviation 0.31" in text
    assert "the model answers with logits" in text
    for folded in ("normalised by", "<pre>inputs:"):
        before = html[: html.index(folded)]
        assert before.count("<details") == before.count("</details>") + 1
    assert not any("open" in a for tag, a in parse(html).tags if tag == "details")
