r"""Frames: how questions and answers travel between `lpref diff` and a target's process, over its standard input and output.

Little endian throughout. A frame is a 32-byte header and a body of `length` bytes, which is a text and some arrays::

    offset  bytes
         0      4   magic, the characters LPRF
         4      2   protocol version, 1
         6      2   op: 0 bye, 1 hello, 2 cast, 3 quantize, 4 gemm, 5 optimizer, 6 attention; 255 an error (answers only)
         8      4   number of the question; the answer repeats it
        12      4   T, bytes of text
        16      4   A, number of arrays
        20      4   zero
        24      8   length of the body
        32      T   text: UTF-8 lines key=value, the fields of the case (format, rounding, …)
                    then A arrays, each:
                        1   dtype: 1 uint8, 2 uint16, 3 uint32, 4 uint64, 5 float32, 6 float64, 7 float16, 8 bfloat16, 9 .. 12 int8 .. int64
                        1   number of axes D
                        2   N, bytes of the name
                        4   zero
                      8 D   shape, int64 each
                        N   name
                            the elements, row-major, no padding

    cast       in   x                    out  codes (unsigned) or values (floating), of x's shape
    quantize   in   x [R, C]             out  codes, scales, tensor_scale (float32, no axes); or values
    gemm       in   a [M, K], b [N, K]   out  c [M, N]
    optimizer  in   params.*, grads.*, state.*, ctx.* (step, update, seed, lr)   out  params.*, state.*
    attention  in   q, k, v              out  o
    an error   in                        out  op 255 with a text: message=…, kind=raised|refused|missing
    bye                                  the target ends; so it does at the end of its input

>>> from io import BytesIO
>>> data = pack(Frame("cast", 7, {"format": "e4m3"}, {"x": np.float32([1.5])}))
>>> data[:8].hex(), len(data)
('4c50524601000200', 65)
>>> read(BytesIO(data)).arrays["x"].tolist()
[1.5]
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import ml_dtypes
import numpy as np

from lpref.conformance.targets.base import TargetAnswer

MAGIC, VERSION = b"LPRF", 1
HEADER = struct.Struct("<4sHHIIIIQ")
ARRAY = struct.Struct("<BBHI")
OPS = {"bye": 0, "hello": 1, "cast": 2, "quantize": 3, "gemm": 4, "optimizer": 5, "attention": 6, "error": 255}
OP_NAMES = {v: k for k, v in OPS.items()}
DTYPES: dict[int, np.dtype] = {
    i: np.dtype(d)
    for i, d in enumerate(
        (np.uint8, np.uint16, np.uint32, np.uint64, np.float32, np.float64, np.float16, ml_dtypes.bfloat16,
         np.int8, np.int16, np.int32, np.int64), start=1,
    )
}  # fmt: skip
CODES = {d: i for i, d in DTYPES.items()}
LIMIT = 1 << 33
"""Bodies beyond this are taken for garbage."""


@dataclass(frozen=True)
class Frame:
    """A question or an answer."""

    op: str
    number: int = 0
    text: Mapping[str, str] = field(default_factory=dict)
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)


class Readable(Protocol):
    """What `read` needs of a stream."""

    def read(self, n: int, /) -> bytes | None: ...


def pack(frame: Frame) -> bytes:
    """The bytes of a frame.

    Raises: TargetAnswer for an array of a dtype that no frame carries.
    """
    text = "".join(f"{k}={str(v).replace(chr(10), ' ')}\n" for k, v in frame.text.items()).encode()
    parts = [text]
    for name, array in frame.arrays.items():
        # reshape: ascontiguousarray makes one axis out of none
        array = np.ascontiguousarray(array).reshape(np.shape(array))
        if array.dtype not in CODES:
            raise TargetAnswer(f"{name} is {array.dtype}", remedy=f"use one of {', '.join(d.name for d in CODES)}")
        label = name.encode()
        parts += [ARRAY.pack(CODES[array.dtype], array.ndim, len(label), 0), struct.pack(f"<{array.ndim}q", *array.shape), label]
        parts.append(array.tobytes())
    body = b"".join(parts)
    return HEADER.pack(MAGIC, VERSION, OPS[frame.op], frame.number, len(text), len(frame.arrays), 0, len(body)) + body


def body_length(header: bytes) -> int:
    """How many bytes follow these 32.

    Raises: TargetAnswer where they are no header of this protocol.
    """
    magic, version, op, _, _, _, _, length = HEADER.unpack(header)
    if magic != MAGIC:
        raise TargetAnswer(
            f"no frame, but {header[:16]!r}", remedy="answer with frames only; print to standard error, not to standard output"
        )
    if version != VERSION:
        raise TargetAnswer(f"frame of protocol version {version}, not {VERSION}")
    if op not in OP_NAMES or length > LIMIT:
        raise TargetAnswer(f"frame with op {op} and {length} bytes")
    return int(length)


def unpack(header: bytes, body: bytes) -> Frame:
    """The frame of a header and its body.

    Raises: TargetAnswer where the body does not hold what the header says.
    """
    _, _, op, number, text_bytes, arrays, _, _ = HEADER.unpack(header)
    try:
        lines = body[:text_bytes].decode().splitlines()
        at, found = text_bytes, {}
        for _ in range(arrays):
            code, axes, label, _ = ARRAY.unpack_from(body, at)
            shape = struct.unpack_from(f"<{axes}q", body, at + ARRAY.size)
            at += ARRAY.size + 8 * axes
            name = body[at : at + label].decode()
            dtype, count = DTYPES[code], int(np.prod(shape, dtype=np.int64)) if axes else 1
            found[name] = np.frombuffer(body, dtype, count, at + label).reshape(shape)
            at += label + count * dtype.itemsize
    except (struct.error, KeyError, ValueError, UnicodeDecodeError) as error:
        raise TargetAnswer(f"a frame whose body does not hold what it says: {error}") from error
    if at != len(body):
        raise TargetAnswer(f"a frame with {len(body)} bytes, of which its arrays take {at}")
    return Frame(OP_NAMES[op], number, dict(line.split("=", 1) for line in lines if "=" in line), found)


def read(stream: Readable) -> Frame | None:
    """The next frame of a blocking stream; None at its end.

    Raises: TargetAnswer for bytes that are no frame, or half a frame.
    """
    header = exactly(stream, HEADER.size)
    if not header:
        return None
    body = exactly(stream, body_length(header)) if len(header) == HEADER.size else b""
    if len(header) < HEADER.size or len(body) < body_length(header):
        raise TargetAnswer("half a frame")
    return unpack(header, body)


def exactly(stream: Readable, n: int) -> bytes:
    """n bytes, fewer at the end of the stream."""
    parts, missing = [], n
    while missing and (part := stream.read(missing)):
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)
