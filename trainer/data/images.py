"""Images: the vendored digits, and folders of MNIST-style idx files.

Pixels become float32 in [-1, 1]: ``2·x/x_max - 1`` (exact for the digits' 0..16, rounded once for 0..255).
"""

from __future__ import annotations

import importlib.resources
from pathlib import Path

import numpy as np

from lpref.ref import random
from lpref.ref.errors import DataError
from lpref.trainer.data.files import read_bytes, sha256
from lpref.trainer.data.known import title_of
from lpref.trainer.data.types import ImageData

DIGITS_VALID = 360  # a fifth of the 1797 images
_IDX_NAMES = (("train-images", 3), ("train-labels", 1), ("t10k-images", 3), ("t10k-labels", 1))


def load_digits() -> ImageData:
    """The UCI digits: 1797 images of 8x8 pixels.

    Split: the images are put in the order of ``random.words(seed=0, stream("data/digits/split"), step=0)`` (stable sort, one word
    an image); the last 360 are held out. The file's checksum is verified.
    """
    folder = importlib.resources.files("lpref.data")
    packed = folder.joinpath("digits.csv.gz")
    with importlib.resources.as_file(packed) as path:
        digest = sha256(path.read_bytes())
        table_bytes = read_bytes(path)
    expected = folder.joinpath("SHA256SUMS").read_text().split()[0]
    if digest != expected:
        raise DataError(
            f"checksum is {digest}, not {expected}", where="lpref/data/digits.csv.gz", remedy="install lpref again"
        )
    rows = np.array([line.split(",") for line in table_bytes.decode("ascii").split()], np.int64)
    images = rows[:, :64].reshape(-1, 1, 8, 8).astype(np.float32) / np.float32(8) - np.float32(1)
    order = np.argsort(random.words(0, random.stream("data/digits/split"), 0, 0, len(rows)), kind="stable")
    images, labels = images[order], rows[order, 64]
    cut = len(rows) - DIGITS_VALID
    return ImageData(
        "digits", digest, images[:cut], labels[:cut], images[cut:], labels[cut:], 10, title=title_of(digest, "digits"),
        facts={"train_images": cut, "valid_images": DIGITS_VALID, "split": "last 360 in the order of the words of data/digits/split, seed 0"},
    )  # fmt: skip


def parse_idx(raw: bytes, dims: int, where: str) -> np.ndarray:
    """An idx file of unsigned bytes: magic 0x0000 08 dims, `dims` big-endian uint32 sizes, the values."""
    header = 4 + 4 * dims
    if len(raw) < header or raw[:4] != bytes([0, 0, 8, dims]):
        raise DataError(f"not an idx file of unsigned bytes with {dims} dimension(s): it starts {raw[:4].hex()}", where=where,
                        remedy=f"the first four bytes must be 000008{dims:02x}")  # fmt: skip
    shape = tuple(int.from_bytes(raw[4 + 4 * i : 8 + 4 * i], "big") for i in range(dims))
    need = header + int(np.prod(shape, dtype=np.int64))
    if len(raw) != need:
        raise DataError(
            f"truncated: shape {shape} needs {need} bytes, the file has {len(raw)}",
            where=where,
            remedy="fetch it again",
        )
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape)


def _find_idx(folder: Path, stem: str, dims: int) -> Path:
    for name in (f"{stem}-idx{dims}-ubyte", f"{stem}.idx{dims}-ubyte"):
        for candidate in (folder / name, folder / f"{name}.gz"):
            if candidate.exists():
                return candidate
    raise DataError(
        f"{stem}-idx{dims}-ubyte (or .gz) is missing",
        where=str(folder),
        remedy="the folder needs train-images, train-labels, t10k-images, t10k-labels",
    )


def load_idx(folder: Path) -> ImageData:
    """A folder in the MNIST layout; the t10k files are the held-out part."""
    if not folder.is_dir():
        raise DataError(
            "not a folder" if folder.exists() else "folder does not exist",
            where=str(folder),
            remedy="idx:DIR names a folder of idx files",
        )
    paths = [_find_idx(folder, stem, dims) for stem, dims in _IDX_NAMES]
    raws = [read_bytes(path, what="idx file") for path in paths]
    train, labels, valid, valid_labels = (
        parse_idx(raw, dims, str(path)) for raw, path, (_, dims) in zip(raws, paths, _IDX_NAMES, strict=True)
    )
    for images, marks, path in ((train, labels, paths[0]), (valid, valid_labels, paths[2])):
        if len(images) != len(marks) or not len(images):
            raise DataError(
                f"{len(images)} images but {len(marks)} labels", where=str(path), remedy="use files of one data set"
            )
    digest = sha256(*raws)
    pixels = [
        (part[:, None].astype(np.float32) * np.float32(2)) / np.float32(255) - np.float32(1) for part in (train, valid)
    ]
    return ImageData(
        f"idx:{folder.name}", digest, pixels[0], labels.astype(np.int64), pixels[1], valid_labels.astype(np.int64),
        int(np.max(labels)) + 1, title=title_of(digest, folder.name),
        facts={"train_images": len(train), "valid_images": len(valid), "split": "train files and t10k files"},
    )  # fmt: skip
