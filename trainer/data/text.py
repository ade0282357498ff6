"""Byte-level text: the installed Python's standard library, and any local UTF-8 file."""

from __future__ import annotations

import hashlib
import os
import platform
import sysconfig
from pathlib import Path

import numpy as np

from lpref.ref.errors import DataError
from lpref.trainer.data.files import check_utf8, read_bytes, sha256
from lpref.trainer.data.known import title_of
from lpref.trainer.data.types import TokenData

EXCLUDED = frozenset({"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"})
VALID_ONE_IN = 20  # a file is held out iff SHA-256(relative path) mod 20 is 0


def stdlib_files(root: Path) -> list[tuple[str, Path]]:
    """(POSIX path relative to `root`, file) of every ``.py`` file outside the excluded folders, sorted by that path.

    Symbolic links are not followed, so that a distribution's links into its configuration do not decide the corpus.
    """
    found = []
    for folder, inner, files in os.walk(root):
        inner[:] = [name for name in inner if name not in EXCLUDED]  # not even looked into: installed packages are many files
        for path in (Path(folder, name) for name in files if name.endswith(".py")):
            if path.is_file() and not path.is_symlink():
                found.append((path.relative_to(root).as_posix(), path))
    return sorted(found)


def is_held_out(relative: str) -> bool:
    """The split by file: SHA-256 of the path, read as a big-endian integer, mod 20 equals 0 (about 5 %)."""
    return int.from_bytes(hashlib.sha256(relative.encode()).digest(), "big") % VALID_ONE_IN == 0


def load_stdlib(root: Path | None = None) -> TokenData:
    """The ``.py`` sources of the running Python's standard library, concatenated in path order within each part.

    Files that are not UTF-8 are left out. The hash covers path, length and bytes of every file, so it pins the split too.
    """
    root = root or Path(sysconfig.get_path("stdlib"))
    digest, parts = hashlib.sha256(), {False: [], True: []}  # type: ignore[var-annotated]
    for relative, path in stdlib_files(root):
        raw = path.read_bytes()
        try:
            raw.decode("utf-8")
        except UnicodeDecodeError:
            continue
        digest.update(f"{relative}\0{len(raw)}\0".encode())
        digest.update(raw)
        parts[is_held_out(relative)].append(raw)
    if not parts[False] or not parts[True]:
        raise DataError(
            "the standard library's sources are missing",
            where=str(root),
            remedy="train on a local file: -s data.name=text:PATH",
        )
    train, valid = (np.frombuffer(b"".join(parts[held]), np.uint8) for held in (False, True))
    version = platform.python_version()
    return TokenData(
        "stdlib", digest.hexdigest(), train, valid, 256, title=f"standard library of Python {version}",
        facts={"python": version, "files": len(parts[False]) + len(parts[True]), "train_bytes": train.size, "valid_bytes": valid.size,
               "split": "a file is held out iff SHA-256 of its relative path mod 20 is 0"},
    )  # fmt: skip


def load_text(path: Path) -> TokenData:
    """A local UTF-8 file as bytes; the last tenth is held out."""
    raw = read_bytes(path, what="text file")
    check_utf8(raw, path)
    data = np.frombuffer(raw, np.uint8)
    cut = data.size - data.size // 10
    digest = sha256(raw)
    return TokenData(
        f"text:{path.name}", digest, data[:cut], data[cut:], 256, title=title_of(digest, path.name),
        facts={"train_bytes": cut, "valid_bytes": data.size - cut, "split": "the last tenth is held out"},
    )  # fmt: skip
