"""Names of data sets: two that are always there, and three prefixes for local files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lpref.ref.errors import DataError, UnknownNameError
from lpref.trainer.data.images import load_digits, load_idx
from lpref.trainer.data.text import load_stdlib, load_text
from lpref.trainer.data.tokens import load_bin
from lpref.trainer.data.types import Data

DATASETS: dict[str, tuple[Callable[..., Data], str]] = {
    "stdlib": (load_stdlib, "sources of the installed Python's standard library, as bytes"),
    "digits": (load_digits, "UCI handwritten digits, 1797 images of 8x8 (in the package)"),
    "text:PATH": (load_text, "a local UTF-8 file, as bytes"),
    "bin:PATH": (load_bin, "uint16 token shards: a file, or a folder with train.bin and val.bin"),
    "idx:DIR": (load_idx, "a folder of MNIST-style idx files, plain or .gz"),
}


def load_data(name: str) -> Data:
    """The data set called `name`; UnknownNameError or DataError says what is wrong with it."""
    prefix, colon, rest = name.partition(":")
    if not colon:
        if name in DATASETS:
            return DATASETS[name][0]()
        raise UnknownNameError("data set", name, DATASETS)
    key = {"text": "text:PATH", "bin": "bin:PATH", "idx": "idx:DIR"}.get(prefix)
    if key is None:
        raise UnknownNameError("data set", name, DATASETS)
    if not rest:
        raise DataError("no path after the colon", where=f"data set {name!r}", remedy=f"write {key}")
    return DATASETS[key][0](Path(rest))
