"""The tables of docs/guide/long-contexts.md: what tokens cost in a released size.

    python -m tools.pages.long_contexts                   # prints them
    python -m tools.pages.long_contexts --keys [MODEL]    # what bytes do to a trained model's attention

Every number of the tables is one of `minivl explain`: the program is run by the interpreter that
computes nothing.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from minivl.api import dtype_of, load
from minivl.cli.console import count, size
from minivl.config import OFFICIAL, OFFICIAL_PICTURES, official_config
from minivl.door.stage import session
from minivl.kernels.definition import attend
from minivl.kernels.jit.decoding import INTERPRETER
from minivl.kernels.stored import in_bytes, stored_as
from minivl.run.cache import KVCache
from minivl.run.calibrate import key_channels
from minivl.run.costs import Costs, costs

LENGTHS = (4_096, 32_768, 131_072)
FORMATS = ("float32", "bfloat16", "int8")
ACTIVATIONS = "bfloat16"


def cache_bytes(name: str, cache: str, tokens: int) -> int:
    """Bytes of keys and values of so many tokens."""

    def no_memory(shape: tuple[int, ...], dtype: np.dtype) -> None:
        """Only its size is asked for."""

    dtype = stored_as(cache, dtype_of(ACTIVATIONS))
    return KVCache(official_config(name).text, np.array([tokens]), dtype, no_memory).nbytes


def caches() -> list[str]:
    """Rows: size, type, bytes at each length."""
    head = ["size", "cache", "a token", *(f"{tokens:,} tokens" for tokens in LENGTHS)]
    rows = [
        [name, kind, *(size(cache_bytes(name, kind, tokens)) for tokens in (1, *LENGTHS))]
        for name in OFFICIAL
        for kind in FORMATS
    ]
    return table(head, rows)


def prompt(name: str, tokens: int, chunk: int | None) -> Costs:
    """A prompt of text."""
    return costs(
        official_config(name), OFFICIAL_PICTURES, (), tokens, 1, dtype_of(ACTIVATIONS), None, None, chunk
    )


def prompts() -> list[str]:
    """Rows: size, length, operations, the share of attention, the widest pass whole and in chunks."""
    chunk = INTERPRETER.chunk
    head = [
        "size",
        "prompt",
        "operations",
        "of them attention",
        "widest pass, whole",
        f"in chunks of {chunk:,}",
    ]
    rows = []
    for name in ("3B", "7B"):
        for tokens in LENGTHS:
            whole, parts = prompt(name, tokens, None), prompt(name, tokens, chunk)
            attention = sum(row.flops for row in parts.prefill if row.label.endswith(".attend"))
            rows.append(
                [
                    name,
                    f"{tokens:,}",
                    count(parts.prefill_flops),
                    f"{attention / parts.prefill_flops:.0%}",
                    *(size(max(row.held for row in one.prefill)) for one in (whole, parts)),
                ]
            )
    return table(head, rows)


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Lines of a Markdown table."""
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


# ---- keys and values of a trained model, as bytes

TEXT = (
    "Explain how a bicycle stays upright, and why the sky is blue; then tell me a long story about a "
    "lighthouse keeper and his dog."
)
BLOCK = 32  # rows that share a scale where each channel has one


def by_row(x: np.ndarray, sizes: np.ndarray | None = None) -> np.ndarray:
    """Rows (n, k, e) as bytes with a scale for each row and head, and back; sizes (k, e) of channels."""
    return np.asarray(in_bytes(x, sizes)).astype(np.float64)


def by_channel(x: np.ndarray) -> np.ndarray:
    """The same with a scale for each channel of BLOCK rows: n k e -> n k e."""
    blocks = [x[at : at + BLOCK] for at in range(0, len(x), BLOCK)]
    turned = [in_bytes(np.moveaxis(block, 0, -1)) for block in blocks]  # b k e -> k e b
    return np.concatenate([np.moveaxis(np.asarray(one), -1, 0) for one in turned]).astype(np.float64)


def distances(model: str | None) -> dict[str, float]:
    """How far attention lies from that to the numbers themselves, relative, on average over the
    layers."""
    vlm = load(model, "float32", "definition")
    with session(record=["decoder.layers.*.rotate", "decoder.layers.*.project_qkv"]) as seen:
        vlm.logits(vlm.prepare([{"role": "user", "content": TEXT}]))
    found: dict[str, list[float]] = {}
    for sizes, (key, (q, k)) in zip(
        key_channels(vlm.weights, vlm.interpreter), rotated(seen.trace), strict=True
    ):
        q, k, v = (
            x.astype(np.float64) for x in (q, k, seen.trace[key.replace("rotate", "project_qkv")][2])
        )
        exact = attended(q, k, v)
        ways = {
            "keys, a scale for each row": (by_row(k), v),
            "keys, the same in sizes of channels (as the cache does)": (by_row(k, sizes), v),
            f"keys, a scale for each channel of {BLOCK} rows": (by_channel(k), v),
            "values, a scale for each row (as the cache does)": (k, by_row(v)),
            f"values, a scale for each channel of {BLOCK} rows": (k, by_channel(v)),
        }
        for name, kept in ways.items():
            apart = np.linalg.norm(attended(q, *kept) - exact) / np.linalg.norm(exact)
            found.setdefault(name, []).append(float(apart))
    return {name: float(np.mean(all_of)) for name, all_of in found.items()}


def rotated(trace: dict[str, Any]) -> list[tuple[str, Any]]:
    """Queries and keys of every layer, by their labels."""
    return [(key, value) for key, value in trace.items() if key.endswith(".rotate")]


def attended(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    """n a e, n k e, n k e -> n a e: one conversation."""
    segments = np.array([[0, len(q), 0, len(k)]])
    made: np.ndarray = attend.definition(q, k, v, segments, True)  # type: ignore[attr-defined]
    return made


def main() -> None:
    """Print both tables, or the distances of a model."""
    if "--keys" in sys.argv:
        given = sys.argv[sys.argv.index("--keys") + 1 :]
        for name, apart in distances(given[0] if given else None).items():
            print(f"{name}: {apart:.2%}")
    else:
        print("\n".join([*caches(), "", *prompts()]))


if __name__ == "__main__":
    main()
