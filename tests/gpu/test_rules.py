"""Every scale rule on the device against the definitions: codes, all levels of scales, zero points, observations, values; bits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cupy as cp
import numpy as np
import pytest
from device_cases import same
from rule_cases import QUANTIZERS_OF_RULES, WORDS, bad, cases

from lpref.accel.cuda.quantize import quantize
from lpref.ref import quantize as ref


@pytest.mark.parametrize("name", QUANTIZERS_OF_RULES)
def test_rules(name: str) -> None:
    for x, q, state, axis in cases(name):
        want = ref.quantize(x, q, state=state, words=WORDS, k_axis=axis)
        compare(quantize(cp.asarray(x), q, state=state, words=WORDS, k_axis=axis), want)
    for x in bad(name):
        q = replace(QUANTIZERS_OF_RULES[name], tail="pad_zero")
        compare(quantize(cp.asarray(x), q, words=WORDS), ref.quantize(x, q, words=WORDS))


def compare(got: Any, want: Any) -> None:
    for kind in (np.float32, np.float64):
        assert np.array_equal(got.dequantize(kind).get(), want.dequantize(kind), equal_nan=True)
    here = got.host()
    same(here, want)
    assert (here.zero is None) == (want.zero is None)
    assert want.zero is None or np.array_equal(here.zero, want.zero)
    assert repr(here.aux) == repr(want.aux)
