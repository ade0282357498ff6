"""Schedules: values, index convention, platform-independent cosine."""

from __future__ import annotations

import itertools
import math

import pytest

from lpref.ref.errors import SpecError, UnknownNameError
from lpref.ref.optim import schedule
from lpref.ref.optim.schedule import as_mapping


def test_first_update_gets_the_first_warm_up_value() -> None:
    f = schedule("constant", lr=2.0, warmup=4)
    assert [f(i) for i in range(6)] == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]
    assert schedule("constant", lr=2.0)(10**9) == 2.0


@pytest.mark.parametrize("kind", ["linear", "cosine", "wsd"])
def test_ends(kind: str) -> None:
    f = schedule(kind, lr=3.0, warmup=10, steps=110, final_ratio=0.25)
    assert f(9) == f(10) == 3.0
    assert f(110) == f(500) == 0.75
    values = [f(i) for i in range(10, 111)]
    assert all(a >= b for a, b in itertools.pairwise(values))


def test_cosine_is_the_cosine() -> None:
    """The library cosine and ours differ by at most an ulp of 1; a few roundings more in the factor."""
    f = schedule("cosine", lr=1.0, warmup=0, steps=1000, final_ratio=0.1)
    for i in range(0, 1001, 7):
        assert abs(f(i) - (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * i / 1000)))) <= 8 * 2.0**-53
    assert f(500) == pytest.approx(0.55, abs=1e-15)


def test_cosine_bits() -> None:
    """Recorded once; every platform must give them."""
    f = schedule("cosine", lr=0.002, warmup=50, steps=1100, final_ratio=0.1)
    assert [f(i).hex() for i in (0, 50, 333, 700, 1099)] == COSINE


COSINE = ["0x1.4f8b588e368f1p-15", "0x1.0624dd2f1a9fcp-9", "0x1.bca5619defe4ap-10", "0x1.9453c864c9edfp-11", "0x1.a370585abc50ep-13"]


def test_wsd_is_stable_then_linear() -> None:
    f = schedule("wsd", lr=1.0, warmup=2, steps=100, decay_fraction=0.2)
    assert [f(i) for i in (1, 50, 80, 90, 100)] == [1.0, 1.0, 1.0, 0.5, 0.0]


def test_errors_name_the_field() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'cosine'"):
        schedule("cosin")
    with pytest.raises(UnknownNameError, match="warmup"):
        schedule("linear", warm_up=3)
    with pytest.raises(SpecError, match="steps: 0 updates leave none"):
        schedule("linear", lr=1.0)
    assert as_mapping(schedule("constant", lr=0.5))["lr"] == 0.5


@pytest.mark.peer
def test_index_convention_is_torch_lambda_lr() -> None:
    torch = pytest.importorskip("torch")
    f = schedule("linear", lr=1.0, warmup=3, steps=9)
    opt = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.LambdaLR(opt, f)
    for applied in range(9):
        assert opt.param_groups[0]["lr"] == f(applied)
        opt.step()
        theirs.step()
