"""The registry of formats, and the other spellings of their names."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from lpref.ref.errors import FormatError, UnknownNameError
from lpref.ref.formats import (
    af4,
    bfloat16_tf32,
    complex_quartic,
    dynamic_tree,
    fixed,
    flag8,
    floats,
    floatsd,
    fp8_variants,
    hif8,
    ieee754,
    lns,
    midrise,
    nf4,
    ocp_fp8,
    ocp_mx,
    p3109,
    posit,
    pot,
    radix4,
    scale_formats,
    takum,
    ternary,
)
from lpref.ref.formats.base import Format
from lpref.ref.formats.complex_quartic import VectorFormat
from lpref.ref.formats.integers import INTEGERS

FORMATS: dict[str, Format] = {
    "float32": ieee754.FLOAT32,
    "float64": ieee754.FLOAT64,
    "binary16": ieee754.BINARY16,
    "bfloat16": bfloat16_tf32.BFLOAT16,
    "tf32": bfloat16_tf32.TF32,
    "e4m3": ocp_fp8.E4M3,
    "e5m2": ocp_fp8.E5M2,
    "e4m3_ieee": fp8_variants.E4M3_IEEE,
    "e3m4": fp8_variants.E3M4,
    "e4m3fnuz": fp8_variants.E4M3FNUZ,
    "e5m2fnuz": fp8_variants.E5M2FNUZ,
    "e4m3b11fnuz": fp8_variants.E4M3B11FNUZ,
    "e8m0": scale_formats.E8M0,
    "ue4m3": scale_formats.UE4M3,
    "ue5m3": scale_formats.UE5M3,
    "e2m3": ocp_mx.E2M3,
    "e3m2": ocp_mx.E3M2,
    "e2m1": ocp_mx.E2M1,
    **p3109.P3109,
    "hif8": hif8.HIF8,
    **posit.POSITS,
    **takum.TAKUMS,
    **INTEGERS,
    "fixed16.8": fixed.FIXED16_8,
    "fixed8.6": fixed.FIXED8_6,
    "ternary": ternary.TERNARY,
    "binary": ternary.BINARY,
    "nf4": nf4.NF4,
    "bnb_fp4": nf4.BNB_FP4,
    "af4": af4.AF4,
    "dynamic8": dynamic_tree.DYNAMIC8,
    "dynamic8_unsigned": dynamic_tree.DYNAMIC8_UNSIGNED,
    "lns8_g8": lns.LNS8_G8,
    "lns8_g8_zero": lns.LNS8_G8_ZERO,
    "midrise4": midrise.MIDRISE4,
    "pot4": pot.POT4,
    "apot4_k2": pot.APOT4_K2,
    "radix4_fp4": radix4.RADIX4_FP4,
    "radix4_fp4_odd": radix4.RADIX4_FP4_ODD,
    "floatsd8": floatsd.FLOATSD8,
}

VECTOR_FORMATS: dict[str, VectorFormat] = {  # code books of vectors: classify, encode, decode; no Format
    "complex_quartic": complex_quartic.COMPLEX_QUARTIC,
}

PARSERS: tuple[Callable[[str], Format | None], ...] = (  # names that carry parameters
    floats.parse,
    p3109.parse,
    posit.parse,
    takum.parse,
    fixed.parse,
    lns.parse,
    pot.parse,
    midrise.parse,
    flag8.parse,
)

ALIASES: dict[str, str] = {  # other people's spellings: ml_dtypes, NumPy and torch dtypes, CUDA's cudaDataType
    "float16": "binary16", "half": "binary16", "fp16": "binary16", "CUDA_R_16F": "binary16",
    "float": "float32", "fp32": "float32", "binary32": "float32", "CUDA_R_32F": "float32",
    "double": "float64", "fp64": "float64", "binary64": "float64", "CUDA_R_64F": "float64",
    "bf16": "bfloat16", "CUDA_R_16BF": "bfloat16",
    "float8_e4m3fn": "e4m3", "e4m3fn": "e4m3", "CUDA_R_8F_E4M3": "e4m3",
    "float8_e5m2": "e5m2", "CUDA_R_8F_E5M2": "e5m2",
    "float8_e4m3": "e4m3_ieee", "float8_e3m4": "e3m4",
    "float8_e4m3fnuz": "e4m3fnuz", "float8_e5m2fnuz": "e5m2fnuz", "float8_e4m3b11fnuz": "e4m3b11fnuz",
    "float8_e8m0fnu": "e8m0", "e8m0fnu": "e8m0", "ue8m0": "e8m0", "CUDA_R_8F_UE8M0": "e8m0",
    "CUDA_R_8F_UE4M3": "ue4m3", "ue5m3fn": "ue5m3", "float8_ue5m3": "ue5m3",
    "float6_e2m3fn": "e2m3", "CUDA_R_6F_E2M3": "e2m3", "float6_e3m2fn": "e3m2", "CUDA_R_6F_E3M2": "e3m2",
    "float4_e2m1fn": "e2m1", "float4_e2m1fn_x2": "e2m1", "CUDA_R_4F_E2M1": "e2m1",
    "hifloat8": "hif8", "HiF8": "hif8",
    "CUDA_R_4I": "int4", "CUDA_R_8I": "int8", "CUDA_R_16I": "int16",
    "mxint8_element": "fixed8.6",
    "CUDA_R_4U": "uint4", "CUDA_R_8U": "uint8", "CUDA_R_16U": "uint16",
    "bool": "uint1",
}  # fmt: skip


def _spelling(name: Any) -> str:
    """The string that a name, a NumPy or ml_dtypes dtype or scalar type, or a torch dtype stands for."""
    if isinstance(name, str):
        return name
    text = str(name)
    if name is None:
        return text
    if text.startswith("torch."):
        return text.removeprefix("torch.")
    try:
        return np.dtype(name).name
    except TypeError:
        return text


def vector_format(name: Any) -> VectorFormat:
    """The code book of vectors called `name`.

    >>> vector_format("complex_quartic").classify([0.5 - 2j]).tolist()
    [3]

    Raises: UnknownNameError with the nearest names.
    """
    if name not in VECTOR_FORMATS:
        raise UnknownNameError("vector format", name, VECTOR_FORMATS)
    return VECTOR_FORMATS[name]


def format(name: Any) -> Format:
    """The format called `name`: registered, generic (`e5m10_ieee`), an alias, a dtype object, or a Format itself; `e4m3@1` is a revision.

    Code books of vectors (complex_quartic) are found by `vector_format`.

    Raises: UnknownNameError with the nearest names; FormatError for a generic name that makes no format, and for the
    name of a code book of vectors.
    """
    if isinstance(name, Format):
        return name
    if type(name) is str and name in FORMATS:
        return FORMATS[name]
    text = _spelling(name).removeprefix("lpref.").removeprefix("torch.")
    text, _, revision = text.partition("@")
    text = ALIASES.get(text, text)
    found = FORMATS.get(text) or next((f for parse in PARSERS if (f := parse(text)) is not None), None)
    if text in VECTOR_FORMATS:
        raise FormatError(f"{text} is a code book of vectors", where="format", remedy=f"vector_format({text!r})")
    if found is None and re.fullmatch(r"u?int\d+", text):
        widths = sorted(int(known[3:]) for known in FORMATS if re.fullmatch(r"int\d+", known))
        raise FormatError(f"{text} is no format; integers have {widths[0]} to {widths[-1]} bits")
    if found is None:
        raise UnknownNameError("format", name, [*FORMATS, *ALIASES])
    if revision not in ("", str(found.revision)):
        raise UnknownNameError("revision of format", name, [f"{text}@{found.revision}"])
    return found
