"""Softmax cross-entropy of CuPy arrays: the page of `lpref.ref.nn.loss`, a team of threads a row, with its bits.

Forward gives the probabilities as what they are made of (`Softmax`): the gradient computes them again where it needs them, with the same bits, so
that logits are read once in each direction and probabilities are never written. Targets may lie on the host, where checking them waits for
nothing, or on the device, where it waits for their range.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from lpref.accel.cuda import arrays, device, noted
from lpref.accel.cuda.activation import NEAR
from lpref.accel.cuda.qtensor import Counters
from lpref.accel.cuda.reduce import row_sums
from lpref.accel.cuda.unmade import NAME, SOFTMAX, Unmade
from lpref.ref.errors import BackendError
from lpref.ref.nn.loss import check_targets

LONG = 4096
"""Classes from which on a row has a block to itself that reads it by fours."""
LONG_TEAM = (("LP_TEAM", 256), ("LP_SLOTS", 4))


@dataclass(eq=False)
class Softmax:
    """Probabilities [N, V], not yet computed. tops, sums [N]: each row's maximum, and the sum of exp(logits - maximum).

    near: with the exponentials of grade fast (`lpref.ref.nn.bounds`). spent: the gradient has taken the place of the logits. others [N], or None:
    the largest exp(logits - maximum) of a class that is not the target (of long rows of grade fast, where amaxes are noted)."""

    logits: Any
    tops: Any
    sums: Any
    near: bool = False
    spent: bool = False
    others: Any = None

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.logits.shape)

    def made_of(self) -> tuple[Any, Any, Any]:
        """(logits, tops, sums). Raises: BackendError once the logits are gone."""
        if self.spent:
            raise BackendError("the logits were given up for their gradient", where="softmax_cross_entropy_backward", remedy="run the forward again")
        return self.logits, self.tops, self.sums

    @property
    def ndim(self) -> int:
        return 2

    def array(self) -> Any:
        """The probabilities on the device."""
        return _gradient(self, 0, 0, np.float32(1), 1)

    def host(self) -> np.ndarray:
        """The probabilities in NumPy; waits for the device."""
        return np.asarray(device.cupy().asnumpy(self.array()))


def softmax_cross_entropy(logits: Any, targets: Any, *, near: bool = False) -> tuple[Any, Softmax]:
    """(loss, probs): `lpref.ref.nn.softmax_cross_entropy`; the loss stays on the device, 0-d."""
    check_targets("softmax_cross_entropy", logits, targets)
    (logits,) = arrays.values("softmax_cross_entropy", logits)
    (rows, n), cp = logits.shape, device.cupy()
    tops, sums, losses = cp.empty(rows, np.float32), cp.empty(rows, np.float32), cp.empty((1, rows), np.float32)
    ids, out, defines, others = arrays.integers(targets), (tops, sums, losses), (*arrays.kinds(LP_X=logits), *(NEAR if near else ())), None
    if LONG <= n < 1 << 30 and n % 4 == 0 and rows >= device.processors() and logits.data.ptr % 16 == 0:
        room, four = device.shared_memory() // 2 - 4096, 4 * logits.itemsize
        if near and noted.wanted():
            others, defines = cp.empty(rows, np.float32), (*defines, *noted.PEAK)
        run = device.function("loss", "cross_entropy_long", (*LONG_TEAM, *defines))
        run.max_dynamic_shared_size_bytes = room
        kept = min(n // 4, room // four)
        args = (logits, ids, rows, n, np.int32(kept), *out, 0 if others is None else others)
        run((min(rows, 2 * device.processors()),), (256,), args, shared_mem=four * kept)
    else:
        arrays.rows("loss", "cross_entropy", rows, n, logits, ids, rows, n, *out, defines=defines)
    return row_sums(losses, rows).reshape(()), Softmax(logits, tops, sums, near, others=others)


def softmax_cross_entropy_backward(dloss: Any, probs: Any, targets: Any, *, store: str = "float32", overwrite: bool = False) -> Any:
    """dlogits: `lpref.ref.nn.softmax_cross_entropy_backward`; probs: an array or `Softmax`; dloss: a number, or one on the device.

    overwrite: the logits of a `Softmax` are given up: where their dtype is that of the result, it takes their memory.
    store: also `unmade.NAME`, for an `Unmade` of what a kernel codes.
    """
    check_targets("softmax_cross_entropy_backward", probs, targets)
    if not isinstance(probs, Softmax):
        (probs,) = arrays.values("softmax_cross_entropy_backward", probs)
    if device.on_device(dloss):
        (pointer,), number = arrays.floats("softmax_cross_entropy_backward", arrays.wide(dloss).reshape(())), np.float32(0)
    else:
        pointer, number = 0, np.float32(dloss)
    ids = arrays.integers(targets)
    if store == NAME:
        if isinstance(probs, Softmax) and probs.near and arrays.is_sixteen(probs.logits):
            args = (probs.tops, probs.sums, ids, pointer, number, np.float32(probs.shape[0]))
            make = partial(_gradient, probs, ids, pointer, number, probs.shape[0])
            return Unmade(probs.logits, SOFTMAX, args, make, probs.shape, None if probs.others is None else partial(_peak, probs, args))
        store = "float32"
    return _gradient(probs, ids, pointer, number, probs.shape[0], store, overwrite)


def _peak(probs: Softmax, args: tuple[Any, ...]) -> Any:
    """The amax of the gradient: in each row that of the target, or of the most probable of the others."""
    row, (rows, n) = Counters.take().row, probs.shape
    defines = (*arrays.ONE, *arrays.kinds(LP_X=probs.logits), *NEAR, *noted.PEAK)
    run = device.function("loss", "cross_entropy_peak", defines)
    run((device.blocks_for(rows),), (device.THREADS,), (probs.logits, probs.others, *args, rows, n, row))
    return noted.bits(row)


def _gradient(probs: Any, ids: Any, pointer: Any, number: np.float32, count: int, store: str = "float32", overwrite: bool = False) -> Any:
    """(probs - onehot) times (the number, or what the pointer leads to) / count; ids 0: without onehot. A thread of the kernel reads an element and
    writes it before it comes to the next but one, and no other reads that."""
    (rows, n), of = probs.shape, probs.made_of() if isinstance(probs, Softmax) else (probs, 0, 0)
    within = overwrite and isinstance(probs, Softmax) and of[0].dtype == arrays.DTYPES.get(store)
    out = of[0] if within else arrays.empty((rows, n), store)
    if within:
        probs.spent = True
    steps = -(-n // 4) if n % 4 == 0 else n
    wide = min(256, 1 << max(steps - 1, 1).bit_length())
    across = max(1, min(64, steps // (8 * wide)))
    high = min(-(-rows * wide // 256), 65535, max(1, 64 * device.processors() // across))
    peak, counters = noted.counters(out)
    args = (*of, ids, rows, n, pointer, number, np.float32(count), out, counters)
    near = isinstance(probs, Softmax) and probs.near
    defines = (*arrays.ONE, *arrays.kinds(LP_X=of[0], LP_Y=out), *(NEAR if near else ()), *peak)
    device.function("loss", "cross_entropy_backward", defines)((across, high), (wide, 256 // wide), args)
    return out
