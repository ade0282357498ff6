"""Writing that survives a crash: a temporary name, fsync of the file, rename, fsync of the folder (design D11)."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lpref.ref.errors import OutputError

_TEMPORARY = re.compile(r"^\.tmp-")


@contextmanager
def typed_os_errors(path: Path) -> Iterator[None]:
    """Turns an OSError of writing below `path` into an OutputError that says what to do."""
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OutputError(
                "no space left",
                where=str(path),
                remedy="free some space, then --resume the run; the last checkpoint is whole",
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise OutputError(
                "cannot be written (read-only or no permission)",
                where=str(path),
                remedy="choose another folder with -o DIR",
            ) from error
        if error.errno in (errno.ENOTDIR, errno.EEXIST):
            raise OutputError(
                "a file is in the way", where=str(path), remedy="choose another folder with -o DIR"
            ) from error
        raise OutputError(
            f"cannot be written: {error.strerror}", where=str(path), remedy="choose another folder with -o DIR"
        ) from error


def fsync_folder(folder: Path) -> None:
    """Makes a rename inside `folder` durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_bytes(path: Path, payload: bytes) -> None:
    """Writes and fsyncs; not atomic by itself."""
    with open(path, "wb") as file:
        file.write(payload)
        file.flush()
        os.fsync(file.fileno())


def write_atomic(path: Path, payload: bytes | str) -> None:
    """The file at `path` is afterwards either what it was or `payload`, never a part of it."""
    with typed_os_errors(path):
        temporary = path.with_name(f".tmp-{os.getpid()}-{path.name}")
        write_bytes(temporary, payload.encode() if isinstance(payload, str) else payload)
        os.replace(temporary, path)
        fsync_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    """JSON, indented, keys in the given order; NaN is refused."""
    write_atomic(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def is_temporary(name: str) -> bool:
    """Whether a file or folder of this name is half-written."""
    return _TEMPORARY.match(name) is not None


def clean_temporaries(folder: Path) -> list[str]:
    """Removes what a killed process left half-written directly below `folder`; returns the names."""
    removed = []
    for entry in sorted(folder.iterdir()) if folder.is_dir() else []:
        if is_temporary(entry.name):
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
            removed.append(entry.name)
    return removed
