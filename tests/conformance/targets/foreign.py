"""Targets that behave badly, and one that does not: what tests of `lpref diff` run in child processes. Run as a file: a target of `exec:`."""

from __future__ import annotations

import os
import struct
import sys
import time

import numpy as np


def bfloat16(x):
    """float32 -> bfloat16, nearest even, infinity beyond."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32).astype(np.uint64)
    codes = (bits + 0x7FFF + (bits >> 16 & 1) >> 16).astype(np.uint16)
    return np.where(np.isnan(x), np.uint16(0x7FC0), codes)


def torch_bfloat16(x):
    """The same in torch: a tensor in, a tensor of bfloat16 values out."""
    import torch

    assert isinstance(x, torch.Tensor)
    return x.to(torch.bfloat16)


def truncated(x):
    """A planted mistake: toward zero."""
    return np.where(np.isnan(x), np.uint16(0x7FC0), (np.ascontiguousarray(x, np.float32).view(np.uint32) >> 16).astype(np.uint16))


def talks(x):
    print("hello from the target")
    os.write(1, b"and from C")
    return bfloat16(x)


def raises(x):
    raise RuntimeError("no such kernel")


def exits(x):
    sys.exit(3)


def crashes(x):
    os.kill(os.getpid(), 11)


def hangs(x):
    time.sleep(60)


def shape(x):
    return bfloat16(x)[:-1]


def dtype(x):
    return bfloat16(x).astype(np.int32)


def nothing(x):
    return None


def text(x):
    return "nearest"


def mxfp4_with_logarithm(x):
    """MXFP4 whose scale is floor(log2 amax) in float32: wrong just below powers of two."""
    import lpref

    blocks = x.reshape(x.shape[0], -1, 32)
    with np.errstate(divide="ignore"):
        e = np.clip(np.floor(np.log2(np.max(np.abs(blocks), -1))) - 2, -127, 127)
    e = np.where(np.isfinite(e), e, -127)
    codes = lpref.format("e2m1").encode((blocks / np.ldexp(np.float32(1), e.astype(int))[..., None]).reshape(x.shape), overflow="cuda_satfinite")
    return {"codes": codes, "scales": (e + 127).astype(np.uint8)}


def sequential(a, b):
    c = np.zeros((a.shape[0], b.shape[0]), np.float32)
    for k in range(a.shape[1]):
        c += a[:, k, None] * b[None, :, k]
    return c


def half(a, b):
    return (sequential(a, b)).astype(np.float16).astype(np.float32)


def frames():
    """A target of `exec:` with nothing but the standard library and NumPy."""
    header = struct.Struct("<4sHHIIIIQ")
    while True:
        head = sys.stdin.buffer.read(32)
        if not head:
            return
        magic, version, op, number, text_bytes, _, _, length = header.unpack(head)
        body = sys.stdin.buffer.read(length)
        out = b""
        if op == 2:
            _, axes, name, _ = struct.unpack_from("<BBHI", body, text_bytes)
            (n,) = struct.unpack_from("<q", body, text_bytes + 8)
            x = np.frombuffer(body, np.float32, n, text_bytes + 8 + 8 * axes + name)
            out = struct.pack("<BBHIq", 2, 1, 5, 0, n) + b"codes" + bfloat16(x).tobytes()
        sys.stdout.buffer.write(header.pack(magic, version, op, number, 0, int(op == 2), 0, len(out)) + out)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    frames()
