"""docs/ci.md does what it says: its policy and its command, run as a shell script."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
NETWORK = ROOT / "tests" / "networks" / "natural.safetensors"


def test_the_page_runs(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "ci.md").read_text()
    policy, workflow = re.findall(r"```yaml\n(.*?)```", text, re.S)
    (command,) = re.findall(r"```bash\n(.*?)```", text, re.S)
    # the page's waiver ends on a day, and this test shall not
    policy, dates = re.subn(r"until: [\d-]+", f"until: {date.today() + timedelta(days=30)}", policy)
    assert dates == 1
    (tmp_path / "policy.yaml").write_text(policy)
    (tmp_path / "model.safetensors").write_bytes(NETWORK.read_bytes())
    few = " --attacked 20 --budgets 8/255 --sections accuracy calibration robustness"
    (tmp_path / "run.sh").write_text(command.rstrip() + few + "\n")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "run.sh"], cwd=tmp_path, env={**os.environ, "PATH": path}, text=True,
        capture_output=True, check=False,
    )  # fmt: skip
    checks = json.loads((tmp_path / "report" / "report.json").read_text())["checks"]
    verdicts = {check["code"]: check["verdict"] for check in checks}
    assert done.returncode == (1 if "fail" in (verdicts["ACC-001"], verdicts["ROB-001"]) else 3 if
                               verdicts["ACC-001"] == "undecided" else 0), done.stderr  # fmt: skip
    assert {"report.md", "junit.xml", "report.sarif"} < {
        file.name for file in (tmp_path / "report").iterdir()
    }
    assert "ACC-001 (at least 90.0 %): 300 images pass it from" in done.stderr
    steps = yaml.safe_load(workflow)["jobs"]["audit"]["steps"]
    run = next(step["run"] for step in steps if "assay audit" in step.get("run", ""))
    assert "--policy policy.yaml --formats markdown junit sarif --out report" in run
