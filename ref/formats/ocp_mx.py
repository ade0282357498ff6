r"""e2m3, e3m2, e2m1: the 6-bit and 4-bit elements of OCP MX.

    e2m3: bias 1, max 7.5        e3m2: bias 3, max 28        e2m1: bias 1, values 0 .5 1 1.5 2 3 4 6 and their negatives

Every code is finite: no infinity, no NaN. Overflow and infinity clamp to max; what a NaN becomes the standard leaves
to the implementation: here NonFiniteError under `saturate`, or a named policy (`Overflow(nan="nan_or_zero")`, ...).
e2m1 rounds at the midpoints .25 .75 1.25 1.75 2.5 3.5 5; nearest even sends them to 0 1 1 2 2 4 4; 7 would be the next.
Overflow begins at 7.75 (e2m3), 30 (e3m2), 7 (e2m1). The MX element INT8 is fixed8.6: i / 64, -2 .. 127/64.

What a NaN becomes, and how to say it here:

| implementation            | e2m1 | e2m3, e3m2 | policy                                          |
|---------------------------|------|------------|-------------------------------------------------|
| ml_dtypes                 | 8 -0 | 20 -0      | `ml_dtypes` (+0 there if the NaN is negative)   |
| CUDA's headers, TE kernel | 7 +6 | 1F +max    | `cuda_satfinite`                                |
| TE Python, DeepGEMM       | 0    |            | `Overflow(nan="nan_or_zero")`                   |
| torchao f32_to_f4         | 3 1.5|            | none: replace NaN by 1.5 before                 |

Packing: two e2m1 in a byte, the lower index in the low nibble; four 6-bit elements in three bytes.
Gradient: straight through, clipped or not.

Source: OCP Microscaling Formats (MX) v1.0, sec. 5.3.2-5.3.4, tables 4-6 (read), enumerated with ml_dtypes.
Pitfalls: DeepGEMM's Python cast sends ties toward zero (`nearest_toward_zero`: .75 -> .5, 3.5 -> 3). TransformerEngine's
Python reference makes code 0 of -0.0, but 8 of -0.1: compare codes up to the sign of zero.

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
        source_level="read", module=__name__,
    )  # fmt: skip


E2M3 = _element("e2m3", 2, 3, "FP6 E2M3")
E3M2 = _element("e3m2", 3, 2, "FP6 E3M2")
E2M1 = _element("e2m1", 2, 1, "FP4 E2M1")
