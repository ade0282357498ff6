"""The snippets of docs/quickstart/add-a-format.md, applied to a copy of the tree, give a format that passes the suite."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/quickstart/add-a-format.md"
BLOCK = re.compile(r"^```(\w+) file=(\S+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def apply_diff(text: str, diff: str) -> str:
    """Replace each run of `-` lines by the `+` lines that follow it; the old lines must stand there exactly once."""
    for removed, added in re.findall(r"((?:^-.*\n)+)((?:^\+.*\n)+)", diff, re.MULTILINE):
        old, new = (re.sub(r"^[-+]", "", lines, flags=re.MULTILINE) for lines in (removed, added))
        assert text.count(old) == 1, f"the page's diff no longer fits: {old}"
        text = text.replace(old, new)
    return text


def test_the_pages_format_passes_the_suite(tmp_path: Path) -> None:
    packages = [p.name for p in (ROOT / "src/lpref").iterdir() if p.is_symlink()]
    ignore = shutil.ignore_patterns("__pycache__")
    for package in packages:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=ignore)
    shutil.copytree(ROOT / "src", tmp_path / "src", symlinks=True, ignore=ignore)
    for kind, name, text in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        path = tmp_path / name
        path.write_text(apply_diff(path.read_text(encoding="utf-8"), text) if kind == "diff" else text, encoding="utf-8")
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "src")}
    use = subprocess.run([sys.executable, "use.py"], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
    assert use.returncode == 0, use.stderr
    codes, own, truncating = use.stdout.splitlines()
    assert codes == "[10, 63, 88] [0.3125, 30.0, -1.0]"
    assert own == "True"
    assert truncating == "False"
    line = [sys.executable, "-m", "doctest", "ref/formats/seven.py"]
    page = subprocess.run(line, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
    assert page.returncode == 0, page.stdout
