"""A model that is larger than memory: its weights stay in the checkpoint's file and are read, block by
block, as the run comes to them.

    vlm = minivl.load(folder, memory="8GiB")

As many blocks of the decoder as fit are kept; the others are read again for every token, while the block
before them computes. So a token takes as long as the disk needs for what is not kept, or as the
computation does, whichever is more. Nothing of this shows in the model: a block's weights say when they
are read (`checkpoint/streamed.py`), and this file puts them into the tree.

Packed folders (`minivl convert`) are best: their tiles are multiplied where they lie. Of other
checkpoints the compiled interpreter packs each matrix when it comes to it, and the definitions widen it.

Not here: several machines (`cut/`). Read next: `checkpoint/streamed.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import prod
from time import perf_counter
from typing import NamedTuple

import numpy as np

from ..checkpoint.names import weights_of
from ..checkpoint.packed import Packed, packed
from ..checkpoint.streamed import (
    PIECE,
    Part,
    Reader,
    Span,
    Streamed,
    Times,
    give_back,
    read_through,
    spans_of,
    streamed,
)
from ..checkpoint.tree import MLP, Block, Linear, Model, Weight
from ..checkpoint.weight import Absent
from ..door.errors import ArgumentError
from ..kernels import Function, Interpreter, defined, interpreter, packer
from ..kernels import definition as kernels
from ..kernels.definition import wide_type

UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
PROCESS = 256 << 20                            # bytes of Python, NumPy and compiled code
SHARE = 8                                      # one part in so many is left for cache and activations
LEAST_PROBE, PROBED = 16 << 20, 512 << 20      # bytes of plain reads to compare with: of one, of all
NO_WEIGHT = "the weights of this model are streamed, and this one is not read here"


def bytes_of(memory: str | int) -> int:
    """A size in bytes from "8GiB", "8G", "500MiB" or a number. Raises ArgumentError for anything
    else."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:I?B)?\s*", str(memory).upper())
    if found is None or not float(found[1]):
        raise ArgumentError(f"memory must be a size such as 8GiB or 500MiB, got {memory!r}")
    return int(float(found[1]) * UNITS[found[2]])


def streaming(machine: Interpreter, model: Model, memory: str | int) -> Interpreter:
    """The interpreter that runs a model in so much memory: the same functions, over weights that are
    read ahead.

    Raises ArgumentError for an interpreter that needs all weights in a memory of its own, and for memory
    that is less than two blocks and what one matrix needs while it is multiplied.
    """
    limit, tiles = bytes_of(memory), all_in_tiles(model)
    if machine.name not in ("definition", "jit") and not (machine.name == "jit-int8" and tiles):
        if machine.name == "jit-int8":
            raise ArgumentError("memory= streams weights for kernels jit-int8 from a packed checkpoint alone: "
                                "minivl convert --weights int8")
        raise ArgumentError("memory= streams weights for kernels definition and jit, got "
                            f"{machine.name!r}: use one of these")
    keeping = kept_blocks(model, limit, working_bytes(machine, model, tiles), less_with(machine, tiles))
    functions = dict(machine.functions)
    if machine.name == "jit" and not tiles:
        functions |= packing(machine)
    return machine._replace(functions=functions, prepare=lambda tree: in_parts(machine, tree, keeping))


def all_in_tiles(model: Model) -> bool:
    """Whether every matrix of a block lies in tiles already."""
    matrices = [weight for weight in weights_of(model).values() if len(weight.shape) == 2]
    return all(isinstance(weight, Packed) for weight in matrices)


# ------------------------------------------------------------------------------------------------ memory

def working_bytes(machine: Interpreter, model: Model, tiles: bool) -> int:
    """Bytes that the largest matrix takes beside its file while it is multiplied: none in tiles, a
    packed copy for the compiled interpreter, a widened copy for the definitions."""
    largest = max(prod(weight.shape) for weight in weights_of(model).values())
    if machine.name == "definition":
        return largest * 2 * wide_type(model.decoder.dtype).itemsize
    return 0 if tiles else largest * 4


def less_with(machine: Interpreter, tiles: bool) -> str:
    """What would need less memory, as the end of a message; nothing where nothing would."""
    if machine.name == "definition":
        return '; kernels="jit" (pip install "minivl[jit]") needs less'
    return "" if tiles else "; a packed folder (minivl convert) needs less"


def kept_blocks(model: Model, limit: int, working: int, hint: str = "") -> frozenset[int]:
    """Which layers of the decoder stay in memory: as many as fit, spread evenly, so that the disk is
    never idle for long.

    limit, working: bytes, in all and beside the files; hint: what would need less
    Raises ArgumentError when not even two blocks fit.
    """
    sizes = [sum(span.size for one in of_block(layer) for span in spans_of(one))
             for layer in model.decoder.layers]
    largest = max([*sizes, sum(span.size for span in spans_of(model.decoder.head.weight))])
    rest = limit - limit // SHARE - PROCESS - working - 2 * largest
    if rest < 0:
        least = (limit - rest) * SHARE // (SHARE - 1)
        raise ArgumentError(f"this model needs at least {least / 2**30:.2f} GiB: two blocks, what the "
                            "largest matrix takes while it is multiplied, and the process; got "
                            f"{limit / 2**30:.2f} GiB{hint}")
    count = min(len(sizes), rest // max(max(sizes), 1))
    return frozenset(i * len(sizes) // count for i in range(count))


# ---------------------------------------------------------------------------------------------- the tree

def of_block(block: Block) -> Iterator[Weight]:
    """The weights of a block in the order in which they are read."""
    linears = (block.qkv, block.out, block.mlp.gate_up, block.mlp.down)
    yield from (block.norm1.weight, block.norm2.weight)
    yield from (one for linear in linears for one in linear if one is not None)


def in_parts(machine: Interpreter, model: Model, keeping: frozenset[int]) -> Model:
    """The tree over streamed weights: blocks of the tower, layers of the decoder, and its head, each a
    part."""
    vision, decoder = model.vision, model.decoder
    blocks = [("vision.blocks", i, tuple(of_block(block))) for i, block in enumerate(vision.blocks)]
    blocks += [("decoder.layers", i, tuple(of_block(layer))) for i, layer in enumerate(decoder.layers)]
    parts = [Part(f"{part}.{i}", part, spans_in(weights), part == "decoder.layers" and i in keeping)
             for part, i, weights in blocks]
    parts.append(Part("decoder.head", "decoder.layers", spans_in((decoder.head.weight,)),
                      len(keeping) == len(decoder.layers)))
    reader, towers = Reader(parts), len(vision.blocks)
    ends = prepared_ends(machine, model)
    seeing = tuple(streamed_block(block, reader, i) for i, block in enumerate(vision.blocks))
    speaking = tuple(streamed_block(layer, reader, towers + i) for i, layer in enumerate(decoder.layers))
    head = decoder.head._replace(weight=streamed(decoder.head.weight, reader, len(parts) - 1))
    return ends._replace(vision=ends.vision._replace(blocks=seeing),
                         decoder=ends.decoder._replace(layers=speaking, embed=decoder.embed, head=head))


def spans_in(weights: tuple[Weight, ...]) -> tuple[Span, ...]:
    """All that these weights lie in, in the order of the file: a disk reads best forwards."""
    found = {(str(span.file.path), span.start): span for one in weights for span in spans_of(one)}
    return tuple(found[key] for key in sorted(found))


def prepared_ends(machine: Interpreter, model: Model) -> Model:
    """What is neither a block nor a table of words, in the machine's layout: patches and merger."""
    def gap(weight: Weight) -> Weight:
        return Absent(weight.shape, NO_WEIGHT)
    decoder = model.decoder
    if machine.name == "jit-int8":                 # it looks at the formats of all blocks; ends alone have none
        machine.prepare(model)
        machine = interpreter("jit")
    head = Linear(gap(decoder.head.weight), None)
    return machine.prepare(model._replace(
        vision=model.vision._replace(blocks=()),
        decoder=decoder._replace(layers=(), embed=gap(decoder.embed), head=head)))


def streamed_block(block: Block, reader: Reader, at: int) -> Block:
    """A block whose weights say when they are read."""
    def one(linear: Linear) -> Linear:
        bias = None if linear.bias is None else streamed(linear.bias, reader, at)
        return linear._replace(weight=streamed(linear.weight, reader, at), bias=bias)
    norm1, norm2 = (norm._replace(weight=streamed(norm.weight, reader, at))
                    for norm in (block.norm1, block.norm2))
    return block._replace(norm1=norm1, norm2=norm2, qkv=one(block.qkv), out=one(block.out),
                          mlp=MLP(one(block.mlp.gate_up), one(block.mlp.down)))


def packing(machine: Interpreter) -> dict[Function, Function]:
    """Compiled products of matrices that are packed when they are met, and forgotten."""
    def met(w: Linear, dtype: np.dtype) -> Linear:
        if not isinstance(w.weight, Streamed) or dtype.name not in ("float32", "bfloat16"):
            return w
        w.weight.reader.arrive(w.weight.at)
        wide = "bf16" if dtype.name == "bfloat16" else "f32"
        return w._replace(weight=packed(w.weight.weight, None, packer(), wide))

    def met_mlp(w: MLP, dtype: np.dtype) -> MLP:
        return MLP(met(w.gate_up, dtype), met(w.down, dtype))

    def after(function: Function, ready: Function) -> Function:
        return lambda x, w: function(x, ready(w, x.dtype))
    kinds: dict[Function, Function] = {defined(kernels.linear): met, defined(kernels.gated_mlp): met_mlp}
    return {key: after(machine.functions[key], ready) for key, ready in kinds.items()
            if key in machine.functions}


# ------------------------------------------------------------------------------------ where time went

class Spent(NamedTuple):
    """Where the time of a streamed run went. rows: of each part its name, whether it is kept, its bytes,
    its times;
    plain: bytes a second of a plain read of the same file; reached: bytes a second that the reader's
    thread had"""
    rows: list[tuple[str, bool, int, Times]]
    plain: float
    reached: float


def reader_of(model: Model) -> Reader | None:
    """What reads a model's weights ahead; None for one in memory."""
    found: Reader | None = getattr(model.decoder.head.weight, "reader", None)
    return found


def spent(reader: Reader) -> Spent:
    """Where the time went so far; the speed of the disk is measured beside it."""
    reader.pause()
    rows = [(part.name, part.kept, part.bytes, times)
            for part, times in zip(reader.parts, reader.times, strict=True)]
    read, seconds = (sum(getattr(times, name) for times in reader.times) for name in ("bytes", "read"))
    return Spent(rows, plain_speed(reader), read / seconds if seconds else 0.0)


def plain_speed(reader: Reader) -> float:
    """Bytes a second of plain sequential reads of parts that are in no cache; 0 where parts are too
    small to tell."""
    room, count, seconds = memoryview(bytearray(PIECE)), 0, 0.0
    for span in (span for part in reader.parts if not part.kept for span in part.spans):
        if span.size < LEAST_PROBE or count >= PROBED:
            continue
        with span.file.path.open("rb", buffering=0) as file:
            give_back(span, file)
            start = perf_counter()
            count += read_through(file, span.start, span.size, room)
            seconds += perf_counter() - start
    return count / seconds if seconds else 0.0
