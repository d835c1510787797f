"""What leads the page of a study, and what says why: drawn of claims and tables alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from assay.report.answer import first_sentence
from assay.report.record import EstimateModel
from assay.report.result import Cell, Drawing, StudyResult, Table
from assay.studies import load
from assay.studies.kept import led

RESULTS = Path(__file__).parents[2] / "docs" / "results"
PUBLISHED = sorted(path.parent.name for path in RESULTS.glob("*/result.json"))


def kept(name: str) -> StudyResult:
    return StudyResult.read(RESULTS / name / "result.json")


@pytest.mark.parametrize("name", PUBLISHED)
def test_one_figure_leads_and_a_few_say_why(
    name: str, shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSAY_DATA", str(shared_data))  # whose trials are named by it
    result = kept(name)
    figures = led(load(result.study).parse(result.made.config), result).figures
    roles = [figure.role for figure in figures]
    assert roles.count("hero") == 1
    assert 1 <= roles.count("why") <= 3
    tables = {table.title for table in result.tables}
    for figure in figures:
        assert figure.role == "data" or figure.heading
        assert not figure.beside or figure.beside in tables
    assert len({figure.title for figure in figures}) == len(figures)


@pytest.mark.parametrize("name", PUBLISHED)
def test_claims_say_why_their_effect_matters(name: str) -> None:
    for claim in kept(name).claims:
        assert claim.why_delta.endswith("."), claim.code
        assert claim.unit != "points" or "share" not in claim.text


def made(table: Table, *figures: Drawing) -> StudyResult:
    return kept("skip").model_copy(update={"tables": (table,), "figures": figures})


def share(value: float) -> Cell:
    return Cell(estimate=EstimateModel(value=value, low=value, high=value, n=3, of="seeds"))


def test_the_finding_quotes_the_table() -> None:
    study = load("skip").parse({"data": "digits"})
    rows = tuple(
        (Cell(text=name), share(accuracy), Cell(estimate=share(loss).estimate, unit="number"))
        for name, accuracy, loss in (("plain [7,7]", 0.5, 1.5), ("skip [7,7]", 0.8, 0.5))
    )
    table = Table(
        title="The six cells", columns=("network", "test accuracy", "training loss"), rows=rows
    )
    loss = Drawing(title="Training loss", caption="", svg="<svg/>")
    hero, why = study.figures_of(made(table, loss))
    assert hero.finding == "At [7,7] test accuracy is 80 % with skip connections, 50 % without"
    assert (
        why.finding == "After training the loss of plain [7,7] is 1.500, that of skip [7,7] 0.500"
    )
    assert hero.narrow
    assert study.figures_of(made(table.model_copy(update={"title": "Another"}))) == []
    alone = table.model_copy(update={"rows": rows[:1]})
    (hero,) = study.figures_of(made(alone))
    assert hero.finding == "At [7,7] test accuracy is 50 % without"


def test_transfer_has_its_median_without_the_diagonal() -> None:
    study = load("attacks").parse({"data": "digits"})
    names = ("natural 0", "natural 1", "natural 2")
    cells = ((100, 20, 60), (40, 100, 50), (30, 70, 100))
    rows = tuple(
        (Cell(text=name), *(Cell(text=f"{value} %") for value in row))
        for name, row in zip(names, cells, strict=True)
    )
    table = Table(title="Transfer of PGD, 8/255", columns=("made on", *names), rows=rows)
    (drawing,) = study.figures_of(made(table))
    assert drawing.finding.endswith("a median of 45 % of its images")
    assert "20 to 70 %" in drawing.caption


@pytest.mark.parametrize("name", ["attacks", "attention", "gradients", "regularization", "skip"])
def test_the_readme_says_what_the_page_says_and_the_docs_why_effects_matter(name: str) -> None:
    result, docs = kept(name), RESULTS.parent
    assert f"| {first_sentence(result.answer)} |" in (docs.parent / "README.md").read_text()
    rules = (docs / "claims.md").read_text()
    for claim in result.claims:
        assert f"`{claim.code}`" in rules
        assert f"| {claim.why_delta} |" in rules
