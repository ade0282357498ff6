"""A GPTConfig from the public `config.json` of a checkpoint. What this model cannot express is an error, never ignored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lpref.models.gpt import GPTConfig
from lpref.ref.errors import CheckpointError

GELU_TANH = ("gelu_new", "gelu_pytorch_tanh")


def _fields(config: Mapping[str, Any], names: Mapping[str, str], family: str) -> dict[str, Any]:
    missing = [theirs for theirs in names.values() if theirs not in config]
    if missing:
        raise CheckpointError(f"config.json lacks {', '.join(missing)}", where=family, remedy="is it a config of this family?")
    return {ours: config[theirs] for ours, theirs in names.items()}


def gpt2_config(config: Mapping[str, Any]) -> GPTConfig:
    """The configuration of a GPT-2 checkpoint."""
    names = {"vocab": "vocab_size", "context": "n_positions", "layers": "n_layer", "heads": "n_head", "d_model": "n_embd"}
    fields = _fields(config, names, "gpt2")
    activation = config.get("activation_function", "gelu_new")
    _refuse("gpt2", activation_function=activation if activation not in (*GELU_TANH, "gelu") else None)
    _refuse("gpt2", scale_attn_by_inverse_layer_idx=config.get("scale_attn_by_inverse_layer_idx"))
    return GPTConfig(
        **fields, ffn=config.get("n_inner") or 4 * fields["d_model"], norm="layernorm", norm_eps=config.get("layer_norm_epsilon", 1e-5),
        activation="gelu" if activation in GELU_TANH else "gelu_erf", positions="learned", bias=True, tied=True, init_std=0.02,
    )  # fmt: skip


def llama_config(config: Mapping[str, Any]) -> GPTConfig:
    """The configuration of a Llama-family checkpoint."""
    names = {
        "vocab": "vocab_size", "context": "max_position_embeddings", "layers": "num_hidden_layers", "heads": "num_attention_heads",
        "d_model": "hidden_size", "ffn": "intermediate_size",
    }  # fmt: skip
    fields = _fields(config, names, "llama")
    head_dim = fields["d_model"] // fields["heads"]
    _refuse(
        "llama", rope_scaling=config.get("rope_scaling"), attention_bias=config.get("attention_bias"), mlp_bias=config.get("mlp_bias"),
        hidden_act=None if config.get("hidden_act", "silu") == "silu" else config["hidden_act"],
        head_dim=None if config.get("head_dim") in (None, head_dim) else config["head_dim"],
    )  # fmt: skip
    return GPTConfig(
        **fields, kv_heads=config.get("num_key_value_heads"), norm_eps=config.get("rms_norm_eps", 1e-6),
        rope_base=config.get("rope_theta", 10000.0), tied=bool(config.get("tie_word_embeddings", False)), init_std=0.02,
    )  # fmt: skip


def _refuse(family: str, **values: Any) -> None:
    for name, value in values.items():
        if value:
            raise CheckpointError(f"config.json sets {name} = {value!r}, which this model does not have", where=family)
