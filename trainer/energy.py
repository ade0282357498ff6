"""How much energy the GPU of a run took: the driver's counter, through NVIDIA's management library (libnvidia-ml.so.1), no package needed.

The counter belongs to the card, in millijoules since the driver was loaded; what else runs on the card counts too. Reading it waits for no kernel.
Where the library, the counter or the permission is missing there is no figure, never a 0.

Source: NVIDIA Management Library (NVML) API reference, nvmlDeviceGetTotalEnergyConsumption (Volta and newer).
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LIBRARY = "libnvidia-ml.so.1"
REASONS = {1: "not initialized", 2: "invalid argument", 3: "not supported by this card", 4: "no permission", 6: "not found", 9: "driver not loaded",
           13: "the library lacks it", 15: "the card is lost", 18: "driver and library differ"}  # fmt: skip
"""nvmlReturn_t."""
APART = 0.25
"""Seconds between readings for records: each takes up to 8 ms, and the counter itself moves ten times a second."""


class NoEnergy(Exception):
    """Why there is no figure."""


def library() -> Any:
    """NVML, initialized. Raises: NoEnergy."""
    try:
        nvml = ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise NoEnergy(f"{LIBRARY} was not found") from error
    _check(nvml, "nvmlInit_v2")
    return nvml


def _check(nvml: Any, name: str, *args: Any) -> None:
    try:
        status = getattr(nvml, name)(*args)
    except AttributeError as error:
        raise NoEnergy(f"{name}: the library lacks it") from error
    if status:
        raise NoEnergy(f"{name}: {REASONS.get(status, f'error {status}')}")


class Counter:
    """The counter of the card with this PCI address, such as 0000:3B:00.0. Raises: NoEnergy where it cannot be read."""

    def __init__(self, address: str, nvml: Any = None) -> None:
        self.nvml = library() if nvml is None else nvml
        self.card = ctypes.c_void_p()
        _check(self.nvml, "nvmlDeviceGetHandleByPciBusId_v2", address.encode(), ctypes.byref(self.card))
        self.joules()

    def joules(self) -> float:
        """Since the driver was loaded."""
        found = ctypes.c_ulonglong()
        _check(self.nvml, "nvmlDeviceGetTotalEnergyConsumption", self.card, ctypes.byref(found))
        return found.value / 1000


@dataclass
class Meter:
    """What a run took, all of it: steps, evaluations, checkpoints. Before this process: what an earlier one recorded of it."""

    counter: Counter | None
    joules: float = 0.0
    seconds: float = 0.0
    tokens: float = 0.0

    def __post_init__(self) -> None:
        self.first, self.started = self._read(), time.perf_counter()

    def _read(self) -> float:
        self.last = time.perf_counter()
        try:
            return 0.0 if self.counter is None else self.counter.joules()
        except NoEnergy:
            self.counter = None  # a card that stops answering has no figure from then on
            return 0.0

    def goes_on(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Takes up what the last of a run's records says was taken."""
        last = next((r for r in reversed(records) if r.get("joules_per_token") and r.get("watts")), None)
        if last is not None:
            self.joules = last["joules"]
            self.seconds, self.tokens = self.joules / last["watts"], self.joules / last["joules_per_token"]

    def read(self, tokens: int, sparing: bool = False) -> dict[str, float]:
        """{joules, joules_per_token, watts}: in all, by the predictions of the steps, of which this process made so many, and the mean power.

        Empty where there is no counter; sparing: and within `APART` seconds of the last reading.
        """
        if sparing and time.perf_counter() - self.last < APART:
            return {}
        now = self._read()
        if self.counter is None:
            return {}
        joules, seconds, count = self.joules + now - self.first, self.seconds + time.perf_counter() - self.started, self.tokens + tokens
        return {"joules": joules, "watts": joules / seconds} | ({"joules_per_token": joules / count} if count else {})


def counter_of(backend: Any) -> Counter:
    """The counter of the device that a backend computes on. Raises: NoEnergy."""
    if backend.name != "cuda":
        raise NoEnergy(f"the {backend.name} backend has no counter")
    from lpref.accel.cuda import device

    return Counter(device.pci_address())


def meter(backend: Any) -> Meter:
    """A meter of this backend's device; one without figures where it has no counter."""
    try:
        return Meter(counter_of(backend))
    except NoEnergy:
        return Meter(None)
