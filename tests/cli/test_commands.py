"""The command line: exit codes, one-line errors, JSON, examples in every help."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import click
import numpy as np
import pytest

from lpref.cli.main import COMMANDS, main

from .conftest import run


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_ends_with_two_runnable_examples(name: str) -> None:
    result = run(name, "--help")
    assert result.exit_code == 0
    examples = result.output.split("Examples:\n")[1].strip().splitlines()
    assert len(examples) >= 2
    for line in examples:
        command = main.get_command(None, name)  # type: ignore[arg-type]
        words = shlex.split(line.split("lpref ", 1)[1].split(")")[0].split(" > ")[0])
        assert words[0] == name
        if isinstance(command, click.Group):
            command = command.commands[words[1]]
        known = {flag for parameter in command.params for flag in parameter.opts}  # type: ignore[union-attr]
        assert {w for w in words if w.startswith("-")} <= known, line


def test_version_has_the_numerics_hash() -> None:
    from lpref.conformance.numerics import numerics_hash

    assert run("--version").output.split()[-1] == numerics_hash()


def test_train_ends_with_the_report_and_json_parses(folder: Path) -> None:
    result = run("train", "tiny.yaml", "-o", "out")
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[-1] == "out/report.html"
    assert (folder / "out" / "report.html").exists()
    result = run("train", "tiny.yaml", "--json")
    found = json.loads(result.stdout)
    assert found["status"] == "done"
    assert found["run"] == "runs/tiny-mxfp8-1-1"
    assert json.loads(run("train", "tiny.yaml", "--json").stdout)["run"] == "runs/tiny-mxfp8-1-2"


BAD = {
    "train tiny.yaml -s model.layer=2": "model.layer: no such field; did you mean 'layers'",
    "train tiny.yaml -s train.steps=many": "train.steps: expected an integer, got 'many'",
    "train tiny.yaml -s train.steps=0": "steps: 0 is below 1",
    "train tiny.yaml -s train.batch=1e30": "train.batch",
    "train tiny.yaml -s optimizer.lr=-1": "lr: -1",
    "train tiny.yaml -s optimizer.kind=adam": "optimizer: unknown optimizer 'adam'; did you mean 'adamw'",
    "train tiny.yaml -s schedule=cosin": "schedule.kind: unknown 'cosin'",
    "train tiny.yaml -s recipe=nvfp": "unknown recipe 'nvfp'; did you mean 'nvfp4'",
    "train tiny.yaml -s recipe.linear.wgrad.transfrom=none": "did you mean 'transform'",
    "train tiny.yaml -s numerics=exactly": "numerics: unknown 'exactly'; did you mean 'exact'",
    "train tiny.yaml -s data.name=digits": "a gpt does not read images",
    "train tiny.yaml -s data.name=text:missing.txt": "missing.txt: text file does not exist",
    "train tiny.yaml -s model.context=100000": "the training part has 3168 tokens, a window needs 100001",
    "train tiny.yaml -s nonsense": "not of the form key.path=value",
    "train tiny.yaml -s train.micro_batches=3": "do not divide a batch of 2",
    "train tiny.yaml --ranks 4": "--ranks 4",
    "train tiny.yaml -o text.txt": "a file is in the way",
    "train tiny.yaml -o /proc/nothing/here": "/proc/nothing",
    "train nothing.yaml": "nothing.yaml: no such file",
    "train train/defualt": "did you mean 'train/default'",
    "train text.txt": "text.txt",
    "train --resume nowhere": "no such run folder",
    "train --resume .": "not a run folder",
    "train tiny.yaml --resume nowhere": "takes the spec from DIR",
    "compare tiny.yaml --recipes fp32,fp32": "none twice",
    "compare tiny.yaml --recipes fp32,mxfp9": "unknown recipe 'mxfp9'",
    "sweep tiny.yaml": "grid: missing",
    "generate nowhere": "not a run folder",
    "eval nowhere": "not a run folder",
    "report nowhere": "not a run folder",
    "list format": "did you mean 'formats'",
    "show e4m33": "did you mean 'e4m3'",
    "show nvfp4 --diff e4m3": "",
    "inspect text.txt": "is not a tensor file",
    "quantize text.txt -o x.npz --quantizer nvfp4": "is not a tensor file",
    "cite nothing_at_all": ", …",
    "tarin": "unknown command 'tarin'; did you mean 'train'",
}


@pytest.mark.parametrize("line", BAD)
def test_bad_input_is_exit_2_with_one_error(folder: Path, line: str) -> None:
    before = sorted(p.name for p in folder.iterdir())
    result = run(*shlex.split(line))
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.stderr
    assert BAD[line] in result.stderr
    assert sorted(p.name for p in folder.iterdir()) == before  # nothing written


def test_all_problems_of_a_spec_at_once(folder: Path) -> None:
    result = run(
        "train", "tiny.yaml", "-s", "model.layer=2", "-s", "train.step=3", "-s", "optimizer.betas=5", "-s", "numerics=x", "-s", "recipe=mxfp44"
    )
    assert result.exit_code == 2
    for field in ("model.layer", "train.step", "optimizer.betas", "numerics", "recipe: unknown recipe 'mxfp44'"):
        assert field in result.stderr
    assert result.stderr.startswith("error: tiny.yaml:\n")


def test_debug_shows_the_traceback(folder: Path) -> None:
    from lpref.ref.errors import LprefError

    for arguments in (("--debug", "show", "zzz"), ("show", "zzz", "--debug")):
        assert isinstance(run(*arguments).exception, LprefError)


def test_divergence_is_exit_1(folder: Path) -> None:
    sets = ["model={kind: mlp, hidden: [8, 8]}", "data.name=digits", "optimizer={kind: sgd, lr: 1e30}", "recipe=fp32"]
    result = run("train", "tiny.yaml", *(word for s in sets for word in ("-s", s)), "-o", "out")
    assert result.exit_code == 1, result.output
    assert "first non-finite tensor" in result.stderr
    assert json.loads((folder / "out" / "metrics.jsonl").read_text().splitlines()[-1])["end"] == "diverged"


def test_generate_and_eval(trained: Path, folder: Path) -> None:
    a = run("generate", str(trained / "a"), "--prompt", "the ", "-n", "20", "--temperature", "0")
    assert a.exit_code == 0, a.output
    assert a.stdout.startswith("the ")
    assert (
        a.stdout
        == run(
            "generate", str(trained / "a"), "--prompt", "the ", "-n", "20", "--temperature", "0", "--seed", "9"
        ).stdout
    )
    hot = [run("generate", str(trained / "a"), "-n", "20", "--seed", seed).stdout_bytes for seed in ("1", "1", "2")]
    assert hot[0] == hot[1] != hot[2]
    found = json.loads(run("eval", str(trained / "a"), "--json").stdout)
    metrics = [json.loads(line) for line in (trained / "a" / "metrics.jsonl").read_text().splitlines()]
    assert found["bits_per_byte"] == next(m for m in reversed(metrics) if "valid" in m)["valid"]["bits_per_byte"]
    other = json.loads(run("eval", str(trained / "a"), "--data", "text.txt", "--windows", "2", "--json").stdout)
    assert other["data"] == "text:text.txt"
    assert run("eval", str(trained / "a"), "--data", "digits").exit_code == 2


def test_doctor_cite_schema_completion() -> None:
    found = json.loads(run("doctor", "--json").stdout)
    assert found["ok"]
    assert {b["name"]: b["present"] for b in found["backends"]}["reference"]
    assert all(b["why"] for b in found["backends"])
    assert "numerics" in run("cite", "lpref").output
    assert "2509.25149" in run("cite", "nvfp4").output
    for kind in ("train", "recipe", "quantizer"):
        assert json.loads(run("schema", kind).stdout)["$schema"]
    assert "_LPREF_COMPLETE" in run("completion", "bash").output


def test_inspect_and_quantize(folder: Path) -> None:
    np.save("w.npy", np.random.default_rng(0).standard_normal((8, 64)).astype(np.float32))
    rows = json.loads(run("inspect", "w.npy", "--quantizer", "nvfp4,mxfp4", "--json").stdout)
    assert [r["quantizer"] for r in rows] == ["nvfp4", "mxfp4"]
    assert run("inspect", "w.npy", "--csv").stdout.startswith("tensor,dtype,shape,amax")
    np.save("nan.npy", np.full((8, 64), np.nan, np.float32))
    assert json.loads(run("inspect", "nan.npy", "--quantizer", "mxfp4", "--json").stdout)[0]["sqnr_db"] == "nan"
    assert run("quantize", "w.npy", "-o", "q.safetensors", "--quantizer", "mxfp4").exit_code == 0
    assert run("quantize", "w.npy", "-o", "q.safetensors", "--quantizer", "mxfp4").exit_code == 2


SMALL = ("-s", "model={kind: gpt, layers: 2, d_model: 32, heads: 1, ffn: 32, context: 16}", "-s", "train.steps=2", "-s", "train.sample=8",
         "-s", "data={name: 'text:text.txt', valid_windows: 3}", "--backend", "reference")  # fmt: skip


def test_train_without_a_spec_is_the_pair(folder: Path) -> None:
    result = run("train", *SMALL, "-o", "out")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[-1] == "out/report.html"
    for words in (
        "  nvfp4 ",
        "  bf16 ",
        "  gap ",
        "  order-2 ",
        "share of GEMM FLOPs in FP4: fprop ",
        "a sample of nvfp4:",
    ):
        assert any(line.startswith(words) for line in lines), words
    page = Path("out/report.html").read_text()
    assert "gap_percent" in page
    assert "order2_bits_per_byte" in page
    shares = json.loads(run("train", *SMALL, "-o", "json", "--json").stdout)["fp4_share"]
    assert set(shares) == {"fprop", "dgrad", "wgrad", "all"}
    assert 0.2 < shares["all"] < 0.8  # the last of two blocks and the head are exempt


def test_a_pair_resumes_as_a_pair(folder: Path) -> None:
    import shutil

    assert run("train", *SMALL, "-o", "out").exit_code == 0
    shutil.rmtree("out/bf16")
    before = Path("out/nvfp4/metrics.jsonl").stat().st_mtime_ns
    result = run("train", "--resume", "out")
    assert result.exit_code == 0, result.output
    assert Path("out/nvfp4/metrics.jsonl").stat().st_mtime_ns == before
    assert json.loads(Path("out/bf16/metrics.jsonl").read_text().splitlines()[-1])["end"] == "done"
    assert run("train", *SMALL, "-s", "recipe=bf16", "-o", "single").exit_code == 0
    assert Path("single/spec.yaml").exists()
