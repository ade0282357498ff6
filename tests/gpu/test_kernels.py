"""Every kernel of the cuda backend against its reference, under its contract, in both grades: the cases of the cpu kernels."""

from __future__ import annotations

import pytest
from kernel_cases import CASES
from kernel_check import check, cuda_place

import lpref

CUDA = {numerics: lpref.backend("cuda", numerics) for numerics in ("exact", "fast")}


def test_every_op_is_there() -> None:
    assert set(CUDA["exact"].ops) == set(CUDA["fast"].ops) == set(CASES)


@pytest.mark.parametrize(("op", "numerics"), [(op, grade) for grade, b in CUDA.items() for op in b.ops])
def test_kernel_keeps_its_contract(op, numerics) -> None:
    kernel = CUDA[numerics].kernels[op]
    if numerics == "fast" and kernel == CUDA["exact"].kernels[op]:
        return
    check(kernel, cuda_place())
