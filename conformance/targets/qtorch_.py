"""QPyTorch: `float_quantize(t, exp, man, "nearest")`, `fixed_point_quantize(t, wl, fl)`, C++ built on first use (ninja, g++).

Values only. Its "nearest" breaks ties away from zero; there are no specials: every code is finite, so E4M3's largest value is 480.
"""

from __future__ import annotations

import shutil

import numpy as np

from lpref.conformance.targets.base import Case, CastCase, Target

FORMATS = {"e4m3": (4, 3), "e5m2": (5, 2), "e2m3": (2, 3), "e3m2": (3, 2), "e2m1": (2, 1)}


class Qtorch(Target):
    name = "qtorch"
    title = "QPyTorch: simulated low precision, C++"
    package = "qtorch"
    notes = "nearest_away; no specials"

    @property
    def available(self) -> str | None:
        for tool in ("ninja", "g++"):
            if shutil.which(tool) is None and not beside_python(tool):
                return f"QPyTorch builds itself with {tool}, which is not on the PATH"
        return super().available

    def prepare(self) -> None:
        """Compiles, which takes minutes the first time."""
        add_scripts_to_path()
        import qtorch.quant  # noqa: F401

    def cases(self) -> tuple[Case, ...]:
        return tuple(CastCase(f, "nearest_away") for f in FORMATS)

    def cast(self, x: np.ndarray, case: CastCase, words: np.ndarray | None = None) -> np.ndarray:
        import torch
        from qtorch.quant import float_quantize

        exponent, trailing = FORMATS[case.format]
        return np.asarray(float_quantize(torch.from_numpy(x), exp=exponent, man=trailing, rounding="nearest").numpy())


def beside_python(tool: str) -> bool:
    """Whether a tool lies beside the interpreter (a virtual environment that is not activated)."""
    import sys
    from pathlib import Path

    return (Path(sys.executable).parent / tool).is_file()


def add_scripts_to_path() -> None:
    """torch looks for ninja on the PATH."""
    import os
    import sys
    from pathlib import Path

    scripts = str(Path(sys.executable).parent)
    if scripts not in os.environ.get("PATH", "").split(os.pathsep):
        os.environ["PATH"] = scripts + os.pathsep + os.environ.get("PATH", "")
