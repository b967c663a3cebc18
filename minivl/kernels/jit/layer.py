"""A whole decoder layer for the token that each of a few conversations adds: one call, in which the threads
wait for each other seven times and Python is not asked at all.

    1. norm; q, k, v                                (each thread its share of the columns)
    2. q and k turned; k and v into their rows of the cache
    3. attention over the cache
    4. the heads through `out`, onto the stream
    5. norm; gate and up
    6. silu(gate) * up
    7. down, onto the stream

Every number is made by the functions of which the kernels of one step are made (`few.py`, `rows.py`,
`attention.py`), so the bits are those of `model.decoder_layer` in these kernels. Before a product every thread
norms the few rows for itself: that takes less time than to wait for somebody else's.

Read next: `decoding.py`, which calls it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from .few import Table
from .numbers import get, put
from .rows import normalise_row, swiglu, turn_head

Compile = Callable[[Callable[..., Any]], Any]


class Weights(NamedTuple):
    """A layer as compiled code takes it: four Tables and two norms (d)."""
    qkv: Table
    out: Table
    gate_up: Table
    down: Table
    norm1: Any
    norm2: Any


class Stored(NamedTuple):
    """The cache's k and v of a layer (r, k, e) flat; rows (s): where new ones go; blocks of queries and
    the keys that they see, as `attention` takes them; cos, sin (s, e/2) flat."""
    k: Any
    v: Any
    rows: Any
    blocks: Any
    cos: Any
    sin: Any


class Room(NamedTuple):
    """Memory of a step, flat but for what each thread has (team, ...): rows of every width that stands
    between two phases, in the precision of the stream, and what products need."""
    normed: Any
    projected: Any
    q: Any
    attended: Any
    stream: Any
    inner: Any
    gated: Any
    sums: Any


class Sizes(NamedTuple):
    """Rows s, width d of the stream, heads a and k of width e, inner width h."""
    s: int
    d: int
    a: int
    k: int
    e: int
    h: int


def decoder_layer(product: Any, attend: Any, meet: Any, meet_at_the_end: Any, compile: Compile) -> Any:
    """product: `few.matrix_vector`; attend: `attention.attention`; meet: `meeting.meet`"""
    normalise, gate, turn_and_keep = compile(normalise_row), swiglu(compile), _turn_and_keep(compile)

    def share(me: int, team: int, met: Any, x: Any, out: Any, w: Any, stored: Any, room: Any,
              sizes: Any, eps1: float, eps2: float) -> None:
        """x, out (s * d) float32 or bfloat16 bits; w: Weights, stored: Stored, room: Room, sizes: Sizes"""
        s, d, a, k, e, h = sizes
        normed, nothing, wide = room.normed[me], x[:0], (a + 2 * k) * e
        for row in range(s):
            normalise(x, row * d, w.norm1, eps1, normed, row * d, d)
        product(me, team, met, 1, normed, w.qkv, nothing, room.projected, room.sums, s, d, wide)
        meet(met, team, 1)
        turn_and_keep(me, team, room.projected, room.q, stored, s, a, k, e)
        meet(met, team, 2)
        attend(me, team, room.q, stored.k, stored.v, room.attended, stored.blocks, a, k, e, True)
        meet(met, team, 3)
        product(me, team, met, 2, room.attended, w.out, x, room.stream, room.sums, s, a * e, d)
        meet(met, team, 4)
        for row in range(s):
            normalise(room.stream, row * d, w.norm2, eps2, normed, row * d, d)
        product(me, team, met, 3, normed, w.gate_up, nothing, room.inner, room.sums, s, d, 2 * h)
        meet(met, team, 5)
        gate(me, team, room.inner, room.gated, s, h)
        meet(met, team, 6)
        product(me, team, met, 4, room.gated, w.down, room.stream, out, room.sums, s, h, d)
        meet_at_the_end(met, team, 7)
    return compile(share)


def _turn_and_keep(compile: Compile) -> Any:
    """Heads of q turned, of k turned into the cache, of v into the cache: some heads for each thread."""
    turn = compile(turn_head)

    def share(me: int, team: int, x: Any, q: Any, stored: Any, s: int, a: int, k: int, e: int) -> None:
        """x (s * (a + k + k) * e) -> q (s * a * e) and rows of the cache"""
        heads, half = a + 2 * k, e // 2
        for head in range(me * heads // team, (me + 1) * heads // team):
            for row in range(s):
                at, angle = (row * heads + head) * e, row * half
                kept = stored.rows[row] * k * e
                if head < a:
                    turn(x, at, stored.cos, stored.sin, angle, q, (row * a + head) * e, half)
                elif head < a + k:
                    turn(x, at, stored.cos, stored.sin, angle, stored.k, kept + (head - a) * e, half)
                else:
                    for i in range(e):
                        put(stored.v, kept + (head - a - k) * e + i, get(x, at + i))
    return compile(share)
