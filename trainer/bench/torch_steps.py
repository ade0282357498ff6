"""Training steps of the torch peer: forward, backward, global-norm clipping, AdamW; on a GPU four ways, from eager to one graph.

    eager            autocast to bfloat16, fused AdamW
    compile          the same, the model by torch.compile
    compile_graphs   the same, torch.compile in mode reduce-overhead (its own CUDA graphs)
    whole_step       compiled forward and backward, clipping and a capturable fused AdamW in one CUDA graph: the strongest of them

float32 weights, operands of products in bfloat16, tokens copied to the device before each step. On the CPU there is `eager` in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn as nn

from lpref.models.gpt import GPTConfig
from lpref.trainer.bench.timing import free_memory, peer_times
from lpref.trainer.bench.torch_gpt import GPT, adamw
from lpref.trainer.spec import TrainSpec

WAYS = ("eager", "compile", "compile_graphs", "whole_step")


class Step:
    """`run()` starts a step on the next tokens, `loss()` waits for the last one and reads its loss."""

    def __init__(self, spec: TrainSpec, way: str = "eager", place: str = "cuda") -> None:
        torch.manual_seed(0)
        config = GPTConfig(**{name: value for name, value in spec.model.items() if name != "kind"})
        self.place, self.clip, self.model = place, spec.train.clip, GPT(config).to(place)
        self.optimizer = adamw(self.model, spec.optimizer, **({"fused": True, "capturable": True} if place == "cuda" else {}))
        self.tokens = torch.randint(0, config.vocab, (8, spec.train.batch, config.context + 1), device=place)
        self.now = self.tokens[0].clone()
        self.forward: Callable[..., torch.Tensor] = self.model
        if way in ("compile", "whole_step"):
            self.forward = torch.compile(self.model)
        elif way == "compile_graphs":
            self.forward = torch.compile(self.model, mode="reduce-overhead")
        self.step, self.last = 0, torch.zeros(())
        self.graph: torch.cuda.CUDAGraph | None = None
        if way == "whole_step":
            self._capture()

    def _one(self) -> torch.Tensor:
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", torch.bfloat16, enabled=self.place == "cuda", cache_enabled=False):
            loss = self.forward(self.now[:, :-1], self.now[:, 1:])
        loss.backward()
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip, foreach=True)
        self.optimizer.step()
        return loss.detach()

    def _capture(self) -> None:
        side = torch.cuda.Stream()
        with torch.cuda.stream(side):
            for _ in range(4):
                self._one()
        torch.cuda.synchronize()
        torch.cuda.empty_cache()  # of the warm-up, whose memory a graph does not share
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.last = self._one()
        self.graph = graph

    def run(self) -> None:
        self.now.copy_(self.tokens[self.step % len(self.tokens)])
        self.step += 1
        if self.graph is not None:
            self.graph.replay()
        else:
            self.last = self._one()

    def loss(self) -> float:
        return float(self.last)


def peer_row(spec: TrainSpec, way: str, steps: int) -> dict[str, Any]:
    """The figures of one way, as `lpref.trainer.bench.models.model_row` gives them: each step waited for, then a hundred behind each other.

    peak GiB: the most that tensors held at once from the model's first to the last step; device GiB: what the device has less at the end.
    """
    free, held = free_memory(), torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    peer = Step(spec, way)
    each, queued, loss = peer_times(peer, steps)
    return {
        "name": spec.name, "recipe": f"torch {torch.__version__} {way}", "backend": "cuda", "numerics": "bfloat16",
        "parameters": sum(p.numel() for p in peer.model.parameters()), "ms": 1000 * each, "queued ms": 1000 * queued,
        "tokens/s": peer.now[:, 1:].numel() / queued, "loss": loss, "peak GiB": (torch.cuda.max_memory_allocated() - held) / 2**30,
        "device GiB": (free - torch.cuda.mem_get_info()[0]) / 2**30,
    }  # fmt: skip
