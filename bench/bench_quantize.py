"""Block quantizers: codes and scales beside a torch-eager emulation, stochastic beside nearest rounding, operands of a training step.

Everything timed is first compared with `lpref.ref`, bit for bit. Figures are 1e6 elements per second with the threads of this process
(NUMBA_NUM_THREADS, torch takes as many); each the best of several calls.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from lpref.accel.cpu import threads
from lpref.accel.cpu.embedded import embedded
from lpref.accel.cpu.quantize import embed, quantize
from lpref.accel.cpu.quantize_plan import plan_of
from lpref.ref import quantize as ref
from lpref.ref.linalg import hadamard
from lpref.ref.quantize import QUANTIZERS, QTensor, lookup
from lpref.ref.random import WordAddress

WORDS = WordAddress(7, 1, "bench/quantize/round")
SIGNS = np.float32([1, 1, 1, -1, 1, -1, -1, -1, -1, -1, -1, 1, -1, 1, -1, -1])
SHAPE = (2048, 2048)
TIMED = ("mxfp8_e4m3", "mxfp4", "nvfp4")
"""These have a peer and a stochastic row; the other block quantizers of the registry are timed alone."""
STEP = {"x": (2048, 128), "mlp": (2048, 352), "dy": (2048, 704)}


def best(f: Callable[[], Any], seconds: float = 0.4) -> float:
    """Shortest time of a call within about `seconds`, after two to warm up."""
    f(), f()
    times, end = [], time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        f()
        times.append(time.perf_counter() - start)
    return min(times)


def must_equal(name: str, got: Any, want: Any) -> None:
    if not np.array_equal(got, want):
        raise AssertionError(f"{name}: differs from the reference; not timed")


def torch_emulation(name: str) -> Callable[[Any], tuple[Any, Any]] | None:
    """x (a torch matrix) -> (packed codes, scale codes), in as few eager operations as the definition allows; None without torch."""
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(threads.count())
    biggest = torch.tensor(torch.finfo(torch.float32).max)
    middles = np.float32([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5])
    middles[1::2] = np.nextafter(middles[1::2], np.float32(0))  # ties go to the even code
    bounds = torch.from_numpy(middles)

    def e2m1(u: Any) -> Any:
        code = torch.bucketize(u.abs(), bounds, out_int32=True).to(torch.uint8) | (torch.signbit(u).to(torch.uint8) << 3)
        return code[:, ::2] | (code[:, 1::2] << 4)

    def mx(x: Any, emax: int, element: Callable[[Any], Any]) -> tuple[Any, Any]:
        blocks = x.view(x.shape[0], -1, 32)
        exponent = ((blocks.abs().amax(-1).view(torch.int32) >> 23) - emax).clamp(1, 254)
        return element((blocks / (exponent << 23).view(torch.float32)[..., None]).view(x.shape)), exponent.to(torch.uint8)

    def nvfp4(x: Any) -> tuple[Any, Any]:
        blocks = x.view(x.shape[0], -1, 16)
        amax = blocks.abs().amax(-1)
        encode = torch.minimum(2688.0 / amax.amax(), biggest)
        scale = (amax * (encode * torch.reciprocal(torch.tensor(6.0)))).clamp(max=448).to(torch.float8_e4m3fn)
        factor = torch.minimum(torch.reciprocal(scale.float() * torch.reciprocal(encode)), biggest)
        return e2m1((blocks * factor[..., None]).view(x.shape)), scale.view(torch.uint8)

    def e4m3(u: Any) -> Any:
        exponent = (torch.frexp(u)[1] - 1).clamp(-6, 8)
        position = torch.round(torch.ldexp(u.abs(), 3 - exponent)).to(torch.int32) + ((exponent + 6) << 3)
        return (position.clamp(max=126) | (torch.signbit(u).to(torch.int32) << 7)).to(torch.uint8)

    def native(u: Any) -> Any:
        return u.clamp(-448, 448).to(torch.float8_e4m3fn).view(torch.uint8)

    return {
        "mxfp8_e4m3": lambda x: mx(x, 8, e4m3),
        "mxfp8_e4m3 native cast": lambda x: mx(x, 8, native),
        "mxfp4": lambda x: mx(x, 2, e2m1),
        "nvfp4": nvfp4,
    }[name]


def rows() -> Iterator[dict[str, Any]]:
    x = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    for name in TIMED:
        yield from codes_rows(name, x)
    for name in sorted({q for n in QUANTIZERS for q in variants(n)} - set(TIMED)):
        rate = checked_rate(name, x[:1024, :1024], 1, 0.1)
        yield {"name": f"{name} codes", "value": rate, "unit": "Melem/s", "bar": 300 if name.startswith(("mx", "nvfp4")) else 150}
    for label, shape in STEP.items():
        yield from operand_rows(label, np.random.default_rng(1).standard_normal(shape).astype(np.float32))


def variants(name: str) -> list[str]:
    """A block quantizer, with every scale mode where it has them."""
    q = lookup(name)
    if plan_of(q) is None or q.scale.rule == "learned":
        return []
    modes = ("ceil", "even", "rceil", "midmax", "tetrajet") if q.scale.rule == "mx" else ()
    return [name, *(f"{name}:scale={mode}" for mode in modes)]


def checked_rate(name: str, x: np.ndarray, k_axis: int, seconds: float = 0.4) -> float:
    """Melem/s of `quantize`, after its codes and scales were compared."""
    q = lookup(name)
    got, want = quantize(x, q, k_axis=k_axis, words=WORDS), ref.quantize(x, q, k_axis=k_axis, words=WORDS)
    must_equal(name, got.codes, want.codes)
    must_equal(name, got.scales[0], want.scales[0])
    return x.size / best(lambda: quantize(x, q, k_axis=k_axis, words=WORDS), seconds) / 1e6


def codes_rows(name: str, x: np.ndarray) -> Iterator[dict[str, Any]]:
    ours = checked_rate(name, x, 1)
    yield {"name": f"{name} codes", "value": ours, "unit": "Melem/s", "bar": 300}
    yield from peer_rows(name, name, x, ours, {"bar": 5})
    if name == "mxfp8_e4m3":  # torch has a compiled cast to this element: a peer of another kind, without a bar
        yield from peer_rows(name, f"{name} native cast", x, ours, {})
    bits = ":word_bits=8" if name == "mxfp8_e4m3" else ""
    for note in (bits, "") if bits else ("",):
        rate = checked_rate(f"{name}:rounding=stochastic{note}", x, 1)
        yield {"name": f"{name}{note} stochastic, words included, share of nearest", "value": rate / ours, "unit": "x", "bar": 0.4}


def peer_rows(name: str, emulation: str, x: np.ndarray, ours: float, bar: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Our rate over torch eager's, after its codes and scales were compared too."""
    run = torch_emulation(emulation)
    if run is None:
        return
    import torch

    t, want = torch.from_numpy(x), ref.quantize(x, name)
    codes, scales = run(t)
    must_equal(f"torch {emulation}", codes.numpy(), want.codes)
    must_equal(f"torch {emulation}", scales.numpy(), want.scales[0])
    peer = x.size / best(lambda: run(t), 1.0) / 1e6
    yield {"name": f"{name} codes, times torch eager {emulation}", "value": ours / peer, "unit": "x", "note": f"torch {peer:.0f} Melem/s", **bar}


def operand_rows(label: str, x: np.ndarray) -> Iterator[dict[str, Any]]:
    for k_axis in (1, 0):
        for name in ("nvfp4", "nvfp4:rounding=stochastic"):
            for transforms in ((), ((16, "k", SIGNS),)):
                if transforms and k_axis == 1:
                    continue  # the recipe turns tokens only
                q = lookup(name)
                turned = hadamard(x, 16, axis=k_axis, signs=SIGNS) if transforms else x
                want: QTensor = ref.quantize(turned, q, k_axis=k_axis, words=WORDS)
                must_equal(name, embed(x, q, k_axis=k_axis, words=WORDS, transforms=transforms).values, embedded(want).values)
                seconds = best(lambda q=q, k=k_axis, t=transforms: embed(x, q, k_axis=k, words=WORDS, transforms=t), 0.3)
                what = f"{'SR' if 'stoch' in name else 'RNE'}{' + RHT16' if transforms else ''}"
                title = f"operand {label} {x.shape[0]}x{x.shape[1]}, k axis {k_axis}, {what}"
                yield {"name": title, "value": x.size / seconds / 1e6, "unit": "Melem/s", "bar": 300}
