r"""ternary, binary: {-1, 0, 1} in two bits and {1, -1} in one.

    ternary: code = value + 1 (00, 01, 10), as weights are packed in practice; 11 stands for no value: NaN
    binary:  code 0 = +1, 1 = -1: the sign bit, with sgn(0) = sgn(-0) = +1

ternary rounds x to the nearest value: thresholds +-1/2, ties to 0 (what rounding to the nearest even integer and clamping
does: BitNet's q = clamp(round(W / mean|W|), -1, 1)). binary takes the sign of x, in every rounding: between -1 and 1 no
x has a neighbour nearer to zero. |x| > 1 is an overflow in both, which `saturate`, the default, makes +-1.
The 1.58 bits of ternary weights are log2(3): five of them fit into a byte (3^5 = 243).

Scales belong to quantizers: absmean (BitNet), TWN's threshold 0.7 mean|W| and mean of what exceeds it, XNOR's mean|W|.
Gradient: straight through, not clipped in BitNet.

Source: BitNet b1.58, arXiv 2402.17764, eq. 1-3; its packing: microsoft/BitNet utils/convert-hf-to-gguf-bitnet.py (I2_S: -1,
0, 1 as 0, 1, 2). Binary: MatthieuCourbariaux/BinaryConnect binary_connect.py, binarization: +H where
round(clip((W / H + 1) / 2, 0, 1)) is 1; at 0 that is round(1/2), up in the Theano of its day (from memory), as the paper's
x >= 0 (arXiv 1511.00363, eq. 1, from memory). All else read.
Pitfalls: sign functions of array libraries give 0 for 0, a third value; two's complement packings have -1 as 11; the
first BitNet (arXiv 2310.11453, eq. 2) has sgn(0) = -1; the
threshold is half of the scale, so mean|W| / 2 in BitNet, not 0.7 mean|W|.

>>> TERNARY.encode([-3.0, -0.5, -0.51, 0.5, 0.51, 0.0]).tolist()
[0, 1, 0, 1, 2, 1]
>>> BINARY.decode(BINARY.encode([-0.1, -0.0, 0.0, 9.0])).tolist()
[-1.0, 1.0, 1.0, 1.0]
"""

from __future__ import annotations

from lpref.ref.formats.codebook import CodebookFormat

TERNARY = CodebookFormat(
    name="ternary", bits=2, title="{-1, 0, 1}", tie="toward_zero", source_level="read", module=__name__,
    standard="BitNet b1.58, arXiv 2402.17764, eq. 1-3", values=(-1.0, 0.0, 1.0, float("nan")),
)  # fmt: skip
BINARY = CodebookFormat(
    name="binary", bits=1, title="the sign, {1, -1}", tie="up", source_level="read", module=__name__,
    standard="BinaryConnect, arXiv 1511.00363; binary_connect.py", values=(1.0, -1.0),
)  # fmt: skip
