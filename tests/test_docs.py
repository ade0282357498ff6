"""The documentation runs: every Python prompt and every `$` command in README.md and docs/, with its output.

A fenced block is checked by its language: `python` with `>>>` prompts by doctest, one name space for each page; `console` by running
each `$ command` in one folder for each page and comparing what it prints, `...` standing for anything. A block headed `file=NAME` is written to
that file first. Other blocks are shown only.
"""

from __future__ import annotations

import doctest
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs/quickstart").glob("*.md"))]
FENCE = re.compile(r"^```(\w+) *\n(.*?)^```", re.MULTILINE | re.DOTALL)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def blocks(page: Path, language: str) -> list[tuple[int, str]]:
    text = page.read_text(encoding="utf-8")
    return [(text[: m.start(2)].count("\n"), m.group(2)) for m in FENCE.finditer(text) if m.group(1) == language]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_python_prompts(page: Path) -> None:
    parser, runner, names = doctest.DocTestParser(), doctest.DocTestRunner(optionflags=FLAGS), {}
    report: list[str] = []
    for line, text in blocks(page, "python"):
        test = parser.get_doctest(text, names, page.name, str(page), line)
        runner.run(test, out=report.append, clear_globs=False)
        names = test.globs
    assert not runner.failures, "".join(report)


def commands(page: Path) -> list[tuple[str, str]]:
    """(`command`, what it should print) of the console blocks, in order."""
    found: list[tuple[str, str]] = []
    for _, text in blocks(page, "console"):
        for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            while command.endswith("\\"):
                more, _, output = output.partition("\n")
                command = command[:-1] + more.strip()
            found.append((command, output))
    return found


@pytest.mark.parametrize("page", [p for p in PAGES if commands(p)], ids=lambda p: str(p.relative_to(ROOT)))
def test_console_commands(page: Path, tmp_path: Path) -> None:
    if any(command.startswith("gcc") for command, _ in commands(page)) and shutil.which("gcc") is None:
        pytest.skip("the page compiles a C program, and this machine has no gcc")
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    (bin_folder / "lpref").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m lpref.cli "$@"\n')
    (bin_folder / "lpref").chmod(0o755)
    python_path = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]))
    path = os.pathsep.join([str(bin_folder), str(Path(sys.executable).parent), os.environ["PATH"]])
    env = {**os.environ, "PATH": path, "PYTHONPATH": python_path, "COLUMNS": "120", "NO_COLOR": "1"}
    folder = tmp_path / "work"
    folder.mkdir()
    for name, text in named_files(page):
        (folder / name).write_text(text, encoding="utf-8")
    checker = doctest.OutputChecker()
    for command, output in commands(page):
        done = subprocess.run(["bash", "-c", command], cwd=folder, env=env, capture_output=True, text=True, timeout=900)
        printed = done.stdout + done.stderr
        assert done.returncode == 0, f"{command}\n{printed}"
        assert checker.check_output(output, printed, FLAGS) or not output.strip(), f"{command}\nexpected:\n{output}\ngot:\n{printed}"


def named_files(page: Path) -> list[tuple[str, str]]:
    """Files that a page shows: a fenced block whose info string ends in `file=NAME`."""
    text = page.read_text(encoding="utf-8")
    return [(m.group(1), m.group(2)) for m in re.finditer(r"^```\w+ file=(\S+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)]


def test_the_table_of_experiments_is_of_the_results_that_are_kept() -> None:
    spec = importlib.util.spec_from_file_location("experiments_table", ROOT / "docs" / "experiments_table.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert module.inserted(page, ROOT) == page, "python3 docs/experiments_table.py"
