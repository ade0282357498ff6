"""Without a GPU: every CUDA source compiles for its architectures, and its PTX holds no arithmetic that could change bits."""

from __future__ import annotations

import re

import numpy as np
import pytest

from lpref.accel import quantize
from lpref.accel.cuda import device, embed, flash, flash_tiles, gemm, nvrtc, optim, plans, product
from lpref.ref.errors import BackendError
from lpref.ref.quantize import lookup

QUANTIZERS = [  # kernel, quantizer, block
    ("blocks", "mxfp8_e4m3", 32), ("blocks", "mxfp8_e5m2:rounding=stochastic", 32), ("blocks", "mxfp6_e2m3", 32), ("blocks", "mxint8", 32),
    ("blocks", "nvfp4", 16), ("blocks", "nvfp4:rounding=stochastic", 16), ("blocks", "nvfp4_torchao", 16), ("blocks", "fp8_tile1x128", 128),
    ("blocks", "mxfp4:rounding=stochastic:word_bits=16", 32),
    ("rows", "int8_row", None), ("rows", "int8_row:rounding=stochastic", None), ("tensor", "fp8_tensor", None),
    ("tensor", "fp8_tensor:rounding=stochastic", None), *(("turned", "fp8_tensor" + more, None) for more in ("", "", "", ":rounding=stochastic")),
    ("turned", "int8_tensor", None), ("tiles", "nvfp4_2d", None), ("tiles", "fp8_block128:rounding=stochastic", None),
    *(("columns", name + more, None) for name in ("nvfp4", "mxfp8_e4m3", "int8_row", "mxfp6_e2m3") for more in ("", ":rounding=stochastic")),
]  # fmt: skip
SHAPE = {"LP_UNROLL": 2, "LP_AHEAD": 1, "LP_THREADS": 256, "LP_RESIDENT": 4}
CASES = [(name, {"LP_IN": kind}) for name in ("amax", "cast", "generic") for kind in (1, 2)] + [
    (kernel, {**dict(plans.macros(lookup(q)) or ()), **SHAPE, "LP_IN": i % 3, **({"LP_K": k} if k else {})})
    for i, (kernel, q, k) in enumerate(QUANTIZERS)
]
CASES += [
    ("row_warps", {**dict(plans.macros(lookup(q + ":rounding=stochastic")) or ()), "LP_THREADS": threads, "LP_RESIDENT": 384 // threads,
                   "LP_UNROLL": unroll, "LP_IN": kind})
    for q, kind, threads, unroll in (("int8_row", 1, 32, 4), ("int8_row", 0, 64, 4), ("fp8_row", 2, 128, 2), ("fp8_row", 1, 32, 1))
]  # fmt: skip
UNMADE = {**SHAPE, "LP_RESIDENT": 2, "LP_IN": 0, "LP_NEAR": 1}
CASES += [
    ("turned", {**dict(plans.macros(lookup(f"fp8_tensor:format=e5m2:history=delayed:rounding={rounding}")) or ()), **UNMADE, "LP_UNMADE": what})
    for rounding in ("nearest_even", "stochastic") for what in (1, 2)
]
PANELS = [  # quantizer, LP_FROM, transform, rows, columns, squares
    ("nvfp4", 0, 16, 1, 1, 0), ("nvfp4:rounding=stochastic", 0, 16, 1, 1, 0), ("nvfp4:rounding=stochastic", 1, 16, 1, 1, 0),
    ("nvfp4_2d", 0, 0, 0, 0, 1), ("mxfp8_e4m3:scale=rceil", 1, 0, 1, 1, 0), ("mxfp4:rounding=stochastic", 0, 32, 0, 1, 0),
    ("mxfp4:rounding=stochastic:word_bits=16", 0, 0, 0, 1, 0),
    ("mxfp8_e5m2:rounding=stochastic", 2, 16, 0, 1, 0), ("nvfp4", 1, 0, 1, 0, 0), ("mxfp8_e4m3", 0, 0, 1, 1, 0),
    ("mxfp4:rounding=stochastic", 1, 0, 1, 1, 0), ("mxfp8_e4m3", 1, 0, 1, 1, 0), ("nvfp4:rounding=stochastic", 1, 4, 0, 1, 0),
]  # fmt: skip
CASES += [
    ("panels", {**dict(plans.macros(lookup(q)) or ()), **dict(embed.macros(lookup(q)) or ()), "LP_FROM": of, "LP_SIZE": size,
                "LP_K": 32 if q.startswith("mx") else 16, "LP_ROWS": r, "LP_COLUMNS": c, "LP_SQUARE": s, "LP_A_OUT": i % 2, "LP_B_OUT": i // 2 % 2,
                "LP_JOINED": int(r and q.startswith("mx")), "LP_THREADS": (128, 64, 256)[i % 3], "LP_RESIDENT": 2})
    for i, (q, of, size, r, c, s) in enumerate(PANELS)
]  # fmt: skip
CASES += [("peaks", {"LP_FROM": of, "LP_K": k, "LP_SIZE": 16, "LP_THREADS": 256, "LP_RESIDENT": 4}) for of, k in ((0, 16), (1, 32))]
CASES += [("embed", {**dict(embed.macros(lookup(q)) or ()), "LP_DOWN": i % 2, "LP_EACH": (8, 8, 8, 1)[i]})
          for i, q in enumerate(("nvfp4", "nvfp4", "mxfp8_e4m3", "mxfp8_e5m2"))]
TEAMS = ((32, 1), (32, 32), (64, 16), (256, 4), (512, 2), (1024, 1))
IN_FLOAT64 = (
    "rules", "search", "select", "chain",
    "generic", "cast", "elementwise", "activation", "norm", "add_norm", "loss", "optim", "operand", "attention", "gemm_float64",
    "flash_forward",
)  # fmt: skip
DECIDED = ("activation", "loss")
"""What they fuse is no result, but what decides one (decided.h), or a quotient whose rounding is proved (element.h)."""
CASES += [(name, {}) for name in ("delayed", "elementwise", "embedding", "hadamard", "image", "rope")]
CASES += [("elementwise", {"LP_A": 1}), ("elementwise", {"LP_B": 1}), ("elementwise", {"LP_A": 1, "LP_B": 1})]
CASES += [("norm", {"LP_TEAM": t, "LP_SLOTS": s, "LP_X": x, "LP_DY": dy, "LP_Y": y})
          for t, s, x, dy, y in ((32, 4, 0, 1, 1), (32, 32, 1, 1, 0), (512, 2, 1, 0, 1))]  # fmt: skip
ADDED = ((0, 1, 0, 1, 1), (0, 3, 0, 0, 0), (0, 8, 1, 0, 1), (1, 1, 0, 0, 0), (1, 6, 0, 1, 1), (1, 8, 1, 1, 0))
CASES += [(name, {"LP_LAYER": layer, "LP_FOURS": n, "LP_X": x, "LP_H": h, "LP_DY": h, "LP_Y": y})
          for name in ("add_norm", "add_norm_backward") for layer, n, x, h, y in ADDED]  # fmt: skip
CASES += [("add_norm_backward", {"LP_LAYER": layer, "LP_FOURS": n, "LP_DY": 1, "LP_AGAIN": 1}) for layer in (0, 1) for n in (1, 6, 8)]
CASES += [(name, {"LP_LAYER": 1, "LP_FOURS": 6, "LP_PEAK": 1}) for name in ("add_norm", "add_norm_backward")]
CASES += [("activation", {"LP_X": 1, "LP_DY": 1, "LP_NEAR": 1, "LP_PEAK": 1})]
CASES += [("loss", {"LP_TEAM": t, "LP_SLOTS": s, "LP_X": 1, "LP_NEAR": 1, "LP_PEAK": 1}) for t, s in ((1, 1), (32, 1), (256, 4))]
CASES += [("activation", {"LP_X": x, "LP_DY": 1, "LP_NEAR": x, "LP_PEAK": 1, "LP_TURNED": 16}) for x in (0, 1)]
CASES += [("add_norm", {"LP_LAYER": n % 2, "LP_FOURS": n, "LP_H": 1, "LP_PEAK": 1, "LP_TURNED": 16}) for n in (3, 6, 8)]
CASES += [("hadamard", {"LP_SIZE": size}) for size in (1, 2, 16, 32, 64)]
CASES += [(name, {"LP_TEAM": t, "LP_SLOTS": s}) for t, s in TEAMS for name in ("reduce", "norm", "loss")] + [("optim", dict(optim.TEAM))]
CASES += [("rules", {"LP_TEAM": t, "LP_SLOTS": s, "LP_IN": i % 3}) for i, (t, s) in enumerate(TEAMS)]
CASES += [("ranks", {"LP_RANKS": n}) for n in (1, 2, 4)]
CASES += [("flash_halves", {"LP_D": D, "LP_PLANES": planes, "LP_VEC": each}) for D, planes, each in ((16, 1, 1), (64, 2, 8), (128, 2, 8))]
CASES += [("search", {"LP_IN": 1}), ("chain", {}), ("chain", {"LP_REGISTER": 1}), ("select", {"LP_IN": 2})]
CASES += [("activation", {"LP_X": x, "LP_DY": dy, "LP_Y": y}) for x, dy, y in ((0, 0, 0), (1, 1, 0), (1, 0, 1), (0, 1, 1), (1, 1, 1))]
CASES += [("loss", {"LP_TEAM": 256, "LP_SLOTS": 4, "LP_X": 1, "LP_Y": 1, "LP_NEAR": near}) for near in (0, 1)]
CASES += [("activation", {"LP_X": x, "LP_DY": dy, "LP_Y": y, "LP_NEAR": 1}) for x, dy, y in ((0, 0, 0), (1, 1, 1))]
CASES += [("activation", {"LP_X": x, "LP_DY": 1, "LP_Y": 1, "LP_NEAR": 1, "LP_AGAIN": 1}) for x in (0, 1)]
CASES += [("update", {"LP_RULE": rule, "LP_ORDER": order}) for rule, order in ((0, 0), (0, 1), (0, 2), (1, 2), (2, 2))]
CASES += [("update", {"LP_RULE": rule, "LP_ORDER": 2, "LP_COPIES": 1}) for rule in (0, 1, 2)]
CASES += [("gemm_int8", {"LP_PIECE": n}) for n in (0, 16, 32, 64, 128)]
CASES += [("operand", {"LP_IN": 1}), *(("attention", {"LP_SLOTS": s}) for s in (1, 4, 32))]
CASES += [("blas", macros) for macros in ({"LP_BITS": 4}, {"LP_BITS": 8}, {"LP_INTEGERS": 0}, {"LP_INTEGERS": 1})]
TILES = [{"LP_BM": n, "LP_BN": n, "LP_TM": each, "LP_TN": each, "LP_RESIDENT": held} for n, (each, held) in product.TILES.items()]
LAYOUTS = [{"LP_A_K": a, "LP_B_K": b} for a in (0, 1) for b in (0, 1)]
CASES += [("product", {**tile, **layout, "LP_BK": product.DEPTH}) for tile in TILES for layout in LAYOUTS]
CASES += [("gemm", {**tile, **LAYOUTS[i], "LP_BK": product.DEPTH, "LP_INNER": 1 + i // 2}) for i in range(4) for tile in TILES[1:]]
STEPS = ((4, 0, 0), (16, 0, 0), (32, 0, 0), (32, 0, 1), (32, 1, 1))  # products, late, wide
CASES += [("tensor_core", {"LP_CHECK": 1})]
CASES += [("tensor_core", {**TILES[1 + i % 2], **LAYOUTS[i % 4], "LP_BK": 32, "LP_PRODUCTS": n, "LP_LATE": late, "LP_WIDE": wide})
          for i, (n, late, wide) in enumerate(STEPS)]  # fmt: skip
WARPS = [{"LP_BM": m, "LP_BN": n, "LP_MT": high, "LP_NT": wide, "LP_BK": 8} for (m, n), (high, wide) in gemm.WARPS.items()]
CASES += [("gemm_float64", {**tile, **LAYOUTS[2 * a + b - 3], "LP_SLICES_A": a, "LP_SLICES_B": b}) for tile in WARPS for a in (1, 2) for b in (1, 2)]
FLASH = [("forward", 5, 3, 1, flash.Numbers(3)), ("forward", 32, 32, 4, flash.Numbers(1, 1)), ("forward", 64, 64, 4, flash.Numbers(3)),
         ("forward", 128, 128, 4, flash.Numbers(3, 1)), ("forward", 64, 64, 8, flash.Numbers(3, 1, 1)), ("forward", 5, 3, 1, flash.Numbers(1, 0, 1)),
         *((side, D, D, (8 if sixteen else 4) if D % 4 == 0 else 1, flash.Numbers(terms, turned, sixteen)) for side in ("queries", "keys")
           for D, terms, turned, sixteen in ((6, 1, 0, 0), (64, 3, 1, 0), (128, 1, 0, 0), (64, 3, 1, 1), (32, 1, 0, 1)))]  # fmt: skip
SOURCE = {"forward": "flash_forward", "queries": "flash_backward", "keys": "flash_backward", "whole": "flash_whole"}
CASES += [
    (SOURCE[entry], dict(flash.macros(entry, D, E, each, of, flash_tiles.BEST[entry, of.terms][min(2, D // 33)]))) for entry, D, E, each, of in FLASH
]
NUMBERS = [flash.Numbers(*of) for of in ((1, 0, 0), (3, 0, 0), (3, 1, 0), (1, 0, 1), (1, 1, 1), (3, 0, 1), (3, 1, 1), (3, 0, 1, 1), (3, 1, 1, 1))]
FLASH_GROUPS = [(entry, D, of) for entry in ("forward", "queries", "keys") for D in (32, 64, 128) for of in NUMBERS
                if (entry, of.terms, of.sixteen) in flash_tiles.GROUPS]  # fmt: skip


FLASH_GROUPS += [(entry, D, flash.Numbers(terms, 2, 1, short, 1)) for entry, short in (("forward", 0), ("whole", 0), ("whole", 1)) for D in (32, 64)
                 for terms in (1, 3)]  # fmt: skip
FLASH_GROUPS += [("forward", D, flash.Numbers(terms, 3, 1)) for D in (32, 64, 128) for terms in (1, 3)]
FLASH_GROUPS += [("whole", 64, flash.Numbers(3, 0, 1, 1, 1))]


@pytest.fixture(scope="module", autouse=True)
def compiler() -> None:
    try:
        nvrtc.library()
    except BackendError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(("name", "defines"), CASES, ids=[f"{n}-{i}" for i, (n, _) in enumerate(CASES)])
def test_sources_compile_to_clean_ptx(name: str, defines: dict[str, object]) -> None:
    """No flushing, no approximation, no unrounded float32 arithmetic; fused multiply-adds only by a power of two, where the product is exact, and
    where they are what is computed."""
    text = nvrtc.compile_source(name, "compute_90", defines).decode(errors="replace")
    lines = [line.strip() for line in text.splitlines() if re.match(r"\s*(@!?%p\d+ )?(fma|mad|mul|add|sub|div|sqrt|rcp|cvt)\.", line)]
    near = ("rcp.approx.ftz.f32",) if defines.get("LP_NEAR") else ()
    lines = [line for line in lines if not line.startswith(("rcp.approx.ftz.f64", *near))]  # decided.h, which tests what it gives
    assert not [line for line in lines if ".ftz" in line or ".approx" in line or re.match(r"(fma|mad|mul|add|sub)\.f(32|64)", line)]
    held = dict(re.findall(r"mov\.f32 \s*(%f\d+), 0f([0-9A-F]{8});", text))
    for line in lines:
        if line.startswith("fma.") and defines.get("LP_INNER") != 2 and name not in DECIDED and not name.startswith("flash"):
            constants = [int(held.get(operand, operand.removeprefix("0f")), 16) for operand in re.findall(r"%f\d+|0f[0-9A-F]{8}", line) if
                         operand in held or operand.startswith("0f")]  # fmt: skip
            exact = any(bits & 0x7FFFFF == 0 and 0x30000000 <= bits <= 0x48000000 for bits in constants)
            assert exact or defines.get("LP_DIVIDE"), line  # lp_quotient
    assert name in IN_FLOAT64 or ".f64" not in text
    assert ".local" not in text, "a register array is indexed at run time"


@pytest.mark.parametrize(("entry", "D", "of"), FLASH_GROUPS)
def test_sources_for_the_units_of_warpgroups(monkeypatch: pytest.MonkeyPatch, entry: str, D: int, of: flash.Numbers) -> None:
    """Every one that a plan takes compiles for sm_90a, and its PTX is as clean."""
    monkeypatch.setattr(device, "shared_memory", lambda: 227 << 10)
    tile = flash.plan(entry, D, of, True)
    macros = dict(flash.macros(entry, D, D, 8 if of.sixteen else 4, of, tile)) | {"LP_PEAK": 1 - of.short}
    text = nvrtc.compile_source(SOURCE[entry], "compute_90a", macros).decode(errors="replace")
    assert text.count("wgmma.mma_async") >= 2 * (D // 16) or not tile.group
    assert ".local" not in text
    assert not re.search(r"^\s*(mul|add|sub|fma)\.(ftz\.)?f32", text, re.MULTILINE)


@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
def test_machine_code(arch: str) -> None:
    for name, defines in (CASES[0], CASES[6], CASES[10]):
        assert nvrtc.compile_source(name, arch, defines)[:4] == b"\x7fELF"


def test_a_mistake_is_reported_with_the_log() -> None:
    with pytest.raises(BackendError, match=r"LP_IN.*\n.*error"):
        nvrtc.compile_source("amax", "compute_90", {"LP_IN": "}"})


def test_machines_that_do_not_serve() -> None:
    bad = ((13000, 0, (), "no GPU"), (11080, 1, (9, 0), r"CUDA 11\.8, needed 12\.0"), (13000, 1, (7, 5), r"capability 7\.5, needed 8\.0"))
    for driver, count, capability, words in bad:
        with pytest.raises(BackendError, match=words):
            device.check_device(driver, count, capability)
    for digits in ("80", "90", "100", "121"):
        device.check_device(13000, 1, device.capability(digits))


def test_without_cupy_the_error_names_what_to_install() -> None:
    try:
        import cupy  # noqa: F401
    except ImportError:
        with pytest.raises(BackendError, match=r"CuPy is not installed.*lpref\[cuda13\].*backend cpu"):
            device.cupy()
    with pytest.raises(BackendError, match="not on a device"):
        quantize(np.zeros((1, 32), np.float32), lookup("mxfp4"), backend="cuda")
