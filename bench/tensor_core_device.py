"""Compare the tensor-core models of `lpref.ref.linalg` with the GPU of this machine, bit for bit.

Run: python bench/tensor_core_device.py OUT  (needs torch with CUDA, and the libraries that torch brings). It draws operands (normal, positive,
all exponents, all codes, cancelling, near the ends of the range, with NaN, infinities and zeros of both signs), multiplies them by
torch._scaled_mm, torch.mm and by cublasLtMatmul with split-K forbidden, and counts the outputs that differ from the model, which stands
here once more in torch (float64, exact), so that large products take seconds. OUT/results.json has the counts, OUT/vectors.npz the
corners of the operands and outputs of every product: the CPU tests replay a selection of them against the definition itself.
"""

from __future__ import annotations

import ctypes
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch

E4M3, E5M2, BF16, FP16 = torch.float8_e4m3fn, torch.float8_e5m2, torch.bfloat16, torch.float16
EMIN = {E4M3: -6, E5M2: -14, BF16: -126, FP16: -14, torch.float32: -126}
EMAX = {E4M3: 8, E5M2: 15, BF16: 127, FP16: 15}
BITS = {E4M3: 3, E5M2: 2, BF16: 7, FP16: 10}
CUDA = {E4M3: 28, E5M2: 29, BF16: 14, FP16: 2, torch.float32: 0}
NAME = {E4M3: "e4m3", E5M2: "e5m2", BF16: "bfloat16", FP16: "binary16", torch.float32: "float32"}
UNITS = {"fp8": (32, 13, 13, -132), "bf16": (16, 25, 23, -133), "fp16": (16, 25, 23, -133), "tf32": (8, 25, 23, -133)}
"""products, fraction, kept, clamp"""


def exponents(v: torch.Tensor, emin: int) -> torch.Tensor:
    e = (torch.frexp(v)[1] - 1).clamp_min(emin)
    return torch.where(v == 0, torch.full_like(e, -(2**20)), e)


def model(a: torch.Tensor, b: torch.Tensor, unit: tuple[int, int, int, int], chunk: int | None = None) -> torch.Tensor:
    """[M, K], [N, K] -> float32 [M, N]; special values by IEEE sums."""
    products, fraction, kept, clamp = unit
    x, y = a.double(), b.double()
    ea, eb = exponents(x, EMIN[a.dtype]), exponents(y, EMIN[b.dtype])
    total = torch.zeros(x.shape[0], y.shape[0], dtype=torch.float32, device=x.device)
    for first in range(0, x.shape[1], chunk or x.shape[1]):
        c = torch.zeros_like(total, dtype=torch.float64)
        last = min(first + (chunk or x.shape[1]), x.shape[1])
        for k in range(first, last, products):
            s = slice(k, min(k + products, last))
            p = x[:, None, s] * y[None, :, s]
            e = ea[:, None, s] + eb[None, :, s]
            ieee = p.sum(-1) + c
            top = torch.maximum(e.amax(-1), exponents(c, -126)).clamp_min(clamp)
            scale = torch.ldexp(torch.ones_like(c), fraction - top)
            d = (torch.trunc(p * scale[..., None]).sum(-1) + torch.trunc(c * scale)) / scale
            unit_ = torch.ldexp(torch.ones_like(c), kept - (torch.frexp(d)[1] - 1).clamp_min(-126))
            d = torch.trunc(d * unit_) / unit_ + 0.0
            d = torch.where(d.abs() >= 2.0**128, torch.copysign(torch.full_like(d, torch.inf), d), d)
            c = torch.where(ieee.isfinite(), d, ieee)
        total = c.float() if chunk is None else total + c.float()
    return total


class Lt:
    """cublasLtMatmul of row-major a [M, K] and b [N, K] into float32, bfloat16 or binary16, reduction-scheme mask 0."""

    def __init__(self) -> None:
        torch.zeros(1, device="cuda") @ torch.zeros(1, device="cuda")
        found = [line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "libcublasLt.so" in line]
        self.lib = ctypes.CDLL(found[0])
        self.lib.cublasLtGetVersion.restype = ctypes.c_size_t
        self.handle = ctypes.c_void_p()
        self.check(self.lib.cublasLtCreate(ctypes.byref(self.handle)))
        self.space = torch.empty(32 << 20, dtype=torch.uint8, device="cuda")

    def check(self, status: int) -> None:
        if status:
            raise RuntimeError(f"cublasLt status {status}")

    def layout(self, kind: int, rows: int, columns: int, ld: int) -> ctypes.c_void_p:
        made = ctypes.c_void_p()
        self.check(self.lib.cublasLtMatrixLayoutCreate(ctypes.byref(made), kind, ctypes.c_uint64(rows), ctypes.c_uint64(columns), ctypes.c_int64(ld)))
        return made

    def __call__(self, a: torch.Tensor, b: torch.Tensor, out: torch.dtype, fast: bool = False) -> tuple[torch.Tensor, int]:
        m, k = a.shape
        n = b.shape[0]
        desc, preference = ctypes.c_void_p(), ctypes.c_void_p()
        self.check(self.lib.cublasLtMatmulDescCreate(ctypes.byref(desc), 68, 0))

        def put(attribute: int, value: object) -> None:
            self.check(self.lib.cublasLtMatmulDescSetAttribute(desc, attribute, ctypes.byref(value), ctypes.sizeof(value)))

        put(3, ctypes.c_int32(1))
        if a.dtype in (E4M3, E5M2):
            put(25, ctypes.c_int8(int(fast)))
        la, lb = self.layout(CUDA[a.dtype], k, m, k), self.layout(CUDA[b.dtype], k, n, k)
        d = torch.full((n, m), torch.nan, dtype=out, device="cuda")
        ld = self.layout(CUDA[out], m, n, m)
        self.check(self.lib.cublasLtMatmulPreferenceCreate(ctypes.byref(preference)))
        for attribute, value in ((1, ctypes.c_uint64(self.space.numel())), (3, ctypes.c_uint32(0))):
            self.check(self.lib.cublasLtMatmulPreferenceSetAttribute(preference, attribute, ctypes.byref(value), ctypes.sizeof(value)))
        result, count = ctypes.create_string_buffer(96), ctypes.c_int()
        self.check(self.lib.cublasLtMatmulAlgoGetHeuristic(self.handle, desc, la, lb, ld, ld, preference, 1, result, ctypes.byref(count)))
        if not count.value:
            raise RuntimeError("cublasLt: no algorithm")
        split, written = ctypes.c_int32(-1), ctypes.c_size_t()
        self.check(self.lib.cublasLtMatmulAlgoConfigGetAttribute(result, 2, ctypes.byref(split), 4, ctypes.byref(written)))
        one, zero = ctypes.c_float(1), ctypes.c_float(0)
        self.check(
            self.lib.cublasLtMatmul(
                self.handle, desc, ctypes.byref(one), ctypes.c_void_p(a.data_ptr()), la, ctypes.c_void_p(b.data_ptr()), lb, ctypes.byref(zero),
                ctypes.c_void_p(d.data_ptr()), ld, ctypes.c_void_p(d.data_ptr()), ld, result, ctypes.c_void_p(self.space.data_ptr()),
                ctypes.c_size_t(self.space.numel()), ctypes.c_void_p(torch.cuda.current_stream().cuda_stream),
            )
        )  # fmt: skip
        torch.cuda.synchronize()
        for made in (la, lb, ld):
            self.lib.cublasLtMatrixLayoutDestroy(made)
        self.lib.cublasLtMatmulDescDestroy(desc)
        self.lib.cublasLtMatmulPreferenceDestroy(preference)
        return d.t(), split.value


def draw(kind: str, rows: int, k: int, dtype: torch.dtype, g: torch.Generator) -> torch.Tensor:
    def uniform(low: float, high: float) -> torch.Tensor:
        return torch.rand(rows, k, generator=g, device="cuda", dtype=torch.float64) * (high - low) + low

    def spread(low: int, high: int) -> torch.Tensor:
        e = torch.randint(low, high + 1, (rows, k), generator=g, device="cuda")
        sign = torch.randint(0, 2, (rows, k), generator=g, device="cuda") * 2 - 1
        return torch.ldexp(uniform(1, 2) * sign, e.double())

    top, low = EMAX[dtype], EMIN[dtype] - BITS[dtype]
    if kind == "normal":
        v = torch.randn(rows, k, generator=g, device="cuda", dtype=torch.float64)
    elif kind == "positive":
        v = uniform(0, 1)
    elif kind == "wide":
        v = spread(max(low, -40), min(top - 1, 40))
    elif kind == "codes":
        v = spread(max(low, -60), min(top, 60)) * (uniform(0, 1) > 0.15)
    elif kind == "cancel":  # pairs that nearly cancel: b's neighbours are equal, a's have opposite signs and differ in the last bit or not at all
        v = spread(max(low, -6), min(top - 1, 6)).to(torch.float32).to(dtype).double()
        near = v[:, 0 : (k // 2) * 2 : 2] * (1 + (uniform(0, 1)[:, : k // 2] > 0.5) * 2.0 ** -BITS[dtype])
        v[:, 1 : (k // 2) * 2 : 2] = -near
    elif kind == "tiny":
        v = spread(-82, -58) if dtype == BF16 else spread(low, EMIN[dtype] + 2)
    elif kind == "huge":
        v = spread(56, 66) if dtype == BF16 else spread(top - 1, top)
    elif kind == "special":
        v = spread(-3, 3)
        pick = torch.tensor([0.0, -0.0, 0.0, -0.0, torch.inf, -torch.inf, torch.nan, 1.0], device="cuda", dtype=torch.float64)
        if dtype == E4M3:
            pick[4:6] = torch.nan
        where = uniform(0, 1) < 0.02
        v = torch.where(where, pick[torch.randint(0, 8, (rows, k), generator=g, device="cuda")], v)
    else:  # zeros: rows of zeros of both signs and numbers that vanish
        v = spread(low, low + 1) * (uniform(0, 1) > 0.9) * (uniform(0, 1)[:, :1] > 0.5)
        v = torch.where(v == 0, torch.copysign(torch.zeros_like(v), uniform(-1, 1)), v)
    if dtype in (E4M3, E5M2) and kind not in ("special",):
        limit = 448.0 if dtype == E4M3 else 57344.0
        v = v.clamp(-limit, limit)
    return v.float().to(dtype)


KINDS = ("normal", "positive", "wide", "codes", "cancel")
EDGES = ("tiny", "huge", "special", "zeros")


class Run:
    def __init__(self) -> None:
        self.rows: list[dict] = []
        self.about: dict = {}
        self.vectors: dict[str, np.ndarray] = {}
        self.lt = Lt()
        self.g = torch.Generator(device="cuda")
        self.g.manual_seed(20261122)

    def clamp(self) -> None:
        """Products far below 2^-126 whose exact sum is 2^-149: one large, j small ones of 2^-(149 + m). They are lost, and the sum with them, if
        the unit aligns to 2^clamp and 2^-(149 + m) < 2^(clamp - 25)."""
        factors = {8: (241, 1), 9: (7, 71), 10: (10, 101), 11: (255, 8), 12: (63, 65), 13: (90, 91), 14: (127, 129), 15: (180, 182)}
        a, b = torch.zeros(64, 16, dtype=torch.float64, device="cuda"), torch.zeros(64, 16, dtype=torch.float64, device="cuda")
        for row, (m, (x, y)) in enumerate(factors.items()):
            small = 2**m - x * y
            a[row, 0], b[row, 0] = x * 2.0**-75, y * 2.0 ** (-74 - m)
            a[row, 1 : small + 1], b[row, 1 : small + 1] = 2.0**-75, 2.0 ** (-74 - m)
        a, b = a.to(BF16), b.to(BF16)
        got, _ = self.lt(a, b, torch.float32)
        fits = [c for c in range(-142, -125) if bool((model(a, b, (16, 25, 23, c)) == got).diagonal()[: len(factors)].all())]
        self.about["clamp"] = {"kept": {m: float(got[i, i]) != 0 for i, m in enumerate(factors)}, "fits": fits}
        self.record("lt", "hopper_bf16", "clamp", a, b, got, model(a, b, UNITS["bf16"]), 1)

    def tf32(self, kind: str, m: int, n: int, k: int) -> None:
        a, b = (draw(kind, rows, k, BF16, self.g).float() * (1 + draw("positive", rows, k, FP16, self.g).float() / 256) for rows in (m, n))
        short = [(x.view(torch.int32) & ~0x1FFF).view(torch.float32) for x in (a, b)]
        got = torch.mm(short[0], short[1].t())
        self.record("mm", "hopper_tf32", kind, *short, got, model(*short, UNITS["tf32"]), -1)
        got = torch.mm(a, b.t())
        self.record("mm long inputs", "hopper_tf32", kind, a, b, got, model(*short, UNITS["tf32"]), -1)

    def int8(self, k: int) -> None:
        a, b = (torch.randint(100, 128, (32, k), generator=self.g, device="cuda", dtype=torch.int8) for _ in range(2))
        exact = (a.double() @ b.double().t()).long()
        got = torch._int_mm(a, b.t()).long()
        self.about[f"int8 {k}"] = {"overflows": bool((exact >= 2**31).any()), "wraps": bool(((exact - got) % 2**32 == 0).all()),
                                   "saturates": bool((got == exact.clamp(-(2**31), 2**31 - 1)).all())}  # fmt: skip

    def record(self, call: str, name: str, kind: str, a: torch.Tensor, b: torch.Tensor, got: torch.Tensor, want32: torch.Tensor, split: int) -> None:
        want = want32.to(got.dtype)
        wide = {torch.float32: torch.int32, BF16: torch.int16, FP16: torch.int16}[got.dtype]
        both = want.isnan() & got.isnan()
        differ = (want.contiguous().view(wide) != got.contiguous().view(wide)) & ~both
        rows = a.shape[0] if call == "lt" else b.shape[0]  # that lie together in the output
        aligned = a.shape[1] * a.element_size() % 16 == 0 and rows * got.element_size() % 16 == 0
        sign_only = int((differ & (want == 0) & (got == 0)).sum())
        self.rows.append({"call": call, "model": name, "kind": kind, "a": NAME[a.dtype], "b": NAME[b.dtype], "out": NAME[got.dtype], "m": a.shape[0],
                          "n": b.shape[0], "k": a.shape[1], "differ": int(differ.sum()), "of": differ.numel(), "zero_sign": sign_only, "split": split,
                          "aligned": aligned, "nan": int(got.isnan().sum()), "inf": int(got.isinf().sum())})  # fmt: skip
        if a.shape[1] <= 512 or (a.shape[1] == 4096 and call == "lt" and kind == "normal"):
            bad = torch.nonzero(differ)
            i, j = (int(bad[0][0]) // 4 * 4, int(bad[0][1]) // 4 * 4) if len(bad) else (0, 0)
            small = torch.uint8 if a.dtype in (E4M3, E5M2) else torch.int32 if a.dtype == torch.float32 else torch.int16
            key = f"{len(self.rows) - 1}"
            self.vectors[f"a{key}"] = a[i : i + 4].contiguous().view(small).cpu().numpy()
            self.vectors[f"b{key}"] = b[j : j + 4].contiguous().view(small).cpu().numpy()
            self.vectors[f"d{key}"] = got[i : i + 4, j : j + 4].contiguous().view(wide).cpu().numpy()

    def attempt(self, call: str, *rest: object, **options: object) -> None:
        try:
            getattr(self, call)(*rest, **options)
        except RuntimeError as error:
            self.rows.append({"call": call, "case": [str(r) for r in rest], "error": str(error)[:300]})

    def fp8(self, kind: str, m: int, n: int, k: int, ta: torch.dtype, tb: torch.dtype) -> None:
        a, b = draw(kind, m, k, ta, self.g), draw(kind, n, k, tb, self.g)
        for fast in (True, False):
            want = model(a, b, UNITS["fp8"], None if fast else 128)
            name = "hopper_fp8_fast" if fast else "hopper_fp8_promote128"
            for out in (torch.float32, BF16):
                got = scaled(a, b, out, fast)
                self.record("_scaled_mm", name, kind, a, b, got, want, -1)
            if m % 16 == 0:
                got, split = self.lt(a, b, torch.float32, fast)
                self.record("lt", name, kind, a, b, got, want, split)

    def half(self, kind: str, m: int, n: int, k: int, dtype: torch.dtype) -> None:
        a, b = draw(kind, m, k, dtype, self.g), draw(kind, n, k, dtype, self.g)
        short = "bf16" if dtype == BF16 else "fp16"
        want = model(a, b, UNITS[short])
        for out in (torch.float32, dtype):
            got, split = self.lt(a, b, out)
            self.record("lt", f"hopper_{short}", kind, a, b, got, want, split)
        self.record("mm", f"hopper_{short}", kind, a, b, torch.mm(a, b.t(), out_dtype=torch.float32), want, -1)
        self.record("mm", f"hopper_{short}", kind, a, b, torch.mm(a, b.t()), want, -1)


def scaled(a: torch.Tensor, b: torch.Tensor, out: torch.dtype, fast: bool) -> torch.Tensor:
    one = torch.ones((), device="cuda")
    return torch._scaled_mm(a, b.t(), scale_a=one, scale_b=one, out_dtype=out, use_fast_accum=fast)


def kernels(f) -> list[str]:  # type: ignore[no-untyped-def]
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as p:
        f()
        torch.cuda.synchronize()
    return sorted({e.name for e in p.events() if "mem" not in e.name.lower()})


def names(run: Run) -> dict[str, list[str]]:
    found = {}
    for m, n, k in ((64, 64, 64), (64, 64, 4096), (33, 64, 128), (64, 64, 100), (128, 256, 1024)):
        for dtype in (BF16, FP16):
            a, b = draw("normal", m, k, dtype, run.g), draw("normal", n, k, dtype, run.g)
            found[f"mm {NAME[dtype]} {m} {n} {k}"] = kernels(lambda a=a, b=b: torch.mm(a, b.t(), out_dtype=torch.float32))
            found[f"lt {NAME[dtype]} {m} {n} {k}"] = kernels(lambda a=a, b=b: run.lt(a, b, torch.float32))
        if k % 16 == 0:
            a, b = draw("normal", m, k, E4M3, run.g), draw("normal", n, k, E4M3, run.g)
            found[f"_scaled_mm {m} {n} {k}"] = kernels(lambda a=a, b=b: scaled(a, b, torch.float32, True))
    return found


def main(out: str) -> None:
    start, run = time.time(), Run()
    for setting in ("allow_bf16_reduced_precision_reduction", "allow_fp16_reduced_precision_reduction"):
        try:
            setattr(torch.backends.cuda.matmul, setting, (False, False))  # no reduced precision, no split-K
        except (TypeError, RuntimeError):
            setattr(torch.backends.cuda.matmul, setting, False)
    torch.backends.cuda.preferred_blas_library("cublaslt")
    pairs = ((E4M3, E4M3), (E4M3, E5M2), (E5M2, E4M3))
    for k in (16, 32, 48, 64, 128, 144, 160, 256, 384, 512, 1024, 2048, 4096):
        for m, n in ((64, 64), (17, 48), (128, 256)):
            for kind in KINDS:
                for ta, tb in pairs:
                    run.attempt("fp8", kind, m, n, k, ta, tb)
    for k in (8, 16, 24, 32, 40, 64, 100, 128, 136, 256, 512, 1024, 2048, 4096):
        for m, n in ((64, 64), (33, 57), (128, 256)):
            for kind in KINDS:
                for dtype in (BF16, FP16):
                    run.attempt("half", kind, m, n, k, dtype)
    for k in (16, 32, 64, 256):
        for kind in EDGES:
            for repeat in range(4):
                run.attempt("fp8", kind, 64, 64, k, *pairs[repeat % 3])
                run.attempt("half", kind, 64, 64, k, BF16)
                run.attempt("half", kind, 64, 64, k, FP16)
    torch.backends.cuda.matmul.allow_tf32 = True
    for k in (8, 16, 64, 256, 1024):
        for kind in KINDS[:3]:
            run.attempt("tf32", kind, 64, 64, k)
    for k in (1024, 262144):
        run.attempt("int8", k)
    run.attempt("clamp")
    versions = {"torch": torch.__version__, "cuda": torch.version.cuda, "cublasLt": run.lt.lib.cublasLtGetVersion()}
    about = run.about | versions | {"gpu": torch.cuda.get_device_name(), "seconds": time.time() - start}
    Path(out, "results.json").write_text(json.dumps({"about": about, "kernels": names(run), "rows": run.rows}))
    np.savez_compressed(Path(out, "vectors.npz"), **run.vectors)
    print(about)
    table: dict[tuple, list[int]] = {}
    for row in run.rows:
        place = "aligned" if row.get("aligned") else "not aligned"
        key = ("error", row["error"][:120]) if "error" in row else (row["call"], row["model"], row["out"], row["kind"], place)
        entry = table.setdefault(key, [0, 0, 0, 0, 0])
        if "error" not in row:
            for i, value in enumerate((1, row["differ"] > 0, row["differ"], row["of"], row["zero_sign"])):
                entry[i] += int(value)
        else:
            entry[0] += 1
    for key, entry in table.items():
        print(*key, entry)


if __name__ == "__main__":
    main(sys.argv[1])
