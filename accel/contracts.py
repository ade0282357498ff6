"""Contracts that backends share: bounds of matrix products of grade fast."""

from __future__ import annotations

from lpref.ref.backend import Bound
from lpref.ref.linalg.bounds import fast_bound, in_output, matmul_bound

GEMM_BOUND = Bound("Higham 2002, section 3.1: |fast − exact| ≤ (γ_(K+6) + γ_(2K+6)) |a| |b|", in_output(fast_bound))
MATMUL_BOUND = Bound("Higham 2002, section 3.5: |fast − exact| ≤ 2 γ_K |a| |b|", lambda _, a, b: matmul_bound(a, b))
