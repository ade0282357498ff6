"""What this machine can do, and whether its arithmetic is what the definitions need (numerics N5, N9)."""

from __future__ import annotations

from typing import Any

import numpy as np

from lpref.ref.errors import LprefError
from lpref.trainer.environment import environment

BACKENDS = ("reference", "cpu", "cuda")


def canaries() -> list[dict[str, Any]]:
    """Three sums that tell a wrong floating-point environment: {name, what, expected, found, ok} in hexadecimal.

    Operands pass through arrays, so that nothing is folded at compile time.
    """
    f = np.float32
    tiny, half = np.full(4, 2.0**-126, f), np.full(4, 0.5, f)
    a, b, c = np.full(4, 1 + 2.0**-12, f), np.full(4, 1 + 2.0**-12, f), np.full(4, -(1 + 2.0**-11), f)
    x, three = np.full(4, 1.0, f), np.full(4, 3.0, f)
    cases = (
        ("subnormal", "2^-126 * 1/2 is kept, not flushed to 0", tiny * half, f(2.0**-127)),
        ("contraction", "a*b + c is rounded twice (no hidden FMA)", a * b + c, f(0.0)),
        ("division", "1/3 is correctly rounded (no reciprocal)", x / three, f(float.fromhex("0x1.555556p-2"))),
    )
    return [
        {
            "name": name,
            "what": what,
            "expected": float(expected).hex(),
            "found": float(found[0]).hex(),
            "ok": bool(np.all(found == expected)),
        }
        for name, what, found, expected in cases
    ]


def compiled_canaries() -> list[dict[str, Any]]:
    """The same three through Numba, as the CPU kernels are compiled."""
    import numba

    @numba.njit(fastmath=False)
    def run(tiny: Any, half: Any, a: Any, b: Any, c: Any, x: Any, three: Any) -> Any:
        return tiny[0] * half[0], a[0] * b[0] + c[0], x[0] / three[0]

    one = [np.array([v], np.float32) for v in (2.0**-126, 0.5, 1 + 2.0**-12, 1 + 2.0**-12, -(1 + 2.0**-11), 1.0, 3.0)]
    found = run(*one)
    out = []
    for value, case in zip(found, canaries(), strict=True):
        out.append(
            {
                **case,
                "name": f"{case['name']} (numba)",
                "found": float(value).hex(),
                "ok": float(value).hex() == case["expected"],
            }
        )
    return out


def cuda_canaries() -> list[dict[str, Any]]:
    """The same three through the ops of the cuda backend, one value each; none without them."""
    from lpref.accel import backend
    from lpref.accel.cuda import device

    if not device.usable():
        return []
    ops = backend("cuda", "exact")
    tiny, half, a, c, x, three = (ops.arrays.make(np.array([v], np.float32)) for v in (2.0**-126, 0.5, 1 + 2.0**-12, -(1 + 2.0**-11), 1.0, 3.0))
    found = [float(ops.arrays.host(v)[0]).hex() for v in (ops.mul(tiny, half), ops.add(ops.mul(a, a), c), ops.div(x, three))]
    return [
        {**case, "name": f"{case['name']} (cuda)", "found": value, "ok": value == case["expected"]}
        for value, case in zip(found, canaries(), strict=True)
    ]


def backends() -> list[dict[str, Any]]:
    """{name, present, why}: `why` says what is missing, or how many operations there are."""
    from lpref.accel import backend
    from lpref.accel.cuda import device

    out = []
    for name in BACKENDS:
        try:
            found = backend(name)
        except LprefError as error:
            out.append({"name": name, "present": False, "why": str(error)})
        else:
            what = f", {device.describe()}" if name == "cuda" else ""
            out.append({"name": name, "present": True, "why": f"{len(found.ops)} operations{what}"})
    return out


def gpu() -> str:
    """What the NVIDIA driver says, through its own library; no package is needed for that."""
    import ctypes

    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "no NVIDIA driver (libcuda.so.1 not found)"
    count, version = ctypes.c_int(), ctypes.c_int()
    if (
        driver.cuInit(0)
        or driver.cuDeviceGetCount(ctypes.byref(count))
        or driver.cuDriverGetVersion(ctypes.byref(version))
    ):
        return "an NVIDIA driver is installed but does not start"
    return f"{count.value} device(s), driver for CUDA {version.value // 1000}.{version.value % 1000 // 10}"


def energy() -> str:
    """Whether a run on the GPU records its joules, and why not."""
    from lpref.accel.cuda import device
    from lpref.trainer.energy import Counter, NoEnergy

    try:
        return f"energy counter: {Counter(device.pci_address()).joules():,.0f} J since the driver was loaded" if device.usable() else ""
    except NoEnergy as error:
        return f"no energy counter: {error}"


def diagnose() -> dict[str, Any]:
    """Everything, as one mapping; ``ok`` is whether every canary sang."""
    tests = canaries() + compiled_canaries() + cuda_canaries()
    return {
        "ok": all(test["ok"] for test in tests),
        "environment": environment(),
        "gpu": "; ".join(filter(None, (gpu(), energy()))),
        "backends": backends(),
        "canaries": tests,
    }


def text(found: dict[str, Any]) -> str:
    """For a person."""
    env = found["environment"]
    lines = [
        f"lpref {env['lpref']}  numerics {env['numerics_hash'][:16]}  Python {env['python']}",
        f"{env['cpu']}, {env['cores']} cores; {found['gpu']}",
    ]
    lines += [f"{'yes' if b['present'] else 'no ':3}  backend {b['name']}: {b['why']}" for b in found["backends"]]
    lines += [
        f"{'ok ' if c['ok'] else 'BAD'}  {c['name']}: {c['what']}"
        + ("" if c["ok"] else f" (found {c['found']}, expected {c['expected']})")
        for c in found["canaries"]
    ]
    if not found["ok"]:
        lines.append(
            "the arithmetic of this machine or build differs from the definitions: look for -ffast-math, flush-to-zero modes or FMA contraction"
        )
    return "\n".join(lines)
