r"""e2m3, e3m2, e2m1: the 6-bit and 4-bit elements of OCP MX.

    e2m3: bias 1, max 7.5        e3m2: bias 3, max 28        e2m1: bias 1, values 0 .5 1 1.5 2 3 4 6 and their negatives

Every code is finite: no infinity, no NaN. Overflow and infinity clamp to max; what a NaN becomes the standard leaves
to the implementation: here NonFiniteError under `saturate`, or a named policy (`Overflow(nan="nan_or_zero")`, ...).
e2m1 rounds at the midpoints .25 .75 1.25 1.75 2.5 3.5 5; nearest even sends them to 0 1 1 2 2 4 4.

Source: OCP Microscaling Formats (MX) v1.0, sec. 5.3 (element formats), enumerated with ml_dtypes; the PDF not read.
Pitfalls: NaN becomes -0 in ml_dtypes, +6 (or +max) in CUDA's headers, 1.5 in torchao, 0 in DeepGEMM. DeepGEMM's Python
cast sends ties toward zero. Packing puts the lower index into the low nibble.

>>> E2M1.encode([.25, .75, 1.25, 1.75, 2.5, 3.5, 5, 100]).tolist()
[0, 2, 2, 4, 4, 6, 6, 7]
>>> E2M1.encode(float("nan"))  # doctest: +ELLIPSIS
Traceback (most recent call last):
...
lpref.ref.errors.NonFiniteError: e2m1.encode: a NaN has no code under the rule 'nan'; choose another Overflow...
"""

from __future__ import annotations

from lpref.ref.formats.floats import FloatFormat, exmy


def _element(name: str, e: int, m: int, title: str) -> FloatFormat:
    return exmy(
        name, e, m, specials="none", title=title, standard="OCP Microscaling Formats (MX) v1.0, sec. 5.3",
        source_level="secondary", module=__name__,
    )  # fmt: skip


E2M3 = _element("e2m3", 2, 3, "FP6 E2M3")
E3M2 = _element("e3m2", 3, 2, "FP6 E3M2")
E2M1 = _element("e2m1", 2, 1, "FP4 E2M1")
