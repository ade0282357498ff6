"""The pytest plugin: options of the conformance suite, the mark `proves`, and the recording of evidence.

Imports pytest and the standard library only: pytest loads it wherever lpref is installed.
"""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path
from typing import Any

import pytest

from lpref.conformance.proves import claims, merge, read, summary, write

MARK = "proves(name, level): passing, the test proves this level of a registered name (lpref.conformance.proves)"
CLAIMED: pytest.StashKey[dict[str, list[tuple[str, str]]]] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options."""
    group = parser.getgroup("lpref", "lpref conformance")
    group.addoption("--lpref-impl", metavar="MODULE:CALLABLE", help="what `pytest --pyargs lpref.conformance` tests: a function, or a Target")
    group.addoption("--lpref-format", metavar="NAME", help="it is a cast to this format (or: its products take values of it)")
    group.addoption("--lpref-quantizer", metavar="NAME", help="it is this block quantizer, parameters allowed: mxfp4:scale=rceil")
    group.addoption("--lpref-accumulate", metavar="NAME", help="it is a matrix product with this accumulation model")
    group.addoption("--lpref-rounding", metavar="NAME", help="rounding (default nearest_even; the quantizer's own)")
    group.addoption("--lpref-overflow", metavar="NAME", help="overflow policy (default saturate; the quantizer's own)")
    group.addoption("--lpref-word-bits", metavar="N", type=int, help="random bits of a stochastic rounding")
    group.addoption("--lpref-dtype", metavar="NAME", default="float32", help="dtype of a cast's inputs: float32, float64, float16")
    group.addoption("--lpref-canonical-nan", action="store_true", help="NaN must have the canonical code")
    group.addoption("--lpref-examples", metavar="N", type=int, default=0, help="also N Hypothesis examples, shrunk where they fail")
    group.addoption("--lpref-evidence", metavar="FILE", help="write what the tests marked `proves` proved to FILE")
    group.addoption("--lpref-device", metavar="NAME", help="the device's name in the evidence (default: asked of the system)")


def pytest_configure(config: pytest.Config) -> None:
    """The mark, the place of the claims, and the recorder where it is asked for."""
    config.addinivalue_line("markers", MARK)
    config.stash[CLAIMED] = {}
    if config.getoption("--lpref-evidence") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Recorder(config), "lpref-recorder")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Each test carries its claims in its report; the session knows all of them, the deselected too."""
    for item in items:
        found = claims(item)
        if found:
            config.stash[CLAIMED][item.nodeid] = found
            if config.getoption("--lpref-evidence"):
                item.user_properties.append(("proves", found))


class Recorder:
    """Registered where evidence is written (the controller of a distributed run): keeps outcomes, writes at the end."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.results: dict[str, str] = {}
        self.claims: dict[str, list[tuple[str, str]]] = {}
        self.ran: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A test passes when its call passed and nothing around it failed."""
        found: list[Any] = [value for key, value in report.user_properties if key == "proves"]
        self.ran.add(report.nodeid.partition("::")[0])
        if not found:
            return
        self.claims[report.nodeid] = [(str(n), str(level)) for n, level in found[0]]
        if report.outcome != "passed" or report.when == "call":
            if self.results.get(report.nodeid) != "failed":
                self.results[report.nodeid] = report.outcome

    def pytest_sessionfinish(self) -> None:
        """Write the file."""
        path = Path(self.config.invocation_params.dir, self.config.getoption("--lpref-evidence"))
        root, commit = self.config.rootpath, commit_of(self.config.rootpath)
        devices = {level: device_of(level, self.config.getoption("--lpref-device")) for level in ("", "cuda")}
        outcomes = [(name, level, test, self.results[test]) for test, pairs in self.claims.items() if test in self.results for name, level in pairs]
        write(path, merge(read(path), summary(outcomes, devices, commit), self.ran, root))


def commit_of(root: Path) -> str:
    """The commit of the tree, with a + where tracked files other than the evidence differ from it; empty without git."""
    git = ["git", "-C", str(root)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run([*git, "status", "--porcelain", "-uno", "--", ".", ":!conformance/evidence.json"],
                                 capture_output=True, text=True, check=True).stdout.strip()  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return ""
    return head + ("+" if changed else "")


def device_of(level: str, given: str | None) -> str:
    """What a level's tests ran on: the option, the GPU's name for cuda, the machine's architecture otherwise."""
    if given:
        return given
    if level == "cuda":
        query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        try:
            return subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()[0].strip()
        except (OSError, IndexError, subprocess.CalledProcessError):
            return "cuda"
    return f"cpu {platform.machine()}"
