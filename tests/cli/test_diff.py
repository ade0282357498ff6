from __future__ import annotations

import json
import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import lpref.conformance
from lpref.cli.main import main

FOREIGN = str(Path(__file__).parents[1] / "conformance" / "targets" / "foreign.py")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["diff", *arguments])


def test_a_built_in_target() -> None:
    result = run("ml_dtypes", "--format", "e4m3", "--input", "float64")
    assert result.exit_code == 0, result.output
    assert "known: ml_dtypes-float64-via-float32" in result.output


def test_a_wrong_callable_is_exit_1_with_json_and_junit(tmp_path: Path) -> None:
    junit = tmp_path / "out.xml"
    result = run(f"{FOREIGN}:truncated", "--format", "bfloat16", "--overflow", "to_infinity", "--trace", "--json", "--junit", str(junit))
    assert result.exit_code == 1
    (report,) = json.loads(result.stdout)
    assert report["status"] == "unexplained"
    assert report["examples"][0]["trace"]
    suite = ET.parse(junit).getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("1", "1", "0")
    failure = suite.find("testcase/failure")
    assert failure is not None
    assert "first difference" in (failure.text or "")


def test_failing_targets_are_exit_1_and_missing_ones_2(tmp_path: Path) -> None:
    options = ("--op", "cast", "--format", "bfloat16")
    junit = tmp_path / "out.xml"
    result = run(f"{FOREIGN}:raises", *options, "--junit", str(junit))
    assert (result.exit_code, "RuntimeError: no such kernel" in result.output) == (1, True)
    assert ET.parse(junit).getroot().get("errors") == "1"
    assert run("no_such_module:f", *options).exit_code == 2
    assert run(f"{FOREIGN}:hangs", *options, "--timeout", "1").exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("ml_dtype",), "did you mean ml_dtypes?"),
        (("ml_dtypes", "--format", "e4m4"), "unknown format 'e4m4'"),
        (("ml_dtypes", "--format", "int8"), "ml_dtypes implements no format=int8; it has e4m3"),
        (("ml_dtypes", "--rounding", "toward_zero"), "implements no rounding=toward_zero"),
        (("ml_dtypes", "--op", "casting"), "unknown op 'casting'"),
        (("mod:f",), "say what the target implements"),
        (("mod:f", "--op", "cast"), "--op cast needs --format NAME"),
        (("mod:f", "--quantizer", "mxfp4", "--layout", "tiled"), "unknown layout 'tiled'"),
        (("mod:f", "--quantizer", "mxfp5"), "did you mean 'mxfp4'"),
        (("mod:f", "--quantizer", "mxfp4", "--format", "e4m3"), "give one of the two"),
    ],
)
def test_bad_input_is_exit_2(arguments: tuple[str, ...], text: str) -> None:
    result = run(*arguments)
    assert (result.exit_code, text in result.output) == (2, True), result.output


def test_identify() -> None:
    result = run(f"{FOREIGN}:truncated", "--op", "cast", "--format", "bfloat16", "--overflow", "to_infinity", "--identify", "--json")
    (report,) = json.loads(result.stdout)
    best = report["identification"]["matches"][0]
    assert any(s["rounding"] == "toward_zero" for s in best["settings"]), best


C_SOURCE = """
#include "lpref_target.h"
#include <string.h>
int bf16(const void *x, int64_t rows, int64_t cols, uint8_t *codes, uint8_t *scales, float *tensor_scale) {
  for (int64_t i = 0; i < rows * cols; i++) {
    uint32_t b; uint16_t c;
    memcpy(&b, (const float *)x + i, 4);
    c = (b & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : (b + 0x7fff + (b >> 16 & 1)) >> 16;
    memcpy(codes + 2 * i, &c, 2);
  }
  return 0;
}
int zero(const void *x, int64_t rows, int64_t cols, uint8_t *codes, uint8_t *scales, float *tensor_scale) { return 0; }
int unpacked(const void *x, int64_t rows, int64_t cols, uint8_t *codes, uint8_t *scales, float *tensor_scale) {
  for (int64_t i = 0; i < rows * cols; i++) codes[i] = 1;
  return 0;
}
int fails(const void *x, int64_t rows, int64_t cols, uint8_t *codes, uint8_t *scales, float *tensor_scale) { return 7; }
lpref_target *const checked[] = {bf16, zero, unpacked, fails};
"""


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
def test_a_c_function(tmp_path: Path) -> None:
    (tmp_path / "t.c").write_text(C_SOURCE)
    include = str(Path(lpref.conformance.__path__[0]))
    subprocess.run(["gcc", "-O1", "-shared", "-fPIC", f"-I{include}", "-o", str(tmp_path / "t.so"), str(tmp_path / "t.c")], check=True)
    options = ("--format", "bfloat16", "--overflow", "to_infinity")
    assert run(f"lib:{tmp_path}/t.so:bf16", *options).exit_code == 0
    result = run(f"lib:{tmp_path}/t.so:fails", *options)
    assert (result.exit_code, "returned 7" in result.output) == (1, True)
    result = run(f"lib:{tmp_path}/t.so:zero", "--quantizer", "mxfp4")
    assert result.exit_code == 1
    assert "UNEXPLAINED" in result.output
    result = run(f"lib:{tmp_path}/t.so:unpacked", "--quantizer", "mxfp4")
    assert result.exit_code == 1
    assert "bytes of codes of a" in result.output
    assert "pack 4-bit codes as lpref_target.h says" in result.output
    result = run(f"lib:{tmp_path}/t.so:absent", "--quantizer", "mxfp4")
    assert result.output.count(f"lib:{tmp_path}/t.so:absent") == 2  # the head, and the place of the error once


def test_list_targets() -> None:
    rows = json.loads(CliRunner().invoke(main, ["list", "targets", "--json"]).stdout)
    assert {r["name"] for r in rows} >= {"ml_dtypes", "torch", "torchao", "qtorch", "cuda_headers"}
