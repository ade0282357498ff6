"""The accumulation models by name: `ACCUMULATORS`. A recipe says ``accumulate: hopper_bf16``.

`verified` says that the model was compared with the hardware, bit for bit, by this project (docs/accumulation.md). The others are what the
literature says; where two sources differ, the page of the name's family, `lpref.ref.linalg.tensor_core`, says which was taken.

Chunked low precision (IBM): products of FP8 (1-5-2) numbers are exact, and both the sums inside a chunk of 64 and the sum of the chunks are
kept in FP16 with 6 exponent and 9 fraction bits, so the error grows like K/64 + 64 instead of K. Source: arXiv 1812.08011, section 2.3.

Integers: INT8 products accumulate in 32 bits on CPUs and matrix units; 24 and 16 bits are what DSP blocks and narrow accelerators have.

Sums of ones stall where a unit is half a spacing: at 256 in bfloat16, 2048 in binary16, 1024 in FP16 1-6-9, 8 in E5M2; chunks of 64 reach 64
times as far, Kahan's correction all the way, and sums rounded stochastically have the right mean. The error of pairwise sums grows like log2 K.

Source: each entry's `standard`, with its `source_level`; Higham, Accuracy and Stability of Numerical Algorithms, 2002, chapter 4 (from memory).
Pitfalls: the order is part of the definition: NumPy's sum is pairwise over unrolled runs of 128 and depends on strides; compilers that may
reassociate (-ffast-math, Numba's fastmath) remove Kahan's correction; a fused and an unfused multiplication differ from 12 bits a factor on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from lpref.ref.errors import UnknownNameError
from lpref.ref.linalg.accumulate import Accumulate
from lpref.ref.linalg.tensor_core import TensorCore

MMA_SIM = "arXiv 2511.10909; microsoft/MMA-Sim mmasim/simulator/nv_ptx.py"
MMAEMU = "mmaemu 0.1.0 mmaemu/model/presets.py"
H200 = "docs/accumulation.md: one H200, cuBLASLt 13.1, without split-K"
_FP8_SOURCE, _HALF_SOURCE = f"{MMAEMU}; {H200}", f"{MMA_SIM}; {H200}"
_FP8 = ("e4m3", "e5m2")
_SMALL = (*_FP8, "e2m3", "e3m2", "e2m1")


@dataclass(frozen=True)
class Accumulator:
    """A named accumulation model."""

    name: str
    title: str
    model: Accumulate
    standard: str
    source_level: str = "memory"
    verified: bool = False
    revision: int = 1


def _unit(
    products: int, fraction: int, inputs: tuple[str, ...] = ("binary16",), *, chunk: int | None = None, scales: str = "", **core: object
) -> Accumulate:
    """A matrix unit. Block scales go into 16-bit elements where those stay exact; FP8 pieces are scaled after the unit."""
    scales = scales or ("per_block" if inputs == _FP8 else "embedded")
    unit = TensorCore(products=products, fraction=fraction, inputs=inputs, **core)  # type: ignore[arg-type]
    return Accumulate("tensor_core", product="exact", chunk=chunk, scales=scales, core=unit)


def _literature(name: str, title: str, model: Accumulate, source: str = MMA_SIM) -> Accumulator:
    return Accumulator(name, title, model, source, "read")


_LOW = Accumulate("sequential", product="exact")
_BF16 = replace(_LOW, format="bfloat16", outer="bfloat16")
_FP16 = replace(_LOW, format="binary16", outer="binary16")
_IBM = replace(_LOW, format="e6m9_ieee", outer="e6m9_ieee", chunk=64)
_HOPPER_FP8 = _unit(32, 13, _FP8, kept=13, clamp=-132)
_ADA_FP8 = _unit(16, 13, _FP8, kept=13, clamp=-132)
_B200_SYNC = _unit(32, 25, _FP8, clamp=-133, late=True)
_NVF4 = _unit(64, 35, ("e2m1",), scales="aligned", group=16)
ACCUMULATORS: dict[str, Accumulator] = {
    a.name: a
    for a in (
        Accumulator("auto", "exact where both operands hold codes, else sequential in float32", Accumulate(), "the library's default"),
        Accumulator("exact", "exact dot product, rounded once", Accumulate("exact"), "definition"),
        Accumulator("sequential", "float32, k ascending, not fused", Accumulate("sequential"), "Higham 2002, section 3.1"),
        Accumulator("fused", "float32, k ascending, exact products (FMA)", Accumulate("sequential", product="exact"), "IEEE 754-2019, section 5.4.1"),
        Accumulator("pairwise", "float32, halves", Accumulate("pairwise"), "Higham 2002, section 4.1"),
        Accumulator("blocked_64", "float32 inside 64, then across", Accumulate("sequential", chunk=64), "Higham 2002, section 4.1"),
        Accumulator("blocked_128", "float32 inside 128, then across", Accumulate("sequential", chunk=128), "Higham 2002, section 4.1"),
        Accumulator("kahan", "float32 with Kahan's correction", Accumulate("kahan"), "Higham 2002, section 4.3, algorithm 4.2"),
        Accumulator("bf16_sequential", "bfloat16, k ascending", _BF16, "definition"),
        Accumulator("bf16_chunk64", "bfloat16 inside 64 and across", replace(_BF16, chunk=64), "arXiv 1812.08011"),
        Accumulator("bf16_kahan", "bfloat16 with Kahan's correction", Accumulate("kahan", "bfloat16", "exact", outer="bfloat16"), "definition"),
        Accumulator("fp16_sequential", "binary16, k ascending", _FP16, "definition"),
        Accumulator("ibm_chunk64", "FP16 1-6-9 inside 64 and across", _IBM, "arXiv 1812.08011", "secondary"),
        Accumulator("int32_wrap", "32-bit integers, modulo 2^32", Accumulate("integer"), "two's complement"),
        Accumulator("int32_saturate", "32-bit integers, saturating", Accumulate("integer", overflow="saturate"), "definition"),
        Accumulator("int24_wrap", "24-bit integers, modulo 2^24", Accumulate("integer", bits=24), "two's complement"),
        Accumulator("int24_saturate", "24-bit integers, saturating", Accumulate("integer", bits=24, overflow="saturate"), "definition"),
        Accumulator("int16_wrap", "16-bit integers, modulo 2^16", Accumulate("integer", bits=16), "two's complement"),
        Accumulator("int16_saturate", "16-bit integers, saturating", Accumulate("integer", bits=16, overflow="saturate"), "definition"),
        Accumulator("hopper_fp8_fast", "sm_90 wgmma, FP8, fast accumulation", _HOPPER_FP8, _FP8_SOURCE, "read", True),
        Accumulator("hopper_fp8_promote128", "sm_90 wgmma, FP8, promoted every 128", replace(_HOPPER_FP8, chunk=128), _FP8_SOURCE, "read", True),
        Accumulator("hopper_bf16", "sm_90 wgmma, bfloat16", _unit(16, 25, ("bfloat16",), clamp=-133), _HALF_SOURCE, "read", True),
        Accumulator("hopper_fp16", "sm_90 wgmma, binary16", _unit(16, 25, clamp=-133), _HALF_SOURCE, "read", True),
        _literature("volta_fp16", "sm_70 mma m8n8k4, binary16", _unit(4, 23)),
        _literature("volta_fp16_acc16", "sm_70 mma m8n8k4, binary16 accumulator", _unit(4, 23, accumulator="binary16")),
        _literature("turing_fp16", "sm_75 mma m16n8k8, binary16", _unit(8, 24)),
        _literature("ampere_fp16", "sm_80 mma m16n8k16, binary16: two halves of 8 in sequence", _unit(8, 24)),
        _literature("ampere_fp16_acc16", "sm_80 mma m16n8k16, binary16 accumulator", _unit(8, 24, accumulator="binary16")),
        _literature("ampere_bf16", "sm_80 mma m16n8k16, bfloat16: two halves of 8 in sequence", _unit(8, 24, ("bfloat16",))),
        _literature("ampere_tf32", "sm_80 mma m16n8k8, TF32: two halves of 4 in sequence", _unit(4, 24, ("tf32",))),
        _literature("ada_fp16", "sm_89 mma m16n8k16, binary16: two halves of 8 in sequence", _unit(8, 24)),
        _literature("ada_bf16", "sm_89 mma m16n8k16, bfloat16: two halves of 8 in sequence", _unit(8, 24, ("bfloat16",))),
        _literature("ada_fp8", "sm_89 mma m16n8k32, FP8: two halves of 16 in sequence", _ADA_FP8, f"{MMAEMU}; {MMA_SIM}"),
        _literature("ada_fp8_promote128", "sm_89 FP8, float32 promotion every 128", replace(_ADA_FP8, chunk=128), MMAEMU),
        Accumulator("hopper_tf32", "sm_90 wgmma, TF32", _unit(8, 25, ("tf32",), clamp=-133), _HALF_SOURCE, "read", True),
        _literature("blackwell_fp16", "sm_100 tcgen05 kind::f16, binary16", _unit(16, 25)),
        _literature("blackwell_bf16", "sm_100 tcgen05 kind::f16, bfloat16", _unit(16, 25, ("bfloat16",))),
        _literature("blackwell_tf32", "sm_100 tcgen05 kind::tf32", _unit(8, 25, ("tf32",))),
        _literature("blackwell_f8f6f4", "sm_100 tcgen05 kind::f8f6f4", _unit(32, 25, _SMALL, scales="per_block")),
        _literature("blackwell_mma_sync_fp8", "sm_100 mma.sync FP8: two binary16 units and a late sum", _B200_SYNC, MMAEMU),
        _literature("blackwell_mxf8f6f4", "sm_100 tcgen05 kind::mxf8f6f4: E8M0 scales enter as exponents", _unit(32, 25, _SMALL, scales="aligned")),
        _literature("blackwell_mxf4nvf4", "sm_100 tcgen05 kind::mxf4nvf4: exact sums of 16, then aligned", _NVF4),
    )
}  # fmt: skip


def accumulator(name: str | Accumulate | Accumulator) -> Accumulate:
    """The model called `name`; a model is returned as it is, and an entry of `ACCUMULATORS` gives its own.

    Raises: UnknownNameError, with the nearest names.

    >>> accumulator("hopper_fp8_promote128").chunk
    128
    """
    if isinstance(name, Accumulate):
        return name
    if isinstance(name, Accumulator):
        return name.model
    try:
        return ACCUMULATORS[name].model
    except (KeyError, TypeError):
        raise UnknownNameError("accumulation model", name, ACCUMULATORS) from None
