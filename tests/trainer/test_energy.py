"""The energy counter through a library that stands for NVML, and what runs and reports make of it."""

from __future__ import annotations

import ctypes
import json
from types import SimpleNamespace

import pytest

from lpref.trainer import doctor, energy, loop
from lpref.trainer.api import train
from lpref.trainer.energy import Counter, Meter, NoEnergy
from lpref.trainer.run import Run

SMALL = {
    "model__layers": 1, "model__d_model": 32, "model__ffn": 48, "model__context": 16, "train__batch": 2, "data__valid_windows": 2, "train__sample": 0,
    "backend": "cpu", "recipe": "fp32", "train__log_every": 2, "train__steps": 4,
}  # fmt: skip


def nvml(joules: list[float], address: bytes = b"0000:3B:00.0") -> SimpleNamespace:
    """A library whose counter says these one after the other; the last stays."""

    def handle(asked: bytes, card: object) -> int:
        return 0 if asked == address else 6

    def total(card: object, out: object) -> int:
        now = joules.pop(0) if len(joules) > 1 else joules[0]
        ctypes.cast(out, ctypes.POINTER(ctypes.c_ulonglong)).contents.value = round(1000 * now)
        return 0

    return SimpleNamespace(nvmlInit_v2=lambda: 0, nvmlDeviceGetHandleByPciBusId_v2=handle, nvmlDeviceGetTotalEnergyConsumption=total)


def test_the_counter_is_that_of_the_card() -> None:
    assert Counter("0000:3B:00.0", nvml([12.5])).joules() == 12.5
    with pytest.raises(NoEnergy, match="not found"):
        Counter("0000:5E:00.0", nvml([1.0]))


def test_what_is_missing_is_said_and_is_no_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "LIBRARY", "libno-such-library.so.1")
    with pytest.raises(NoEnergy, match=r"libno-such-library\.so\.1 was not found"):
        Counter("0000:3B:00.0")
    old = nvml([1.0])
    del old.nvmlDeviceGetTotalEnergyConsumption
    with pytest.raises(NoEnergy, match="the library lacks it"):
        Counter("0000:3B:00.0", old)
    refusing = nvml([1.0])
    refusing.nvmlDeviceGetTotalEnergyConsumption = lambda card, out: 3
    with pytest.raises(NoEnergy, match="not supported by this card"):
        Counter("0000:3B:00.0", refusing)
    assert Meter(None).read(100) == {}
    assert energy.meter(SimpleNamespace(name="cpu")).read(1) == {}


def test_a_card_that_stops_answering_has_no_figure() -> None:
    library = nvml([1.0])
    meter = Meter(Counter("0000:3B:00.0", library))
    library.nvmlDeviceGetTotalEnergyConsumption = lambda card, out: 15
    assert meter.read(10) == {}


def test_the_meter_counts_from_its_start_and_goes_on_after_a_resume(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = [100.0]
    monkeypatch.setattr(energy.time, "perf_counter", lambda: seconds[0])
    meter = Meter(Counter("0000:3B:00.0", nvml([50.0, 50.0, 80.0])))
    seconds[0] = 102.0
    first = meter.read(60)
    assert first == {"joules": 30.0, "watts": 15.0, "joules_per_token": 0.5}
    again = Meter(Counter("0000:3B:00.0", nvml([0.0, 0.0, 10.0])))
    again.goes_on([{"step": 1, **first}, {"step": 2}])
    seconds[0] = 104.0
    assert again.read(20) == pytest.approx({"joules": 40.0, "watts": 10.0, "joules_per_token": 0.5})


def test_records_of_short_steps_do_not_wait_for_the_counter(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = [100.0]
    monkeypatch.setattr(energy.time, "perf_counter", lambda: seconds[0])
    meter = Meter(Counter("0000:3B:00.0", nvml([50.0, 50.0, 80.0, 90.0])))
    seconds[0] += energy.APART / 2
    assert meter.read(60, sparing=True) == {}
    assert meter.read(60)["joules"] == 30.0
    seconds[0] += energy.APART
    assert meter.read(60, sparing=True)["joules"] == 40.0


def test_runs_record_it_and_report_it(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = [float(i) for i in range(100, 200)]
    monkeypatch.setattr(loop, "meter", lambda backend: Meter(Counter("0000:3B:00.0", nvml(counted))))
    run = train("train/ci_gpt", out=tmp_path / "run", quiet=True, **SMALL)
    figures = [r["joules"] for r in run.records if "joules" in r]
    assert "joules" in run.records[-1]
    assert figures == sorted(figures)
    assert figures[0] > 0
    assert run.summary()["joules"] == figures[-1]
    assert run.summary()["joules_per_token"] == pytest.approx(figures[-1] / (4 * 2 * 16))
    assert "<th>joules_per_token</th>" in (tmp_path / "run" / "report.html").read_text()


def test_runs_without_a_counter_have_no_such_field(tmp_path) -> None:
    train("train/ci_gpt", out=tmp_path / "run", quiet=True, **SMALL)
    assert not any("joules" in json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    assert not set(Run(tmp_path / "run").summary()) & {"joules", "watts"}


def test_the_doctor_says_whether_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    from lpref.accel.cuda import device

    assert doctor.energy() == "" or "energy counter" in doctor.energy()
    monkeypatch.setattr(device, "usable", lambda: True)
    monkeypatch.setattr(device, "pci_address", lambda: "0000:3B:00.0")
    monkeypatch.setattr(energy, "library", lambda: nvml([1234.0]))
    assert doctor.energy() == "energy counter: 1,234 J since the driver was loaded"
