"""The interpreter of one rank: another interpreter's functions over this rank's share of the weights,
with what the ranks must tell each other in between.

A layer needs two sums. Whatever is cut by rows (heads, inner columns) goes on by itself up to a matrix
that is cut by columns; there each rank has a part of every result, and the parts are summed. So the sum
belongs to a matrix,
not to a pass: the tree says which (`Summed`), and `linear` looks at it. Parts are summed in the wide
type, and rounded once, as the definition rounds.

A stage of a pipeline runs its own layers; the rows come from the stage before and go to the next.

Read next: `group.py` (sums), `plan.py` (who has what), `minivl/model.py`, which knows nothing of this.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ... import model as program
from ...checkpoint.names import Place
from ...checkpoint.shares import ELSEWHERE, share_of_heads, sharing
from ...checkpoint.tree import MLP, Block, Linear, Merger, Model, Vision, Weight
from ...checkpoint.weight import Absent
from ...config import ModelConfig
from ...door.errors import ArgumentError
from ...kernels import Function, Interpreter, defined
from ...kernels import definition as kernels
from ...kernels.definition import narrow, wide, wide_type
from ...passes import decoder as ends
from ...passes import sampling
from ..generation import NotFiniteError
from .group import Group
from .plan import Seat, here

Array = np.ndarray
TAKEN = ("definition", "jit", "jit-int8", "shapes")


class Summed(Linear):
    """A matrix of which each rank has some columns: what it gives is a part of the result."""


class Gathered(Linear):
    """A matrix of which each rank has some rows: what it gives stands beside the others' results."""


class Rank:
    """One rank of a job. shards: the ranks that share its matrices; world: all ranks, in order; `.sent`
    counts bytes by kind, of this rank alone. steps: how often the decoder ran"""

    def __init__(self, seat: Seat, config: ModelConfig, shards: Group, world: Group, sent: Counter[str]):
        self.seat, self.config, self.shards, self.world, self.sent = seat, config, shards, world, sent
        self.steps = 0

    # ---- weights

    def place(self) -> Place:
        """The `place=` of this rank's weights, for `load_model`."""
        of = self.seat.cut.tensor
        return sharing(self.config, self.seat.shard, of, here(self.seat, self.config))

    def marked(self, model: Model) -> Model:
        """The tree of this rank's weights: heads as it has them, matrices whose results are parts
        marked, and nothing of the layers of other stages."""
        (first, last), decoder = self.seat.layers, model.decoder
        speaking = tuple(self.block(layer) if first <= i < last else elsewhere(layer)
                         for i, layer in enumerate(decoder.layers))
        decoder = decoder._replace(layers=speaking, head=Gathered(*decoder.head))
        return model._replace(vision=self.tower(model.vision), decoder=decoder)

    def tower(self, vision: Vision) -> Vision:
        """The first stage's tower; its shapes alone on the others."""
        inner, outer = vision.merger.inner, vision.merger.outer
        if self.seat.first:
            return vision._replace(merger=vision.merger._replace(outer=Summed(*outer)),
                                   blocks=tuple(map(self.block, vision.blocks)))
        norm = vision.merger.norm._replace(weight=gap(vision.merger.norm.weight))
        return vision._replace(patch_embed=without(vision.patch_embed),
                               blocks=tuple(map(elsewhere, vision.blocks)),
                               merger=Merger(norm, without(inner), without(outer)))

    def block(self, block: Block) -> Block:
        """A block of this rank's heads."""
        mlp = MLP(block.mlp.gate_up, Summed(*block.mlp.down))
        config = share_of_heads(block.config, self.seat.cut.tensor)
        return block._replace(out=Summed(*block.out), mlp=mlp, config=config)

    def zeros(self, machine: Interpreter, shape: tuple[int, ...], dtype: DTypeLike) -> Any:
        """Memory of a KV cache, for this rank's layers and key heads: L r k e."""
        first, last = self.seat.layers
        rows, heads, width = shape[1:]
        mine = (last - first, rows, heads // self.seat.cut.tensor, width)
        return Own(machine.zeros(mine, dtype), first)

    # ---- the interpreter

    def on(self, machine: Interpreter) -> Interpreter:
        """This rank's interpreter: `machine`, and the talk. Raises ArgumentError for one that keeps its
        arrays somewhere else."""
        if machine.name not in TAKEN:
            raise ArgumentError(f"parallel= runs on {', '.join(TAKEN)}, got kernels={machine.name!r}")
        # what stands in for several kernels at once would pass the sums by
        functions = {key: function for key, function in machine.functions.items() if not of_several(key)}
        functions |= {defined(key): function for key, function in self.functions(machine).items()}
        return machine._replace(functions=functions,
                                zeros=lambda shape, dtype: self.zeros(machine, shape, dtype))

    def functions(self, machine: Interpreter) -> dict[Any, Function]:
        """What stands in for kernels and stages on this rank."""
        multiply = machine.functions.get(defined(kernels.linear))
        look_up = machine.functions.get(defined(kernels.embed), defined(kernels.embed))
        found: dict[Any, Function] = {
            kernels.linear: lambda x, w: self.linear(multiply, x, w),
            kernels.embed: lambda ids, table, dtype: self.embed(look_up, ids, table, dtype),
            sampling.most_likely: lambda logits: self.decided(likeliest(logits)),
            sampling.draw: lambda *args: self.decided(defined(sampling.draw)(*args))}
        if self.seat.cut.pipeline > 1:
            found |= {program.decoder_layer: self.layer, ends.logits: self.logits}
        return found if self.seat.first else found | {program.vision: self.unseen}

    def linear(self, multiply: Function | None, x: Array, w: Linear) -> Array:
        """n d -> n o, summed over the ranks or gathered from them where the matrix says so"""
        run = multiply or defined(kernels.linear)
        if isinstance(w, Gathered):
            found: Array = self.shards.gather(run(x, w))
            return found
        if not isinstance(w, Summed):
            return np.asarray(run(x, w))
        part = products(multiply, x, w.weight)
        whole = self.shards.sum(part)
        return narrow(whole if w.bias is None else whole + wide(w.bias.dense(x.dtype)), x.dtype)

    def embed(self, look_up: Function, ids: Array, table: Weight, dtype: DTypeLike) -> Array:
        """s -> s d: each rank looks up the words that it has, and zeros for the others; their sum is
        exact"""
        self.steps += 1
        if not self.seat.first:
            return np.broadcast_to(np.zeros((), dtype), (len(ids), table.shape[1]))
        size = self.config.text.vocab_size // self.seat.cut.tensor
        start = size * self.seat.shard
        mine = (ids >= start) & (ids < start + size)
        rows = look_up(np.where(mine, ids - start, 0), table, dtype)
        return self.shards.sum(np.where(mine[:, None], rows, rows.dtype.type(0)), "words")

    # ---- stages of a pipeline

    def layer(self, i: int, x: Array, turn: Any, cache: Any, w: Block) -> Array:
        """s d -> s d: this stage's layers run; the rows come before the first of them and leave after
        the last"""
        first, last = self.seat.layers
        if not first <= i < last:
            return x
        if i == first and not self.seat.first:
            x = self.world.take(x.shape, x.dtype, self.seat.rank - self.seat.cut.tensor)
        x = defined(program.decoder_layer)(i, x, turn, cache, w)
        if i == last - 1 and not self.seat.last:
            self.world.send(x, self.seat.rank + self.seat.cut.tensor, "rows")
        return x

    def logits(self, x: Array, head: Linear) -> Array:
        """n d -> n v: the last stage's scores, on every rank. Raises NotFiniteError for scores that are none:
        no rank of a pipeline could look for the first stage that gives them."""
        cut = self.seat.cut
        if self.seat.last:
            scores: Array = defined(ends.logits)(x, head)
            for stage in range(cut.pipeline - 1):
                self.world.send(scores, stage * cut.tensor + self.seat.shard, "scores")
        else:
            shape = (len(x), self.config.text.vocab_size)
            scores = self.world.take(shape, x.dtype, (cut.pipeline - 1) * cut.tensor + self.seat.shard)
        if not np.isfinite(scores).all():
            raise NotFiniteError("the scores of the next token are not finite: run the same without pipeline "
                                 "stages to learn which stage is the first to give such numbers")
        return scores

    def unseen(self, patches: Array, grids: Array, w: Any) -> Array:
        """p x, i 3 -> m o: what the first stage makes of pictures is not asked for here"""
        cells = len(patches) // w.config.spatial_merge_size ** 2
        return np.broadcast_to(np.zeros((), w.dtype), (cells, w.config.out_hidden_size))

    def decided(self, tokens: Array) -> Array:
        """n: rank 0's choice, on every rank"""
        return self.world.from_first(np.ascontiguousarray(tokens, np.int64))


def of_several(definition: Function) -> bool:
    """Whether a kernel or stage is made of others."""
    return bool(getattr(definition, "composite", False))


class Own:
    """Memory of some layers, by their numbers in the whole decoder: L r k e."""

    def __init__(self, memory: Any, first: int):
        self.memory, self.first, self.dtype = memory, first, memory.dtype
        self.shape: tuple[int, ...] = memory.shape

    def __getitem__(self, layer: int) -> Any:
        return self.memory[layer - self.first]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:
        return np.asarray(self.memory, dtype)

    @property
    def channels(self) -> Array | None:
        """Sizes of the keys' channels, where the memory is in bytes (`kernels/stored.py`)."""
        found: Array | None = self.memory.channels
        return found

    @channels.setter
    def channels(self, sizes: Array | None) -> None:
        self.memory.channels = sizes


def products(multiply: Function | None, x: Array, weight: Weight) -> Array:
    """x @ W.T of a part of the columns, in the wide type and not rounded: n d -> n o."""
    if multiply is None:
        return wide(x) @ wide(weight.dense(x.dtype)).T
    return np.asarray(multiply(x.astype(wide_type(x.dtype), copy=False), Linear(weight, None)))


def elsewhere(block: Block) -> Block:
    """A block of another rank: its shapes, and no numbers."""
    norm1, norm2 = (norm._replace(weight=gap(norm.weight)) for norm in (block.norm1, block.norm2))
    return block._replace(norm1=norm1, norm2=norm2, qkv=without(block.qkv), out=without(block.out),
                          mlp=MLP(without(block.mlp.gate_up), without(block.mlp.down)))


def without(linear: Linear) -> Linear:
    """A matrix of another rank."""
    return Linear(gap(linear.weight), None if linear.bias is None else gap(linear.bias))


def gap(weight: Weight) -> Weight:
    """The place of a weight of another rank."""
    return Absent(weight.shape, ELSEWHERE)


def likeliest(logits: Array) -> Array:
    """n v -> n: the likeliest token of each row; -1 for a row with numbers that are none, as the loop
    wants it"""
    tokens = defined(sampling.most_likely)(logits)
    return np.where(np.isfinite(logits).all(axis=-1), tokens, -1)
