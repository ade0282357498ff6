#!/usr/bin/env python3
"""Set up and run lpref from a bare checkout, with the standard library only.

    python3 dev.py train [ARGS…]     lpref train ARGS…   (no argument: the default run)
    python3 dev.py test  [ARGS…]     the test suite      (ARGS go to pytest)
    python3 dev.py evidence [ARGS…]  the tests marked `proves`; writes what passed to conformance/evidence.json
    python3 dev.py lint              ruff and mypy
    python3 dev.py bench [ARGS…]     the benchmarks
    python3 dev.py docs              the documentation, warnings as errors
    python3 dev.py build [FOLDER]    source distribution and wheel (default: dist/)
    python3 dev.py run   COMMAND…    any command in the environment, for example `run lpref list formats`

The first call makes `.venv` here and installs lpref into it, editable; later calls install only when pyproject.toml,
the Python version or the wanted extras changed. A GPU extra is added when the NVIDIA driver answers. Where nothing can
be installed (no network), the current interpreter is used if it already has what is needed; otherwise the missing
packages are named.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
STAMP = VENV / "lpref-installed"
OLDEST = (3, 11)

# command -> (extras of pyproject.toml, what to run after the interpreter)
COMMANDS: dict[str, tuple[tuple[str, ...], list[str]]] = {
    "train": ((), ["-m", "lpref.cli", "train"]),
    "test": (("test",), ["-m", "pytest"]),
    "evidence": (("test",), ["-m", "pytest", "-m", "proves and not identity and not deep", "--lpref-evidence=conformance/evidence.json"]),
    "lint": (("test", "lint"), []),
    "bench": (("test",), ["bench/run.py"]),
    "docs": (("test", "docs"), ["-m", "sphinx", "-W", "--keep-going", "-b", "html", "docs", "docs/_build/html"]),
    "build": (("build",), ["-m", "build", "--outdir"]),
    "run": ((), []),
}


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0] not in COMMANDS:
        print(__doc__.strip(), file=sys.stderr)
        return 0 if arguments and arguments[0] in {"-h", "--help", "help"} else 2
    if sys.version_info < OLDEST:
        print(f"dev.py: needs Python 3.11 or newer, this is {sys.version.split()[0]}; call it with a newer python3", file=sys.stderr)
        return 2
    command, rest = arguments[0], arguments[1:]
    extras, run = COMMANDS[command]
    python = environment(extras)
    if python is None:
        return 2
    env = {**os.environ, "PATH": f"{python.parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    if python != PYTHON:
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT / "src"), env.get("PYTHONPATH", "")]))
    if command == "lint":
        checks = [["ruff", "check", "."], ["mypy"]]
        return max(subprocess.call([str(python), "-m", *check], cwd=ROOT, env=env) for check in checks)
    if command == "run":
        if not rest:
            print("dev.py run: name a command, for example: python3 dev.py run lpref list formats", file=sys.stderr)
            return 2
        line = [str(python), "-m", "lpref.cli", *rest[1:]] if rest[0] == "lpref" else rest
        return subprocess.call(line, env=env)
    if command == "build":
        rest = [str(Path(rest[0]).resolve()) if rest else "dist"]
    return subprocess.call([str(python), *run, *rest], cwd=None if command == "train" else ROOT, env=env)


def environment(extras: tuple[str, ...]) -> Path | None:
    """The interpreter to run with: `.venv`'s when it is or can be made complete, else the current one, else None."""
    wanted = sorted({*extras, *installed_extras(), *gpu_extra()})
    stamp = f"{hashlib.sha256((ROOT / 'pyproject.toml').read_bytes()).hexdigest()} {sys.version_info[:2]} {','.join(wanted)}"
    if PYTHON.exists() and STAMP.exists() and STAMP.read_text() == stamp:
        return PYTHON
    why = install(wanted)
    if not why:
        STAMP.write_text(stamp)
        return PYTHON
    missing = missing_packages(extras)
    if not missing:
        print(f"dev.py: {why}; going on with {sys.executable}, which has what is needed", file=sys.stderr)
        return Path(sys.executable)
    print(f"dev.py: {why}\ndev.py: this interpreter lacks {', '.join(missing)}; "
          "connect to a package index, or install these and call again", file=sys.stderr)
    return None


def installed_extras() -> set[str]:
    """The extras of the last installation, so that `train` after `test` does not install again."""
    words = STAMP.read_text().split(" ") if STAMP.exists() else []
    return set(filter(None, words[-1].split(","))) if words else set()


def install(extras: list[str]) -> str:
    """Make `.venv` and install lpref with `extras`; returns what went wrong, or nothing."""
    print(f"dev.py: setting up {VENV} ({', '.join(extras) or 'base'}); the first time takes minutes", file=sys.stderr, flush=True)
    if not PYTHON.exists() and subprocess.call([sys.executable, "-m", "venv", "--without-pip", str(VENV)]) != 0:
        return "could not make a virtual environment"
    pip = find_pip()
    if pip is None:
        return "found no pip (neither ensurepip, nor the pip module, nor Debian's python3-pip-whl); install pip and call again"
    target = f"{ROOT}[{','.join(extras)}]" if extras else str(ROOT)
    done = subprocess.call([*pip, "install", "--quiet", "--disable-pip-version-check", "-e", target, *toolkit_pin(extras)])
    return "" if done == 0 else "could not install the dependencies (see above)"


def find_pip() -> list[str] | None:
    """How to call a pip that installs into `.venv`: its own (from ensurepip), this interpreter's, or Debian's wheel."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    if subprocess.call([str(PYTHON), "-m", "pip", "--version"], **quiet) == 0:
        return [str(PYTHON), "-m", "pip"]
    if subprocess.call([str(PYTHON), "-m", "ensurepip"], **quiet) == 0:
        return [str(PYTHON), "-m", "pip"]
    if subprocess.call([sys.executable, "-m", "pip", "--python", str(PYTHON), "--version"], **quiet) == 0:
        return [sys.executable, "-m", "pip", "--python", str(PYTHON)]
    wheel = debian_pip()
    return [sys.executable, f"{wheel}/pip", "--python", str(PYTHON)] if wheel else None


def debian_pip() -> Path | None:
    """The pip wheel of Debian's python3-pip-whl, fetched into `.venv` without installing a package."""
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        download = ["apt-get", "-q", "download", "python3-pip-whl"]
        quiet = {"cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        if subprocess.call(download, **quiet) != 0:  # an image without package lists: only root can fetch them
            subprocess.call(["apt-get", "-q", "update"], **quiet)
            subprocess.call(download, **quiet)
        for package in Path(folder).glob("*.deb"):
            subprocess.call(["dpkg", "-x", str(package), folder], **quiet)
        for wheel in Path(folder).glob("usr/share/python-wheels/pip-*.whl"):
            return Path(shutil.copy(wheel, VENV))
    return None


def driver_version() -> tuple[int, int] | None:
    """The CUDA version of the NVIDIA driver if it answers and sees a device, for example (13, 0)."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError:
        return None
    count, version = ctypes.c_int(), ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or driver.cuDriverGetVersion(ctypes.byref(version)):
        return None
    return (version.value // 1000, version.value % 1000 // 10) if count.value else None


def gpu_extra() -> set[str]:
    version = driver_version()
    return {f"cuda{version[0]}"} if version and version[0] in (12, 13) else set()


def toolkit_pin(extras: list[str]) -> list[str]:
    """Pin the CUDA toolkit to the driver: a newer NVVM's PTX is refused by an older driver."""
    version = driver_version()
    if version is None or not any(extra.startswith("cuda") for extra in extras):
        return []
    return [f"cuda-toolkit[cublas,cudart,curand,nvrtc,nvvm,cccl]=={version[0]}.{version[1]}.*"]


def missing_packages(extras: tuple[str, ...]) -> list[str]:
    """Distributions of pyproject.toml (base and `extras`) that the current interpreter does not have."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = list(project["dependencies"])
    for extra in extras:
        wanted += project["optional-dependencies"][extra]
    missing = []
    for requirement in wanted:
        name = re.split(r"[\s<>=!~\[;]", requirement, maxsplit=1)[0]
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(requirement)
    return missing


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
