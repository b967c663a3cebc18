"""The same work in PyTorch: a decoder of the same shapes in bfloat16, attention by `scaled_dot_product_attention`, a
step of decoding recorded as one CUDA graph, as ours is.

Random weights: what is compared is time. Read next: `speed.py`.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from time import perf_counter
from typing import Any

from minivl.config import ModelConfig

from .sizes import Sizes


class Decoder:
    """The layers of Qwen2.5 as plain calls of torch, over a cache of fixed size."""

    def __init__(self, torch: Any, config: ModelConfig, room: int, device: str):
        self.torch, self.c, self.room = torch, config.text, room
        c, d = self.c, config.text.hidden_size

        def new(*shape: int) -> Any:
            return torch.full(shape, 0.01, dtype=torch.bfloat16, device=device)

        self.table = new(c.vocab_size, d)
        heads = (c.heads + 2 * c.kv_heads) * c.head_dim
        self.layers = [
            {
                "norm1": new(d),
                "qkv": new(heads, d),
                "bias": new(heads),
                "out": new(d, c.heads * c.head_dim),
                "norm2": new(d),
                "gate_up": new(2 * c.intermediate_size, d),
                "down": new(d, c.intermediate_size),
                "k": new(1, c.kv_heads, room, c.head_dim),
                "v": new(1, c.kv_heads, room, c.head_dim),
            }
            for _ in range(c.num_hidden_layers)
        ]
        self.ids = torch.zeros(1, dtype=torch.int64, device=device)
        self.turn = (new(room, c.head_dim), new(room, c.head_dim))

    def forward(self, ids: Any, at: int) -> Any:
        """Scores of the last of some tokens, whose rows in the cache begin at `at`."""
        f, c, n = self.torch.nn.functional, self.c, len(ids)
        x = f.embedding(ids, self.table)
        cos, sin = (table[at : at + n] for table in self.turn)
        for w in self.layers:
            y = f.linear(f.rms_norm(x, (x.shape[-1],), w["norm1"], 1e-6), w["qkv"], w["bias"]).view(n, -1, c.head_dim)
            q, k, v = y.transpose(0, 1).split([c.heads, c.kv_heads, c.kv_heads])
            w["k"][0, :, at : at + n], w["v"][0, :, at : at + n] = turned(self.torch, k, cos, sin), v
            seen = (w["k"][:, :, : at + n], w["v"][:, :, : at + n])
            y = f.scaled_dot_product_attention(
                turned(self.torch, q, cos, sin)[None], *seen, is_causal=n > 1, enable_gqa=True
            )
            x = x + f.linear(y[0].transpose(0, 1).reshape(n, -1), w["out"])
            gate, up = f.linear(f.rms_norm(x, (x.shape[-1],), w["norm2"], 1e-6), w["gate_up"]).chunk(2, dim=-1)
            x = x + f.linear(f.silu(gate) * up, w["down"])
        return f.linear(f.rms_norm(x[-1:], (x.shape[-1],), w["norm1"], 1e-6), self.table)


def turned(torch: Any, x: Any, cos: Any, sin: Any) -> Any:
    """Rotary embedding of heads (a, n, e)."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin


def measured(sizes: Sizes, on_card: bool) -> dict[str, float]:
    """Tokens a second after `cached` tokens, and seconds of a prompt of `rows`."""
    import torch

    model = Decoder(torch, sizes.config, max(sizes.cached, sizes.rows) + 1, "cuda" if on_card else "cpu")
    prompt = torch.zeros(sizes.rows, dtype=torch.int64, device=model.ids.device)
    with torch.inference_mode():
        step = (
            recorded(torch, lambda: model.forward(model.ids, sizes.cached).argmax())
            if on_card
            else lambda: model.forward(model.ids, sizes.cached).argmax()
        )
        token, prefill = (
            median(torch, work, on_card, sizes.seconds) for work in (step, lambda: model.forward(prompt, 0))
        )
    return {"tokens_per_second": 1 / token, "prefill_seconds": prefill}


def recorded(torch: Any, work: Callable[[], Any]) -> Callable[[], Any]:
    """The launches of a step as one graph."""
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


def median(torch: Any, work: Callable[[], Any], on_card: bool, most: float) -> float:
    """Seconds of one run, the first ones not counted."""
    taken: list[float] = []
    for number in range(23):
        if on_card:
            torch.cuda.synchronize()
        start = perf_counter()
        work()
        if on_card:
            torch.cuda.synchronize()
        if number > 2 or not on_card:
            taken.append(perf_counter() - start)
        if taken and sum(taken) > most:
            break
    return statistics.median(taken)
