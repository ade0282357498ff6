"""States of delayed scaling on the device, without a GPU (host_gpu): those of `lpref.ref.quantize.update_state`, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import host_gpu
import numpy as np
import pytest

from lpref.accel.cuda.delayed import Delayed
from lpref.accel.cuda.qtensor import Counters, Observed
from lpref.ref.quantize import init_state, lookup, update_state

PLACES = {
    "a": lookup("fp8_tensor:history=delayed:window=3"), "b": lookup("fp8_tensor:format=e5m2:history=delayed:window=16:algo=most_recent"),
    "c": lookup("fp8_tensor:history=delayed:window=300:margin=2"), "current": lookup("fp8_tensor"),
    "unseen": lookup("fp8_tensor:history=delayed:window=5"),
}  # fmt: skip
AMAXES = np.float32([0, 1e-45, 1e-38, 1e-3, 0.7, 1, 7, 448, 1e5, 3e38, np.inf, np.nan])


@pytest.fixture(scope="module", autouse=True)
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with host_gpu.in_place(tmp_path_factory.mktemp("host")):
        yield


def seen(*amaxes: np.float32) -> list[Observed]:
    """Observations as kernels leave them, one a micro-batch."""
    found = []
    for amax in amaxes:
        counters = Counters.take()
        counters.row[2] = np.float32(amax).view(np.uint32)
        found.append(Observed(counters, 1))
    return found


def test_states_follow_the_definition() -> None:
    by, rng = Delayed(PLACES), np.random.default_rng(5)
    states = {place: init_state(q) for place, q in PLACES.items() if place != "current"}
    assert by.places == ("a", "b", "c", "unseen")
    assert by.holds(states)
    assert not by.holds({"current": {}})
    told, start = host_gpu.put(np.zeros((2, 9), np.uint32)), 5
    for step in range(60):
        if step in (0, 40):
            by.renew(states)
        applied, slot = step % 7 != 6, step % 2
        observed = {place: seen(*rng.choice(AMAXES, 2)) for place in ("a", "b", "c", "current")}
        fed, verdict = (host_gpu.put(np.array(words, np.uint32)) for words in ([9, slot], [applied, 1, 0]))
        assert by.update(observed, verdict, fed, told, start)
        found = by.seen(observed, told.get()[slot, start:])
        assert set(found) == {"a", "b", "c"}
        if applied:
            with np.errstate(all="ignore"):
                after = {place: update_state(PLACES[place], state, observed.get(place, ())) for place, state in states.items()}
                same(after, {place: update_state(PLACES[place], state, found.get(place, ())) for place, state in states.items()})
            states = after
        for place in by.places:
            assert by.scale(place).get().view(np.uint32) == np.float32(states[place]["scale"]).view(np.uint32), (step, place)


def same(one: dict[str, Any], other: dict[str, Any]) -> None:
    for place in one:
        for key in ("scale", "history"):
            np.testing.assert_array_equal(np.asarray(one[place][key]).view(np.uint32), np.asarray(other[place][key]).view(np.uint32))


def test_what_is_no_longer_on_the_device() -> None:
    by = Delayed(PLACES)
    assert by.scale("current") is None
    assert not by.update({"a": [{"amax": np.float32(1)}]}, None, None, None, 0)
    assert by.update({}, None, None, None, 0)
    assert Delayed({"current": PLACES["current"]}).holds({})


def test_a_mirror_is_written_once() -> None:
    by, states = Delayed(PLACES), {place: init_state(q) | {"scale": np.float32(9)} for place, q in PLACES.items() if place != "current"}
    by.renew(states)
    by.scale("a")[...] = 3
    by.renew(states)
    assert float(by.scale("a").get()[0]) == 3
    by.renew(dict(states))
    assert float(by.scale("a").get()[0]) == 9
