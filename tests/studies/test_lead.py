"""What leads the page of a study, and what says why: drawn of claims and tables alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from assay.report.answer import first_sentence
from assay.report.record import EstimateModel
from assay.report.result import Cell, Drawing, StudyResult, Table
from assay.studies import load
from assay.studies.attention.lead import margins_said
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
    assert roles.count("why") <= 3
    assert "why" in roles or name == "ood-relu", "which has no autoencoder to say why with"
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


def test_detectors_are_ordered_by_the_nearest_outliers_as_they_are_called() -> None:
    values = load("ood").preset_values("paper")
    study = load("ood").parse({**values, "data": "digits", "device": "cpu"})
    table = Table(
        title="AUROC, trained by cross-entropy",
        columns=("detector", "fake-data", "uniform-noise", "clothing"),
        rows=(
            (Cell(text="gen"), share(0.5), share(0.9), share(0.6)),
            (Cell(text="knn"), share(0.8), share(0.7), share(0.6)),
        ),
    )
    (hero,) = study.figures_of(made(table))
    assert hero.finding == "On fake data, AUROC goes from gen 50 % to knn 80 %"
    assert study.figures_of(made(table.model_copy(update={"title": "Another"}))) == []


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


@pytest.mark.parametrize(
    "name", ["attacks", "attention", "gradients", "regularization", "skip-course"]
)
def test_the_readme_says_what_the_page_says_and_the_docs_why_effects_matter(name: str) -> None:
    result, docs = kept(name), RESULTS.parent
    assert f"| {first_sentence(result.answer)} |" in (docs.parent / "README.md").read_text()
    rules = (docs / "claims.md").read_text()
    for claim in result.claims:
        assert f"`{claim.code}`" in rules
        assert f"| {claim.why_delta} |" in rules


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_docs_say_of_every_published_claim_why_its_effect_matters(name: str) -> None:
    rules = (RESULTS.parent / "claims.md").read_text()
    for claim in kept(name).claims:
        assert f"| `{claim.code}` |" in rules


def test_what_fine_tuning_takes_is_said_of_the_best_and_of_the_quickest() -> None:
    def found(tuned: float, counts: float) -> list[Drawing]:
        rows = tuple(
            (Cell(text=name), share(value), Cell(text=weights), Cell(text=seconds))
            for name, value, weights, seconds in (
                ("full fine-tuning", tuned, "22,566,146", "2.68e+03"),
                ("frozen + logistic regression", 0.75, "385", "69.5"),
                ("TF-IDF + logistic regression", counts, "39,000", "0.891"),
            )
        )
        columns = ("method", "test accuracy", "trained parameters", "seconds")
        table = Table(title="The methods", columns=columns, rows=rows)
        return list(load("sentiment").parse({}).figures_of(made(table)))

    hero, why = found(0.8, 0.7)
    assert hero.finding == (
        "Full fine-tuning reaches 80.0 % with 22,566,146 trained parameters, frozen + logistic "
        "regression 75.0 % with 385"
    )
    assert why.finding == (
        "Full fine-tuning reaches 80.0 % in 2,680 s, TF-IDF + logistic regression 70.0 % in 0.89 s"
    )
    assert (hero.role, why.role) == ("hero", "why")
    assert hero.narrow
    hero, why = found(0.7, 0.8)
    assert hero.finding.startswith("TF-IDF + logistic regression reaches 80.0 % with 39,000 ")
    assert why.finding == (
        "TF-IDF + logistic regression reaches 80.0 % in 0.89 s, full fine-tuning 70.0 % in 2,680 s"
    )
    table = Table(title="The methods", columns=("method", "test accuracy"), rows=())
    assert list(load("sentiment").parse({}).figures_of(made(table))) == []


def test_what_sentences_and_layers_do_is_read_off_the_tables_whichever_way_it_goes() -> None:
    def headings(last: float, deepest: float) -> list[str]:
        data = Table(
            title="More data",
            columns=("method", "100", "all"),
            rows=(
                (Cell(text="frozen"), share(0.7), share(0.75)),
                (Cell(text="TF-IDF"), share(0.6), share(last)),
                (Cell(text="forest"), share(0.7), Cell(text="")),
            ),
        )
        layers = Table(
            title="Layer by layer",
            columns=("features", "0", "1"),
            rows=(
                (Cell(text="mean"), share(0.6), share(deepest)),
                (Cell(text="first token"), share(0.5), Cell(text="no result")),
            ),
        )
        figures = [
            Drawing(title=title, caption="", svg="<svg/>")
            for title in ("Accuracy against training sentences", "What each layer knows")
        ]
        result = made(data, *figures).model_copy(update={"tables": (data, layers)})
        return [one.finding for one in load("sentiment").parse({}).figures_of(result)]

    assert headings(0.8, 0.7) == [
        "From 100 to all training sentences TF-IDF goes from 60.0 % to 80.0 %",
        "Read from the mean layer 1 knows most (70.0 %), from the first token layer 0 (50.0 %)",
    ]
    assert headings(0.4, 0.5) == [
        "From 100 to all training sentences TF-IDF goes from 60.0 % to 40.0 %",
        "Read from the mean layer 0 knows most (60.0 %), from the first token layer 0 (50.0 %)",
    ]
    assert headings(0.62, 0.5)[0].endswith("frozen goes from 70.0 % to 75.0 %")


def test_how_many_words_change_is_read_off_the_table() -> None:
    def headings(*changed: str) -> list[str]:
        rows = tuple(
            (Cell(text=f"attack {k}, strict"), share(0.2 + k / 10), Cell(text=words))
            for k, words in enumerate(changed)
        )
        columns = ("attack, setting", "fooled", "words changed")
        table = Table(title="What every attack does", columns=columns, rows=rows)
        lines = Drawing(
            title="Success against the share of words changed", caption="", svg="<svg/>"
        )
        hero, why = load("words").parse({}).figures_of(made(table, lines))
        assert hero.narrow
        return [hero.finding, why.finding]

    assert headings("3 %", "11 %", "–") == [
        "Attack 2, strict: 40.0 % of the texts are fooled; attack 0, strict: 20.0 %",
        "Where it succeeds, attack 0, strict, changes a median of 3 % of the words; attack 1, "
        "strict, 11 %",
    ]
    assert headings("11 %", "3 %")[1].startswith("Where it succeeds, attack 1, strict, changes")
    same = "Where they succeed, attacks change a median of 4 % of the words"
    assert headings("4 %", "4 %")[1] == same
    assert headings("–")[1] == ""


def test_how_far_the_gradient_reaches_is_read_off_the_table() -> None:
    study = load("skip").parse({"data": "digits"})
    column = "gradient of the first layer over the last, at the start"
    rows = tuple(
        (Cell(text=name), Cell(text=reach))
        for name, reach in (("skip [7,7]", "0.43"), ("plain [7,7] bare", "9.1 × 10⁻¹²"))
    )
    main = Table(title="The six cells", columns=("network",), rows=())
    cures = Table(
        title="What batch norm and He initialisation do", columns=("network", column), rows=rows
    )
    norms = Drawing(
        title="Gradient norm from layer to layer", caption="", svg="<svg/>", finding="As it was"
    )
    result = made(main, norms)
    (drawing,) = study.figures_of(result.model_copy(update={"tables": (main, cures)}))
    assert drawing.heading == (
        "Gradient of the first layer over the last, before the first step: 0.43 in skip [7,7], "
        "9.1 × 10⁻¹² in plain [7,7] bare"
    )
    (drawing,) = study.figures_of(result)
    assert drawing.heading == "As it was"


@pytest.mark.parametrize(
    ("value", "low", "high", "said"),
    [(0.1, -0.05, 0.25, "10.0 points less"), (-0.1, -0.25, 0.05, "10.0 points more")],
)
def test_success_moves_the_map_one_way_or_the_other(
    value: float, low: float, high: float, said: str
) -> None:
    effect = EstimateModel(value=value, low=low, high=high, n=3, of="seeds")
    assert margins_said(effect) == (
        f"At equal margin the overlap is {said} where an attack succeeds (−5.0 to +25.0)"
    )
