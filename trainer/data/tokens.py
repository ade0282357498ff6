"""Token shards: nanoGPT's headerless uint16 files and the llm.c files with a 1024-byte header.

Sources: karpathy/nanoGPT ``data/*/prepare.py`` (uint16, little-endian, no header); karpathy/llm.c ``dev/data/data_common.py``
(256 int32: magic 20240520, version 1, token count; then uint16).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lpref.ref.errors import DataError
from lpref.trainer.data.files import read_bytes, sha256
from lpref.trainer.data.known import title_of
from lpref.trainer.data.types import TokenData

MAGIC, HEADER_BYTES = 20240520, 1024


def parse_shard(raw: bytes, where: str) -> np.ndarray:
    """The ids of one shard, uint16."""
    if len(raw) >= HEADER_BYTES and int.from_bytes(raw[:4], "little") == MAGIC:
        count = int.from_bytes(raw[8:12], "little")
        if len(raw) != HEADER_BYTES + 2 * count:
            raise DataError(
                f"truncated: the header says {count} tokens, the file holds {(len(raw) - HEADER_BYTES) // 2}",
                where=where,
                remedy="write it again",
            )
        return np.frombuffer(raw, "<u2", offset=HEADER_BYTES)
    if len(raw) % 2:
        raise DataError(
            f"truncated: {len(raw)} bytes are no whole number of uint16 tokens", where=where, remedy="write it again"
        )
    return np.frombuffer(raw, "<u2")


def load_bin(path: Path) -> TokenData:
    """A folder with ``train.bin`` and ``val.bin``, or one file whose last tenth is held out."""
    if path.is_dir():
        raws = [read_bytes(path / name, what="token shard") for name in ("train.bin", "val.bin")]
        train, valid = (
            parse_shard(raw, str(path / name)) for raw, name in zip(raws, ("train.bin", "val.bin"), strict=True)
        )
        split = "train.bin and val.bin"
    else:
        raws = [read_bytes(path, what="token shard")]
        ids = parse_shard(raws[0], str(path))
        cut = ids.size - ids.size // 10
        train, valid, split = ids[:cut], ids[cut:], "the last tenth is held out"
    digest = sha256(*raws)
    vocab = int(max(np.max(train, initial=0), np.max(valid, initial=0))) + 1
    return TokenData(
        f"bin:{path.name}", digest, train, valid, vocab, byte_level=False, title=title_of(digest, path.name),
        facts={"train_tokens": train.size, "valid_tokens": valid.size, "split": split},
    )  # fmt: skip
