"""What each kernel is planned to move and to compute at the sizes of a model, and what that makes of a step of
decoding.

    python -m tools.gpu_check plan                # the table, and the share of the roofline of the 3B model

No GPU is needed, and nothing is measured: bytes and operations follow from the shapes, registers and shared memory
from the compiler and the launches. Two numbers are assumptions, and are named: `STREAMED`, the share of its nominal
bandwidth that a card gives a kernel which only reads, and `GAP`, the seconds in which nothing is loaded between two
kernels of a graph, one of which depends on the other (the end of the first, the start of the second, its first loads).

A kernel that begins early (`cuda/minivl.cuh`) asks for its first weights while it waits, so that of its gap only what
these bytes do not fill is lost: gap - min(gap, bytes asked for ahead / bandwidth). That this helps is known
(ggml-org/llama.cpp#22522: ten per cent of a token beside CUDA graphs is not unusual), how much on which card is not:
the model is an upper bound. The best that was published for a step of a small model on an H100 is 78 % of the
bandwidth, in one kernel for all layers (Spector and others, "Look Ma, No Bubbles!", Hazy Research, 2025).
`python -m tools.gpu_check` on a card measures it.

Read next: `cuda/gemv.cu`, where the time goes.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from types import SimpleNamespace
from typing import Any, NamedTuple

from minivl.config import ModelConfig
from minivl.kernels.cuda import calls

from .cubins import Built, all_built, have_nvcc
from .sizes import Sizes, on_a_card

CARD = 4.8e12  # bytes a second: the card of the prediction
PROCESSORS = 132  # of it
STREAMED = 0.92  # of the bandwidth, that a kernel which only reads is given
GAP = 1.5e-6  # seconds between two kernels of a graph


class Call(NamedTuple):
    """One launch: the kernel, its shapes, bytes of memory, operations, bytes of shared memory; how often a step of
    decoding has it (0: it is no part of one); bytes that it asks for before it waits for the kernel in front."""

    kernel: str
    shape: dict[str, Any]
    bytes: int
    flops: int
    shared: int = 0
    times: int = 0
    ahead: int = 0


def asked_ahead(kernel: str, n: int, k: int, kind: str) -> int:
    """Bytes of weights that the blocks which a card holds ask for (`ask_ahead` in gemv.cu)."""
    if kernel in ("gemv_naive", "gemv_warp"):
        return 0
    card: Any = SimpleNamespace(device=SimpleNamespace(processors=PROCESSORS))
    rows = 2 * n if kernel == "gemv_gate_up" else n
    two = 1 if kernel == "gemv_vectorised" else 2  # rows that lie apart
    slices = calls.slices_of(card, rows)
    of_round = min(2 * calls.WARPS // slices * k * calls.WEIGHT[kind] // 8, two * calls.AHEAD)
    asked = calls.grid_of(card, rows * slices, 2 * calls.WARPS) * calls.EARLIEST * of_round
    return min(asked, rows * k * calls.WEIGHT[kind] // 8)


def gemv(kernel: str, n: int, k: int, times: int = 0, kind: str = "bf16") -> Call:
    """A row times a matrix; gate and up are two."""
    rows = 2 * n if kernel == "gemv_gate_up" else n
    weights = {"bf16": 2 * rows * k, "int8": rows * k + 4 * rows, "int4": rows * k // 2 + 8 * rows * -(-k // 128)}[
        kind
    ]
    stretch = 32 * calls.IN_LOAD[kind]
    shared = (
        2 * -(-k // stretch) * stretch + 4 * calls.WARPS * calls.TWO
        if kernel not in ("gemv_naive", "gemv_warp")
        else 0
    )
    shape: dict[str, Any] = {"n": n, "k": k} | ({} if kind == "bf16" else {"kind": kind})
    return Call(kernel, shape, weights + 2 * (k + n), 2 * rows * k, shared, times, asked_ahead(kernel, n, k, kind))


def attention(kernel: str, rows: int, heads: int, kv_heads: int, e: int, segment: int, causal: bool) -> Call:
    """Of a prompt or of the tower; the bytes are those that must move once, whatever a rung reads again."""
    pairs = sum(
        length * (length + 1) // 2 if causal else length**2
        for length in (min(segment, rows - start) for start in range(0, rows, segment))
    )
    shape = {"rows": rows, "heads": heads, "kv_heads": kv_heads, "e": e, "segment": segment, "causal": causal}
    return Call(
        kernel,
        shape,
        2 * rows * e * (2 * heads + 2 * kv_heads),
        4 * pairs * heads * e,
        calls.attention_shared(kernel.partition("_")[2], e),
    )


def step_of(config: ModelConfig, keys: int, kind: str = "bf16") -> list[Call]:
    """The launches of one token."""
    c, d, layers = config.text, config.text.hidden_size, config.text.num_hidden_layers
    a, kv, e = c.heads, c.kv_heads, c.head_dim
    heads = (a + 2 * kv) * e
    qkv = gemv("gemv_qkv", heads, d, layers, kind)
    qkv = qkv._replace(shape=qkv.shape | {"heads": a, "kv_heads": kv}, bytes=qkv.bytes + 2 * heads)
    return [
        qkv,
        gemv("gemv_vectorised", d, a * e, layers, kind),
        gemv("gemv_gate_up", c.intermediate_size, d, layers, kind),
        gemv("gemv_vectorised", d, c.intermediate_size, layers, kind),
        gemv("gemv_vectorised", c.vocab_size, d, 1, "int8" if kind != "bf16" else kind),
        Call(
            "decode_attend",
            {"keys": keys, "heads": a, "kv_heads": kv, "e": e},
            4 * keys * kv * e,
            4 * keys * a * e,
            calls.decode_shared(a // kv, e, 2),
            layers,
        ),
        Call("best_of_parts", {"v": c.vocab_size}, 2 * c.vocab_size, 2 * c.vocab_size, 64, 1),
        Call("embed", {"d": d}, 4 * d, 0, 0, 1),
    ]


def calls_of(sizes: Sizes) -> list[Call]:
    """What is measured on a card: a step, the rungs of the same work, and what a prompt needs."""
    config, c, v = sizes.config, sizes.config.text, sizes.config.vision
    d, inner, rows = c.hidden_size, c.intermediate_size, sizes.rows
    patches, window = prod(sizes.picture) * 4, v.window_cells**2 * v.spatial_merge_size**2
    measured = [call for call in step_of(config, sizes.cached) if call.kernel != "embed"]
    a, kv, e = c.heads, c.kv_heads, c.head_dim
    measured += [gemv(f"gemv_{rung}", inner, d) for rung in ("naive", "warp")]
    measured += [gemv("gemv_vectorised", inner, d)]
    measured += [gemv("gemv_vectorised", inner, d, kind=kind) for kind in ("int8", "int4")]
    for rung in ("naive", "tiled", "vectorised", "tensor"):
        measured += [
            attention(f"attend_{rung}", rows, c.heads, c.kv_heads, c.head_dim, rows, True),
            attention(f"attend_{rung}", patches, v.heads, v.kv_heads, v.head_dim, window, False),
        ]
    return [
        *measured,
        Call("add_rms_norm", {"rows": rows, "d": d}, 4 * rows * d, 4 * rows * d, 32),
        Call(
            "rotate_into_cache",
            {"rows": rows, "heads": a, "kv_heads": kv, "e": e},
            4 * rows * (a + 2 * kv) * e,
            3 * rows * (a + kv) * e,
        ),
        Call("swiglu", {"rows": rows, "h": inner}, 6 * rows * inner, 5 * rows * inner),
        Call("gelu", {"rows": rows, "d": d}, 4 * rows * d, 8 * rows * d),
    ]


def small_calls(sizes: Sizes) -> list[Call]:
    """The kernels that are not measured apart: they move each number once, and few of them."""
    c, v, rows = sizes.config.text, sizes.config.vision, sizes.rows
    d, a, e, words = c.hidden_size, c.heads, c.head_dim, c.vocab_size
    size, patches = v.patch_size, prod(sizes.picture) * 4
    pixels = patches * size**2  # of a picture
    number, row, x = rows * d, {"rows": rows, "d": d}, patches * 6 * size**2
    return [
        Call("rms_norm_naive", row, 4 * number, 4 * number),
        Call("rms_norm", row, 4 * number, 4 * number, 32),
        Call("add", row, 6 * number, number),
        Call("rotate", {"rows": rows, "heads": a, "e": e}, 4 * rows * a * e, 3 * rows * a * e),
        Call("take_rows", row, 4 * number, 0),
        Call("put_rows", row, 4 * number, 0),
        Call("embed", row, 4 * number, 0),
        Call("expand", {"n": d, "k": d, "kind": "int4"}, d * d * 5 // 2, 2 * d * d),
        Call("to_float32", row, 6 * number, 0),
        Call("to_bfloat16", row, 6 * number, 0),
        Call("finish", row, 6 * number, number),
        Call("best_of_row", {"rows": 1}, 8 * 32, 32),
        Call("penalise", {"v": words}, 10 * words, words),
        Call("mark", {"ids": rows}, 12 * rows, rows),
        Call("resize_axis", {"pixels": pixels, "taps": 8}, 6 * pixels, 6 * 8 * pixels),
        Call("standardise", {"pixels": pixels}, 15 * pixels, 0),
        Call("patchify", {"pixels": pixels}, 12 * pixels + 4 * x, 0),
    ]


class Prediction(NamedTuple):
    """Of one token: bytes, launches, seconds that the bytes alone take, seconds with assumptions, of these the seconds
    between kernels, and the ratio."""

    bytes: int
    launches: int
    least: float
    predicted: float
    between: float

    @property
    def share(self) -> float:
        return self.least / self.predicted


def predicted(
    config: ModelConfig, keys: int, kind: str = "bf16", card: float = CARD, gap: float = GAP, early: bool = True
) -> Prediction:
    """A step of decoding on a card of so many bytes a second. early: kernels overlap."""
    step = [one for one in step_of(config, keys, kind) if one.times]
    moved, launches = sum(one.bytes * one.times for one in step), sum(one.times for one in step)
    filled = sum(one.times * min(gap, one.ahead / (card * STREAMED)) for one in step) if early else 0.0
    least, between = moved / card, launches * gap - filled
    return Prediction(moved, launches, least, least / STREAMED + between, between)


def rows(sizes: Sizes, built: list[Built]) -> Iterator[tuple[str, ...]]:
    """A line for each call, in the order of HEADER."""
    for call in [*calls_of(sizes), *small_calls(sizes)]:
        shape = " ".join(f"{key}={value}" for key, value in call.shape.items())
        yield (
            call.kernel,
            shape,
            registers(call, built),
            f"{call.shared:,}",
            f"{call.bytes:,}",
            f"{call.flops:,}",
            f"{call.flops / call.bytes:.1f}",
            str(call.times or ""),
        )


def registers(call: Call, built: list[Built]) -> str:
    """Of a thread, in bfloat16 with the constants of the call."""
    wanted = {
        "BF16": 1,
        "HEAD": call.shape.get("e"),
        "ROWS": 1,
        "WEIGHT": calls.WEIGHT[call.shape.get("kind", "bf16")],
        "SHARE": call.shape["heads"] // call.shape["kv_heads"] if "kv_heads" in call.shape else None,
    }
    fits = [
        row
        for row in built
        if row.kernel == call.kernel
        and all(wanted[key] in (None, value) for key, value in row.variant.defines if key in wanted)
    ]
    return str(max((row.registers for row in fits), default="?"))


HEADER = ("kernel", "shapes", "registers", "shared bytes", "bytes", "operations", "operations a byte", "a token")


def main() -> int:
    sizes = on_a_card()
    built = all_built(archs=(90,)) if have_nvcc() else []
    print("| " + " | ".join(HEADER) + " |\n" + "|---" * len(HEADER) + "|")
    for row in rows(sizes, built):
        print("| " + " | ".join(row) + " |")
    print(f"\nOne token of the 3B model on a card of {CARD / 1e12:g} TB/s, {sizes.cached} tokens in the cache:")
    for kind in ("bf16", "int8", "int4"):
        one = predicted(sizes.config, sizes.cached, kind)
        print(
            f"  {kind}: {one.bytes / 1e9:.2f} GB in {one.launches} launches; {one.least * 1e3:.2f} ms for the bytes "
            f"alone, {one.predicted * 1e3:.2f} ms predicted ({STREAMED:.0%} of the bandwidth, {GAP * 1e6:g} us "
            f"between two kernels, {one.between * 1e3:.2f} ms of them unfilled): {one.share:.0%} of the roofline"
        )
    print("\nThe same with other gaps between two kernels, and without an early begin:")
    for kind in ("bf16", "int8", "int4"):
        shares = [
            f"{gap * 1e6:g} us {predicted(sizes.config, sizes.cached, kind, gap=gap, early=early).share:.0%}"
            f"{'' if early else ' (not early)'}"
            for early in (True, False)
            for gap in (1e-6, 1.5e-6)
        ]
        print(f"  {kind}: {', '.join(shares)}")
    return 0
