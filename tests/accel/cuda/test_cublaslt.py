"""Products by cuBLASLt without a GPU: what a descriptor is told, which algorithm is kept, and what surrounds the launch."""

from __future__ import annotations

import ctypes
import itertools
import re
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import host_gpu
import numpy as np
import pytest
from kernel_check import Place, cuda_place
from kernel_draw import Draw
from kernel_products import stored

from lpref.accel.cuda import algorithms, blas, cublaslt, device, epilogue, fp8, trials
from lpref.accel.cuda.cublaslt import Plan, Product, Result, Side
from lpref.accel.cuda.trials import Timed, Trial
from lpref.ref.errors import BackendError
from lpref.ref.linalg import gemm


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with host_gpu.in_place(tmp_path_factory.mktemp("host")):
        yield cuda_place()


class Library:
    """Stands for cuBLASLt: notes what it is told; `proposed` algorithms are numbered, number 1 is refused at launch."""

    def __init__(self, proposed: int = 3) -> None:
        self.proposed, self.told, self.made, self.accepted = proposed, [], 0, 0

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any) -> int:
            self.told.append((name, args))
            if name.endswith("Create"):
                self.made += 1
                args[0]._obj.value = self.made
            if name == "cublasLtMatmulAlgoGetHeuristic":
                for i in range(self.proposed):
                    args[8][i].algorithm[0], args[8][i].workspace = i, 1000 * i
                args[9]._obj.value = self.proposed
            if name == "cublasLtMatmul":
                return 13 if ctypes.c_uint64.from_address(args[12]).value == 1 else 0
            return self.accepted if name == "cublasLtMatmulAlgoCheck" else 0

        return call

    def attributes(self, function: str) -> dict[int, int]:
        """Number -> value that was set."""
        return {args[1]: args[2]._obj.value for name, args in self.told if name == function}

    def cublasLtGetVersion(self) -> int:
        return 130100


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    found = Library()
    monkeypatch.setattr(cublaslt, "library", lambda: found)
    cublaslt.handle.cache_clear()
    monkeypatch.setattr(algorithms, "_plans", {})
    yield found
    cublaslt.handle.cache_clear()


FP8 = Product(32, 48, 64, Side("e5m2", True, 64, 0, "vector128"), Side("e4m3", True, 64, 0, "block128"), device_alpha=True)


def test_what_a_descriptor_is_told(library: Library) -> None:
    plan = Plan(FP8, 0)
    told = library.attributes("cublasLtMatmulDescSetAttribute")
    places = {17: cublaslt.PLACE, 18: cublaslt.PLACE}
    assert told == {3: 1, 4: 0, 2: 1, 31: 5, 32: 4} | places  # A is the right side, turned; alpha on the device; BLK128x128 and VEC128
    made = [tuple(getattr(a, "value", a) for a in args[1:]) for name, args in library.told if name == "cublasLtMatrixLayoutCreate"]
    assert made == [(28, 64, 48, 64), (29, 64, 32, 64), (0, 48, 32, 48)]
    assert next(args[1:] for name, args in library.told if name == "cublasLtMatmulDescCreate") == (68, 0)
    assert plan.launch(1, 2, 3, 4, 5, alpha=96, left_scale=7, right_scale=8) == 0
    told = library.attributes("cublasLtMatmulDescSetAttribute")
    assert (told[17], told[18]) == (8, 7)
    args = library.told[-1][1]
    assert [args[i] for i in (2, 3, 5, 7, 8, 10, 13, 15)] == [96, 2, 1, 100, 3, 3, 4, 5]


def test_a_bias_is_told_at_each_launch(library: Library) -> None:
    plan = Plan(Product(32, 48, 64, Side("bfloat16", True, 64), Side("bfloat16", True, 64), "bfloat16", bias=True), 0)
    assert library.attributes("cublasLtMatmulDescSetAttribute") == {3: 1, 4: 0, 7: 4, 8: cublaslt.PLACE}
    assert plan.launch(1, 2, 3, 4, 5, bias=99) == 0
    assert library.attributes("cublasLtMatmulDescSetAttribute")[8] == 99


LAYOUTS = [(True, True, (1, 0)), (True, False, (0, 0)), (False, False, (0, 1)), (False, True, (1, 1))]


@pytest.mark.parametrize(("left", "right", "operations"), LAYOUTS)
def test_operations_and_layouts_describe_the_arrays(left: bool, right: bool, operations: tuple[int, int]) -> None:
    """Columns first, with the operation, each side is the matrix that is meant."""
    m, n, k = 3, 4, 5
    a, b = np.arange(m * k, dtype=float).reshape(m, k), np.arange(k * n, dtype=float).reshape(k, n)
    stored_a, stored_b = (a if left else a.T.copy()), (b.T.copy() if right else b)
    p = Product(m, n, k, Side("float32", left, stored_a.shape[1]), Side("float32", right, stored_b.shape[1]))
    told = {name: value.value for name, value in cublaslt.description(p)}
    assert (told["a_operation"], told["b_operation"]) == operations
    found = []
    for raw, (_, rows, columns, pitch, _), turned in zip((stored_b, stored_a), cublaslt.layouts(p), operations, strict=False):
        matrix = np.lib.stride_tricks.as_strided(raw.ravel(), (rows, columns), (8, 8 * pitch))
        found.append(matrix.T if turned else matrix)
    assert np.array_equal((found[0] @ found[1]).T, a @ b)


def test_int8_batches_and_whole_sums(library: Library) -> None:
    plan = Plan(Product(8, 16, 32, Side("int8", True, 32, 256), Side("int8", True, 32, 512), "int32", 5, split=False), 0)
    assert next(args[1:] for name, args in library.told if name == "cublasLtMatmulDescCreate") == (72, 10)
    assert (plan.one.value, type(plan.one)) == (1, ctypes.c_int32)
    steps = [args[2]._obj.value for name, args in library.told if name == "cublasLtMatrixLayoutSetAttribute" and args[1] == 6]
    assert steps == [512, 256, 128]
    assert [r.workspace for r in plan.candidates(1500)] == [0, 1000]
    assert library.attributes("cublasLtMatmulPreferenceSetAttribute") == {1: 1500, 3: 0, 5: 256, 6: 256, 7: 256, 8: 256}


def test_the_result_is_as_long_as_the_library_writes() -> None:
    assert ctypes.sizeof(Result) == 96


def test_statuses_are_named() -> None:
    cublaslt.check(0, "x")
    with pytest.raises(BackendError, match=r"product 7: status 15 \(not supported\)"):
        cublaslt.check(15, "product 7")


@pytest.fixture
def trial(library: Library, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[SimpleNamespace]:
    """`algorithms` on that library: number -> time, and the numbers that do not repeat or leave other bits than number 0."""
    case = SimpleNamespace(times={0: 5.0, 2: 3.0}, restless={2}, other=set(), path=tmp_path / "products.json", plan=None)

    def launch(plan: Plan, stream: int) -> int:
        case.plan = plan
        return plan.launch(1, 2, 3, 4, 5)

    def quick(trial: Trial, code: bytes, workspace: int) -> Timed | None:
        trial.plan.take(code, workspace)
        return None if launch(trial.plan, 0) else Timed(case.times[code[0]], code, workspace)

    def repeated(trial: Trial, one: Timed) -> str | None:
        return None if one.code[0] in case.restless else "bits"

    monkeypatch.setattr(algorithms, "path", lambda: case.path)
    monkeypatch.setattr(algorithms, "SMALL", 0)
    monkeypatch.setattr(algorithms, "_refuse_capture", lambda *a: None)
    monkeypatch.setattr(Trial, "quick", quick)
    monkeypatch.setattr(Trial, "timer", lambda trial, one: lambda: case.times[one.code[0]])
    monkeypatch.setattr(Trial, "repeated", repeated)
    monkeypatch.setattr(Trial, "same", lambda trial, want: int(trial.plan.algorithm[0]) not in case.other)
    cp = SimpleNamespace(cuda=SimpleNamespace(get_current_stream=lambda: SimpleNamespace(ptr=0)))
    monkeypatch.setattr(device, "cupy", lambda: cp)
    monkeypatch.setattr(device, "general", nullcontext)
    case.launch = launch
    algorithms.kept.cache_clear()
    yield case
    algorithms.kept.cache_clear()


def test_the_fastest_that_repeats_is_kept(library: Library, trial: SimpleNamespace) -> None:
    """Of three candidates one fails at launch, the fastest does not repeat; the third is kept, on disk too, and taken from there without a trial."""
    assert algorithms.chosen(FP8, 0, None, trial.launch).algorithm[0] == 0
    entry = algorithms.read(trial.path)[FP8.name]
    assert (entry["us"], entry["us_proposed"], entry["proposed"], entry["algorithm"]) == (5.0, 5.0, 3, "00" * 64)
    algorithms.kept.cache_clear()
    library.told.clear()
    assert algorithms.chosen(FP8, 0, None, trial.launch).algorithm[0] == 0
    assert not [name for name, _ in library.told if "Heuristic" in name or name == "cublasLtMatmul"]
    library.accepted = 7  # an algorithm that this library no longer takes is chosen anew
    algorithms.kept.cache_clear()
    algorithms.chosen(FP8, 0, None, trial.launch)
    assert [name for name, _ in library.told if "Heuristic" in name]


def test_a_small_product_takes_the_favourite(library: Library, trial: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is launched, nothing is kept; where the library proposes none without a cut, it is tried as any other."""
    monkeypatch.setattr(algorithms, "SMALL", FP8.m * FP8.n * FP8.k * FP8.count)
    library.told.clear()
    assert algorithms.chosen(FP8, 0, None, trial.launch).algorithm[0] == 0
    assert not [name for name, _ in library.told if name == "cublasLtMatmul"]
    assert algorithms.read(trial.path) == {}
    library.proposed = 0
    with pytest.raises(BackendError, match="no algorithm for"):
        algorithms.chosen(FP8, 0, None, trial.launch)


def test_a_long_product_takes_a_neighbour_of_the_same_bits(trial: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """From number 0 (50 µs) the entries lead to 12 (20 µs, other bits), 13 (30 µs), and from there to 24 (29.9 µs: too little), 25 (28 µs)."""
    trial.times |= {0: 50.0, 2: 60.0, 11: 80.0, 12: 20.0, 13: 30.0, 23: 31.0, 24: 29.9, 25: 28.0}
    trial.other |= {12}
    monkeypatch.setattr(cublaslt, "capabilities", lambda code: {"custom": [2], "tile": [3]})
    monkeypatch.setattr(cublaslt, "CLUSTERS", (1,))
    steps = {0: {"cluster": 11, "custom": 12, "tile": 13}, 13: {"cluster": 23, "custom": 24, "tile": 25}}

    def altered(code: bytes, name: str, value: int) -> bytes | None:
        return steps.get(code[0], {}).get(name, code[0]).to_bytes(1, "little") + code[1:]

    monkeypatch.setattr(cublaslt, "altered", altered)
    plan = algorithms.chosen(FP8, 0, None, trial.launch)
    entry = algorithms.read(trial.path)[FP8.name]
    assert (plan.algorithm[0], entry["us"], entry["us_proposed"]) == (25, 28.0, 50.0)


def test_what_looked_fastest_once_is_timed_again_in_turns(trial: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Number 0 is measured at 50 µs three times and at 53 in the rounds, number 2 at 51: close enough to be a finalist, and the winner."""
    trial.times |= {0: 50.0, 2: 51.0}
    trial.restless = set()
    seen: list[int] = []

    def timer(case: Trial, one: Timed) -> Any:
        def measured() -> float:
            seen.append(one.code[0])
            return 53.0 if one.code[0] == 0 and seen.count(0) > 3 else trial.times[one.code[0]]

        return measured

    monkeypatch.setattr(Trial, "timer", timer)
    monkeypatch.setattr(cublaslt, "capabilities", lambda code: {"custom": [], "tile": []})
    monkeypatch.setattr(cublaslt, "CLUSTERS", ())
    assert algorithms.chosen(FP8, 0, None, trial.launch).algorithm[0] == 2
    assert seen[6:] == [0, 2] * trials.ROUNDS_SHORT
    assert algorithms.read(trial.path)[FP8.name]["us"] == 51.0


def test_none_that_serves_is_an_error(library: Library) -> None:
    library.proposed = 0
    with pytest.raises(BackendError, match="no algorithm for 32 48 64 x1: e5m2 k 64 0 vector128 256; e4m3 k 64 0 block128 256 -> float32 256 alpha"):
        trials.tried(Plan(FP8, 0), None, lambda plan, stream: 0, 1000)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"products": {"a": {"algorithm": "00"}}}', '{"products": {"a": {"algorithm": 3}}}'])
def test_a_damaged_file_has_no_entries(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    assert algorithms.read(tmp_path / "x.json") == {}
    assert algorithms.read(tmp_path / "missing.json") == {}


def test_names_tell_products_apart() -> None:
    either = (True, False)
    sides = [Side(*s) for s in itertools.product(("e4m3", "bfloat16"), either, (64, 128), (0, 3), ("", "vector"), (16, 256))]
    others = (sides[:1], ("float32", "bfloat16"), (1, 2), either, either, either, (16, 256), either)
    made = [Product(32, 48, 64, *rest) for rest in itertools.product(sides, *others)]
    assert len({p.name for p in made}) == len(set(made)) == len(made)
    assert all(re.fullmatch(r"[\w :;>-]+", p.name) for p in made)


UNITS = [
    ("fp8_tensor", "fp8_tensor", "fp8"), ("fp8_tensor", "fp8_tensor:format=e5m2", "fp8"),
    ("fp8_tensor:format=e5m2", "fp8_tensor:format=e5m2", "bfloat16"), ("fp8_row", "fp8_row", "fp8"), ("fp8_row", "fp8_tensor", "bfloat16"),
    ("fp8_tile1x128", "fp8_block128", "fp8"), ("fp8_block128", "fp8_block128", "fp8"), ("fp8_tile1x128", "fp8_tensor", "float32"),
    ("fp8_deepgemm", "fp8_deepgemm", "bfloat16"), ("int8_row", "int8_tensor", "int8"), ("int8_switchback", "int8_row", "int8"),
    ("mxint8", "mxint8", "bfloat16"), ("nvfp4", "nvfp4_2d", "bfloat16"), ("bf16", "bf16", "bfloat16"),
    ("fp16", "fp16", "binary16"), ("fp16", "bf16", "float32"), ("mxfp8_e4m3", "fp8_tensor", "bfloat16"), ("int4_group", "int8_row", "float32"),
]  # fmt: skip


@pytest.mark.parametrize(("one", "other", "unit"), UNITS)
def test_units(place: Place, monkeypatch: pytest.MonkeyPatch, one: str, other: str, unit: str) -> None:
    a, b = (place.there(x) for x in stored(Draw(1), one, other, 32, 48, 256))
    monkeypatch.setattr(fp8, "_capability", lambda: "90")
    assert blas.unit_of(a, b, 256) == unit
    monkeypatch.setattr(fp8, "_capability", lambda: "80")
    assert blas.unit_of(a, b, 256) != "fp8"
    odd = [place.there(x) for x in stored(Draw(1), one, other, 5, 7, 33)]
    assert blas.unit_of(*odd, 33) not in ("fp8", "int8")


@pytest.mark.parametrize("shape", [(4, 4), (128, 128), (64, 260), (132, 16), (300, 148)])
def test_codes_are_turned(place: Place, shape: tuple[int, int]) -> None:
    a, _ = stored(Draw(2), "fp8_tensor", "fp8_tensor", shape[1], 4, shape[0], (0, 1))
    assert np.array_equal(place.here(fp8.along_k(place.there(a))), a.codes.T)


def unspread(mode: str, held: np.ndarray, other: int, depth: int) -> np.ndarray:
    """The scale of every element [other, K], from what cuBLASLt reads in a mode."""
    o, k = np.arange(other)[:, None], np.arange(depth)[None, :] // 128
    return held.reshape(-1)[k * other + o] if mode == "vector128" else held.reshape(-1)[o // 128 * (-(-depth // 512) * 4) + k]


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(("name", "mode"), [("fp8_tile1x128", "vector128"), ("fp8_block128", "block128"), ("fp8_block128", "vector128")])
def test_block_scales_lie_where_they_are_read(place: Place, axis: int, name: str, mode: str) -> None:
    for other, depth in ((260, 384), (128, 512), (16, 128)):
        t, _ = stored(Draw(3), name, name, other, 4, depth, (axis, 1))
        grid = t.scale_values() if axis else t.scale_values().T
        want = np.repeat(np.repeat(grid, t.quantizer.blocks.other, 0)[:other], 128, 1)[:, :depth]
        held = place.here(fp8._scales(place.there(t), mode, depth)).view(np.float32)
        assert np.array_equal(unspread(mode, held, other, depth), want)


@pytest.mark.parametrize("names", [("int8_row", "int8_tensor"), ("int8_switchback", "int8_row"), ("int8_tensor", "int8_tensor")])
@pytest.mark.parametrize("shape", [(5, 7), (12, 16), (3, 260)])
def test_the_epilogue_of_integer_sums_is_the_definitions(place: Place, names: tuple[str, str], shape: tuple[int, int]) -> None:
    a, b = stored(Draw(4), *names, *shape, 400)
    sums = (a.element_values() @ b.element_values().T).astype(np.int32)
    out = place.put(sums.view(np.float32))
    epilogue.finish(out, [blas._constant_scales(place.there(x)) for x in (a, b)], True)
    assert np.array_equal(place.here(out), gemm(a, b))
