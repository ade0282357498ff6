"""Which public tensors make which parameter, as data.

A row reads: parameter `ours` is the public tensors `theirs`, each transposed where `transposed`, stacked by rows. `{i}` is the block.

Conventions. GPT-2 stores linear weights as Conv1D, (in, out): transposed here. Llama stores (out, in) with one tensor for each of q, k, v and for
gate and up: stacked here in this order. Rotary pairs: checkpoints in the `model.layers…` naming pair dimension j with j + d/2 ("half split"), as
`lpref.ref.nn.rope` does, so no row is permuted; checkpoints of the original release pair 2j with 2j + 1 and need their q and k rows permuted first.

Source: openai/gpt-2 src/model.py; huggingface/transformers models/gpt2/modeling_gpt2.py, models/llama/modeling_llama.py and
models/llama/convert_llama_weights_to_hf.py (`permute`).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One parameter and the public tensors that it is made of."""

    ours: str
    theirs: tuple[str, ...]
    transposed: bool = False


def _affine(ours: str, theirs: str, transposed: bool = False) -> tuple[Row, Row]:
    """A weight and its bias."""
    return Row(f"{ours}.weight", (f"{theirs}.weight",), transposed), Row(f"{ours}.bias", (f"{theirs}.bias",))


GPT2: tuple[Row, ...] = (
    Row("wte.weight", ("wte.weight",)),
    Row("wpe.weight", ("wpe.weight",)),
    *_affine("h.{i}.norm1", "h.{i}.ln_1"),
    *_affine("h.{i}.attn.qkv", "h.{i}.attn.c_attn", transposed=True),
    *_affine("h.{i}.attn.out", "h.{i}.attn.c_proj", transposed=True),
    *_affine("h.{i}.norm2", "h.{i}.ln_2"),
    *_affine("h.{i}.mlp.up", "h.{i}.mlp.c_fc", transposed=True),
    *_affine("h.{i}.mlp.down", "h.{i}.mlp.c_proj", transposed=True),
    *_affine("norm", "ln_f"),
)

LLAMA: tuple[Row, ...] = (
    Row("wte.weight", ("model.embed_tokens.weight",)),
    Row("h.{i}.norm1.weight", ("model.layers.{i}.input_layernorm.weight",)),
    Row("h.{i}.attn.qkv.weight", tuple(f"model.layers.{{i}}.self_attn.{part}_proj.weight" for part in "qkv")),
    Row("h.{i}.attn.out.weight", ("model.layers.{i}.self_attn.o_proj.weight",)),
    Row("h.{i}.norm2.weight", ("model.layers.{i}.post_attention_layernorm.weight",)),
    Row("h.{i}.mlp.up.weight", ("model.layers.{i}.mlp.gate_proj.weight", "model.layers.{i}.mlp.up_proj.weight")),
    Row("h.{i}.mlp.down.weight", ("model.layers.{i}.mlp.down_proj.weight",)),
    Row("norm.weight", ("model.norm.weight",)),
)
HEAD = Row("head.weight", ("lm_head.weight",))
"""The output projection of an untied model; a tied one may carry a copy of its embedding under this name."""

GPT2_BUFFERS = ("h.{i}.attn.bias", "h.{i}.attn.masked_bias")
LLAMA_BUFFERS = ("model.layers.{i}.self_attn.rotary_emb.inv_freq",)
"""Constants that some files carry beside the parameters: causal masks and rotary frequencies."""
