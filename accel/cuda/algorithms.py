"""Which algorithm of cuBLASLt makes a product: the fastest that repeats its bits, tried when a product is first seen (`trials`) and kept.

The choice is kept in memory, and as JSON in the cache folder under the product, the device and the library's version: a run that is resumed there
takes the same, and the file can be copied to where a run shall be repeated. A first sight waits for the device and takes memory; afterwards
nothing does either, so that a step that ran once can be captured in a graph. Inside a capture a product that is not known is a BackendError.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import threading
from functools import cache
from pathlib import Path
from typing import Any

from lpref.accel.cuda import cublaslt, device, trials
from lpref.accel.cuda.cublaslt import Plan, Product
from lpref.accel.cuda.trials import Launch
from lpref.ref.errors import BackendError

WORKSPACE = 64 << 20
"""Bytes of each stream's workspace."""
SMALL = 1 << 27
"""Multiplications of a product that is not worth trials."""
_lock = threading.Lock()
_plans: dict[tuple[Product, int], Plan] = {}
_spaces: dict[tuple[int, int], Any] = {}


def run(product: Product, left: int, right: int, out: Any, alpha: int = 0, left_scale: int = 0, right_scale: int = 0, bias: int = 0) -> None:
    """Queue the product of the matrices at these addresses on the current stream; `out` is its array.

    Raises: BackendError where the library has no kernel for it.
    """
    if device.dry():
        return
    cp = device.cupy()
    stream = cp.cuda.get_current_stream().ptr
    number = cp.cuda.runtime.getDevice()
    space = workspace(number, stream)
    plan, more = _plans.get((product, number)), (alpha, left_scale, right_scale, bias)
    if plan is None:
        plan = chosen(product, number, out, lambda p, s: p.launch(left, right, out.data.ptr, space, s, *more))
    cublaslt.check(plan.launch(left, right, out.data.ptr, space, stream, *more), f"cublasLtMatmul of {product.name}")


def workspace(number: int, stream: int) -> int:
    """The address of a stream's workspace; made at first use, of no pool, and never given back."""
    found = _spaces.get((number, stream))
    if found is None:
        _refuse_capture(stream, "the workspace of a stream")
        found = _spaces[number, stream] = device.cupy().cuda.Memory(WORKSPACE)
    return int(found.ptr)


def chosen(product: Product, number: int, out: Any, launch: Launch) -> Plan:
    """The product's plan with its algorithm: the one that is kept, else the fastest that repeats `out` bit for bit.

    A product of at most SMALL multiplications has the library's favourite of those that add parts of K in one order: trials would take longer than
    they save. (Without parts, 128 x 128 x 4096 is a chain of one tile and takes 90 us.)
    Raises: BackendError where none serves.
    """
    with _lock:
        plan = Plan(product, number)
        held = kept().get(product.name)
        needed = plan.accepts(bytes.fromhex(held["algorithm"])) if held else None
        if held is not None and needed is not None and needed <= WORKSPACE:
            plan.take(bytes.fromhex(held["algorithm"]), needed)
        elif product.m * product.n * product.k * product.count <= SMALL and (found := plan.candidates(WORKSPACE, ordered=True)):
            plan.take(bytes(found[0].algorithm), found[0].workspace)
        else:
            _refuse_capture(device.cupy().cuda.get_current_stream().ptr, f"the product {product.name}")
            with device.general():  # memory of trials is none of a step's
                keep(product.name, trials.tried(plan, out, launch, WORKSPACE))
        _plans[product, number] = plan
        return plan


def _refuse_capture(stream: int, what: str) -> None:
    if device.cupy().cuda.runtime.streamIsCapturing(stream):
        raise BackendError(f"{what} is first needed inside a graph capture", where="cuda", remedy="run the step once on this stream before")


@cache
def path() -> Path:
    """The file of kept algorithms, for this device and library."""
    name = re.sub(r"[^a-z0-9]+", "-", device.cupy().cuda.runtime.getDeviceProperties(0)["name"].decode().lower())
    return device.folder() / f"products-{name}-{cublaslt.version()}.json"


@cache
def kept() -> dict[str, dict[str, Any]]:
    """Product -> its entry, as the file had it when it was first asked for, and what was added since."""
    return read(path())


def read(place: Path) -> dict[str, dict[str, Any]]:
    """The entries of a file; a file that is not there or damaged has none."""
    try:
        found = json.loads(place.read_text(encoding="utf-8"))
        entries = found["products"]
        return {k: v for k, v in entries.items() if len(bytes.fromhex(v["algorithm"])) == 64}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def keep(name: str, entry: dict[str, Any]) -> None:
    """Add an entry, in memory and to the file, which other processes may have written to meanwhile."""
    kept()[name] = entry
    write(path(), read(path()) | {name: entry})


def write(place: Path, entries: dict[str, dict[str, Any]]) -> None:
    """Replace the file at once, so that no reader sees half of it."""
    number, temporary = tempfile.mkstemp(dir=place.parent)
    with os.fdopen(number, "w", encoding="utf-8") as file:
        json.dump({"products": entries}, file, indent=1, sort_keys=True)
    os.replace(temporary, place)
