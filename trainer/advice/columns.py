"""The columns of a comparison beside the losses: gradient error, lost elements, memory and bit operations of every recipe."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lpref.trainer.advice.formula import figures
from lpref.trainer.advice.measured import measured
from lpref.trainer.data.batches import train_batch
from lpref.trainer.run import Run

MIB = 2.0**20


def advice(run: Run, data: Any) -> dict[str, Any]:
    """Of one finished run: formula and measured figures at its last weights, on the first batch of its training data."""
    from lpref.trainer import checkpoint as checkpoints
    from lpref.trainer.setup import prepare
    from lpref.trainer.spec import load_spec

    spec = replace(load_spec(run.folder.spec), backend="reference", numerics="exact")
    prepared = prepare(spec, data=data)
    found, _ = checkpoints.newest(run.folder.checkpoints)
    if found is not None:
        prepared.model.set_arrays(found.params)
    state = prepared.rules.optimizer.init(prepared.model.arrays(), prepared.backend)
    by_formula = figures(prepared.model, prepared.recipe.weights, state, spec.train.batch)
    batch = train_batch(data, prepared.length, spec.train.batch, spec.train.seed, 0, 0, spec.train.batch)
    return {"formula": by_formula, "measured": measured(prepared, batch)}


def lost(runs: Sequence[Run]) -> dict[str, float]:
    """Share of elements that overflowed and underflowed in x, w and dy over the runs' logged steps, the mean."""
    out = {}
    for what in ("overflowed", "underflowed"):
        names = [f"quantizers.{tensor}.{what}" for tensor in ("x", "w", "dy")]
        values = [np.nanmean(run.metrics[name]) for run in runs for name in names if name in run.metrics]
        if values:
            out[what] = float(np.mean(values))
    return out


def columns(members: Sequence[Run], found: Mapping[str, Any]) -> dict[str, Any]:
    """The cells of one recipe's row."""
    formula, seen = found["formula"], found["measured"]
    cells: dict[str, Any] = {"gradient cosine": seen["cosine"], "gradient SNR dB": seen["snr_db"], **lost(members)}
    cells |= {f"{what} MiB": formula[what] / MIB for what in ("weights", "activations", "optimizer", "gradients")}
    cells |= {"activations measured MiB": seen["activations"] / MIB, "bit operations / bf16": formula["bit operations"]}
    return cells


def layers_html(advices: Mapping[str, Mapping[str, Any]]) -> str:
    """Gradient error of every layer's weight, a column a recipe: cosine and SNR."""
    names = list(dict.fromkeys(name for one in advices.values() for name in one["measured"]["layers"]))
    head = "".join(f"<th>{html.escape(recipe)}</th>" for recipe in advices)
    rows = []
    for name in names:
        errors = [one["measured"]["layers"].get(name) for one in advices.values()]
        cells = "".join("<td></td>" if e is None else f"<td>{e['cosine']:.5f}, {e['snr_db']:.1f} dB</td>" for e in errors)
        rows.append(f"<tr><td>{html.escape(name)}</td>{cells}</tr>")
    title = "<h2>Weight gradients against float32: cosine and signal-to-noise ratio, at the last weights</h2>"
    return f"{title}<table><tr><th>weight</th>{head}</tr>{''.join(rows)}</table>"
