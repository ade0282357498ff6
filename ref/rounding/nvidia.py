"""nvidia: stochastic conversions on NVIDIA GPUs: the instruction cvt.rs, and TransformerEngine's software fallback.

*cvt.rs* (sm_100a, sm_103a; not sm_120) takes four float32 (two for bfloat16 and binary16) and one 32-bit word of random bits. The bits are
added to the discarded part of the significand and the carry out decides: variant A (`stochastic`), with saturation. Lane 0 is the last operand
and the lowest code of the result. `lane_words` has each lane's word W:

    e2m1                        r = 8    lane i:  byte i
    e4m3, e5m2, e2m3, e3m2      r = 16   lanes 0, 1: bits 15..0 and the same reversed; lanes 2, 3: bits 31..16 and the same reversed
    bfloat16                    r = 16   bits 15..0, bits 31..16
    binary16                    r = 13   bits 12..0, bits 28..16 (the other six are not used)

Two lanes that share 16 bits have uniform words each, and dependent ones together.

*TransformerEngine's fallback* for E2M1, where the instruction is missing, u = R / 256 with 8 bits R:

    step(v) = 1/2, 1, 2  for v < 2, < 4, else;      t = fl32(|x| + u step(|x|));      q = min(floor(t / step(t)) step(t), 6), with x's sign

NaN gives +6, infinities +-6. In exact arithmetic that is variant A with r = 8, bias -step frac(256 nu) / 256: -0.0016 at 1.9, -0.0031 at 2.3,
-0.0012 at 0.3. The rounding of t differs from it where |x| has bits below t's: x = 2^-9 - 2^-33 with R = 255 gives 1/2, the instruction 0.
All bfloat16 inputs agree.

Source: PTX ISA, cvt (.rs: "the carry out of the integer addition of the supplied random bits to the truncated off bits"; the split of the bits
is in its figures 38 to 41, which were not seen); flashinfer-ai/flashinfer include/flashinfer/mamba/conversion.cuh (binary16 after figure 38; e4m3
compared there with an sm_100a bit for bit, and the other three types share figure 41); TransformerEngine common/util/ptx.cuh (e2m1's bytes),
core_nvfp4.cuh (the fallback, secondary). Source level: read, other than as said.
Pitfalls: words must follow the element's index, not the tile's; binary16's subnormals were compared by nobody that we know of.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lpref.ref.errors import WordsError

LANES = {"e2m1": 4, "e2m3": 4, "e3m2": 4, "e4m3": 4, "e5m2": 4, "bfloat16": 2, "binary16": 2}
"""How many numbers one instruction converts."""
WORD_BITS = {"e2m1": 8, "e2m3": 16, "e3m2": 16, "e4m3": 16, "e5m2": 16, "bfloat16": 16, "binary16": 13}
"""Random bits that one of them takes."""


def lane_words(rbits: Any, format: str) -> tuple[NDArray[np.uint32], int]:
    """([..., lanes] words, bits of each) from the 32-bit words `rbits` [...] of the instruction, lane 0 lowest.

    Raises: WordsError.

    >>> [hex(w) for w in lane_words(np.uint32(0x44332211), "e2m1")[0]]
    ['0x11', '0x22', '0x33', '0x44']
    >>> [hex(w) for w in lane_words(np.uint32(0x00018000), "e4m3")[0]]
    ['0x8000', '0x1', '0x1', '0x8000']
    """
    if format not in LANES:
        raise WordsError(f"cvt.rs has no {format}", where="lane_words", remedy=f"one of {', '.join(LANES)}")
    lanes, bits = LANES[format], WORD_BITS[format]
    fields = lanes if lanes * bits <= 32 else 2
    words = (np.asarray(rbits, np.uint32)[..., None] >> np.arange(0, 32, 32 // fields, dtype=np.uint32)) & np.uint32(2**bits - 1)
    if fields < lanes:
        words = np.stack([words, _reversed16(words)], axis=-1).reshape(*words.shape[:-1], lanes)
    return words, bits


def _reversed16(words: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """The low 16 bits in the opposite order.

    >>> hex(_reversed16(np.uint32(0x0013)))
    '0xc800'
    """
    for shift, mask in ((1, 0x5555), (2, 0x3333), (4, 0x0F0F), (8, 0x00FF)):
        words = ((words >> np.uint32(shift)) & np.uint32(mask)) | ((words & np.uint32(mask)) << np.uint32(shift))
    return words


def te_stochastic_e2m1(x: Any, words: Any) -> NDArray[np.float32]:
    """TransformerEngine's fallback: float32 x and words (the low 8 bits are used) of one shape -> E2M1 values.

    >>> te_stochastic_e2m1(np.float32([1.9, 1.9]), np.uint8([50, 52])).tolist()
    [1.5, 2.0]
    """
    x = np.asarray(x, np.float32)
    u = ((np.asarray(words).astype(np.uint32) & np.uint32(255)).astype(np.float32)) / np.float32(256)  # exact
    a = np.abs(x)
    with np.errstate(invalid="ignore"):
        t = a + u * _step(a)
        q = np.fmin(np.floor(t / _step(t)) * _step(t), np.float32(6))  # of NaN: 6
    return np.where(np.isnan(x), np.float32(6), np.copysign(q, x))


def _step(v: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.where(v < 2, np.float32(0.5), np.where(v < 4, np.float32(1), np.float32(2)))
