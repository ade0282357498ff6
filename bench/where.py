"""Where figures of a GPU come from: device, versions, commit, date."""

from __future__ import annotations

import time
from typing import Any

import cupy as cp
import numpy as np

from lpref.accel.cuda import nvrtc
from lpref.trainer.environment import commit, package_version


def about(**more: Any) -> dict[str, Any]:
    """Of this process's device; `more` stands beside it. torch and jax where they are installed."""
    peers = {name: version for name in ("torch", "jax") if (version := package_version(name))}
    return {
        "device": cp.cuda.runtime.getDeviceProperties(0)["name"].decode(), "driver": cp.cuda.runtime.driverGetVersion(),
        "nvrtc": ".".join(map(str, nvrtc.version())), "cupy": cp.__version__, "numpy": np.__version__, **peers, **stamp(), **more,
    }  # fmt: skip


def stamp() -> dict[str, Any]:
    """The commit that is measured, and the day."""
    return {"commit": commit(), "date": time.strftime("%Y-%m-%d", time.gmtime())}
