"""Are codes constant runs, as the definition says? A Numba loop that only reads, at the speed of memory."""

from __future__ import annotations

from typing import Any

from numba import njit


@njit(nogil=True, error_model="numpy", cache=True)
def runs_hold(got: Any, bounds: Any, codes: Any) -> bool:
    """got[bounds[j] … bounds[j + 1] - 1] == codes[j] for every j; `codes` in got's dtype."""
    for j in range(codes.size):
        code = codes[j]
        differ = code ^ code
        for i in range(bounds[j], bounds[j + 1]):
            differ |= got[i] ^ code
        if differ != 0:
            return False
    return True
