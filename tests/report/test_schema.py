"""The models of report.json and result.json."""

from __future__ import annotations

import json
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from pydantic import ValidationError

from assay.errors import AssayError
from assay.report.record import EstimateModel
from assay.report.result import Cell, Drawing, StudyResult, Table
from assay.report.schema import AuditReport, Confusion, GalleryItem
from assay.stats import Estimate

ROOT = Path(__file__).resolve().parent.parent.parent


def test_the_published_schema_is_current():
    published = json.loads((ROOT / "docs" / "report.schema.json").read_text())
    assert published == AuditReport.model_json_schema(), (
        "run: python -m assay.report.schema > docs/report.schema.json"
    )


def test_a_report_and_a_result_survive_a_round_trip(report, study, tmp_path):
    (tmp_path / "report.json").write_text(report.to_json())
    (tmp_path / "result.json").write_text(study.to_json())
    assert AuditReport.read(tmp_path / "report.json") == report
    assert StudyResult.read(tmp_path / "result.json") == study


def test_an_estimate_of_nothing_is_null_not_nan():
    nothing = EstimateModel.model_validate(Estimate(float("nan"), 0.0, 1.0, 0, "images"))
    assert nothing.value is None
    assert '"value":null' in nothing.model_dump_json()


def test_an_unread_key_is_named(report, tmp_path):
    data = json.loads(report.to_json()) | {"acuracy": {}}
    path = tmp_path / "report.json"
    path.write_text(json.dumps(data))
    with pytest.raises(AssayError, match="acuracy") as caught:
        AuditReport.read(path)
    assert "\n" not in str(caught.value)


def test_a_later_schema_is_refused(report, tmp_path):
    data = json.loads(report.to_json()) | {"schema_version": 2}
    path = tmp_path / "report.json"
    path.write_text(json.dumps(data))
    with pytest.raises(AssayError, match="schema_version"):
        AuditReport.read(path)


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(AssayError, match=r"cannot read .*nowhere\.json"):
        AuditReport.read(tmp_path / "nowhere.json")


def test_a_confusion_matrix_is_square():
    with pytest.raises(ValidationError, match="2 by 2"):
        Confusion(classes=("a", "b"), matrix=((1, 2),))


def test_a_table_is_a_rectangle():
    with pytest.raises(ValidationError, match="2 cells"):
        Table(title="t", columns=("a", "b"), rows=(("only one",),))


def test_a_cell_takes_text_or_an_estimate_alone():
    estimate = Estimate(0.5, 0.4, 0.6, 10, "seeds")
    table = Table(title="t", columns=("a", "b"), rows=(("plain", estimate),))
    assert table.rows[0][0] == Cell(text="plain")
    assert table.rows[0][1].estimate == EstimateModel.model_validate(estimate)


def test_an_image_can_only_be_a_png_in_the_file(report):
    item = report.gallery.items[0].model_dump()
    for source in ("https://example.com/a.png", 'data:image/png;base64,"><script>', "javascript:1"):
        with pytest.raises(ValidationError, match="pattern"):
            GalleryItem(**(item | {"image": source}))


@pytest.mark.parametrize(
    "inside",
    [
        "<script>alert(1)</script>",
        '<path onclick="alert(1)"/>',
        '<use href="https://example.com/a.svg#x"/>',
        '<image href="http://example.com/a.png"/>',
        '<path style="fill: url(https://example.com/p)"/>',
        '<foreignObject><iframe src="x"/></foreignObject>',
        "<style>@import 'x.css';</style>",
        '<animate attributeName="href"/>',
        '<a href="#x"><path d="M0 0"/></a>',
        '<image href="data:image/svg+xml;base64,PHN2Zy8+"/>',
        '<path style="fill: \\75rl(//example.com)"/>',
        '<path style="fill: u/**/rl(//example.com)"/>',
        '<path style="position: fixed"/>',
        '<path fill="URL(//example.com/p)"/>',
        '<rect class="sheet"/>',
        '<meta http-equiv="refresh" content="0; url=//example.com" />',
        '<title><image href="data:image/png;base64,AAAA"/></title>',
        '<g id="a"><use href="#a"/></g>',
        '<path xml:base="//example.com"/>',
        '<h:path xmlns:h="http://www.w3.org/1999/xhtml"/>',
        "<g>words</g>",
        "<g>" * 70 + "</g>" * 70,
    ],
)
def test_a_drawing_only_draws(inside):
    svg = f'<svg xmlns="http://www.w3.org/2000/svg">{inside}</svg>'
    with pytest.raises(ValidationError, match="only draws"):
        Drawing(title="t", caption="", svg=svg)


@pytest.mark.parametrize(
    ("svg", "match"),
    [
        ('<!DOCTYPE svg [<!ENTITY a "b">]><svg>&a;</svg>', "DOCTYPE"),
        ("<html/>", "<html>"),
        ("<svg>", "no SVG"),
    ],
)
def test_what_is_no_svg_element_is_no_drawing(svg, match):
    with pytest.raises(ValidationError, match=match):
        Drawing(title="t", caption="", svg=svg)


@pytest.mark.parametrize(
    "hidden",
    [
        "<!--><meta http-equiv=refresh content=0>-->",
        "<?x ><meta http-equiv=refresh content=0>?>",
        "<title><![CDATA[<meta http-equiv=refresh content=0>]]></title>",
        "<text>&lt;meta http-equiv=refresh content=0></text>",
    ],
)
def test_what_a_reader_of_xml_passes_over_is_no_markup_of_the_page(hidden):
    """A browser ends such a comment, or instruction, at its first ">": what follows is HTML."""
    tags: list[str] = []
    reader = HTMLParser()
    reader.handle_starttag = lambda tag, _: tags.append(tag)  # type: ignore[method-assign]
    svg = Drawing(title="t", caption="", svg=f"<svg>{hidden}<path d='M0 0'/></svg>").svg
    reader.feed(svg)
    assert "meta" not in tags
    assert "<!" not in svg
    assert "<?" not in svg


def test_reading_reports_needs_neither_torch_nor_matplotlib():
    code = (
        "import sys, assay.report.schema, assay.report.result, assay.report.page, "
        "assay.report.terminal, assay.report.pictures\n"
        "print([m for m in ('torch', 'matplotlib', 'scipy') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
