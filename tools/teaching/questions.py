"""The computed answers of docs/teaching/concept-answers.md, by the number of the question.

Each is computed by the pass that the lesson is about, at the sizes of the official models or of a toy, never of the
embedded model. Read next: `exams.py`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from minivl.checkpoint.names import blank_tensors, build
from minivl.checkpoint.packed import packed
from minivl.checkpoint.tree import Linear, Norm
from minivl.checkpoint.weight import weight
from minivl.config import PreprocessorConfig, official_config
from minivl.door.stage import running
from minivl.kernels import definition as kernels
from minivl.kernels import interpreter, shapes
from minivl.kernels.cuda import calls
from minivl.passes import answer as answers
from minivl.passes import decoder, patches, picture, positions, prompt, sampling, vision, windows
from minivl.passes.video import seconds_per_grid
from minivl.run.cut.plan import Cut
from minivl.run.cut.volume import Run, volume
from minivl.run.roofline import Part, Roof
from minivl.show.samples import overlap
from minivl.teach import gpu_ladder

from .key import answer

concept = partial(answer, "concept-answers")
OFFICIAL = official_config("3B")
PHOTOS = PreprocessorConfig(3136, 12_845_056, 14, 2, 2, (0.48145466, 0.4578275, 0.40821073),
                            (0.26862954, 0.26130258, 0.27577711))
PAD, WORD, START, END = 90, 1, 91, 92                # ids of toy prompts


# ---- tools that the exams use too --------------------------------------------------------------------------

def seen(height: int, width: int, most: int = PHOTOS.max_pixels) -> np.ndarray:
    """Height and width that the model sees of a photo, with the official limits or another upper one."""
    from dataclasses import replace
    return picture.target_size((height, width), replace(PHOTOS, max_pixels=most))


def size_text(size: np.ndarray) -> str:
    return f"{size[0]} x {size[1]}"


def tokens_of(size: np.ndarray) -> int:
    return int(size.prod()) // PHOTOS.factor**2


def row_of_patch(row: int, column: int, gh: int, gw: int) -> int:
    """The row of pixel_values that holds a patch, from the pass that orders them."""
    numbers = patches.by_merge_block(np.arange(gh * gw).reshape(1, gh, gw), 2)
    return int(np.flatnonzero(numbers == row * gw + column)[0])


def place_in_row(colour: int, frame: int, y: int, x: int) -> int:
    """Where a pixel of a patch stands in its row: one bright pixel through the pass."""
    dark = np.zeros((2, 3, 28, 28), np.float32)
    dark[frame, colour, y, x] = 1
    return int(patches.patchify(dark, PHOTOS)[0].argmax())


def cells_in_windows(gh: int, gw: int) -> np.ndarray:
    """Cells in each window of a picture, official windows."""
    table = windows.schedule(np.array([[1, gh, gw]]), OFFICIAL.vision)[0]
    return (table[:, 1] - table[:, 0]) // 4


def pairs(gh: int, gw: int, block: int) -> int:
    """Pairs of patches that a block of the official tower computes in one head."""
    g = windows.schedule(np.array([[1, gh, gw]]), OFFICIAL.vision)[block]
    return int(((g[:, 1] - g[:, 0]) * (g[:, 3] - g[:, 2])).sum())


def shares(scores: Any) -> np.ndarray:
    """Softmax through the package's kernel."""
    return np.exp(kernels.log_softmax(np.array([scores], float)))[0]


def attended(q: Any, k: Any, v: Any) -> np.ndarray:
    """What one query collects, one head: e, n e, n -> one number in an array."""
    q, k, v = (np.array(a, float).reshape(-1, 1, np.shape(q)[0]) for a in (q, k, v))
    return kernels.attend(q, k, v, np.array([[0, len(q), 0, len(k)]]), False)[0, 0]


def triples(before: int, grid: tuple[int, int, int], tick: float, after: int, rule: str = "max_plus_one") -> np.ndarray:
    """MRoPE positions of so many text tokens, one picture or video, and text again: 3 s. The marks are text."""
    cells = grid[0] * grid[1] * grid[2] // 4
    ids = np.array([WORD] * before + [PAD] * cells + [WORD] * after)
    return positions.mrope(ids, np.array([grid]), np.array([tick], np.float32), (PAD,), 2, rule)


def ticks(fps: float) -> float:
    """Steps of time from one pair of frames to the next in the official models."""
    return float(positions.ticks(np.array([seconds_per_grid(fps, PHOTOS)]), OFFICIAL.vision.tokens_per_second)[0])


def normed(row: list[float], gain: list[float] | None = None) -> np.ndarray:
    norm = Norm(weight(np.array(gain or [1.0] * len(row))), 1e-6)
    return kernels.rms_norm(np.array([row]), norm)[0].round(4)


def cache_bytes(size: str, tokens: int = 1) -> int:
    """Bytes of keys and values of so many tokens in 16 bits."""
    text = official_config(size).text
    return tokens * 2 * text.num_hidden_layers * text.kv_heads * text.head_dim * 2


def merged(patches_count: int, size: str) -> list[tuple[int, ...]]:
    """Shapes in the merger of an official model: joined, and out of it."""
    config = official_config(size)
    merger = build(blank_tensors(config), config, "float32").vision.merger
    with running(interpreter("shapes")):
        out = vision.merge_2x2(shapes.blank(patches_count, config.vision.hidden_size), merger)
    return [(patches_count // 4, merger.inner.weight.shape[1]), out.shape]


def penalised(logits: list[float], penalty: float) -> np.ndarray:
    return sampling.penalise(np.array([logits]), (np.arange(len(logits)),), (np.array([], int),), penalty)[0]


def left_by_top_p(chances: list[float], top_p: float) -> int:
    """How many tokens nucleus sampling leaves."""
    kept = sampling.narrow_choice(np.log([chances]), 1.0, None, top_p)[0]
    return int((kept > np.finfo(kept.dtype).min).sum())


def preference_loss(right: float, wrong: float, right_before: float, wrong_before: float, beta: float) -> float:
    """The DPO loss of one pair from four log-probabilities."""
    margin = beta * ((right - right_before) - (wrong - wrong_before))
    return float(-kernels.log_softmax(np.array([[margin, 0.0]]))[0, 0])


def to_bfloat16(number: float) -> float:
    from ml_dtypes import bfloat16
    return float(np.float32(number).astype(bfloat16))


# ---- lessons 0 to 3 ----------------------------------------------------------------------------------------

@concept("1")
def _() -> Any:
    out = decoder.logits(np.zeros((20, 8)), Linear(weight(np.zeros((1000, 8))), None))
    return tuple(out.shape)


@concept("4")
def _() -> Any:
    return tokens_of(seen(140, 196))


@concept("5")
def _() -> Any:
    out = kernels.linear(np.zeros((5, 3)), Linear(weight(np.zeros((4, 3))), None))
    return [tuple(out.shape), out.size]


@concept("6")
def _() -> Any:
    return [shares(np.log([1, 2, 5])), shares(np.log([1, 2, 5]) + 100)]


@concept("8")
def _() -> Any:
    return -kernels.log_softmax(np.log([[1.0, 7.0]]))[0, 0]


@concept("9")
def _() -> Any:
    return [size_text(seen(480, 640)), tokens_of(seen(480, 640))]


@concept("10")
def _() -> Any:
    return [seen(42, 280)[0], seen(70, 280)[0]]


@concept("13")
def _() -> Any:
    ends = picture.normalise(np.array([[[0] * 3, [255] * 3]], np.uint8), PHOTOS)[0, 0]
    return list(ends)


@concept("14")
def _() -> Any:
    return OFFICIAL.vision.patch_values


@concept("15")
def _() -> Any:
    return row_of_patch(1, 2, 4, 6)


@concept("16")
def _() -> Any:
    return place_in_row(2, 0, 3, 5)


# ---- lessons 4 to 8 ----------------------------------------------------------------------------------------

@concept("18")
def _() -> Any:
    q = np.zeros((6, 2, 8))                                                           # n a e
    return tuple(np.einsum("nae,mae->anm", q, q).shape)


@concept("19")
def _() -> Any:
    return shares([0, 0, np.log(2)])


@concept("20")
def _() -> Any:
    draw = np.random.default_rng(0)
    products = (draw.standard_normal((40_000, 64)) * draw.standard_normal((40_000, 64))).sum(axis=1)
    return round(float(products.std()))


@concept("22")
def _() -> Any:
    cells = cells_in_windows(10, 14)
    return [len(cells), cells]


@concept("23")
def _() -> Any:
    return [pairs(10, 14, 0), pairs(10, 14, 7)]


@concept("24")
def _() -> Any:
    size = seen(1080, 1920)
    gh, gw = int(size[0]) // 14, int(size[1]) // 14
    return [gh * gw, pairs(gh, gw, 7)]


@concept("26")
def _() -> Any:
    return shares([0.0] * 16)[3:].sum()


@concept("27")
def _() -> Any:
    table = windows.schedule(np.array([[2, 4, 4]]), OFFICIAL.vision)[7]
    return [len(table), table[0, 1] - table[0, 0]]


@concept("28")
def _() -> Any:
    turned = kernels.rotate(np.array([[[1.0, 0.0]]]), np.array([[0.0]]), np.array([[1.0]]))
    return tuple(turned.ravel())


@concept("29")
def _() -> Any:
    angles = positions.spatial_angles(np.array([[1, 0]]), OFFICIAL.vision)[0]
    return [len(angles), np.count_nonzero(angles)]


@concept("30")
def _() -> Any:
    return positions.inverse_frequencies(4, 10000.0).astype(float).round(6)


@concept("33")
def _() -> Any:
    return normed([3.0, 4, 0, 0])


@concept("35")
def _() -> Any:
    return [kernels.silu(np.array([0.0]))[0], kernels.silu(np.array([1.0]))[0].round(4)]


@concept("36")
def _() -> Any:
    with np.errstate(over="ignore"):
        squares = np.arange(1, 400).astype(np.float16) ** 2
    return int(np.flatnonzero(np.isinf(squares))[0]) + 1


@concept("37")
def _() -> Any:
    return merged(1564, "3B")


@concept("40")
def _() -> Any:
    y = np.linspace(-5, 5, 2001)
    tanh = 0.5 * y * (1 + np.tanh(np.sqrt(2 / np.pi) * (y + 0.044715 * y**3)))
    return np.abs(tanh - kernels.gelu(y)).max().round(4)


# ---- lessons 9 to 14 ---------------------------------------------------------------------------------------

@concept("41")
def _() -> Any:
    count = tokens_of(seen(56, 84))
    ids = prompt.expand(np.array([WORD, START, PAD, END, WORD]), np.array([count]), (PAD,))
    return int((ids == PAD).sum())


@concept("43")
def _() -> Any:
    return len("é".encode())


@concept("44")
def _() -> Any:
    return tokens_of(seen(56, 56)) + tokens_of(seen(84, 112))


@concept("45")
def _() -> Any:
    places = triples(4, (1, 4, 6), 1.0, 4)
    return [tuple(places[:, 9]), places[0, 10]]


@concept("46")
def _() -> Any:
    eight = triples(0, (4, 2, 2), ticks(8.0), 0)[0]
    return [ticks(2.0), ticks(4.0), eight]


@concept("47")
def _() -> Any:
    return [triples(2, (3, 4, 4), ticks(2.0), 1, rule)[0, -1] for rule in ("max_plus_one", "tf5")]


@concept("48")
def _() -> Any:
    return np.repeat(["time", "height", "width"], OFFICIAL.text.mrope_section)[[15, 16, 40]].tolist()


@concept("49")
def _() -> Any:
    return to_bfloat16(257)


@concept("50")
def _() -> Any:
    return cache_bytes("3B")


@concept("51")
def _() -> Any:
    return 10 // (OFFICIAL.text.heads // OFFICIAL.text.kv_heads)


@concept("52")
def _() -> Any:
    return list(penalised([2.0, -2.0], 1.25))


@concept("53")
def _() -> Any:
    return left_by_top_p([0.5, 0.3, 0.15, 0.05], 0.75)


@concept("54")
def _() -> Any:
    size = seen(75, 100)
    return [size_text(size), answers.boxes_to_original(np.array([[28, 21, 56, 42]]), size, np.array([75, 100]))[0]]


@concept("55")
def _() -> Any:
    return overlap((0, 0, 10, 10), (5, 0, 15, 10))


@concept("56")
def _() -> Any:
    from ml_dtypes import bfloat16, finfo
    return [float(finfo(bfloat16).eps), float(np.finfo(np.float16).eps)]


@concept("57")
def _() -> Any:
    with np.errstate(over="ignore"):
        fits = {"bfloat16": np.isfinite(to_bfloat16(70_000)), "float16": np.isfinite(np.float16(70_000))}
    return next(name for name, fine in fits.items() if not fine)


@concept("58")
def _() -> Any:
    return preference_loss(-4, -6, -5, -4, 0.1)


@concept("61")
def _() -> Any:
    edge = Roof(bandwidth=25e9, peaks={"products": 200e9}, weights=None, threads=1, lacking={}).edge
    linear = Linear(weight(np.zeros((16, 64), np.float32)), None)
    times = [kernels.linear.flops(np.zeros((rows, 64)), linear) for rows in (1, 512)]  # type: ignore[attr-defined]
    return [edge, *(Part("", flops, 2 * 16 * 64).intensity for flops in times)]


@concept("62")
def _() -> Any:
    row = np.linspace(-0.6, 0.9, 128, dtype=np.float32)                            # one group of int4
    return [packed(weight(np.tile(row, (32, 1))), kind).scales.flat[0] for kind in ("int8", "int4")]


@concept("63")
def _() -> Any:
    return calls.blocks(1000) * calls.THREADS - 1000


@concept("64")
def _() -> Any:
    return gpu_ladder.QUERIES["tiled"] // gpu_ladder.QUERIES["naive"]


@concept("65")
def _() -> Any:
    config, cut = official_config("72B"), Cut(8, 1)
    sums = volume(config, cut, Run(1), np.dtype(np.float32))["sums"]
    return sums // cut.ranks // config.text.num_hidden_layers


@concept("66")
def _() -> Any:
    return [100 * (stages - 1) / (batches + stages - 1) for stages, batches in ((4, 12), (4, 1))]
