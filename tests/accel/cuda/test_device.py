"""Kernels that are only listed, and compiled together (no GPU)."""

from __future__ import annotations

import pytest

from lpref.accel.cuda import device


def test_a_dry_step_launches_nothing_and_compiles_each_module_once(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[tuple] = []
    monkeypatch.setattr(device, "machine_code", lambda *key: compiled.append(key))
    monkeypatch.setattr(device, "module", lambda *key: pytest.fail("loaded"))

    def step() -> None:
        assert device.dry()
        for entry in ("one", "two"):
            kernel = device.function("toy", entry, (("LP_A", 1),))
            kernel((kernel.num_regs,), (32,), (1, 2), shared_mem=4)
        device.function("other", "one")((1,), (1,), ())

    device.compile_ahead(step)
    assert sorted(compiled) == [("other", ()), ("toy", (("LP_A", 1),))]
    assert not device.dry()
    with pytest.raises(ZeroDivisionError):
        device.compile_ahead(lambda: 1 // 0)
    assert not device.dry()


def test_a_kernel_is_loaded_at_its_first_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    launched: list[tuple] = []

    class Function:
        num_regs = 40
        max_dynamic_shared_size_bytes = 0

        def __call__(self, *args: object, **options: object) -> None:
            launched.append((self.max_dynamic_shared_size_bytes, args, options))

    class Module:
        def get_function(self, entry: str) -> Function:
            return Function()

    monkeypatch.setattr(device, "module", lambda *key: Module())
    kernel = device.Kernel("toy", "one", ())
    kernel.max_dynamic_shared_size_bytes = 1 << 16
    kernel((1,), (32,), (5,), shared_mem=9)
    assert launched == [(1 << 16, ((1,), (32,), (5,)), {"shared_mem": 9})]
    assert kernel.num_regs == 40
