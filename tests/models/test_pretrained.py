"""GPT-2 and Llama checkpoints: logits against two forwards written from the public names, and every way a file can be wrong.

Both sides compute in float64: at most a few thousand roundings of 2^-53 and elementary functions accurate to 1e-13 on values of order one,
so logits agree to well below 1e-10; a wrong convention (transposition, head order, rotary pairing, epsilon) moves them by more than 1e-3.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lpref.models import pretrained
from lpref.models.gpt import GPT
from lpref.ref.backend import Backend
from lpref.ref.errors import CheckpointError, UnknownNameError
from lpref.ref.recipes import Context

GPT2_JSON = {"vocab_size": 31, "n_positions": 12, "n_layer": 2, "n_head": 4, "n_embd": 16, "layer_norm_epsilon": 1e-3}
LLAMA_JSON = {
    "vocab_size": 29, "max_position_embeddings": 12, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "hidden_size": 16, "intermediate_size": 24, "rms_norm_eps": 1e-3, "rope_theta": 500.0,
}  # fmt: skip
IDS = np.random.default_rng(2).integers(0, 29, (3, 9))


def gpt2_tensors() -> dict[str, np.ndarray]:
    rng, d = np.random.default_rng(0), 16
    shapes = {"wte.weight": (31, d), "wpe.weight": (12, d), "ln_f.weight": (d,), "ln_f.bias": (d,)}
    for i in range(2):
        for name, shape in {"attn.c_attn": (d, 3 * d), "attn.c_proj": (d, d), "mlp.c_fc": (d, 4 * d), "mlp.c_proj": (4 * d, d)}.items():
            shapes |= {f"h.{i}.{name}.weight": shape, f"h.{i}.{name}.bias": shape[1:]}
        shapes |= {f"h.{i}.{ln}.{part}": (d,) for ln in ("ln_1", "ln_2") for part in ("weight", "bias")}
    return {name: rng.standard_normal(shape) * 0.5 for name, shape in shapes.items()}


def llama_tensors() -> dict[str, np.ndarray]:
    rng, d, f = np.random.default_rng(1), 16, 24
    shapes = {"model.embed_tokens.weight": (29, d), "model.norm.weight": (d,), "lm_head.weight": (29, d)}
    for i in range(2):
        at = f"model.layers.{i}."
        shapes |= {at + "input_layernorm.weight": (d,), at + "post_attention_layernorm.weight": (d,)}
        shapes |= {at + f"self_attn.{p}_proj.weight": (n, d) for p, n in {"q": d, "k": d // 2, "v": d // 2, "o": d}.items()}
        shapes |= {at + "mlp.gate_proj.weight": (f, d), at + "mlp.up_proj.weight": (f, d), at + "mlp.down_proj.weight": (d, f)}
    return {name: rng.standard_normal(shape) * 0.5 for name, shape in shapes.items()}


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def numpy_gpt2(w: dict[str, np.ndarray], ids: np.ndarray) -> np.ndarray:
    """One sequence at a time, one head at a time, from the public names."""

    def ln(x: np.ndarray, name: str) -> np.ndarray:
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-3) * w[name + ".weight"] + w[name + ".bias"]

    def conv1d(x: np.ndarray, name: str) -> np.ndarray:
        return x @ w[name + ".weight"] + w[name + ".bias"]

    out = []
    for row in ids:
        x = w["wte.weight"][row] + w["wpe.weight"][: len(row)]
        mask = np.triu(np.full((len(row), len(row)), -np.inf), 1)
        for i in range(2):
            q, k, v = np.split(conv1d(ln(x, f"h.{i}.ln_1"), f"h.{i}.attn.c_attn"), 3, axis=1)
            heads = []
            for h in range(4):
                part = slice(4 * h, 4 * h + 4)
                heads.append(softmax(q[:, part] @ k[:, part].T / 2.0 + mask) @ v[:, part])
            x = x + conv1d(np.concatenate(heads, 1), f"h.{i}.attn.c_proj")
            y = conv1d(ln(x, f"h.{i}.ln_2"), f"h.{i}.mlp.c_fc")
            y = 0.5 * y * (1 + np.tanh(np.sqrt(2 / np.pi) * (y + 0.044715 * y**3)))
            x = x + conv1d(y, f"h.{i}.mlp.c_proj")
        out.append(ln(x, "ln_f") @ w["wte.weight"].T)
    return np.stack(out)


def numpy_llama(w: dict[str, np.ndarray], ids: np.ndarray) -> np.ndarray:
    """One sequence at a time; rotary pairs as complex numbers."""

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-3) * w[name]

    def turn(x: np.ndarray) -> np.ndarray:
        """Head of width 4: (x0, x2) and (x1, x3) are complex numbers, multiplied by exp(i t theta)."""
        theta = 500.0 ** (-np.arange(2) / 2)
        z = (x[:, :2] + 1j * x[:, 2:]) * np.exp(1j * np.arange(len(x))[:, None] * theta)
        return np.concatenate([z.real, z.imag], 1)

    out = []
    for row in ids:
        x = w["model.embed_tokens.weight"][row]
        mask = np.triu(np.full((len(row), len(row)), -np.inf), 1)
        for i in range(2):
            at = f"model.layers.{i}."
            h = norm(x, at + "input_layernorm.weight")
            q, k, v = (h @ w[at + f"self_attn.{p}_proj.weight"].T for p in "qkv")
            heads = []
            for j in range(4):
                kv = slice(4 * (j // 2), 4 * (j // 2) + 4)
                score = turn(q[:, 4 * j : 4 * j + 4]) @ turn(k[:, kv]).T / 2.0 + mask
                heads.append(softmax(score) @ v[:, kv])
            x = x + np.concatenate(heads, 1) @ w[at + "self_attn.o_proj.weight"].T
            h = norm(x, at + "post_attention_layernorm.weight")
            gate = h @ w[at + "mlp.gate_proj.weight"].T
            x = x + (gate / (1 + np.exp(-gate)) * (h @ w[at + "mlp.up_proj.weight"].T)) @ w[at + "mlp.down_proj.weight"].T
        out.append(norm(x, "model.norm.weight") @ w["lm_head.weight"].T)
    return np.stack(out)


def torch_gpt2(w: dict[str, np.ndarray], ids: np.ndarray) -> np.ndarray:
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    p = {name: torch.tensor(t) for name, t in w.items()}
    batch, tokens = ids.shape
    x = p["wte.weight"][torch.tensor(ids)] + p["wpe.weight"][:tokens]
    for i in range(2):
        h = F.layer_norm(x, (16,), p[f"h.{i}.ln_1.weight"], p[f"h.{i}.ln_1.bias"], 1e-3)
        qkv = torch.addmm(p[f"h.{i}.attn.c_attn.bias"], h.reshape(-1, 16), p[f"h.{i}.attn.c_attn.weight"])
        q, k, v = (t.reshape(batch, tokens, 4, 4).transpose(1, 2) for t in qkv.split(16, dim=1))
        o = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(batch, tokens, 16)
        x = x + o @ p[f"h.{i}.attn.c_proj.weight"] + p[f"h.{i}.attn.c_proj.bias"]
        h = F.layer_norm(x, (16,), p[f"h.{i}.ln_2.weight"], p[f"h.{i}.ln_2.bias"], 1e-3)
        h = F.gelu(h @ p[f"h.{i}.mlp.c_fc.weight"] + p[f"h.{i}.mlp.c_fc.bias"], approximate="tanh")
        x = x + h @ p[f"h.{i}.mlp.c_proj.weight"] + p[f"h.{i}.mlp.c_proj.bias"]
    return (F.layer_norm(x, (16,), p["ln_f.weight"], p["ln_f.bias"], 1e-3) @ p["wte.weight"].T).numpy()


def torch_llama(w: dict[str, np.ndarray], ids: np.ndarray) -> np.ndarray:
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    p = {name: torch.tensor(t) for name, t in w.items()}
    batch, tokens = ids.shape
    angle = torch.outer(torch.arange(tokens).double(), 500.0 ** (-torch.arange(0, 4, 2).double() / 4))
    cos, sin = torch.cat([angle, angle], 1).cos(), torch.cat([angle, angle], 1).sin()

    def rotate(t):
        return t * cos + torch.cat([-t[..., 2:], t[..., :2]], -1) * sin

    x = p["model.embed_tokens.weight"][torch.tensor(ids)]
    for i in range(2):
        at = f"model.layers.{i}."
        h = F.rms_norm(x, (16,), p[at + "input_layernorm.weight"], 1e-3)
        q, k, v = ((h @ p[at + f"self_attn.{n}_proj.weight"].T).reshape(batch, tokens, -1, 4).transpose(1, 2) for n in "qkv")
        o = F.scaled_dot_product_attention(rotate(q), rotate(k), v, is_causal=True, enable_gqa=True)
        x = x + o.transpose(1, 2).reshape(batch, tokens, 16) @ p[at + "self_attn.o_proj.weight"].T
        h = F.rms_norm(x, (16,), p[at + "post_attention_layernorm.weight"], 1e-3)
        x = x + (F.silu(h @ p[at + "mlp.gate_proj.weight"].T) * (h @ p[at + "mlp.up_proj.weight"].T)) @ p[at + "mlp.down_proj.weight"].T
    return (F.rms_norm(x, (16,), p["model.norm.weight"], 1e-3) @ p["lm_head.weight"].T).numpy()


FORWARDS = {
    "gpt2": (gpt2_tensors, GPT2_JSON, numpy_gpt2, torch_gpt2),
    "llama": (llama_tensors, LLAMA_JSON, numpy_llama, torch_llama),
}


def loaded(family: str, tensors: dict[str, np.ndarray], config: dict, ops: Backend) -> GPT:
    cfg = pretrained.FAMILIES[family].config(config)
    model = GPT(cfg, None, 0, ops)
    model.set_arrays(pretrained.weights(tensors, family, cfg))
    return model


@pytest.mark.parametrize("family", FORWARDS)
def test_logits_equal_an_independent_forward(family: str, ops: Backend, ctx: Context) -> None:
    make, config, by_numpy, _ = FORWARDS[family]
    tensors = make()
    ours = loaded(family, tensors, config, ops).logits(IDS, ctx).data
    assert ours.dtype == np.float64
    want = by_numpy(tensors, IDS)
    assert np.abs(ours - want).max() <= 1e-10
    assert np.abs(want).max() > 1


@pytest.mark.peer
@pytest.mark.parametrize("family", FORWARDS)
def test_logits_equal_torch(family: str, ops: Backend, ctx: Context) -> None:
    make, config, _, by_torch = FORWARDS[family]
    tensors = make()
    assert np.abs(loaded(family, tensors, config, ops).logits(IDS, ctx).data - by_torch(tensors, IDS)).max() <= 1e-10


def test_the_comparison_sees_a_wrong_convention(ops: Backend, ctx: Context) -> None:
    tensors = llama_tensors()
    model = loaded("llama", tensors, LLAMA_JSON, ops)
    want = numpy_llama(tensors, IDS)
    interleaved = np.arange(16).reshape(4, 2, 2).transpose(0, 2, 1).reshape(-1)  # pairs (2j, 2j+1) instead of (j, j + d/2)
    changes = {
        "rotary pairs": {f"model.layers.0.self_attn.{p}_proj.weight": tensors[f"model.layers.0.self_attn.{p}_proj.weight"][i]
                         for p, i in (("q", interleaved), ("k", interleaved[:8]))},
        "gate and up": {"model.layers.1.mlp.gate_proj.weight": tensors["model.layers.1.mlp.up_proj.weight"],
                        "model.layers.1.mlp.up_proj.weight": tensors["model.layers.1.mlp.gate_proj.weight"]},
    }  # fmt: skip
    for name, change in changes.items():
        model = loaded("llama", tensors | change, LLAMA_JSON, ops)
        assert np.abs(model.logits(IDS, ctx).data - want).max() > 1e-3, name


def test_buffers_prefix_and_copied_head_are_accepted() -> None:
    tensors = gpt2_tensors()
    cfg = pretrained.gpt2_config(GPT2_JSON)
    plain = pretrained.weights(tensors, "gpt2", cfg)
    dressed = {f"transformer.{name}": t for name, t in tensors.items()}
    dressed |= {"transformer.h.0.attn.bias": np.tril(np.ones((1, 1, 12, 12), bool)), "lm_head.weight": tensors["wte.weight"]}
    for name, array in pretrained.weights(dressed, "gpt2", cfg).items():
        assert np.array_equal(array, plain[name]), name


def test_every_way_a_file_can_be_wrong() -> None:
    cfg = pretrained.llama_config(LLAMA_JSON)
    good = llama_tensors()
    name = "model.layers.1.self_attn.k_proj.weight"
    with pytest.raises(CheckpointError, match=r"no tensor 'model\.layers\.1\.self_attn\.k_proj\.weight'"):
        pretrained.weights({n: t for n, t in good.items() if n != name}, "llama", cfg)
    with pytest.raises(CheckpointError, match=r"does not have: model\.layers\.1\.self_attn\.q_proj\.bias"):
        pretrained.weights(good | {"model.layers.1.self_attn.q_proj.bias": np.zeros(16)}, "llama", cfg)
    with pytest.raises(CheckpointError, match=r"make \(40, 16\), the configuration needs \(32, 16\)"):
        pretrained.weights(good | {name: np.zeros((16, 16))}, "llama", cfg)
    with pytest.raises(CheckpointError, match="have shapes"):
        pretrained.weights(good | {name: np.zeros((8, 17))}, "llama", cfg)
    with pytest.raises(CheckpointError, match="differs from the embedding"):
        pretrained.weights(good, "llama", pretrained.llama_config(LLAMA_JSON | {"tie_word_embeddings": True}))
    with pytest.raises(UnknownNameError, match="did you mean 'llama'"):
        pretrained.weights(good, "lama", cfg)


@pytest.mark.parametrize("change", [{"rope_scaling": {"type": "linear"}}, {"attention_bias": True}, {"hidden_act": "gelu"}, {"head_dim": 8}])
def test_what_the_model_lacks_is_refused(change: dict) -> None:
    with pytest.raises(CheckpointError, match=next(iter(change))):
        pretrained.llama_config(LLAMA_JSON | change)
    with pytest.raises(CheckpointError, match="lacks hidden_size"):
        pretrained.llama_config({n: v for n, v in LLAMA_JSON.items() if n != "hidden_size"})


def test_folder_with_two_files_in_bfloat16_and_half(tmp_path: Path, ops: Backend) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    from safetensors.numpy import save_file

    tensors = llama_tensors()
    names = sorted(tensors)
    save_file({n: tensors[n].astype(ml_dtypes.bfloat16) for n in names[:9]}, tmp_path / "a.safetensors")
    save_file({n: tensors[n].astype(np.float16) for n in names[9:]}, tmp_path / "b.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(LLAMA_JSON))
    model = pretrained.from_folder(tmp_path, "llama", backend=ops)
    rounded = {n: tensors[n].astype(ml_dtypes.bfloat16 if n in names[:9] else np.float16).astype(np.float32) for n in names}
    for name, array in pretrained.weights(rounded, "llama", model.cfg).items():
        assert np.array_equal(model.params[name].data, array)
        assert model.params[name].dtype == np.float32


def test_broken_files(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"needs config\.json"):
        pretrained.from_folder(tmp_path, "llama")
    (tmp_path / "x.safetensors").write_bytes(b"\xff" * 40)
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        pretrained.read_safetensors(tmp_path / "x.safetensors")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="no JSON"):
        pretrained.from_folder(tmp_path, "llama")
