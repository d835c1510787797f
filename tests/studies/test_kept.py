"""Results that are kept are told with today's words, and keep their numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from assay.cli import main as command_line
from assay.report.result import StudyResult
from assay.report.study_page import render_study
from assay.studies.kept import judged, told_anew

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def kept() -> StudyResult:
    """A published result, as if of data that is always there."""
    result = StudyResult.read(ROOT / "docs" / "results" / "skip" / "result.json")
    made = result.made.model_copy(update={"config": {**result.made.config, "data": "digits"}})
    return result.model_copy(update={"made": made})


def main(tokens: list[str]) -> int:
    with pytest.raises(SystemExit) as ended:
        command_line(tokens)
    return ended.value.code


def test_what_was_judged_is_read_back(kept):
    for claim in kept.claims:
        found = judged(claim)
        assert (found.code, found.verdict, found.delta) == (claim.code, claim.verdict, claim.delta)
        assert found.estimate.value == claim.estimate.value
    nothing = judged(kept.claims[0].model_copy(update={"estimate": None, "verdict": "not run"}))
    assert (nothing.verdict, nothing.estimate.n) == ("undecided", 0)


def test_a_result_of_an_unknown_study_or_setting_comes_back_as_it_is(kept):
    for update in (
        {"study": "another"},
        {"made": kept.made.model_copy(update={"config": {"no": "setting"}})},
    ):
        other = kept.model_copy(update=update)
        assert told_anew(other) is other


def test_a_claim_on_images_that_seeds_shared_is_about_these():
    """Training accuracy is one number a seed; ten seeds drew 1,000 training images each, more than
    a tenth of those of digits. Test accuracy is known image by image."""
    read = StudyResult.read(ROOT / "docs" / "results" / "regularization" / "result.json")
    made = read.made.model_copy(update={"config": {**read.made.config, "data": "digits"}})
    everywhere = [one.model_copy(update={"about": "networks and images"}) for one in read.claims]
    claims = told_anew(read.model_copy(update={"made": made, "claims": everywhere})).claims
    about = {claim.code: claim.about for claim in claims}
    assert about.pop("regularization.underfits") == "networks, on these images"
    assert set(about.values()) == {"networks and images"}


def test_show_draws_the_page_of_a_result_anew(kept, tmp_path, capsys):
    there = tmp_path / "old"
    there.mkdir()
    stamped = kept.made.versions | {"assay": "0.1.0 (b2b16351-dirty)"}
    made = kept.made.model_copy(
        update={"versions": stamped, "command": "assay run skip --data /home/me/pictures"}
    )
    old = kept.model_copy(
        update={"answer": "", "question": "What?", "made": made, "trials_at": "../../trials"}
    )
    (there / "result.json").write_text(old.to_json())
    out = tmp_path / "new"
    assert main(["show", str(there), "--out", str(out)]) == 0
    assert capsys.readouterr().out.strip() == str(out / "index.html")
    page, new = (out / "index.html").read_text(), StudyResult.read(out / "result.json")
    assert new.answer == kept.answer
    assert new.answer.startswith("**Skip connections win at [7,7]: ")
    assert new.question in page
    assert [claim.estimate for claim in new.claims] == [claim.estimate for claim in kept.claims]
    assert [claim.verdict for claim in new.claims] == [claim.verdict for claim in kept.claims]
    assert "-dirty" not in page
    assert "/home/me" not in page
    assert 'href="../../trials' not in page


def test_data_that_are_not_here_are_not_fetched_to_draw_a_page(kept, tmp_path, monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    asked = []
    monkeypatch.setattr(hub, "dataset_info", lambda name, **_: asked.append(name))
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "snapshot_download", refused)
    monkeypatch.delenv("ASSAY_DATA", raising=False)
    config = kept.made.config | {"data": "mnist"}
    made = kept.made.model_copy(update={"config": config})
    there = tmp_path / "result.json"
    there.write_text(kept.model_copy(update={"answer": "", "made": made}).to_json())
    assert main(["show", str(there), "--out", str(tmp_path / "new")]) == 0
    new = StudyResult.read(tmp_path / "new" / "result.json")
    assert new.answer == kept.answer
    assert [claim.why_delta for claim in new.claims] == [claim.why_delta for claim in kept.claims]
    assert asked == []


def refused(*_, local_files_only, **__):
    assert local_files_only
    raise FileNotFoundError("nothing is in the cache")


def test_show_out_is_for_studies(tmp_path):
    store = str(tmp_path / "runs")
    assert main(["show", "nothing", "--store", store, "--out", str(tmp_path / "new")]) == 2
    assert not (tmp_path / "new").exists()


def test_a_study_of_texts_speaks_of_texts():
    read = StudyResult.read(ROOT / "docs" / "results" / "words-augmented" / "result.json")
    made = read.made.model_copy(update={"config": {**read.made.config, "data": "rotten_tomatoes"}})
    claims = told_anew(read.model_copy(update={"made": made})).claims
    if {claim.inputs for claim in claims} == {"images"}:
        pytest.skip("rotten_tomatoes is not here")
    page = render_study(read.model_copy(update={"claims": claims}))
    assert "498 more test texts would decide" in page
    assert "About networks and texts" in page
    assert "networks and images" not in page
