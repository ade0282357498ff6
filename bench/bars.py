"""The bars of the GPU in one table: `results/h200.json` and its section of docs/gpu.md, computed from the other results of one H200.

Run: PYTHONPATH=src python bench/bars.py (bench/take.py takes over what a run has measured). Each bar names the file that its figure comes from,
the rows of it, and what is computed of them: a share, a quotient of two rows of one file, a least of many. No figure stands here. What nothing has
measured yet has no figure and is not met. `--check` writes nothing and fails where a file is not what this page would write (tests/test_bars.py).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results"
TABLE, PAGE = RESULTS / "h200.json", ROOT / "docs" / "gpu.md"
BEGIN, END = "<!-- bars: written by bench/bars.py -->", "<!-- /bars -->"
VERSIONS = ("device", "driver", "nvrtc", "cupy", "torch", "jax", "cublasLt", "numpy")
QUEUED, RATIO, SHARE = "queued_ms", "× torch", "% of copy"
Rows = list[Mapping[str, Any]]


class Absent(Exception):
    """Nothing has measured this yet."""


@dataclass(frozen=True)
class Bar:
    """`figure` gives the number and the rows that it is made of, or raises Absent; of the file `results/source_h200.json`, which `command` writes."""

    part: str
    name: str
    bar: float
    unit: str
    source: str
    figure: Callable[[], tuple[float, Rows]]
    most: bool = False
    """The figure may be at most the bar; else it has to be at least that."""
    strict: bool = False


@cache
def held(source: str) -> Mapping[str, Any]:
    """A result file; empty where it is not there."""
    path = RESULTS / f"{source}_h200.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def row(source: str, /, **wanted: Any) -> Mapping[str, Any]:
    """The newest row with these entries. Raises: Absent."""
    rows = held(source).get("rows") or held(source).get("figures") or []
    for one in reversed(rows):
        if all(one.get(key) == value for key, value in wanted.items()):
            return one
    raise Absent(f"{source}: {wanted}")


def share(source: str, /, **wanted: Any) -> Callable[[], tuple[float, Rows]]:
    """The share of the copy's bandwidth."""

    def found() -> tuple[float, Rows]:
        one = row(source, **wanted)
        return one["share_of_copy_%"], [one]

    return found


def product(name: str, key: str = "op", what: str = "times_torch") -> Callable[[], tuple[float, Rows]]:
    """Of a product's row."""

    def found() -> tuple[float, Rows]:
        one = row("products", name=name)
        if key not in one.get(what, {}):
            raise Absent(name)
        return one[what][key], [one]

    return found


def layers(least: bool) -> Callable[[], tuple[float, Rows]]:
    """Of the 24 products of layers: the least ratio, or torch's time in all over ours."""

    def found() -> tuple[float, Rows]:
        rows = [one for one in held("products").get("rows", []) if one["name"].split()[-1] in ("fprop", "dgrad", "wgrad")]
        if len(rows) != 24:
            raise Absent("the 24 products of layers")
        if least:
            return min(one["times_torch"]["op"] for one in rows), rows
        return sum(one["us"]["torch"] for one in rows) / sum(one["us"]["op"] for one in rows), rows

    return found


def attention(shape: tuple[int, ...], how: str, part: str) -> Callable[[], tuple[float, Rows]]:
    """Time of torch's FlashAttention-2 over ours."""

    def found() -> tuple[float, Rows]:
        one = row("attention", shape=list(shape))
        return one["us"]["torch FA2"][part] / one["us"][how][part], [one]

    return found


def over(spec: str, above: str, below: str, key: str = QUEUED) -> Callable[[], tuple[float, Rows]]:
    """`key` of one recipe or peer over that of another, in the file of steps, at the newest commit that has both."""

    def found() -> tuple[float, Rows]:
        rows = held("step").get("figures", [])
        of = [one["commit"] for one in rows if (one["spec"], one["recipe"]) == (f"bench/{spec}", above) and key in one]
        for commit in reversed(of):
            with suppress(Absent):
                one, other = (row("step", spec=f"bench/{spec}", recipe=recipe, commit=commit) for recipe in (above, below))
                if key in other:
                    return one[key] / other[key], [one, other]
        raise Absent(f"{key} of {above} and {below} of {spec} at one commit")

    return found


def seconds(name: str) -> Callable[[], tuple[float, Rows]]:
    """Of a whole run."""

    def found() -> tuple[float, Rows]:
        one = row("start", name=name)
        return one["seconds"], [one]

    return found


def quantizer_bars() -> Iterator[Bar]:
    """Shares of the copy's bandwidth; of rows of integers the newer of two scripts has them."""
    part = "Quantizers, bfloat16 sources where nothing else is said"
    for name, label, bar in (("fp8_tensor", "FP8 tensor", 92), ("mxfp8_e4m3", "MXFP8", 92), ("int8_row", "INT8 row", 92), ("nvfp4", "NVFP4", 90)):
        yield Bar(part, f"{label}, to nearest", bar, SHARE, "quantizers", share("quantizers", name=name))
        again = name == "int8_row" and held("blocks")
        found = {"source": "bfloat16", "name": f"{name}:rounding=stochastic"} if again else {"name": f"{name}:rounding=stochastic"}
        source = "blocks" if again else "quantizers"
        yield Bar(part, f"{label}, stochastic", 80, SHARE, source, share(source, **found))
    for kind in ("bfloat16", "float32"):
        both = share("blocks", name="mxfp8_e4m3, both", source=kind)
        yield Bar(part, f"MXFP8, rows and columns in one pass, {kind}", 80, SHARE, "blocks", both)
        both = share("blocks", name="nvfp4:rounding=stochastic, both", source=kind)
        yield Bar(part, f"NVFP4 with RHT, stochastic, rows and columns in one pass, {kind}", 55, SHARE, "blocks", both)


def product_bars() -> Iterator[Bar]:
    """`op` is the backend's gemm, bfloat16 out (INT8: float32)."""
    part, big = "Products, through the op", "8192^3"
    yield Bar(part, "8192³ bf16", 1.0, RATIO, "products", product(f"{big} bf16"))
    yield Bar(part, "8192³ FP8, scales of tensors", 1.05, RATIO, "products", product(f"{big} e4m3 x e4m3, scalar"))
    yield Bar(part, "8192³ FP8, rows × columns", 1.05, RATIO, "products", product(f"{big} e4m3 x e4m3, vector"))
    fast = "8192³ FP8, scales of tensors, fast accumulation (plan alone)"
    yield Bar(part, fast, 1.05, RATIO, "products", product(f"{big} e4m3 x e4m3, scalar, fast accumulation", "bare"))
    yield Bar(part, "8192³ INT8, rows × columns", 1.6, RATIO, "products", product(f"{big} int8, rows and columns"))
    blocks = product(f"{big} e4m3 x e4m3, vector128 block128", what="TFLOP/s")
    yield Bar(part, "8192³ FP8, 1 × 128 by 128 × 128", 1100, "TFLOP/s", "products", blocks)
    yield Bar(part, "24 products of layers, the least", 0.97, RATIO, "products", layers(True))
    yield Bar(part, "24 products of layers, together", 1.05, RATIO, "products", layers(False))


def attention_bars() -> Iterator[Bar]:
    """Of bfloat16 arrays, with operands of bfloat16 as torch has them, and with the two halves that recipes ask for."""
    part, long = "Attention beside torch's FlashAttention-2", (4, 16, 4096, 128)
    cases = [((32, 4, 128, 32), "both", 1.0), ((64, 6, 256, 64), "both", 1.0), ((16, 12, 1024, 64), "both", 0.8)]
    cases += [(long, "forward", 0.8), (long, "both", 0.6)]
    for how, said in (("bfloat16", "operands of bfloat16"), ("mixed", "as recipes ask for it")):
        for shape, what, bar in cases:
            label = f"{shape}, {'forward + backward' if what == 'both' else what}, {said}"
            yield Bar(part, label, bar, RATIO, "attention", attention(shape, how, what))


def step_bars() -> Iterator[Bar]:
    """Queued steps of one process; ours below a peer's, recipes beside our bf16."""
    part, models = "Training step, bf16, queued, beside torch's whole step as one graph", (("micro", 1.0), ("nano", 1.0), ("gpt2_163m", 0.95))
    for name, bar in models:
        yield Bar(part, name, bar, RATIO, "step", over(name, "whole_step", "bf16"))
    yield Bar(part, "micro, beside torch.compile's own graphs", 3.0, RATIO, "step", over("micro", "compile_graphs", "bf16"))
    part = "Training step, recipes beside our bf16"
    yield Bar(part, "gpt2_163m, fp8_delayed", 1.1, "× bf16's speed", "step", over("gpt2_163m", "bf16", "fp8_delayed"))
    yield Bar(part, "gpt2_163m, fp8_current", 1.05, "× bf16's speed", "step", over("gpt2_163m", "bf16", "fp8_current"))
    for name, bar in (("micro", 1.8), ("nano", 1.4), ("gpt2_163m", 1.25)):
        yield Bar(part, f"{name}, nvfp4", bar, "× bf16's time", "step", over(name, "nvfp4", "bf16"), most=True)
    part = "Memory and start"
    yield Bar(part, "gpt2_163m, what the device has less", 0.9, RATIO, "step", over("gpt2_163m", "bf16", "whole_step", "device_gib"), most=True)
    yield Bar(part, "gpt2_163m, peak of tensors", 0.9, RATIO, "step", over("gpt2_163m", "bf16", "whole_step", "peak_gib"), most=True)
    for name, bar in (("cold", 20), ("warm", 8)):
        yield Bar(part, f"lpref train train/default, {name}", bar, "s", "start", seconds(name), most=True, strict=True)


COMMANDS = {
    "quantizers": "bench/bench_cuda.py", "blocks": "bench/blocks_device.py", "products": "bench/products_device.py",
    "attention": "bench/attention_device.py", "step": "bench/step_device.py", "start": "bench/start_device.py",
}  # fmt: skip
"""Which script writes a result file."""


def bars() -> list[Bar]:
    """All of them, in the table's order."""
    return [*quantizer_bars(), *product_bars(), *attention_bars(), *step_bars()]


def entry(bar: Bar) -> dict[str, Any]:
    """A row of the table."""
    out: dict[str, Any] = {"part": bar.part, "name": bar.name, "bar": bar.bar, "direction": "at most" if bar.most else "at least"}
    out["direction"] = "below" if bar.strict else out["direction"]
    try:
        figure, rows = bar.figure()
    except Absent:
        return {**out, "figure": None, "unit": bar.unit, "met": False, "script": COMMANDS[bar.source]}
    about = about_of(held(bar.source))
    figure = float(f"{figure:.4g}")
    met = figure < bar.bar if bar.strict else figure <= bar.bar if bar.most else figure >= bar.bar
    return {
        **out, "figure": figure, "unit": bar.unit, "met": met, "script": COMMANDS[bar.source],
        "commit": joined(one.get("commit", about.get("commit")) for one in rows),
        "date": joined(one.get("date", about.get("date")) for one in rows), "versions": {key: about[key] for key in VERSIONS if key in about},
    }  # fmt: skip


def about_of(file: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a file says of all of its rows."""
    return file.get("about", file)


def joined(found: Iterable[Any]) -> str:
    """The different ones, in order."""
    return ", ".join(dict.fromkeys(str(one) for one in found if one))


def table() -> dict[str, Any]:
    """What `results/h200.json` holds."""
    rows = [entry(bar) for bar in bars()]
    return {"about": "every bar of the GPU, computed by bench/bars.py from the other results", "met": sum(r["met"] for r in rows), "rows": rows}


def number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:g}" if value >= 100 else f"{value:.4g}"


def section(made: Mapping[str, Any]) -> str:
    """The table as Markdown: a part after the other, misses marked."""
    lines = [f"{made['met']} of {len(made['rows'])} bars are met; the others stand out."]
    part = None
    for one in made["rows"]:
        if one["part"] != part:
            part = one["part"]
            lines += ["", f"| {part} | bar | figure | | commit, date |", "|---|---|---|---|---|"]
        sign = {"at least": "≥", "at most": "≤", "below": "<"}[one["direction"]]
        shown = number(one["figure"]) if one["met"] else f"**{number(one['figure'])}**"
        where = f"{one['commit']}, {one['date']}" if one.get("commit") else ""
        lines.append(f"| {one['name']} | {sign} {one['bar']:g} | {shown} | {one['unit']} | {where} |")
    versions: dict[str, str] = {}
    for one in made["rows"]:
        versions |= {key: joined([*versions.get(key, "").split(", "), value]) for key, value in one.get("versions", {}).items()}
    lines += ["", "Versions: " + "; ".join(f"{key} {value}" for key, value in versions.items()) + ".", ""]
    return "\n".join([*lines, *steps()])


def steps() -> list[str]:
    """The steps that the figures above come from, and the others, as Markdown."""
    lines = ["| spec | recipe or peer | a wait a step, ms | queued, ms | million tokens a second | device, GiB | commit |", "|---|" + "---|" * 6]
    rows = held("step")["figures"]
    tokens = {one["spec"]: one["tokens"] for one in rows if "tokens" in one}
    for one in sorted(rows, key=lambda one: list(tokens).index(one["spec"])):
        rate, memory = tokens[one["spec"]] / one[QUEUED] / 1e3, one.get("device_gib")
        cells = [one["spec"], one.get("peer", one["recipe"]), f"{one['synchronised_ms']:.2f}", f"{one[QUEUED]:.2f}", f"{rate:.2f}"]
        lines.append(f"| {' | '.join([*cells, f'{memory:.1f}' if memory else '', one['commit']])} |")
    return lines


def placed(page: str, text: str) -> str:
    """The page with its section replaced."""
    head, _, rest = page.partition(BEGIN)
    _, found, tail = rest.partition(END)
    if not found:
        raise SystemExit(f"{PAGE} has no section {BEGIN} … {END}")
    return f"{head}{BEGIN}\n\n{text}\n\n{END}{tail}"


def main(arguments: list[str] | None = None) -> int:
    chosen = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    chosen.add_argument("--check", action="store_true")
    made = table()
    wanted = {TABLE: json.dumps(made, indent=1, ensure_ascii=False) + "\n", PAGE: placed(PAGE.read_text(encoding="utf-8"), section(made))}
    if chosen.parse_args(arguments).check:
        stale = [str(path.relative_to(ROOT)) for path, text in wanted.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
        print(f"not what bench/bars.py writes: {', '.join(stale)}" if stale else "up to date")
        return int(bool(stale))
    for path, text in wanted.items():
        path.write_text(text, encoding="utf-8")
    print(section(made))
    return 0


if __name__ == "__main__":
    sys.exit(main())
