from __future__ import annotations

from io import BytesIO

import ml_dtypes
import numpy as np
import pytest

from lpref.conformance.targets.base import TargetAnswer
from lpref.conformance.targets.frames import DTYPES, HEADER, Frame, pack, read


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (5,), (2, 3), (1, 2, 3)])
def test_what_is_packed_is_read(dtype: np.dtype, shape: tuple[int, ...]) -> None:
    array = np.arange(int(np.prod(shape, dtype=int)), dtype=np.float32).reshape(shape).astype(dtype)
    frame = Frame("quantize", 7, {"quantizer": "mxfp4:scale=rceil", "input": "float32"}, {"x": array, "words": np.uint32([1])})
    data = BytesIO(pack(frame) + pack(Frame("bye")))
    found = read(data)
    assert found is not None
    assert (found.op, found.number, dict(found.text)) == (frame.op, 7, dict(frame.text))
    assert found.arrays["x"].dtype == dtype
    assert found.arrays["x"].shape == shape
    assert found.arrays["x"].tobytes() == array.tobytes()
    assert read(data) == Frame("bye")
    assert read(data) is None


def test_bfloat16_travels_as_bfloat16() -> None:
    x = np.array([1.5, -np.inf], ml_dtypes.bfloat16)
    found = read(BytesIO(pack(Frame("cast", 0, {}, {"x": x}))))
    assert found is not None
    assert found.arrays["x"].dtype == x.dtype


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"hello, world; a target printed this line", "no frame"),
        (pack(Frame("bye"))[:20], "half a frame"),
        (pack(Frame("cast", 0, {}, {"x": np.ones(4)}))[:-3], "half a frame"),
        (HEADER.pack(b"LPRF", 9, 1, 0, 0, 0, 0, 0), "protocol version 9"),
        (HEADER.pack(b"LPRF", 1, 77, 0, 0, 0, 0, 0), "op 77"),
        (HEADER.pack(b"LPRF", 1, 2, 0, 0, 3, 0, 4) + b"abcd", "does not hold"),
        (HEADER.pack(b"LPRF", 1, 2, 0, 0, 0, 0, 4) + b"abcd", "its arrays take 0"),
    ],
)
def test_other_bytes_are_no_answer(data: bytes, text: str) -> None:
    with pytest.raises(TargetAnswer, match=text):
        read(BytesIO(data))


def test_arrays_that_no_frame_carries() -> None:
    with pytest.raises(TargetAnswer, match="complex64"):
        pack(Frame("cast", 0, {}, {"codes": np.zeros(2, np.complex64)}))
