"""The compiled interpreter: the kernels as machine code, made by Numba, over packed weights.

    vlm = minivl.load(folder, kernels="jit")

Weights are packed once (`checkpoint/layout.py`), by themselves in the bits that they have; products run
on the best instructions that the processor has (`tiers.py`). float32 rows are multiplied as exactly as
float32 is, on every tier; bfloat16 rows as bfloat16. Other precisions run by the definitions.

Not here: what a kernel means (`../definition.py`), and the interpreter itself, which has whole layers
as well (`decoding.py`). Read next: `products.py`, the innermost loops.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from ...checkpoint.layout import IN_WORD, aligned, depth
from ...checkpoint.packed import Packed, array_shapes, end_format, pack_rows, packed
from ...checkpoint.tree import MLP, Block, Linear, Model, Norm, Weight
from ...checkpoint.weight import precision
from ...config import PreprocessorConfig
from ...passes import patches, picture
from .. import COMPILED, definition
from ..stored import ByteRows
from .attention import KEYS, blocks_of
from .attention_bf16 import WIDE, blocks_of_keys
from .build import Maker, tile_form
from .drivers import GROUP, PAIR, STRIP, SUMS
from .few import FEW, Table, room_of
from .numbers import bits
from .team import Team, team
from .tiers import chosen

Array = np.ndarray
LITTLE = 1 << 20                               # numbers that are packed before code for it is compiled
FLOAT32, BFLOAT16 = FAST = tuple(map(precision, COMPILED))


@functools.cache
def maker() -> Maker:
    """What makes functions of the tier that this process uses."""
    return Maker(chosen())


def ready() -> None:
    """Look at the settings of this process before anything is read for it. Raises ArgumentError for a
    MINIVL_TIER that there is none of or that this machine lacks, and for a wrong MINIVL_THREADS."""
    maker()
    team()


@functools.cache
def function(name: str, *args: Any) -> Any:
    """A compiled kernel of the tier by the name of what makes it."""
    return maker().made(name, *args)


_kept = threading.local()


def workspace(name: str, shape: tuple[int, ...], dtype: Any) -> Array:
    """Memory of this thread's next call under the same name, too: fresh pages cost more than they hold.
    What stands in it is anything."""
    size = prod(shape) * np.dtype(dtype).itemsize
    held = getattr(_kept, name, None)
    if held is None or held.nbytes < size:
        held = aligned((size,), np.uint8)
        setattr(_kept, name, held)
    return held[:size].view(dtype).reshape(shape)


def crew() -> Team:
    """The threads that do the work."""
    return team()


def flat(x: Array) -> Array:
    """An array as compiled code takes it: in one piece, one axis, bfloat16 as bits."""
    return bits(np.ascontiguousarray(x)).reshape(-1)


def words(x: Array) -> Array:
    """bfloat16 numbers as compiled code takes them two at a time."""
    pairs = flat(x)
    return (pairs if pairs.ctypes.data % 4 == 0 else pairs.copy()).view(np.uint32)


class Lent:
    """An array of a mapped file as one that could be written to: Numba compiles a kernel anew for arrays
    that cannot, and no kernel writes to a weight."""

    def __init__(self, array: Array):
        about = array.__array_interface__
        self.array, self.__array_interface__ = array, {**about, "data": (about["data"][0], False)}


def tables_of(weight: Packed) -> tuple[Array, Array, Array]:
    """Tiles, scales and zeros as compiled code takes them, where they lie."""
    return lent(weight.tiles), lent(weight.scales), lent(weight.zeros)


def lent(array: Array) -> Array:
    """An array in one axis, as one that could be written to."""
    return array.reshape(-1) if array.flags.writeable else np.asarray(Lent(array.reshape(-1)))


def defined(name: str) -> Callable[..., Any]:
    """A kernel's definition."""
    found: Callable[..., Any] = getattr(definition, name).definition
    return found


def in_fast_precision(kernel: Callable[..., Array]) -> Callable[..., Array]:
    """A kernel for FAST precisions of its first argument, and its definition for the others."""
    plain = defined(kernel.__name__)

    @functools.wraps(kernel)
    def run(x: Array, *others: Any) -> Array:
        return kernel(x, *others) if x.dtype in FAST else plain(x, *others)
    return run


@in_fast_precision
def linear(x: Array, w: Linear) -> Array:
    """n d -> n o"""
    if not isinstance(w.weight, Packed):
        return defined("linear")(x, w)
    out = np.empty((len(x), w.weight.shape[0]), x.dtype)
    bias = w.bias.dense(x.dtype).astype(np.float32) if w.bias is not None else np.empty(0, np.float32)
    if len(x):
        (few_rows if len(x) <= FEW else many_rows)(x, w.weight, bias, flat(out))
    return out


def steps_of(weight: Packed) -> int:
    """How many steps of k a weight has."""
    return steps_for(weight.format, weight.shape[1])[1]


def steps_for(format: str, wide: int) -> tuple[int, int]:
    """How many k a step of a format has, and how many steps rows of `wide` take."""
    return depth(format), -(-wide // depth(format))


def few_rows(x: Array, weight: Packed, bias: Array, out: Array) -> None:
    """One to four rows: weights pass once, at the speed of the memory."""
    (height, wide), crew = x.shape, team()
    room = workspace("few", (crew.size, room_of(*steps_for(weight.format, wide))), np.float32)
    product, table = function("vector_product", weight.format, x.dtype == FLOAT32), tables_of(weight)
    crew.run_together(product, flat(x), Table(*table, bias), out[:0], out, room, height, wide,
                      weight.shape[0], work=2 * height * prod(weight.shape))


def many_rows(x: Array, weight: Packed, bias: Array, out: Array,
              made: Callable[..., Any] | None = None) -> None:
    """Rows packed for the tier, then multiplied block by block. made: functions of another tier."""
    height, steps, format, crew = len(x), steps_of(weight), weight.format, team()
    multiply, inner, packing = (made or function)("product", format, x.dtype == FLOAT32)
    padded, work = steps * depth(format), 2 * height * prod(weight.shape)
    size = -(-height // packing.rows) * packing.rows * padded * packing.parts
    a = workspace("rows", (size,), packing.dtype)
    crew.run(packing.pack, flat(x), a, height, x.shape[1], padded, work=height * padded * 8)
    strip = -(-STRIP // inner.rows) * inner.rows
    sums = workspace("sums", (crew.size, (strip + inner.rows) * SUMS), np.float32)
    tiles, scales, zeros = tables_of(weight)
    tables, room = [scales], []
    if format in ("int8", "int4"):
        tables.append(zeros)
        deepest = max(inner.deepest, IN_WORD[format] // 2)
        room.append(workspace("tiles", (crew.size, GROUP * deepest * PAIR), np.uint32))
    crew.run(multiply, a, tiles, *tables, bias, out, sums, *room, tile_form(), height,
             weight.shape[0], steps, work=work)


@in_fast_precision
def attend(q: Array, k: Array, v: Array, segments: Array, causal: bool) -> Array:
    """n a e, r k e, r k e, g 4 -> n a e"""
    heads, kv_heads, e = q.shape[1], k.shape[1], q.shape[2]
    most = int((segments[:, 1] - segments[:, 0]).max(initial=0)) * heads // kv_heads
    few, pairs, tier = most <= maker().tier.lanes, in_pairs(q, k, v), maker().tier
    in_bytes = isinstance(k, ByteRows)
    lanes = (1 if few else tier.vectors) * tier.lanes          # a token that is decoded fills one at most
    if heads // kv_heads > lanes:
        return defined("attend")(q, k, v, segments, causal)
    if pairs and not few and not in_bytes:     # a token sees every key once: packing takes longer than it saves
        return attend_in_pairs(q, k, v, segments, causal)
    out = np.zeros(q.shape, q.dtype)
    blocks = blocks_of(segments, lanes // (heads // kv_heads))
    if len(blocks) and e:
        made = function("attention_of_few", not pairs, in_bytes) if few else function("attention", tier.vectors)
        seen = int(((blocks[:, 3] - blocks[:, 2]) * blocks[:, 1]).sum())
        asked = by_channels(q, k)
        asked = asked.astype(q.dtype, copy=False) if few and pairs else asked
        team().run(made, flat(asked), *as_stored(k), *as_stored(v), flat(out), blocks, heads,
                   kv_heads, e, bool(causal), work=4 * seen * heads * e)
    return out


def by_channels(q: Array, k: Any) -> Array:
    """Queries (n, a, e) times the sizes of the channels that they meet in bytes of keys, so that no key
    is multiplied: (q c) . byte = q . (c byte)."""
    if not isinstance(k, ByteRows) or k.channels is None:
        return q
    return q.astype(np.float32) * np.repeat(k.channels, q.shape[1] // k.shape[1], axis=0)   # k e -> a e


def as_stored(rows: Any) -> tuple[Array, Array]:
    """Keys or values (r, k, e) as they lie, and their scales where they are bytes."""
    if isinstance(rows, ByteRows):
        return flat(rows.codes), flat(rows.scales)
    return flat(rows), np.empty(0, np.float32)


def in_pairs(q: Array, k: Any, v: Any) -> bool:
    """Whether attention runs by products of bfloat16. Bytes become such, for a token that is decoded."""
    bytes_, e = isinstance(k, ByteRows) and isinstance(v, ByteRows), q.shape[2]
    fits = bool(maker().tier.pair_rows) and e % 2 == 0 and e > 0 and q.dtype == BFLOAT16
    return fits and (bytes_ or k.dtype == v.dtype == BFLOAT16)


def attend_in_pairs(q: Array, k: Array, v: Array, segments: Array, causal: bool) -> Array:
    """`attend` of bfloat16, with keys and values packed first."""
    (_, heads, e), kv_heads, crew = q.shape, k.shape[1], team()
    pack, share, lanes = function("attention_bf16")
    padded = -(-e // WIDE) * WIDE
    of_keys, begins = blocks_of_keys(segments)
    keys, values = (workspace(name, (len(of_keys) * kv_heads * KEYS * padded // 2,), np.uint32)
                    for name in ("keys", "values"))
    crew.run(pack, words(k), flat(v), keys, values, of_keys, kv_heads, e, padded, work=8 * keys.size)
    blocks = blocks_of(segments, lanes // (heads // kv_heads), begins)
    pairs = int(((blocks[:, 3] - blocks[:, 2]) * blocks[:, 1]).sum())
    out = np.zeros(q.shape, q.dtype)
    crew.run(share, words(q), keys, values, flat(out), tile_form(), blocks, heads, kv_heads, e, padded,
             bool(causal), work=4 * pairs * heads * e)
    return out


@in_fast_precision
def rms_norm(x: Array, norm: Norm) -> Array:
    """n d -> n d"""
    out = np.empty(x.shape, x.dtype)
    team().run(function("rms_norm"), flat(x), flat(norm.weight.dense(x.dtype)), norm.eps, flat(out),
               len(x), x.shape[1], work=4 * x.size)
    return out


@in_fast_precision
def rotate(x: Array, cos: Array, sin: Array) -> Array:
    """n a e, n f, n f -> n a e"""
    if cos.dtype not in FAST:
        return defined("rotate")(x, cos, sin)
    out = np.empty(x.shape, x.dtype)
    team().run(function("rotate"), flat(x), flat(cos), flat(sin), flat(out), len(x), x.shape[1],
               x.shape[2] // 2, work=6 * x.size)
    return out


@in_fast_precision
def swiglu(x: Array) -> Array:
    """n 2h -> n h"""
    out = np.empty((len(x), x.shape[1] // 2), x.dtype)
    team().run(function("swiglu"), flat(x), flat(out), len(x), x.shape[1] // 2, work=20 * x.size)
    return out


@in_fast_precision
def gated_mlp(x: Array, w: MLP) -> Array:
    """n d -> n d, some rows at a time: what is inside is ten times as wide as a row."""
    return in_strips(x, w, linear)


def in_strips(x: Array, w: MLP, multiply: Callable[[Array, Linear], Array]) -> Array:
    """The gated MLP of STRIP rows at a time."""
    out = np.empty((len(x), w.down.weight.shape[0]), x.dtype)
    for at in range(0, len(x), STRIP):
        inner = multiply(x[at:at + STRIP], w.gate_up)                                    # n d -> n 2h
        out[at:at + STRIP] = multiply(swiglu(inner), w.down)                             # n h -> n d
    return out


@in_fast_precision
def gelu(x: Array) -> Array:
    """n d -> n d"""
    out = np.empty(x.shape, x.dtype)
    team().run(function("gelu"), flat(x), flat(out), x.size, work=50 * x.size)
    return out


@in_fast_precision
def add(x: Array, y: Array) -> Array:
    """n d, n d -> n d"""
    if y.dtype != x.dtype:
        return defined("add")(x, y)
    out = np.empty(x.shape, x.dtype)
    team().run(function("add"), flat(x), flat(y), flat(out), x.size, work=x.size)
    return out


@in_fast_precision
def least_first(x: Array) -> Array:
    """n v -> n v"""
    out = np.empty(x.shape, np.int64)
    team().run(function("least_first"), flat(x), flat(out), len(x), x.shape[1], work=30 * x.size)
    return out


# ----------------------------------------------------------------------------------------------- pixels

def resize(pixels: Array, size: Array) -> Array:
    """y b 3, 2 -> h u 3"""
    if pixels.dtype != np.uint8 or min(size) < 1:
        return picture.bicubic(pixels, size)
    for axis in (0, 1) if picture.height_first(pixels.shape, size) else (1, 0):
        if pixels.shape[axis] != size[axis]:
            pixels = resize_axis(pixels, int(size[axis]), axis)
    return np.ascontiguousarray(pixels)


def resize_axis(pixels: Array, n_out: int, axis: int) -> Array:
    """One axis of a picture, filtered to n_out pixels."""
    height, width, _ = pixels.shape
    first, weights = picture.bicubic_weights(pixels.shape[axis], n_out)
    weights = picture.fixed_point(weights)
    out = np.empty((n_out, width, 3) if axis == 0 else (height, n_out, 3), np.uint8)
    lines = (width * 3,) if axis == 0 else (height, width)
    team().run(function("weigh", axis, picture.FRACTION_BITS), flat(pixels), first, weights, flat(out),
               *lines, pixels.shape[axis] - 1, work=2 * out.size * weights.shape[1])
    return out


def normalise(pixels: Array, config: PreprocessorConfig) -> Array:
    """h u 3 -> 3 h u"""
    if pixels.dtype != np.uint8:
        return picture.standardise(pixels, config)
    levels = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)         # 1 256 3
    out = np.empty((3, *pixels.shape[:2]), np.float32)
    team().run(function("look_up"), flat(pixels), flat(picture.standardise(levels, config)), flat(out),
               *pixels.shape[:2], work=4 * pixels.size)
    return out


def patchify(frames: Array, config: PreprocessorConfig) -> Array:
    """t 3 h u -> p x"""
    if frames.dtype != np.float32:
        plain: Any = patches.patchify
        return np.asarray(plain.definition(frames, config))
    t, gh, gw = map(int, patches.grid_of(frames.shape, config))
    size, pair = config.patch_size, config.temporal_patch_size
    out = np.empty((t * gh * gw, 3 * pair * size * size), np.float32)
    team().run(function("cut"), flat(frames), flat(out), len(frames), t, gh, gw, size, pair,
               config.merge_size, work=out.size)
    return out


STAGES: dict[Callable[..., Any], Callable[..., Any]] = {
    picture.resize: resize, picture.normalise: normalise, patches.patchify: patchify}


# ---------------------------------------------------------------------------------------------- weights

def pack(numbers: Array, first: int, out: Packed) -> None:
    """`checkpoint/packed.pack_rows` on the team's threads: rows into tiles, bit for bit the same."""
    x, words = np.ascontiguousarray(numbers), out.format in ("bf16", "f32")
    same = x.dtype == (np.uint16 if out.format == "bf16" else np.float32)
    whole = same and x[:1].nbytes % 4 == 0 and x.ctypes.data % 4 == 0
    if x.size < LITTLE or (words and not whole):               # rows that are no whole words
        pack_rows(numbers, first, out)
        return
    x = (x.view(np.uint32) if words else x).reshape(-1)
    tables = [getattr(out, name).reshape(-1) for name in array_shapes(out.shape, out.format)]
    team().run(function("packer", out.format), x, *tables, len(numbers), len(x) // len(numbers), first,
               out.tiles.shape[1])


def prepare(model: Model, format: str | None = None) -> Model:
    """All matrices in tiles, tensor by tensor; a tied head and its table are one weight. What is packed
    already stays where it lies, in a mapped file too.

    format: of the blocks' matrices, "int8" or "int4"; without one each keeps its own. Ends (patches,
    merger, embedding and head) are then kept in int8 at the least.
    """
    wide = "bf16" if model.decoder.dtype == BFLOAT16 else "f32"          # as that precision holds them
    def tiles(weight: Weight, format: str | None) -> Weight:
        return packed(weight, format, pack, wide)
    ends = end_format(format)
    vision, decoder = model.vision, model.decoder
    table = tiles(decoder.embed, ends)
    tied = decoder.head.weight is decoder.embed
    head = decoder.head._replace(weight=table if tied else tiles(decoder.head.weight, ends))
    inner, outer = vision.merger.inner, vision.merger.outer
    merger = vision.merger._replace(inner=inner._replace(weight=tiles(inner.weight, ends)),
                                    outer=outer._replace(weight=tiles(outer.weight, ends)))
    seeing = tuple(block_in_tiles(block, format, tiles) for block in vision.blocks)
    speaking = tuple(block_in_tiles(block, format, tiles) for block in decoder.layers)
    patches = vision.patch_embed._replace(weight=tiles(vision.patch_embed.weight, ends))
    return model._replace(
        vision=vision._replace(patch_embed=patches, merger=merger, blocks=seeing),
        decoder=decoder._replace(embed=table, head=head, layers=speaking))


def block_in_tiles(block: Block, format: str | None,
                   tiles: Callable[[Weight, str | None], Weight]) -> Block:
    """The four matrices of a block; biases stay."""
    matrices = (block.qkv, block.out, block.mlp.gate_up, block.mlp.down)
    qkv, out, gate_up, down = (w._replace(weight=tiles(w.weight, format)) for w in matrices)
    return block._replace(qkv=qkv, out=out, mlp=block.mlp._replace(gate_up=gate_up, down=down))
