"""The generated part of the documentation: one page per public name and per exception, and the tables of the registries.

`write(folder)` is called by conf.py before Sphinx reads its sources; what it writes is not tracked.
"""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

from experiments_table import counted, kept_results, table, verdict_of

import lpref
from lpref.ref import errors

GENERATED = ("api", "errors", "tables", "recipes", "experiments")


def write(folder: Path) -> None:
    pages = {**api_pages(), **error_pages(), **tables(), **recipe_pages(), **experiment_pages(folder.parent)}
    for name, text in pages.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
    for stale in [path for name in GENERATED for path in (folder / name).glob("*.md")]:
        if str(stale.relative_to(folder)) not in pages:
            stale.unlink()


def toctree(title: str, intro: str, names: list[str]) -> str:
    return f"# {title}\n\n{intro}\n\n```{{toctree}}\n:maxdepth: 1\n\n" + "\n".join(names) + "\n```\n"


def api_pages() -> dict[str, str]:
    """`api/NAME.md` for every name that `import lpref` gives."""
    pages = {}
    names = sorted(lpref._PUBLIC, key=str.lower)
    for name in names:
        module, attribute = lpref._PUBLIC[name]
        value = getattr(lpref, name)
        if attribute is None:
            directive = f"automodule:: {module}\n:members:\n:no-index:"
        elif inspect.isclass(value):
            directive = f"autoclass:: {module}.{attribute}\n:members:"
        else:
            directive = f"autofunction:: {module}.{attribute}"
        pages[f"api/{page_name(name, names)}.md"] = f"# `lpref.{name}`\n\n```{{eval-rst}}\n.. {indent(directive)}\n```\n"
    listed = [page_name(name, names) for name in names]
    pages["api/index.md"] = toctree("Reference", "One page for each public name of `lpref`.", listed)
    return pages


def page_name(name: str, names: list[str]) -> str:
    """File name of a page; names that differ in case only (`format`, `Format`) must not share a file."""
    twins = [other for other in names if other.lower() == name.lower()]
    return f"{name}-class" if len(twins) > 1 and name[0].isupper() else name


def indent(directive: str) -> str:
    return directive.replace("\n", "\n   ")


def error_pages() -> dict[str, str]:
    """`errors/NAME.md` for every exception."""
    classes = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, errors.LprefError)]
    pages = {
        f"errors/{c.__name__}.md": f"# `{c.__name__}`\n\n```{{eval-rst}}\n.. autoclass:: lpref.ref.errors.{c.__name__}\n   :no-index:\n```\n"
        for c in classes
    }
    intro = "Every error states invariant, values, place and remedy.\n\n```text\n" + (errors.__doc__ or "").strip() + "\n```"
    pages["errors/index.md"] = toctree("Errors", intro, [c.__name__ for c in classes])
    return pages


def tables() -> dict[str, str]:
    """`tables/*.md` from the registries."""
    from lpref.ref.formats import FORMATS
    from lpref.ref.quantize import COMPLEX_QUANTIZERS, QUANTIZERS
    from lpref.ref.rounding import OVERFLOW, ROUNDINGS

    formats = ["| name | bits | max | min normal | min subnormal | standard |", "|---|---|---|---|---|---|"]
    for name, f in FORMATS.items():
        formats.append(f"| `{name}` | {f.bits} | {f.max:.9g} | {number(f.min_normal)} | {number(f.min_subnormal)} | {f.standard} |")
    overflow = ["| preset | finite overflow | source infinity | source NaN |", "|---|---|---|---|"]
    overflow += [f"| `{name}` | {o.finite} | {o.infinity} | {o.nan} |" for name, o in OVERFLOW.items()]
    roundings = ["| name | what it does |", "|---|---|"]
    roundings += [f"| `{name}` | {first_line(r)} |" for name, r in ROUNDINGS.items()]
    quantizers = ["| name | format | block (other × k) | scale rule | scale format | rounding |", "|---|---|---|---|---|---|"]
    for name, q in (QUANTIZERS | COMPLEX_QUANTIZERS).items():
        block = f"{q.blocks.other or 'all'} × {q.blocks.k or 'all'}"
        quantizers.append(f"| `{name}` | {q.format} | {block} | {q.scale.rule} | {q.scale.format} | {q.rounding} |")
    pages = {
        "tables/formats.md": "# Formats\n\n" + "\n".join(formats) + "\n",
        "tables/roundings.md": "# Roundings and overflow\n\n" + "\n".join(roundings) + "\n\n" + "\n".join(overflow) + "\n",
        "tables/quantizers.md": "# Quantizers\n\n" + "\n".join(quantizers) + "\n",
    }
    pages["tables/index.md"] = toctree("Tables", "Written from the registries.", ["formats", "roundings", "quantizers"])
    return pages


FAMILIES = {
    "floating_point": "Floating point", "customized": "Customized formats", "qat": "Quantization-aware training", "fixed_point": "Fixed point",
    "integer": "Integer", "binary": "Binary",
}  # fmt: skip


WITHOUT = {
    "Latent Weight Quantization (TPAMI 2025)": "its abstract has 4-bit residuals in a dual code book; which one stands in the article",
    "AMPA (ICML 2024)": "bits by a layer's sensitivity; its abstract leaves open the measure and the order of updates, and names no code",
    "QFT (arXiv 2310.07147)": "weights, gradients and Lion's momentum in INT8, a few features exempt; its abstract leaves open which",
    "Campo (USENIX ATC 2022)": "picks operations for binary16 by what casts cost on one GPU; what it computes is `fp16_loss_scaled`",
    "Accumulation bit-width scaling (arXiv 1901.06588)": "a law for the width of accumulators; any is `accumulate: {base: ibm_chunk64, format: …}`",
    "FLIQS (arXiv 2308.03290)": "a search over formats, not a way to train with one: `lpref.ref.analysis.policy_search`",
    "The scaling law of QAT (arXiv 2505.14302)": "an analysis: `lpref.ref.analysis.qat_law`",
}
"""Methods of the survey that are no recipe, and why."""


def step_costs() -> dict[str, str]:
    """Recipe -> time of its step over float32's, as it was timed."""
    file = Path(__file__).resolve().parents[1] / "bench" / "results" / "recipes_cpu.json"
    rows = json.loads(file.read_text(encoding="utf-8"))["rows"] if file.exists() else []
    return {row["recipe"]: f"{row['value']:.1f} ×" + (f" ({row['note']})" if row.get("note") else "") for row in rows}


def recipe_pages() -> dict[str, str]:
    """`recipes/*.md`: the prose and the YAML of every recipe, and one table a family."""
    from lpref.specs import RECIPE, recipe
    from lpref.specs.page import recipe_prose, recipe_text

    found, costs = {name: recipe(name) for name in RECIPE.names()}, step_costs()
    pages, intro = {}, "`lpref show NAME` prints a page, `lpref train -s recipe=NAME` runs it. The last column is the time of a training step\n"
    intro += "of the default model on the CPU over that of float32; `bench/results/recipes_cpu.json` has commit, processor and what multiplies it.\n"
    for family, title in FAMILIES.items():
        rows = [f"| [{name}]({name}.md) | {r.title} | {r.source} | {costs.get(name, '')} |" for name, r in found.items() if r.family == family]
        intro += "\n".join([f"\n## {title}\n", "| name | | source | step |", "|---|---|---|---|", *rows]) + "\n"
    intro += "\n## Methods without a recipe\n\n" + "".join(f"- {name}: {why}.\n" for name, why in WITHOUT.items())
    for name, r in found.items():
        prose = "\n".join(f"**{label}.**\n\n```text\n{text}\n```\n" for label, text in recipe_prose(name).items())
        yaml = "".join(line + "\n" for line in recipe_text(name).splitlines() if not line.startswith("#"))
        head = f"# {name}: {r.title}\n\nSource: {r.source} (source level: {r.source_level}; trains: {r.trains.replace('_', ' ')}).\n"
        head += f"\nTime of a step on a CPU over float32's: {costs[name]}.\n" if name in costs else ""
        pages[f"recipes/{name}.md"] = f"{head}\n{prose}\n```yaml\n{yaml}```\n"
    pages["recipes/index.md"] = toctree("Recipes", intro, list(found))
    return pages


def experiment_pages(root: Path) -> dict[str, str]:
    """`experiments/*.md`: every experiment's claim and signs, with the results that are kept in bench/results/experiments.json."""
    from lpref.trainer.reproduce.experiment import experiment, experiment_names

    results, names = kept_results(root), experiment_names()
    pages = {f"experiments/{name}.md": experiment_page(experiment(name), results.get(name)) for name in names}
    intro = "Claims of the literature, tested at a size that a laptop holds: `lpref reproduce`. The signs stand in the files before anything runs;"
    intro += " a verdict compares 95 % intervals over the seeds with them. An experiment's controls hold whatever its claim is worth; those that"
    intro += f" came out otherwise are marked.\n\nOf {len(names)} experiments {counted(results)}.\n\n" + table(results, "[{0}]({0}.md)")
    pages["experiments/index.md"] = toctree("Experiments", intro, names)
    return pages


def experiment_page(one: Any, result: dict[str, Any] | None) -> str:
    """Claim, source, signs and, where it was run, intervals, figures, device and commit."""
    from lpref.trainer.reproduce.results import circumstances

    lines = [f"# {one.name}: {one.title}", "", one.claim, "", f"Source: {one.source}", "", one.notes, ""]
    if result is None:
        signs = [f"| {sign.says} | {sign.zero or f'{sign.less or sign.by} < {sign.more}'} |" for sign in (*one.expect, *one.control)]
        return "\n".join([*lines, "| expected | |", "|---|---|", *signs]) + "\n"
    lines += [f"**{verdict_of(result)}**; {circumstances(result)}.", "", "| expected | found, 95 % interval |", "|---|---|"]
    lines += [f"| {row['says']} | {row['sign']} |" for row in result["expect"]]
    lines += [f"| control: {row['says']} | {row['sign']} |" for row in result["control"]]
    lines += ["", "| arm | figure, seed by seed |", "|---|---|"]
    lines += [f"| {arm} | {', '.join(f'{v:.5g}' if isinstance(v, float) else str(v) for v in values)} |" for arm, values in result["figures"].items()]
    return "\n".join(lines) + "\n"


def number(value: float | None) -> str:
    return "" if value is None or value != value else f"{value:.9g}"


def first_line(thing: object) -> str:
    return str(getattr(thing, "title", "") or (thing.__doc__ or "").strip().splitlines()[0])
