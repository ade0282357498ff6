"""A run on the GPU waits for nothing of the CPU backend."""

from __future__ import annotations

import subprocess
import sys


def test_the_cuda_backend_and_the_trainer_import_no_numba() -> None:
    line = "import sys, lpref.accel.cuda.backend, lpref.trainer.commands, lpref.trainer.loop; print(*(m for m in sys.modules if 'numba' in m))"
    done = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, check=True)
    assert not done.stdout.strip()


def test_what_keeps_the_device_from_starting_is_said_by_cupy_alone() -> None:
    """`begin` fails in silence, in its thread."""
    line = "from lpref.accel.cuda import device\ndef none():\n    raise device.BackendError('none', where='here', remedy='')\n"
    line += "device.cupy = none\ndevice.begin()"
    done = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, check=True)
    assert not done.stdout + done.stderr
