"""Every registered kernel of the cpu backend against its reference, under its contract, in both grades.

A kernel belongs here the moment it is in the table: `test_every_op_has_cases` fails for one that has none.
"""

from __future__ import annotations

import pytest
from kernel_cases import CASES
from kernel_check import check

import lpref
from lpref.accel.cpu import KERNELS
from lpref.accel.reference import reference_ops

ATTENTION = ("attention", "attention_backward", "attention_packed", "attention_packed_backward")
PRODUCTS = ("operand", "gemm", "gemms", "matmul", *ATTENTION)  # the ops that differ between the grades


def test_every_op_has_cases() -> None:
    assert set(CASES) == set(reference_ops("exact"))
    assert set(CASES) >= set(KERNELS) | set(PRODUCTS)


@pytest.mark.parametrize("numerics", ["exact", "fast"])
@pytest.mark.parametrize("op", CASES)
def test_kernel_keeps_its_contract(op, numerics) -> None:
    if numerics == "fast" and op not in PRODUCTS:
        fast, exact = (lpref.backend("cpu", grade).kernels[op] for grade in ("fast", "exact"))
        assert (fast.function, fast.contract) == (exact.function, exact.contract)
        return
    check(lpref.backend("cpu", numerics).kernels[op])
