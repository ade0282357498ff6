"""Packing codes into bytes, row by row of the logical array; every row starts on a byte.

    1, 2, 4 bits   8 / bits codes a byte, the lower index in the lower bits (4 bits: low nibble first)
    6 bits         4 codes in 3 bytes, a little-endian bit stream: code j at bits [6 j, 6 j + 6)
    others         one code per uint8, uint16 or uint32
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray


def code_dtype(bits: int) -> np.dtype:
    """Smallest unsigned type that holds a code of `bits` bits."""
    return np.dtype(np.uint8 if bits <= 8 else np.uint16 if bits <= 16 else np.uint32)


def row_bytes(columns: int, bits: int) -> int:
    """Elements of the packed array's last axis for a row of `columns` codes."""
    return -(-columns * bits // 8) if bits in (1, 2, 4, 6) else columns


def pack(codes: NDArray, bits: int) -> NDArray:
    """``[R, C]`` codes -> ``[R, row_bytes]``.

    >>> [hex(b) for b in pack(np.uint8([[1, 2, 3]]), 4)[0]]
    ['0x21', '0x3']
    >>> [hex(b) for b in pack(np.uint8([[1, 2, 3, 63]]), 6)[0]]
    ['0x81', '0x30', '0xfc']
    """
    if bits not in (1, 2, 4, 6):
        return np.ascontiguousarray(codes, code_dtype(bits))
    group = 4 if bits == 6 else 8 // bits
    rows, columns = codes.shape
    padded = np.zeros((rows, -(-columns // group) * group), np.uint8)
    padded[:, :columns] = codes
    parts = padded.reshape(rows, padded.shape[1] // group, group)
    if bits == 6:
        a, b, c, d = (parts[..., j] for j in range(4))
        packed = np.stack([a | b << 6, b >> 2 | c << 4, c >> 4 | d << 2], axis=-1).reshape(rows, padded.shape[1] // 4 * 3)
        return np.ascontiguousarray(packed[:, : row_bytes(columns, bits)])
    packed = parts[..., 0].copy()
    for j in range(1, group):
        packed |= parts[..., j] << np.uint8(bits * j)
    return packed


@cache
def codes_of_bytes(bits: int) -> NDArray:
    """The codes of 1, 2 or 4 bits that a byte holds, ``[256, 8 / bits]``."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    codes = np.arange(256, dtype=np.uint8)[:, None] >> shifts & np.uint8(2**bits - 1)
    codes.setflags(write=False)
    return codes


def unpack(packed: NDArray, bits: int, columns: int) -> NDArray:
    """Inverse of `pack` for rows of `columns` codes.

    >>> unpack(pack(np.uint8([[1, 2, 3, 63, 5]]), 6), 6, 5).tolist()
    [[1, 2, 3, 63, 5]]
    """
    if bits not in (1, 2, 4, 6):
        return packed
    rows = packed.shape[0]
    if bits == 6:
        bytes3 = np.zeros((rows, -(-columns // 4) * 3), np.uint8)
        bytes3[:, : packed.shape[1]] = packed
        x, y, z = (bytes3.reshape(rows, bytes3.shape[1] // 3, 3)[..., j] for j in range(3))
        codes = np.stack([x & 63, x >> 6 | (y & 15) << 2, y >> 4 | (z & 3) << 4, z >> 2], axis=-1)
        return np.ascontiguousarray(codes.reshape(rows, codes.shape[1] * codes.shape[2])[:, :columns])
    codes = codes_of_bytes(bits).view(f"u{8 // bits}").reshape(-1)[packed].view(np.uint8)  # all codes of a byte at once
    return np.ascontiguousarray(codes[:, :columns])
