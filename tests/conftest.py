"""What all tests share."""

from __future__ import annotations

import os
import resource
from collections import defaultdict
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

if TYPE_CHECKING:
    from assay import Classifier

# The same examples each time for whoever changes something, others and more of them every night.
hypothesis.settings.register_profile("change", max_examples=50, derandomize=True, deadline=None)
hypothesis.settings.register_profile("nightly", max_examples=500, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "change"))

ROOT = Path(__file__).resolve().parent.parent
GIVEN = os.environ.setdefault("ASSAY_TEST_DATA", os.environ.pop("ASSAY_DATA", ""))
"""The folder of real data, of the processes of pytest-xdist too. Only a test that asks for it finds
it: others have to pass without."""


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What is decoded is kept for these tests alone, by all of their processes together."""
    base = tmp_path_factory.getbasetemp()
    run = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    os.environ["ASSAY_CACHE"] = str(run / "decoded")


@pytest.fixture(scope="session")
def data_if_there() -> Path | None:
    """The folder of real data sets (cifar10, mnist), for what can do without."""
    for candidate in (GIVEN, str(ROOT.parent / "shared" / "data")):
        if candidate and (Path(candidate) / "cifar10").is_dir():
            return Path(candidate)
    return None


@pytest.fixture(scope="session")
def shared_data(data_if_there: Path | None) -> Path:
    """The folder of real data sets, or a skip that says how to give it."""
    if data_if_there is None:
        pytest.skip("no real data: set ASSAY_DATA to a folder that holds cifar10/ and mnist/")
    return data_if_there


@pytest.fixture(scope="session")
def digit_nets() -> dict[str, Classifier]:
    """Two trained CNNs of one architecture on the bundled digits: `natural`, and `robust`."""
    from networks.trained import DIGITS, digit_net

    return {name: digit_net(name) for name in DIGITS}


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("cuda"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slowest", type=int, default=0, help="show what N tests cost, in CPU time")
    parser.addoption("--reverse", action="store_true", help="run the last test first")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("reverse"):
        items.reverse()


def spent() -> float:
    """Seconds of CPU of this process and of those it has waited for: unlike the wall clock, other
    work on the machine does not change them."""
    used = (resource.getrusage(of) for of in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


started = 0.0


def pytest_runtest_logstart() -> None:
    global started
    started = spent()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, Any]:
    """Write down what each phase of a test cost; a worker's reports carry it to the terminal."""
    global started
    report = yield
    report.cpu, started = spent() - started, spent()
    return report


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    shown = config.getoption("slowest")
    if not shown:
        return
    costs: dict[str, float] = defaultdict(float)
    for reports in terminalreporter.stats.values():
        for report in reports:
            costs[getattr(report, "nodeid", "")] += getattr(report, "cpu", 0.0)
    terminalreporter.section(f"CPU seconds of {shown} tests, of {sum(costs.values()):.0f} in all")
    for name, seconds in sorted(costs.items(), key=lambda cost: -cost[1])[:shown]:
        terminalreporter.write_line(f"{seconds:7.1f}  {name}")
