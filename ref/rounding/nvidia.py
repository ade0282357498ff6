"""nvidia: stochastic conversions on NVIDIA GPUs: the instruction cvt.rs, and TransformerEngine's software fallback.

*cvt.rs* (sm_100a, sm_103a; not sm_120) takes four float32 (two for bfloat16 and binary16) and one 32-bit word of random bits. The bits are
added below the kept significand and the carry out decides: variant A (`stochastic`), with saturation. Lane 0, the last operand, takes the
lowest bits: 8 bits each of four, 16 each of two (`lane_words`).

*TransformerEngine's fallback* for E2M1, where the instruction is missing, u = R / 256 with 8 bits R:

    step(v) = 1/2, 1, 2  for v < 2, < 4, else;      t = fl32(|x| + u step(|x|));      q = min(floor(t / step(t)) step(t), 6), with x's sign

NaN gives +6, infinities +-6. In exact arithmetic that is variant A with r = 8, bias -step frac(256 nu) / 256: -0.0016 at 1.9, -0.0031 at 2.3,
-0.0012 at 0.3. The rounding of t differs from it where |x| has bits below t's: x = 2^-9 - 2^-33 with R = 255 gives 1/2, the instruction 0.
All bfloat16 inputs agree.

Source: TransformerEngine common/util/ptx.cuh (the lanes' bytes, read), core_nvfp4.cuh (the fallback, secondary); LLVM NVPTX usage guide, narrow
floating-point conversions, rounding mode rs ("carry out of the integer addition", read). Source level: as said; the split of rbits for other
types than E2M1 is from memory.
Pitfalls: one word for two lanes correlates their errors; words must follow the element's index, not the tile's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lpref.ref.errors import WordsError

LANES = {"e2m1": 4, "e2m3": 4, "e3m2": 4, "e4m3": 4, "e5m2": 4, "bfloat16": 2, "binary16": 2}
"""How many numbers one instruction converts."""


def lane_words(rbits: Any, format: str) -> tuple[NDArray[np.uint32], int]:
    """([..., lanes] words, bits of each) from the 32-bit words `rbits` [...] of the instruction, lane 0 lowest.

    Raises: WordsError.

    >>> [hex(w) for w in lane_words(np.uint32(0x44332211), "e2m1")[0]]
    ['0x11', '0x22', '0x33', '0x44']
    """
    if format not in LANES:
        raise WordsError(f"cvt.rs has no {format}", where="lane_words", remedy=f"one of {', '.join(LANES)}")
    bits = 32 // LANES[format]
    shifts = np.arange(0, 32, bits, dtype=np.uint32)
    return (np.asarray(rbits, np.uint32)[..., None] >> shifts) & np.uint32(2**bits - 1), bits


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
