"""The committed results of the studies: they can be read, and the documents say what they say."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from assay.report.result import StudyResult
from assay.report.terminal import judged_claim
from assay.studies import load

ROOT = Path(__file__).resolve().parent.parent
RESULTS = sorted((ROOT / "docs" / "results").iterdir())


@pytest.mark.parametrize("folder", RESULTS, ids=lambda folder: folder.name)
class TestACommittedResult:
    def test_it_says_who_made_it_and_how(self, folder: Path) -> None:
        result = StudyResult.read(folder / "result.json")
        assert result.claims
        assert all(line.status == "done" for line in result.trials)
        assert len(result.trials) >= 10, "five networks, each with its detectors: the smallest"
        assert result.made.hardware["cores"]
        assert result.work_seconds > 0

    def test_its_config_makes_the_same_study_today(self, folder: Path) -> None:
        result = StudyResult.read(folder / "result.json")
        settings = yaml.safe_load((folder / "config.yaml").read_text())
        study = load(result.study).parse(settings)
        assert study == load(result.study).parse(result.made.config)
        assert study.seeds == len(result.made.seeds)

    def test_its_page_is_small_and_has_no_dead_links(self, folder: Path) -> None:
        page = folder / "index.html"
        assert page.stat().st_size < 2_000_000
        html = page.read_text()
        assert "../trials/" not in html
        anchors = set(re.findall(r'id="([^"]+)"', html))
        assert set(re.findall(r'href="#([^"]+)"', html)) <= anchors


def test_the_six_cells_of_the_documents_are_those_of_the_result() -> None:
    document = json.loads((ROOT / "docs" / "results" / "skip-course" / "result.json").read_text())
    (table,) = [table for table in document["tables"] if table["title"] == "The six cells"]
    page = (ROOT / "docs" / "studies.md").read_text()
    for row in table["rows"]:
        accuracy, loss = row[1]["estimate"], row[3]["estimate"]
        value, low, high = (100 * accuracy[key] for key in ("value", "low", "high"))
        said = (
            f"| {row[0]['text']} | {value:.2f} % ({low:.2f} to {high:.2f}) | {loss['value']:.3f} |"
        )
        assert said in page


@pytest.mark.parametrize("folder", RESULTS, ids=lambda folder: folder.name)
def test_the_documents_say_what_was_found(folder: Path) -> None:
    documents = (ROOT / "docs" / "studies.md").read_text().replace("+", "")
    for claim in StudyResult.read(folder / "result.json").claims:
        said = re.sub(r", n = \d+\)", ")", judged_claim(claim).value).replace("+", "")
        value, _, rest = said.partition(" (")
        interval, _, per = rest.partition(")")
        shown = f"{value}{per} ({interval})"
        assert f"| {shown} | {claim.verdict} |" in documents, (claim.code, shown)
