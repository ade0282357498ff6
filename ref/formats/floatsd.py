r"""floatsd8: floating point whose mantissa is two groups of signed digits.

    value = m 2^(e - 9),   m = 4 g_1 + g_2,   g_1 in {0, +-1, +-2, +-4},   g_2 in {0, +-1, +-2},   e = 0 .. 7

At most one digit of each group is nonzero, so a product with a weight is two shifts and one addition. Of the 35 pairs 31
values are distinct: 0, +-1 .. +-10, +-14 .. +-18. Their fifteen magnitudes and a sign are five bits, three bits of
exponent make eight: code = sign, e, rank of |m| among 0, 1 .. 10, 14 .. 18. A value with more than one code gets the
smallest e that can hold it; zero is code 00, -0 is 80. Largest value 18 2^-2 = 4.5, smallest 2^-9; 129 distinct values,
zero among them.

x goes to the nearest value, ties away from zero; |x| > 4.5 is an overflow. No NaN, no infinity.
In the recipe weights have this format (with a finer master copy), activations and gradients an 8-bit float.

Source: Training of deep neural networks with the FloatSD representation, IEEE JETCAS 2019 (8693838), and FloatSD8 for
LSTMs, arXiv 2001.08450 (abstract read). Digits and counts after a CUDA library that trains with the format, whose
round_floatsd8_dynamic_332 (three bits of exponent, groups of three and two digits) yields these 64 magnitudes and no
other; it adds half a unit before it looks (ties away), and never gives zero to a nonzero x. danielpoochai/FloatSD has two
groups of three digits and two bits of exponent. The exponent's offset is a choice, so that |x| <= 4.5 (a parameter there).
Pitfalls: 11, 12 and 13 are missing: rounding has to look for the nearest value, cutting bits off is not enough; 7 is
8 - 1, so the digits of neighbouring values have nothing in common.

>>> f = FLOATSD8
>>> sorted({abs(m) for m in MANTISSAS})
[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 14, 15, 16, 17, 18]
>>> [v / 2**-9 for v in f.round([12.0 * 2**-9, 11.9 * 2**-9, 0.4 * 2**-9]).tolist()]
[12.0, 12.0, 0.0]
>>> f.round([3.0, 2.9, -9.0]).tolist(), f.max
([3.5, 2.5, -4.5], 4.5)
"""

from __future__ import annotations

from itertools import product

from lpref.ref.formats.codebook import CodebookFormat

GROUPS = ((0, 1, 2, 4, -1, -2, -4), (0, 1, 2, -1, -2))
MANTISSAS = tuple(sorted({4 * first + second for first, second in product(*GROUPS)}))
_MAGNITUDES = [m for m in MANTISSAS if m >= 0]
_HALF = [float(m) * 2.0 ** (e - 9) for e in range(8) for m in _MAGNITUDES]

FLOATSD8 = CodebookFormat(
    name="floatsd8", bits=8, title="FloatSD8: two signed-digit groups", tie="away", source_level="secondary",
    module=__name__, standard="FloatSD, IEEE JETCAS 2019 (8693838); arXiv 2001.08450",
    values=tuple(_HALF + [-v for v in _HALF]),
)  # fmt: skip
