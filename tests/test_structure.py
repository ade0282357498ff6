"""The structure of the tree: import arrows, guards, and no hidden arithmetic in numerical paths.

To allow a call in one line, end the line with `# exact: REASON`; the reason says why the bits cannot change.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# package -> packages of ours that it may import
ARROWS: dict[str, set[str]] = {
    "ref": set(),
    "data": set(),
    "specs": {"ref"},
    "autodiff": {"ref"},
    "accel": {"ref", "specs"},
    "models": {"autodiff", "ref"},
    "conformance": {"ref", "specs", "accel"},
    "trainer": {"models", "autodiff", "ref", "accel", "specs", "data", "conformance"},
    "cli": {"models", "autodiff", "ref", "accel", "specs", "data", "trainer", "conformance"},
}
# what ref may import beside the standard library and itself
REF_MAY_IMPORT = {"numpy"}
# Functions whose bits depend on the machine, the library version or the memory layout.
FORBIDDEN = {
    "sum", "mean", "average", "var", "std", "prod", "cumsum", "cumprod", "nansum", "nanmean", "trapezoid",
    "dot", "vdot", "inner", "matmul", "einsum", "tensordot", "convolve", "correlate",
    "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "power", "float_power", "sin", "cos", "tan", "tanh", "sinh", "cosh",
    "arcsin", "arccos", "arctan", "arctan2", "arctanh", "cbrt", "hypot", "logaddexp",
}  # fmt: skip
NUMERICAL = ("ref", "autodiff", "accel", "models")
OF_ARRAYS = {"ref", "accel"}  # elsewhere `@` stands between Tensors and is the backend's matmul


def sources(package: str) -> list[Path]:
    return sorted(p for p in (ROOT / package).rglob("*.py") if "__pycache__" not in p.parts)


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; write lpref.{path.relative_to(ROOT).parts[0]}…"
            names |= {f"{node.module}.{alias.name}" for alias in node.names} if node.module == "lpref" else {node.module or ""}
    return names


@pytest.mark.parametrize("package", ARROWS)
def test_import_arrows(package: str) -> None:
    for path in sources(package):
        for name in imported(path):
            parts = name.split(".")
            if parts[0] == "lpref" and len(parts) > 1 and parts[1] in ARROWS:
                allowed = ARROWS[package] | {package}
                assert parts[1] in allowed, f"{path.relative_to(ROOT)} imports lpref.{parts[1]}; {package} may import {sorted(allowed)}"


def test_ref_needs_only_numpy_and_the_standard_library() -> None:
    for path in sources("ref"):
        for name in imported(path):
            top = name.split(".")[0]
            assert top in REF_MAY_IMPORT | {"lpref"} | set(sys.stdlib_module_names), f"{path.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize("package", ARROWS)
def test_packages_refuse_a_second_name(package: str) -> None:
    first = (ROOT / package / "__init__.py").read_text(encoding="utf-8")
    assert 'assert __name__.startswith("lpref.")' in first
    done = subprocess.run([sys.executable, "-c", f"import {package}"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0
    assert f"import lpref.{package}" in done.stderr


def test_nothing_is_imported_twice() -> None:
    assert not set(ARROWS) & {name for name, module in sys.modules.items() if str(ROOT) in str(getattr(module, "__file__", ""))}


def called_name(node: ast.Call) -> tuple[str, str]:
    """(`owner`, `name`) of a call such as np.sum(…) or x.sum(…)."""
    if isinstance(node.func, ast.Attribute):
        owner = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
        return owner, node.func.attr
    return "", ""


@pytest.mark.parametrize("package", NUMERICAL)
def test_numerical_paths_have_no_hidden_arithmetic(package: str) -> None:
    found = []
    for path in sources(package):
        text = path.read_text(encoding="utf-8")
        lines = text.splitlines()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call):
                owner, name = called_name(node)
                hidden = owner in {"np", "numpy", "math"} and name in FORBIDDEN and (owner, name) != ("math", "prod")
            else:
                hidden = isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult) and package in OF_ARRAYS
            if hidden and not re.search(r"# exact: \S+", "\n".join(lines[node.lineno - 1 : (node.end_lineno or node.lineno)])):
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}: {lines[node.lineno - 1].strip()}")
    assert not found, "use lpref.ref.reduce, elementary or linalg, or say why the bits are fixed (# exact: …):\n" + "\n".join(found)


def test_no_unsafe_reading() -> None:
    for package in ARROWS:
        for path in sources(package):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call):
                    name = node.func.id if isinstance(node.func, ast.Name) else called_name(node)[1]
                    assert name not in {"eval", "exec", "unsafe_load", "full_load"}, f"{path}:{node.lineno}: {name}"
            assert not imported(path) & {"pickle", "marshal", "shelve", "dill", "cloudpickle"}, path


def test_no_test_name_twice() -> None:
    """A second definition of a name in a test file silently replaces the first, which then never runs."""
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        names = [node.name for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)]
        twice = {name for name in names if names.count(name) > 1}
        assert not twice, f"{path.relative_to(ROOT)}: {sorted(twice)} defined twice"


def test_architecture_names_files_that_exist() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    paths = {p for p in re.findall(r"`([a-z][\w./]*/[\w./]*)`", text) if not re.search("PAGE|NAME", p)}
    assert len(paths) > 20
    assert not [p for p in sorted(paths) if not (ROOT / p).exists()]
