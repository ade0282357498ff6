r"""Overflow policies: what becomes of a finite overflow, a source infinity and a source NaN. Three independent fields.

A *finite overflow* is a finite x whose rounded value, with the exponent unbounded above, exceeds the largest finite
value (for unsigned formats also one whose rounded value is negative; for formats without zero also x = 0). Directed
roundings that point toward zero stop at the largest finite value of x's sign, if there is one, whatever `finite` says,
except `raise`.

| rule of a field              | result                                                                              |
|------------------------------|-------------------------------------------------------------------------------------|
| max                          | the largest finite value of that sign (below the range: the smallest value)         |
| infinity                     | infinity of that sign; an error where the format has none                           |
| nan                          | the NaN code; an error where the format has none                                    |
| infinity_or_nan              | infinity where there is one, else NaN, else an error                                |
| infinity_or_nan_or_max       | the same, else the largest finite value                                             |
| infinity_or_fnuz_nan_or_max  | infinity, or NaN in FNUZ formats and E8M0, else the largest finite value            |
| infinity_or_max              | infinity, else the largest finite value                                             |
| fnuz_nan_or_max              | NaN in FNUZ formats, else the largest finite value                                  |
| raise                        | NonFiniteError (infinity, NaN) or FormatError (finite overflow)                     |

and for `nan` (the source NaN) also: nan_or_zero, nan_or_negative_zero, nan_or_max (where the format has no NaN).
`unsigned` says what a negative x is in a format without sign: "finite" (a finite overflow below the range; under
`max` it becomes the smallest value, where a rule says infinity NaN), "absolute" (the sign is dropped, as conversions
to E8M0 in hardware do), "smallest" or "nan" (what is below the range, -infinity included, becomes that, whatever the
other rules say).

Presets:

| name           | finite                      | infinity                    | nan                  | unsigned |
|----------------|-----------------------------|-----------------------------|----------------------|----------|
| saturate       | max                         | max                         | nan                  | finite   |
| ocp_sat        | max                         | max                         | nan                  | finite   |
| ocp_nonsat     | infinity_or_nan             | infinity_or_nan             | nan                  | finite   |
| to_infinity    | infinity                    | infinity                    | nan                  | finite   |
| to_nan         | nan                         | nan                         | nan                  | finite   |
| raise          | raise                       | raise                       | raise                | finite   |
| ml_dtypes      | infinity_or_nan_or_max      | infinity_or_nan_or_max      | nan_or_negative_zero | finite   |
| torch          | infinity_or_fnuz_nan_or_max | infinity_or_fnuz_nan_or_max | nan                  | absolute |
| cuda_satfinite | max                         | max                         | nan_or_max           | absolute |
| cuda_nosat     | infinity_or_nan             | infinity_or_nan             | nan                  | absolute |
| onnx_sat       | max                         | fnuz_nan_or_max             | nan                  | finite   |
| p3109_sat_finite    | max                    | max                         | nan                  | smallest |
| p3109_sat_propagate | max                    | infinity_or_max             | nan                  | smallest |
| p3109_sat_none      | infinity_or_max        | infinity_or_max             | nan                  | nan      |
| posit          | max                         | nan                         | nan                  | finite   |

Source: ONNX docs/technical/float8 (both tables); ml_dtypes 0.6 and torch 2.13 .. 2.15 on CPU, measured; CUDA 13
cuda_fp8.hpp, compiled for the host (satfinite); P3109 interim report v4.0, sec. 4.7.5;
OFP8 rev. 1.0, sec. 5.2, table 3 for ocp_* (read; NaN stays NaN, its code is left to implementations).
Pitfalls: torch before 2.13 gave NaN where E4M3 overflows; onnx 1.23 saturate_cast(inf) to FNUZ returns the largest
finite value where its own table says NaN; "449 -> 448" is rounding, not saturation (the threshold is 464).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from lpref.ref.errors import FormatError, NonFiniteError, UnknownNameError

_RULES: dict[str, tuple[str, ...]] = {  # rule -> what to try, in order
    "max": ("max",),
    "infinity": ("infinity",),
    "nan": ("nan",),
    "infinity_or_nan": ("infinity", "nan"),
    "infinity_or_nan_or_max": ("infinity", "nan", "max"),
    "infinity_or_fnuz_nan_or_max": ("infinity", "fnuz_nan", "max"),
    "infinity_or_max": ("infinity", "max"),
    "fnuz_nan_or_max": ("fnuz_nan", "max"),
    "raise": ("raise",),
}
_NAN_RULES: dict[str, tuple[str, ...]] = {
    "nan": ("nan",),
    "nan_or_zero": ("nan", "zero"),
    "nan_or_negative_zero": ("nan", "negative_zero", "zero"),
    "nan_or_max": ("nan", "max"),
    "raise": ("raise",),
}
_SIGN_RULES = ("finite", "absolute", "smallest", "nan")


@dataclass(frozen=True)
class Overflow:
    """A policy of three fields (and the sign rule of unsigned formats); the rules are in the module's page."""

    finite: str = "max"
    infinity: str = "max"
    nan: str = "nan"
    unsigned: str = "finite"
    standard: str = field(default="", compare=False, repr=False)
    source_level: str = field(default="", compare=False, repr=False)  # of presets: read | secondary | memory

    def __post_init__(self) -> None:
        for name, rules in (("finite", _RULES), ("infinity", _RULES), ("nan", _NAN_RULES)):
            if getattr(self, name) not in rules:
                raise UnknownNameError("overflow rule", getattr(self, name), rules, where=f"Overflow.{name}")
        if self.unsigned not in _SIGN_RULES:
            raise UnknownNameError("sign rule", self.unsigned, _SIGN_RULES, where="Overflow.unsigned")

    def resolve(self, field: str, has: frozenset[str], where: str) -> str:
        """What the rule of `field` means in a format that has the targets `has`.

        `has` is a subset of {max, zero, negative_zero, infinity, nan, fnuz_nan}. Returns one of those or "raise".

        Raises: FormatError (finite) or NonFiniteError (infinity, nan) where the format has none of the rule's targets.
        """
        rule = getattr(self, field)
        for target in (_NAN_RULES if field == "nan" else _RULES)[rule]:
            if target in has or target == "raise":
                return "nan" if target == "fnuz_nan" else target
        source = {"finite": "a finite overflow", "infinity": "an infinity", "nan": "a NaN"}[field]
        raise (FormatError if field == "finite" else NonFiniteError)(
            f"{source} has no code under the rule {rule!r}",
            where=where,
            remedy=f"choose another Overflow.{field}, e.g. {'nan_or_zero' if field == 'nan' else 'max'}",
        )


_P3109 = "P3109 interim report v4.0, sec. 4.7.5"
_OFP8 = "OCP OFP8 rev. 1.0, sec. 5.2, table 3"

OVERFLOW: dict[str, Overflow] = {
    "saturate": Overflow(standard="lpref", source_level="read"),
    "ocp_sat": Overflow(standard=_OFP8, source_level="read"),
    "ocp_nonsat": Overflow("infinity_or_nan", "infinity_or_nan", standard=_OFP8, source_level="read"),
    "to_infinity": Overflow("infinity", "infinity", standard="IEEE 754-2019, sec. 7.4", source_level="secondary"),
    "to_nan": Overflow("nan", "nan", standard="lpref", source_level="read"),
    "raise": Overflow("raise", "raise", "raise", standard="lpref", source_level="read"),
    "ml_dtypes": Overflow(
        "infinity_or_nan_or_max", "infinity_or_nan_or_max", "nan_or_negative_zero", standard="ml_dtypes 0.6, measured", source_level="read"
    ),
    "torch": Overflow(
        "infinity_or_fnuz_nan_or_max", "infinity_or_fnuz_nan_or_max", "nan", "absolute", "torch 2.13 .. 2.15 on CPU, measured", "read"
    ),
    "cuda_satfinite": Overflow("max", "max", "nan_or_max", "absolute", "CUDA 13 cuda_fp8.hpp, compiled for the host", "read"),
    "cuda_nosat": Overflow(
        "infinity_or_nan", "infinity_or_nan", "nan", "absolute", "CUDA 13 cuda_fp8.hpp (__NV_NOSAT), compiled for the host", "read"
    ),
    "onnx_sat": Overflow("max", "fnuz_nan_or_max", standard="ONNX docs/technical/float8, saturating table", source_level="read"),
    "p3109_sat_finite": Overflow("max", "max", "nan", "smallest", _P3109, "read"),
    "p3109_sat_propagate": Overflow("max", "infinity_or_max", "nan", "smallest", _P3109, "read"),
    "p3109_sat_none": Overflow("infinity_or_max", "infinity_or_max", "nan", "nan", _P3109, "read"),
    "posit": Overflow("max", "nan", standard="Standard for Posit Arithmetic (2022), sec. 4.1 and 6.5", source_level="secondary"),
}


def overflow(policy: str | Overflow) -> Overflow:
    """The policy called `policy` (or `policy` itself).

    Raises: UnknownNameError, with the nearest names.

    >>> overflow("ocp_nonsat")
    Overflow(finite='infinity_or_nan', infinity='infinity_or_nan', nan='nan', unsigned='finite')
    """
    if isinstance(policy, Overflow):
        return policy
    try:
        return OVERFLOW[policy]
    except (KeyError, TypeError):
        raise UnknownNameError("overflow policy", policy, OVERFLOW) from None
