"""The numerics hash: equal between processes, and moved by a change in every kind of definition."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lpref.conformance.numerics import numerics_hash
from lpref.ref import elementary, linalg, quantize, random, reduce, rounding
from lpref.ref.optim.rules.adamw import AdamW


def fresh() -> str:
    return numerics_hash.__wrapped__()


def flipped(function):
    """The function with the last bit of its first result changed."""

    def other(*args, **options):
        out = np.array(function(*args, **options))
        flat = out.reshape(-1)
        flat[0] = np.nextafter(flat[0], np.inf) if out.dtype.kind == "f" else flat[0] ^ 1
        return out

    return other


def test_it_is_a_function_of_the_definitions() -> None:
    assert fresh() == fresh() == numerics_hash()


@pytest.mark.parametrize(("module", "name"), [(elementary, "erf"), (reduce, "tree_sum"), (random, "words"), (linalg, "hadamard"), (linalg, "gemm")])
def test_one_bit_of_a_function_moves_it(monkeypatch: pytest.MonkeyPatch, module, name: str) -> None:
    monkeypatch.setattr(module, name, flipped(getattr(module, name)))
    assert fresh() != numerics_hash()


@pytest.mark.parametrize("name", ["nearest_away", "to_odd", "stochastic_c"])
def test_every_rounding_is_in_it(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setitem(rounding.ROUNDINGS, name, replace(rounding.ROUNDINGS[name], up=rounding.ROUNDINGS["toward_zero"].up))
    assert fresh() != numerics_hash()


def test_overflow_quantizers_and_optimizers_are_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    base = numerics_hash()
    with monkeypatch.context() as m:
        m.setitem(rounding.OVERFLOW, "onnx_sat", rounding.OVERFLOW["ml_dtypes"])
        assert fresh() != base
    with monkeypatch.context() as m:
        m.setitem(quantize.QUANTIZERS, "mxfp4", replace(quantize.QUANTIZERS["mxfp4"], scale=replace(quantize.QUANTIZERS["mxfp4"].scale, mode="ceil")))
        assert fresh() != base
    with monkeypatch.context() as m:
        m.setattr(AdamW, "__init__", lambda self, *a, _old=AdamW.__init__, **k: _old(self, *a, **{"eps_mode": "raw", **k}))
        assert fresh() != base
