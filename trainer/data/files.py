"""Reading data files: every way in which one can be unusable is a DataError that says what to do."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lpref.ref.errors import DataError


@contextmanager
def describe_os_error(path: Path, what: str) -> Iterator[None]:
    """Turns an OSError of reading `path` into a DataError that says what to do."""
    try:
        yield
    except FileNotFoundError:
        raise DataError(
            f"{what} does not exist", where=str(path), remedy="check the path; it is relative to the current folder"
        ) from None
    except IsADirectoryError:
        raise DataError(f"{what} is a folder", where=str(path), remedy="name a file") from None
    except OSError as error:
        raise DataError(
            f"{what} cannot be read: {error.strerror}", where=str(path), remedy="check its permissions"
        ) from None


def read_bytes(path: Path, *, what: str = "data file") -> bytes:
    """The file's bytes, decompressed when its name ends in ``.gz``."""
    with describe_os_error(path, what):
        raw = path.read_bytes()
    if path.suffix == ".gz":
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(
                f"{what} is not a complete gzip file: {error}", where=str(path), remedy="fetch it again"
            ) from None
    if not raw:
        raise DataError(f"{what} is empty", where=str(path), remedy="give a file with content")
    return raw


def check_utf8(raw: bytes, path: Path) -> None:
    """Raises where `raw` is not UTF-8, with the offset of the first offending byte."""
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as error:
        offending = raw[error.start]
        raise DataError(
            f"not UTF-8 text: byte 0x{offending:02x} at offset {error.start} ({error.reason})",
            where=str(path),
            remedy="convert it (iconv -t UTF-8) or, for token shards, use bin:PATH",
        ) from None


def sha256(*parts: bytes) -> str:
    """SHA-256 of the concatenation, in hexadecimal."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
