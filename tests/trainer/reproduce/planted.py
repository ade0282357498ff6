"""An experiment that takes no time and agrees; its control does not hold."""

from __future__ import annotations

from typing import Any

from lpref.trainer.reproduce.experiment import Expectation

PLANTED: dict[str, Any] = {
    "name": "planted", "title": "one term more", "claim": "shrinks", "source": "none", "measure": "shrinkage",
    "common": {"rows": 64, "columns": 64}, "arms": {"coarse": {"quantizer": "mxfp4"}, "fine": {"quantizer": "mxfp8_e4m3"}},
    "expect": (Expectation(less="coarse", more="fine"),), "control": (Expectation(less="fine", more="coarse"),),
}  # fmt: skip
