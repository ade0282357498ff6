"""The registered quantizers, as one table, and the names that reach them.

A name may carry a revision and parameters: ``mxfp4``, ``mxfp4@1``, ``mxfp4:scale=rceil``, ``fp8_tile1x128:pow2=up:eps=1e-4``.
Parameters are the fields of `Quantizer` (rounding, tail, overflow, word_bits, narrow, format), of its blocks (k, other; ``all`` is the
whole axis) and of its scale (mode, pow2, eps, apply, multiplier, history, window, algo, margin, value, nonfinite, rule, and
those of single rules, see `Scale`); ``scale`` is mode.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from lpref.ref.errors import SpecError, UnknownNameError, nearest
from lpref.ref.quantize.quantizer import Quantizer
from lpref.ref.scaling import Blocks, Scale

_TE = Scale("te", apply="mul_inverse")
_MX = Scale("mx", format="e8m0")
_OCP_MX = "OCP Microscaling Formats (MX) Specification v1.0, sec. 5 and 6.3"
_NVFP4 = "arXiv 2509.25149; NVIDIA/TransformerEngine transformer_engine/pytorch/custom_recipes/reference_nvfp4.py"
_TORCHAO_NVFP4 = "pytorch/ao torchao/prototype/mx_formats/nvfp4_tensor.py"
_BFP = Scale("bfp", format="e8m0")
_DEEPSEEK = "DeepSeek-V3, arXiv 2412.19437, sec. 3.3"
_TE_CURRENT = "NVIDIA/TransformerEngine tests/pytorch/references/quantize_scale_calc.py"


def _mx(name: str, element: str) -> Quantizer:
    return Quantizer(element, Blocks(1, 32), _MX, name=name, standard=_OCP_MX)


def _nvfp4(name: str, blocks: Blocks, **choices: Any) -> Quantizer:
    return Quantizer("e2m1", blocks, Scale("nvfp4", format="e4m3", apply="te_nvfp4", **choices), name=name, standard=_NVFP4)


QUANTIZERS: dict[str, Quantizer] = {
    # FP8 under float32 scales
    "fp8_tensor": Quantizer("e4m3", Blocks(), _TE, name="fp8_tensor", standard=_TE_CURRENT),
    "fp8_row": Quantizer("e4m3", Blocks(1, None), _TE, name="fp8_row", standard=_TE_CURRENT),
    "fp8_block128": Quantizer("e4m3", Blocks(128, 128), Scale("amax"), name="fp8_block128", standard=_DEEPSEEK),
    "fp8_torchao": Quantizer(
        "e4m3", Blocks(), Scale("te", apply="mul_inverse", eps=1e-12), name="fp8_torchao", standard="pytorch/ao torchao/float8/float8_utils.py"
    ),
    "fp8_deepgemm": Quantizer(
        "e4m3", Blocks(1, 128), Scale("amax", format="e8m0", pow2="up", eps=1e-4, apply="mul_inverse"), name="fp8_deepgemm",
        standard="deepseek-ai/DeepGEMM deep_gemm/utils/math.py, UE8M0 scales",
    ),
    "fp8_tile1x128": Quantizer("e4m3", Blocks(1, 128), Scale("amax"), name="fp8_tile1x128", standard=_DEEPSEEK),
    # symmetric integers: s = amax / (2^(b-1) - 1)
    "int8_tensor": Quantizer("int8", Blocks(), Scale("amax"), name="int8_tensor", standard="symmetric, restricted range"),
    "int8_row": Quantizer("int8", Blocks(1, None), Scale("amax"), name="int8_row", standard="symmetric, restricted range"),
    "int8_switchback": Quantizer(
        "int8", Blocks(1, None), Scale("amax", target=1.0, multiplier=127.0), name="int8_switchback",
        standard="SwitchBack, arXiv 2304.13013; bitsandbytes triton/quantize_rowwise.py",
    ),
    "int8_block32": Quantizer("int8", Blocks(32, 32), Scale("amax"), name="int8_block32", standard="Jetfire, arXiv 2403.12422"),
    "int4_group": Quantizer("int4", Blocks(1, 128), Scale("amax"), name="int4_group", standard="symmetric, restricted range, groups of 128"),
    # OCP microscaling, floor rule
    "mxfp8_e4m3": _mx("mxfp8_e4m3", "e4m3"),
    "mxfp8_e5m2": _mx("mxfp8_e5m2", "e5m2"),
    "mxfp6_e2m3": _mx("mxfp6_e2m3", "e2m3"),
    "mxfp6_e3m2": _mx("mxfp6_e3m2", "e3m2"),
    "mxfp4": _mx("mxfp4", "e2m1"),
    "mxfp4_three_quarters": Quantizer(
        "e2m1", Blocks(1, 32), Scale("mx", format="e8m0", multiplier=0.75), name="mxfp4_three_quarters",
        standard="arXiv 2502.20586: floor rule, elements at 3/4; there with stochastic rounding, which then never clips",
    ),
    "mxfp4_tetrajet": Quantizer(
        "e2m1", Blocks(1, 32), Scale("mx", format="e8m0", mode="tetrajet"), name="mxfp4_tetrajet", standard="TetraJet, arXiv 2502.20853"
    ),
    "mxint8": Quantizer("int8", Blocks(1, 32), Scale("mx", format="e8m0", target=127 / 64, multiplier=64), name="mxint8", standard=_OCP_MX),
    # NVFP4: 1 x 16 for activations and gradients, 16 x 16 for weights
    "nvfp4": _nvfp4("nvfp4", Blocks(1, 16)),
    "nvfp4_2d": _nvfp4("nvfp4_2d", Blocks(16, 16)),
    "nvfp4_4over6_mae": _nvfp4("nvfp4_4over6_mae", Blocks(1, 16), select="mae"),
    "nvfp4_4over6_mse": _nvfp4("nvfp4_4over6_mse", Blocks(1, 16), select="mse", scale_max=256),
    "nvfp4_torchao": Quantizer(
        "e2m1", Blocks(1, 16), Scale("nvfp4", format="e4m3", apply="torchao"), name="nvfp4_torchao", standard=_TORCHAO_NVFP4
    ),
    "nvfp4_one_level": Quantizer(
        "e2m1", Blocks(1, 16), Scale("amax", format="e4m3", eps=6 * 2.0**-6, apply="mul_inverse"), name="nvfp4_one_level",
        standard=_TORCHAO_NVFP4,
    ),
    # block floating point and its relatives: integers under a power of two
    "bfp8_b16": Quantizer("int8", Blocks(1, 16), _BFP, name="bfp8_b16", standard="MSFP-16: sign, 7 magnitude bits, 8-bit exponent per 16"),
    "hbfp8": Quantizer(
        "int8", Blocks(24, 24), Scale("bfp", format="e8m0", mode="ceil", eps=1e-8), tail="partial", name="hbfp8",
        standard="HBFP, arXiv 1804.01526; parsa-epfl/HBFPEmulator",
    ),
    "msfp12": Quantizer("int4", Blocks(1, 16), _BFP, name="msfp12", standard="MSFP-12, Rouhani et al., NeurIPS 2020"),
    "dfp16": Quantizer("int16", Blocks(), _BFP, name="dfp16", standard="dynamic fixed point, arXiv 1802.00930"),
    "flexpoint16": Quantizer(
        "int16", Blocks(), Scale("flexpoint", history="delayed", window=16), name="flexpoint16", standard="flex16+5, arXiv 1711.02213"
    ),
    "s2fp8": Quantizer("e5m2", Blocks(), Scale("s2fp8"), name="s2fp8", standard="S2FP8, arXiv 2001.05674"),
    # affine integers
    "uint8_affine": Quantizer("uint8", Blocks(), Scale("affine"), name="uint8_affine", standard="affine, per tensor"),
    "int8_affine_row": Quantizer("int8", Blocks(1, None), Scale("affine"), narrow=False, name="int8_affine_row", standard="affine, per row"),
    "uint4_affine_group": Quantizer(
        "uint4", Blocks(1, 128), Scale("affine"), name="uint4_affine_group", standard="affine, groups of 128 (AWQ, GPTQ)"
    ),
    # fixed point: the format's own conversion
    "fixed16_8": Quantizer("fixed16.8", Blocks(), Scale("none"), name="fixed16_8", standard="Gupta et al., arXiv 1502.02551: Q8.8, saturating"),
    # one bit, ternary weights and learned steps
    "binary_absmean": Quantizer("int1", Blocks(), Scale("absmean"), name="binary_absmean", standard="XNOR-Net, arXiv 1603.05279"),
    "ternary_twn": Quantizer("int2", Blocks(), Scale("twn"), name="ternary_twn", standard="TWN, arXiv 1605.04711"),
    "trit_planes": Quantizer("int2", Blocks(1, 128), Scale("trit_planes"), tail="partial", name="trit_planes", standard="PTQTP, arXiv 2509.16989"),
    "ternary_absmean": Quantizer(
        "int2", Blocks(), Scale("absmean", eps=1e-5, apply="mul_inverse"), name="ternary_absmean", standard="BitNet b1.58, arXiv 2402.17764"
    ),
    "int4_learned": Quantizer("int4", Blocks(), Scale("learned", eps=1e-8), narrow=False, name="int4_learned", standard="LSQ, arXiv 1902.08153"),
    # code books
    "nf4": Quantizer("nf4", Blocks(1, 64), Scale("amax", apply="mul_inverse"), name="nf4", standard="QLoRA, arXiv 2305.14314"),
    "nf4_double": Quantizer(
        "nf4", Blocks(1, 64), Scale("double", format="dynamic8", apply="mul_inverse"), name="nf4_double",
        standard="QLoRA, arXiv 2305.14314, sec. 3: double quantization",
    ),
    "bnb_fp4": Quantizer("bnb_fp4", Blocks(1, 64), Scale("amax", apply="mul_inverse"), name="bnb_fp4", standard="bitsandbytes functional.py"),
    "af4": Quantizer("af4", Blocks(1, 64), Scale("amax", apply="mul_inverse"), name="af4", standard="abnormal floats, see the format af4"),
    "dynamic8": Quantizer("dynamic8", Blocks(1, 256), Scale("amax"), name="dynamic8", standard="8-bit optimizers, arXiv 2110.02861"),
    # plain casts
    "bf16": Quantizer("bfloat16", Blocks(), Scale("none"), overflow="to_infinity", name="bf16", standard="IEEE 754 rules on E8M7"),
    "fp16": Quantizer("binary16", Blocks(), Scale("none"), overflow="to_infinity", name="fp16", standard="IEEE 754-2019 binary16"),
}  # fmt: skip

COMPLEX_QUANTIZERS: dict[str, Quantizer] = {  # of complex tensors: what goes over QUANTIZERS passes reals
    "quartic_absmean": Quantizer(
        "complex_quartic", Blocks(), Scale("quartic", eps=1e-5), name="quartic_absmean",
        standard="iFairy, arXiv 2508.05571; PKULab1806/Fairy-plus-minus-i model/modeling_Fairy_plus_minus_i.py",
    ),
}  # fmt: skip

_SCALE_FIELDS = {f.name: str(f.type) for f in fields(Scale)}
_OWN_FIELDS = {"format": "str", "rounding": "str", "overflow": "str", "tail": "str", "word_bits": "int", "narrow": "bool"}
_PARAMETERS = sorted({*_OWN_FIELDS, "k", "other", "scale", *(set(_SCALE_FIELDS) - {"format"})})


def lookup(name: str) -> Quantizer:
    """The quantizer of that name, with its parameters applied.

    Errors: UnknownNameError for the name or its revision, SpecError for parameters.

    >>> lookup("mxfp4:scale=rceil").scale.mode
    'rceil'
    >>> lookup("nvfp5")
    Traceback (most recent call last):
    ...
    lpref.ref.errors.UnknownNameError: unknown quantizer 'nvfp5'; did you mean 'nvfp4' or 'nvfp4_2d'?
    """
    base, *settings = str(name).split(":")
    base, _, revision = base.partition("@")
    found = QUANTIZERS.get(base) or COMPLEX_QUANTIZERS.get(base)
    if found is None:
        raise UnknownNameError("quantizer", base, [*QUANTIZERS, *COMPLEX_QUANTIZERS])
    if revision and revision != str(found.revision):
        raise UnknownNameError("revision of quantizer", name, [f"{base}@{found.revision}"])
    return _with(found, settings, name) if settings else found


def _with(q: Quantizer, settings: list[str], name: str) -> Quantizer:
    own: dict[str, Any] = {}
    blocks: dict[str, Any] = {}
    scale: dict[str, Any] = {}
    problems = []
    for setting in settings:
        key, equals, text = setting.partition("=")
        key = "mode" if key == "scale" else key
        try:
            if not equals or (key not in _PARAMETERS and key != "mode"):
                near = nearest(key, _PARAMETERS)
                problems.append(f"{setting!r}: not a parameter; " + (f"did you mean {near[0]!r}?" if near else f"known: {', '.join(_PARAMETERS)}"))
            elif key in ("k", "other"):
                blocks[key] = None if text == "all" else int(text)
            elif key in _OWN_FIELDS:
                own[key] = _value(text, _OWN_FIELDS[key])
            else:
                scale[key] = _value(text, _SCALE_FIELDS[key])
        except ValueError:
            problems.append(f"{setting!r}: cannot read {text!r}")
    if problems:
        raise SpecError(problems, where=f"quantizer {name!r}")
    return replace(q, blocks=replace(q.blocks, **blocks), scale=replace(q.scale, **scale), name=name, **own)


def _value(text: str, kind: str) -> Any:
    if kind == "int":
        return int(text)
    if kind == "bool":
        return {"true": True, "false": False}[text.lower()] if text.lower() in ("true", "false") else int(text, 0) != 0
    return float(text) if kind.startswith("float") else text
