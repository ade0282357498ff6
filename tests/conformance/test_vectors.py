"""Vectors: what is written, what is refused when read, and that other languages can run them."""

from __future__ import annotations

import json
import shutil
import subprocess
import zlib
from fractions import Fraction
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from click.testing import CliRunner
from oracle.rounding import finite_code, place
from oracle.table import make

import lpref
from lpref.accel.cpu.cast import encode
from lpref.cli.main import main
from lpref.conformance.proves import proves
from lpref.conformance.targets.base import CastCase, TargetRefused
from lpref.conformance.vectors import answering, export, run, shipped
from lpref.conformance.vectors.digests import CHUNK, digest
from lpref.conformance.vectors.files import LIMIT, SUMS, read, schema
from lpref.ref.errors import SpecError, UnknownNameError

EXAMPLES = Path(shipped.__file__).parents[1] / "examples"
CASTS = [f"cast-{name}-nearest_even-saturate" for name in shipped.FORMATS]


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("vectors")
    export(folder, formats=["e2m1", "e4m3"], quantizers=["mxfp4"], max_cases=300)
    return folder


def test_the_shipped_set_is_what_is_generated(tmp_path) -> None:
    shipped.write(tmp_path)
    names = sorted(p.name for p in shipped.DATA.iterdir())
    assert sorted(p.name for p in tmp_path.iterdir()) == names
    assert sum(p.stat().st_size for p in shipped.DATA.iterdir()) <= LIMIT
    for name in names:
        assert (tmp_path / name).read_bytes() == (shipped.DATA / name).read_bytes(), f"{name}: run python -m lpref.conformance.vectors.shipped"


def test_every_line_fits_the_schema(small) -> None:
    validator = jsonschema.Draft202012Validator(schema())
    for path in [*small.glob("*.jsonl"), *shipped.DATA.glob("*.jsonl")]:
        for line in path.read_text().splitlines()[:40]:
            validator.validate(json.loads(line))
        assert path.stat().st_size <= LIMIT


@pytest.mark.parametrize("name", [n for n in shipped.FORMATS if n not in ("ue4m3",)])
@proves("{name}", "vectors")
def test_the_outputs_are_the_oracle_s(name: str) -> None:
    s, table = read(shipped.DATA / f"cast-{name}-nearest_even-saturate.jsonl"), make(name)
    assert {"special", "range", "smallest", "value", "spread"} <= {c["catches"] for c in s.cases}
    seen = 0
    for c in s.cases:
        x = float(np.uint32(int(c["in"], 16)).view(np.float32))
        if np.isfinite(x) and x != 0:
            seen += 1
            assert int(c["out"], 16) == finite_code(table, place(table, Fraction(x)), "nearest_even")[0], c
    assert seen > 0.9 * len(s.cases) - 12


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_own_backends_pass(backend: str, small) -> None:
    for folder in (small, shipped.DATA):
        results = run(folder, answering(backend))
        assert all(r.passed for r in results), results
        assert sum(r.cases for r in results) > 1000


def test_a_wrong_cast_fails_and_says_what_was_caught() -> None:
    def away(case, arrays):
        return {"codes": encode(arrays["x"], case.format, "nearest_away")} if case.op == "cast" else answering("cpu")(case, arrays)

    failed = {r.file: r for r in run(shipped.DATA, away) if not r.passed}
    assert "cast-e4m3-nearest_even-saturate" in failed
    assert "of 'tie', which catches a wrong tie rule" in failed["cast-e4m3-nearest_even-saturate"].first


def test_a_wrong_quantizer_fails_and_targets_may_refuse() -> None:
    def stale(case, arrays):
        if case.op == "cast":
            raise TargetRefused("no casts")
        got = dict(answering("cpu")(case, arrays))
        if case.op == "gemm":
            return got
        got["scales"] = np.roll(got["scales"], 1, axis=1)
        return got

    results = {r.file: r for r in run(shipped.DATA, stale)}
    assert results[CASTS[0]].refused.startswith("refused")
    assert "scales[" in results["quantize-mxfp4"].first


def edit(folder: Path, tmp_path: Path, change, *, checksums: bool = True) -> Path:
    """A copy of one file with its lines changed, the sums mended or not."""
    path = tmp_path / f"{CASTS[0]}.jsonl"
    lines = change((folder / path.name).read_text().splitlines())
    if checksums:
        head, body = json.loads(lines[0]), "".join(line + "\n" for line in lines[1:])
        lines = [json.dumps({**head, "crc32": f"{zlib.crc32(body.encode()):08x}"}), *lines[1:]]
    path.write_text("".join(line + "\n" for line in lines))
    return tmp_path


def head(**fields):
    return lambda lines: [json.dumps({**json.loads(lines[0]), **fields}), *lines[1:]]


@pytest.mark.parametrize(
    ("change", "checksums", "says"),
    [
        (head(lpref_vectors=2), True, "header.lpref_vectors: 2, expected 1"),
        (head(op="sort"), True, "header.op"),
        (head(revision=7), True, "header.revision: 7, this version defines 1"),
        (head(subject="e9m9"), True, "header.subject"),
        (head(count=3), True, "header.count: 3, the file has"),
        (head(colour="red"), True, "header.colour: unknown field"),
        (lambda lines: [lines[0], lines[1].replace('"out":"0x', '"out":"'), *lines[2:]], True, "line 2.out"),
        (lambda lines: [lines[0], lines[1].replace('"out"', '"oot"'), *lines[2:]], True, "line 2.out: missing"),
        (lambda lines: [lines[0], "{", *lines[2:]], True, "line 2: not JSON"),
        (lambda lines: [*lines[:-1], lines[-1].replace("0x", "0x0")], False, "header.crc32"),
    ],
)
def test_bad_files_are_refused_and_nothing_is_run(change, checksums: bool, says: str, tmp_path) -> None:
    folder = edit(shipped.DATA, tmp_path, change, checksums=checksums)
    asked = []
    with pytest.raises(SpecError, match=says.replace("[", r"\[")):
        run(folder, lambda case, arrays: asked.append(case) or {})
    assert not asked


def test_sums_and_empty_folders(tmp_path) -> None:
    with pytest.raises(SpecError, match="no vectors"):
        run(tmp_path, answering("cpu"))
    for path in shipped.DATA.iterdir():
        shutil.copy(path, tmp_path)
    (tmp_path / "LICENSE").write_text("mine")
    with pytest.raises(SpecError, match="LICENSE: checksum differs"):
        run(tmp_path, answering("cpu"))
    (tmp_path / "LICENSE").unlink()
    with pytest.raises(SpecError, match="LICENSE: missing"):
        run(tmp_path, answering("cpu"))


def test_npz_holds_the_same(tmp_path, small) -> None:
    export(tmp_path, formats=["e2m1"], quantizers=["mxfp4"], max_cases=300, form="npz")
    s = read(small / "cast-e2m1-stochastic-saturate.jsonl")
    with np.load(tmp_path / "cast-e2m1-stochastic-saturate.npz") as arrays:
        assert arrays["in"].tolist() == [int(c["in"], 16) for c in s.cases]
        assert arrays["word"].tolist() == [int(c["word"], 16) for c in s.cases]
        assert arrays["out"].dtype == np.uint8
        assert json.loads(bytes(arrays["header"]))["subject"] == "e2m1"
    with np.load(tmp_path / "quantize-mxfp4.npz") as arrays:
        t = lpref.quantize(arrays["in_0"].view(np.float32), "mxfp4", backend="reference")
        assert np.array_equal(t.unpacked(), arrays["codes_0"])
        assert np.array_equal(t.scales[0], arrays["scales_0"])


def test_exports_refuse_what_has_no_vectors(tmp_path) -> None:
    with pytest.raises(SpecError, match="stop at 16 bits"):
        export(tmp_path, formats=["float32"])
    with pytest.raises(SpecError, match="its scale is a state"):
        export(tmp_path, quantizers=["int4_learned"])
    with pytest.raises(SpecError, match="auto: no vectors: it stands for exact or sequential"):
        export(tmp_path, models=["auto"])
    with pytest.raises(UnknownNameError, match="accumulation model"):
        export(tmp_path, models=["hopper"])
    with pytest.raises(UnknownNameError, match="npz"):
        export(tmp_path, form="npy")
    with pytest.raises(UnknownNameError, match="op"):
        export(tmp_path, ops=["sort"])
    with pytest.raises(SpecError, match="max_cases"):
        export(tmp_path, max_cases=0)


def test_digests_are_of_the_codes(monkeypatch) -> None:
    monkeypatch.setattr("lpref.conformance.vectors.digests.PATTERNS", 0x3F9 * CHUNK)  # up to 1.5
    found = digest(CastCase("e4m3"))
    assert len(found["crc32"]) == 0x3F9
    for at in (0, 0x3BF, 0x3F8):
        x = np.arange(at * CHUNK, (at + 1) * CHUNK, dtype=np.uint32).view(np.float32)
        assert found["crc32"][at] == f"{zlib.crc32(encode(x, 'e4m3').tobytes()):08x}"


def built(source: str, tmp_path: Path, *include: str) -> Path:
    if shutil.which("gcc") is None:
        pytest.skip("this machine has no gcc to compile the C example")
    program = tmp_path / source.removesuffix(".c")
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-O2", *include]
    subprocess.run(["gcc", *flags, str(EXAMPLES / source), "-o", str(program)], check=True)
    return program


def test_the_c_example_runs_the_header(tmp_path) -> None:
    export(tmp_path, formats=["e4m3", "e2m1"], form="c-header")
    done = subprocess.run([built("run_vectors.c", tmp_path, "-I", str(tmp_path))], capture_output=True, text=True)
    assert (done.returncode, done.stdout.split(":")[0]) == (0, "e4m3 revision 1, nearest_even, saturate"), done
    text = (tmp_path / "lpref_vectors.h").read_text()
    (tmp_path / "lpref_vectors.h").write_text(text.replace("0x38,", "0x39,", 1))
    done = subprocess.run([built("run_vectors.c", tmp_path, "-I", str(tmp_path))], capture_output=True, text=True)
    assert done.returncode == 1, done


def test_the_c_example_proves_digests(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("lpref.conformance.vectors.digests.PATTERNS", 1000 * CHUNK)
    export(tmp_path, formats=["e4m3"], form="digests", policies=(("nearest_even", "saturate"),))
    path = tmp_path / "digests-e4m3-nearest_even-saturate.json"
    program = built("prove_digests.c", tmp_path)
    done = subprocess.run([program, path, "40"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "0 of 40 digests differ\n"), done
    data = json.loads(path.read_text())
    data["crc32"][3] = "00000000"
    path.write_text(json.dumps(data))
    assert subprocess.run([program, path, "40"], capture_output=True).returncode == 1
    assert subprocess.run([program], capture_output=True).returncode == 2


def test_the_javascript_example_runs_the_lines(tmp_path) -> None:
    if shutil.which("node") is None:
        pytest.skip("this machine has no node to run the JavaScript example")
    done = subprocess.run(["node", EXAMPLES / "run_vectors.js", shipped.DATA], capture_output=True, text=True)
    assert (done.returncode, done.stdout.count(": 0 of ")) == (0, 3), done
    path = edit(shipped.DATA, tmp_path, lambda lines: [*lines[:-1], lines[-1].replace('"out":"0x', '"out":"0x1')])
    assert subprocess.run(["node", EXAMPLES / "run_vectors.js", path], capture_output=True).returncode == 1
    assert subprocess.run(["node", EXAMPLES / "run_vectors.js", tmp_path / "none"], capture_output=True).returncode == 2


def test_examples_are_short() -> None:
    for path in EXAMPLES.iterdir():
        assert len(path.read_text().splitlines()) <= 60, path


def test_the_commands(tmp_path) -> None:
    folder = tmp_path / "v"
    invoke = CliRunner().invoke
    done = invoke(main, ["vectors", "export", str(folder), "--format", "e2m1", "--max-cases", "100"])
    assert done.exit_code == 0, done.output
    assert (folder / SUMS).is_file()
    assert invoke(main, ["vectors", "export", str(folder), "--format", "e2m1"]).exit_code == 2
    assert invoke(main, ["vectors", "export", str(folder), "--format", "e2m1", "--max-cases", "50", "--overwrite"]).exit_code == 0
    done = invoke(main, ["vectors", "run", str(folder), "--target", "cpu"])
    assert done.exit_code == 0, done.output
    done = invoke(main, ["vectors", "run", str(folder), "--target", "reference", "--json"])
    assert all(row["passed"] for row in json.loads(done.output))
    (folder / "cast-e2m1-nearest_even-saturate.jsonl").write_text("{}\n")
    done = invoke(main, ["vectors", "run", str(folder), "--target", "cpu"])
    assert done.exit_code == 2
    assert "checksum differs" in done.output
    assert invoke(main, ["vectors", "export", str(tmp_path / "w"), "--format", "e9m99"]).exit_code == 2
    assert "Examples" in invoke(main, ["vectors", "--help"]).output
