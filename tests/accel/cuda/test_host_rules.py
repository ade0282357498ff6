"""Every scale rule on the device's double (host_gpu/) against the definitions: codes, all levels of scales, zero points, observations, values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import host_gpu
import numpy as np
import pytest
from device_cases import same
from rule_cases import QUANTIZERS_OF_RULES, WORDS, bad, cases

from lpref.accel.cuda.quantize import quantize
from lpref.ref import quantize as ref

QUICK = ("affine_widened", "minmax_symmetric", "moments", "s2fp8", "hindsight_affine", "double_rounding", "fixed32_16")
NAMES = [name if name in QUICK else pytest.param(name, marks=pytest.mark.deep) for name in QUANTIZERS_OF_RULES]


@pytest.fixture(scope="module", autouse=True)
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with host_gpu.in_place(tmp_path_factory.mktemp("host"), processors=1):
        yield


@pytest.mark.parametrize("name", NAMES)
def test_rules(name: str) -> None:
    cut = 3 if name.startswith("clip") else None  # a search is 1024 threads, which are slow here
    for x, q, state, axis in cases(name, cut):
        want = ref.quantize(x, q, state=state, words=WORDS, k_axis=axis)
        got = quantize(host_gpu.put(x), q, state=state, words=WORDS, k_axis=axis)
        compare(got, want)
    for x in bad(name) if cut is None else ():
        q = replace(QUANTIZERS_OF_RULES[name], tail="pad_zero")
        compare(quantize(host_gpu.put(x), q, words=WORDS), ref.quantize(x, q, words=WORDS))


def compare(got: Any, want: Any) -> None:
    for kind in (np.float32, np.float64):
        assert np.array_equal(np.array(got.dequantize(kind)), want.dequantize(kind), equal_nan=True)
    here = got.host()
    same(here, want)
    assert (here.zero is None) == (want.zero is None)
    assert want.zero is None or np.array_equal(here.zero, want.zero)
    assert repr(here.aux) == repr(want.aux)
