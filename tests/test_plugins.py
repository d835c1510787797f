"""What CONTRIBUTING.md promises to packages outside of assay, tried with the one in plugin/."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

PLUGIN = Path(__file__).resolve().parent / "plugin"


def python(*arguments: str, cwd: Path) -> str:
    """Run Python where the plugin is installed; return what it prints."""
    paths = [str(PLUGIN), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_attacks_and_detectors_join_their_unions(tmp_path: Path) -> None:
    code = """
import json, torch, assay
from torch import nn
from assay.auditing.config import AuditConfig

config = AuditConfig.parse({
    "attacks": [{"name": "hiss", "eps": "16/255"}], "detectors": [{"name": "surprise"}],
})
x = torch.rand(5, 1, 8, 8)
torch.manual_seed(0)
clf = assay.Classifier(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)))
result = config.attacks[0](clf, x, seed=0)
far = result.adversarial - x
flat = torch.stack([torch.zeros(3), torch.tensor([9.0, 0, 0])])
from assay.core.embedding import Embedding
detector = config.detectors[0]
scores = detector.fit(Embedding(flat, None)).score(Embedding(flat, None))
print(json.dumps([float(far.abs().max()), scores.tolist()]))
"""
    furthest, scores = json.loads(python("-c", code, cwd=tmp_path))
    assert 12 / 255 < furthest <= 16 / 255 + 1e-6
    assert scores[0] > 1.09 > 0.1 > scores[1] > 0


def test_a_section_has_its_chapter_check_and_arrays(tmp_path: Path) -> None:
    code = """
import json, torch, assay
from torch import nn
from assay.auditing.config import AuditConfig

torch.manual_seed(0)
clf = assay.Classifier(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)))
config = AuditConfig.parse({"sections": ["accuracy", {"name": "doubt", "sure": 0.99, "most": 0.2}]})
x, y = torch.rand(30, 1, 8, 8), torch.arange(30) % 3
found = assay.audit(clf, x, y, config=config)
page = found.save("out").read_text()
check = found.checks[1]
print(json.dumps([
    [check.code for check in found.checks], check.verdict, check.threshold,
    found.report.more["doubt"].title, found.arrays["doubts"].tolist(),
    [text in page for text in ("It doubts", "Doubt is a virtue", "DBT-001", "doubted")],
]))
"""
    codes, verdict, threshold, title, doubts, shown = json.loads(python("-c", code, cwd=tmp_path))
    assert codes == ["ACC-001", "DBT-001"]
    assert (verdict, threshold, title) == ("fail", 0.2, "It doubts 30 of 30 images")
    assert doubts == [True] * 30
    assert all(shown)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["more"]["doubt"]["tables"][0]["rows"][0][1]["estimate"]["value"] == 1


def test_a_study_runs_like_ours(tmp_path: Path) -> None:
    assert "Is the coin fair?" in python("-m", "assay.cli", "run", "--help", cwd=tmp_path)
    python(
        "-m", "assay.cli", "run", "coin", "--seeds", "4", "--workers", "1", "--quiet", cwd=tmp_path
    )
    (saved,) = tmp_path.glob("runs/studies/coin-quick-*/result.json")
    (claim,) = json.loads(saved.read_text())["claims"]
    assert claim["code"] == "coin.heads"
    assert claim["verdict"] == "does not hold"
    assert "coin-quick-" in python("-m", "assay.cli", "list", cwd=tmp_path)


def test_a_study_of_trainings_is_half_a_page_of_code(tmp_path: Path) -> None:
    python("-m", "assay.cli", "run", "wider", "--workers", "1", "--quiet", cwd=tmp_path)
    (saved,) = tmp_path.glob("runs/studies/wider-quick-*/result.json")
    result = json.loads(saved.read_text())
    (claim,) = result["claims"]
    assert claim["code"] == "wider.wins"
    assert claim["estimate"]["value"] > 0.02, "what three seeds decide may depend on the processor"
    assert result["tables"][0]["rows"][0][1]["mark"] == "best"
    assert len(result["trials"]) == 6
    assert "<svg" in saved.with_name("index.html").read_text()
