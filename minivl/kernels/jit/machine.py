"""The words of `emulator.py` as machine code: what a kernel of `products.py` says becomes LLVM
instructions inside of a Numba function.

`intrinsic_of(kernel, ...)` gives a function that Numba code calls with arrays and element numbers.
Vectors are LLVM's own, so any processor runs them; tiles and bfloat16 products are the processor's
instructions by name. Addresses are made of the arrays' own pointers, never of integers.

Read next: `products.py` (the kernels), `drivers.py` (the loops around them).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from .tiers import lines_an_ask

BYTE, WORD, LONG, FLOAT = ir.IntType(8), ir.IntType(32), ir.IntType(64), ir.FloatType()
VOID, PLACE = ir.VoidType(), ir.IntType(8).as_pointer()
TILE_BYTES = 64
SECOND_CACHE = 2                               # where `ahead` asks for memory: LLVM's word for level 2


class Bfloat(ir.Type):                         # type: ignore[misc]
    """LLVM's bfloat, which llvmlite has no name for."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Bfloat)

    def __hash__(self) -> int:
        return hash(Bfloat)


class Number:
    """A 64-bit integer of the machine code, with the arithmetic that offsets need."""

    def __init__(self, builder: Any, value: Any):
        self.builder, self.value = builder, value

    def __add__(self, other: Number | int) -> Number:
        return Number(self.builder, self.builder.add(self.value, _number(other)))

    def __mul__(self, other: Number | int) -> Number:
        return Number(self.builder, self.builder.mul(self.value, _number(other)))

    __radd__, __rmul__ = __add__, __mul__


def _number(value: Number | int) -> Any:
    return value.value if isinstance(value, Number) else LONG(value)


class Pointer:
    """A place in an array; `+` moves it by bytes."""

    def __init__(self, builder: Any, value: Any):
        self.builder, self.value = builder, value

    def __add__(self, more: Number | int) -> Pointer:
        return Pointer(self.builder, self.builder.gep(self.value, [_number(more)], source_etype=BYTE))

    def to(self, kind: Any) -> Any:
        """The address as one of another type of number."""
        return self.builder.bitcast(self.value, kind.as_pointer())


class Register:
    """A vector that a loop carries; LLVM turns the memory into a register."""

    def __init__(self, builder: Any, place: Any):
        self.builder, self.place = builder, place

    @property
    def value(self) -> Any:
        return self.builder.load(self.place)

    @value.setter
    def value(self, vector: Any) -> None:
        self.builder.store(vector, self.place)


class Machine:
    """The words of `Emulator`, each of which emits what it does there."""

    def __init__(self, builder: Any, lanes: int):
        self.builder, self.lanes, self.lines_an_ask = builder, lanes, lines_an_ask()
        self.floats, self.words = ir.VectorType(FLOAT, lanes), ir.VectorType(WORD, lanes)

    # ---- loops and registers

    def loop(self, times: Any) -> Iterator[Number]:
        """Emits the loop's body once, between the number of the turn and the branch back."""
        build = self.builder
        before, body = build.block, build.append_basic_block("turn")
        after = build.append_basic_block("done")
        build.branch(body)
        build.position_at_end(body)
        turn = build.phi(LONG)
        turn.add_incoming(LONG(0), before)
        yield Number(build, turn)
        following = build.add(turn, LONG(1))
        turn.add_incoming(following, build.block)
        build.cbranch(build.icmp_signed("<", following, _number(times)), body, after)
        build.position_at_end(after)

    def register(self) -> Register:
        place = cgutils.alloca_once(self.builder, self.floats)
        self.builder.store(ir.Constant(self.floats, [0.0] * self.lanes), place)
        return Register(self.builder, place)

    # ---- vectors

    def _read(self, at: Pointer, kind: Any) -> Any:
        found = self.builder.load(at.to(kind), typ=kind)
        found.align = 4                        # an array of NumPy need not be aligned to a vector
        return found

    def load(self, at: Pointer) -> Any:
        return self._read(at, self.floats)

    def load_words(self, at: Pointer) -> Any:
        return self._read(at, self.words)

    def renamed(self, at: Pointer) -> Pointer:
        """LLVM does not know that it is the same place, so a number that was read there before is read again where
        it would have had to wait in a register."""
        form = ir.FunctionType(PLACE, [PLACE])
        return Pointer(self.builder, self.builder.asm(form, "", "=r,0", [at.value], side_effect=False))

    def store(self, at: Pointer, vector: Any) -> None:
        self.builder.store(vector, at.to(self.floats)).align = 4

    def ahead(self, at: Pointer) -> None:
        self._call("llvm.prefetch.p0", VOID, [PLACE, WORD, WORD, WORD],
                   [at.value, WORD(0), WORD(SECOND_CACHE), WORD(1)])

    def _everywhere(self, scalar: Any, kind: Any) -> Any:
        empty = ir.Constant(kind, ir.Undefined)
        one = self.builder.insert_element(empty, scalar, WORD(0))
        return self.builder.shuffle_vector(one, empty, ir.Constant(self.words, [0] * self.lanes))

    def splat(self, at: Pointer) -> Any:
        return self._everywhere(self._read(at, FLOAT), self.floats)

    def splat_word(self, at: Pointer) -> Any:
        return self._everywhere(self._read(at, WORD), self.words)

    def _same(self, word: int) -> Any:
        return ir.Constant(self.words, [word] * self.lanes)

    def as_floats(self, words: Any) -> Any:
        return self.builder.bitcast(words, self.floats)

    def as_words(self, x: Any) -> Any:
        return self.builder.bitcast(x, self.words)

    def quiet(self, x: Any) -> Any:
        words = self.as_words(x)
        marked = self.builder.or_(words, self._same(0x400000))
        return self.as_floats(self.builder.select(self._is_nan(x), marked, words))

    def without_nan(self, x: Any) -> Any:
        zero = ir.Constant(self.floats, [0.0] * self.lanes)
        return self.builder.select(self._is_nan(x), zero, x)

    def _is_nan(self, x: Any) -> Any:
        return self.builder.fcmp_unordered("uno", x, x)

    def store_upper(self, at: Pointer, x: Any) -> None:
        halves = ir.VectorType(ir.IntType(16), self.lanes)
        upper = self.builder.trunc(self.builder.lshr(self.as_words(x), self._same(16)), halves)
        self.builder.store(upper, at.to(halves)).align = 2

    def low(self, words: Any) -> Any:
        return self.builder.bitcast(self.builder.shl(words, self._same(16)), self.floats)

    def high(self, words: Any) -> Any:
        return self.builder.bitcast(self.builder.and_(words, self._same(0xFFFF0000)), self.floats)

    def signed_byte(self, words: Any, number: int) -> Any:
        top = self.builder.shl(words, self._same(24 - 8 * number)) if number < 3 else words
        return self.builder.sitofp(self.builder.ashr(top, self._same(24)), self.floats)

    def lifted(self, words: Any) -> Any:
        return self.builder.xor(words, self._same(0x80808080))

    def nibble(self, words: Any, number: int) -> Any:
        """VPERMPS of AVX-512 looks at the lowest four bits of an index alone."""
        low = self.builder.lshr(words, self._same(4 * number)) if number else words
        table = ir.Constant(self.floats, [float(i) for i in range(16)])
        return self._call("llvm.x86.avx512.permvar.sf.512", self.floats, [self.floats, self.words], [table, low])

    def nibble_in_place(self, words: Any, number: int) -> Any:
        there = (self.builder.and_(words, self._same(15 << 4 * number)) if number < 7
                 else self.builder.lshr(words, self._same(28)))
        return self.builder.sitofp(there, self.floats)

    def nibble_pair(self, words: Any, number: int, upper: bool) -> Any:
        """VPERMW looks at the lowest five bits of an index: four, where the table says all twice."""
        low = self.builder.lshr(words, self._same(4 * number)) if number else words
        half = ir.IntType(16)
        halves = ir.VectorType(half, 2 * self.lanes)
        values = [16 * (i - 16 * (i > 7)) if upper else i for i in range(16)] * (self.lanes // 8)
        table = ir.Constant(halves, [half(int(np.float32(value).view(np.uint32)) >> 16) for value in values])
        found = self._call("llvm.x86.avx512.permvar.hi.512", halves, [halves, halves],
                           [table, self.builder.bitcast(low, halves)])
        return self.builder.bitcast(found, self.words)

    def add(self, x: Any, y: Any) -> Any:
        return self.builder.fadd(x, y)

    def subtract(self, x: Any, y: Any) -> Any:
        return self.builder.fsub(x, y)

    def multiply(self, x: Any, y: Any) -> Any:
        return self.builder.fmul(x, y)

    def multiply_add(self, x: Any, y: Any, z: Any) -> Any:
        """One instruction where the processor has it, else a product and a sum, each rounded."""
        name = f"llvm.fmuladd.v{self.lanes}f32"
        return self._call(name, self.floats, [self.floats] * 3, [x, y, z])

    def dot_bf16(self, total: Any, x: Any, y: Any) -> Any:
        pairs = ir.VectorType(Bfloat(), 2 * self.lanes)
        x, y = self.builder.bitcast(x, pairs), self.builder.bitcast(y, pairs)
        return self._call(f"llvm.x86.avx512bf16.dpbf16ps.{32 * self.lanes}", self.floats,
                          [self.floats, pairs, pairs], [total, x, y])

    def dot_u8s8(self, total: Any, x: Any, y: Any) -> Any:
        fours = ir.VectorType(BYTE, 4 * self.lanes)
        x, y = self.builder.bitcast(x, fours), self.builder.bitcast(y, fours)
        return self._call(f"llvm.x86.avx512.vpdpbusd.{32 * self.lanes}", self.words,
                          [self.words, fours, fours], [total, x, y])

    # ---- tiles

    def configure(self, at: Pointer) -> None:
        self._call("llvm.x86.ldtilecfg", VOID, [PLACE], [at.value])

    def release(self) -> None:
        self._call("llvm.x86.tilerelease", VOID, [], [])

    def tile_zero(self, number: int) -> None:
        self._call("llvm.x86.tilezero", VOID, [BYTE], [BYTE(number)])

    def tile_load(self, number: int, at: Pointer, stride: Number | int = TILE_BYTES) -> None:
        self._call("llvm.x86.tileloadd64", VOID, [BYTE, PLACE, LONG],
                   [BYTE(number), at.value, _number(stride)])

    def tile_store(self, number: int, at: Pointer, stride: Number | int = TILE_BYTES) -> None:
        self._call("llvm.x86.tilestored64", VOID, [BYTE, PLACE, LONG],
                   [BYTE(number), at.value, _number(stride)])

    def tile_dot_bf16(self, total: int, x: int, y: int) -> None:
        self._tile_dot("llvm.x86.tdpbf16ps", total, x, y)

    def tile_dot_s8(self, total: int, x: int, y: int) -> None:
        self._tile_dot("llvm.x86.tdpbssd", total, x, y)

    def _tile_dot(self, name: str, *tiles: int) -> None:
        self._call(name, VOID, [BYTE] * 3, [BYTE(tile) for tile in tiles])

    def _call(self, name: str, gives: Any, takes: list[Any], values: list[Any]) -> Any:
        form = ir.FunctionType(gives, takes)
        function = cgutils.get_or_insert_function(self.builder.module, form, name)
        return self.builder.call(function, values)


def compiled(kernel: Callable[..., None], lanes: int, places: int) -> Any:
    """A kernel as a function for Numba code: called with an array and an element number for each of
    its first `places` arguments, which become pointers, and with integers for the others."""
    names = list(inspect.signature(kernel).parameters)[1:]
    taken = [part for name in names[:places] for part in (name, f"{name}_at")] + names[places:]

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        pointers = []
        for i in range(0, 2 * places, 2):
            kind = signature.args[i]
            start = cgutils.create_struct_proxy(kind)(context, builder, value=values[i]).data
            size = context.get_abi_sizeof(context.get_data_type(kind.dtype))
            first = Pointer(builder, builder.bitcast(start, PLACE))
            pointers.append(first + Number(builder, values[i + 1]) * size)
        numbers = [Number(builder, value) for value in values[2 * places:]]
        kernel(Machine(builder, lanes), *pointers, *numbers)
        return context.get_dummy_value()

    def typed(context: Any, *kinds: Any) -> Any:
        taken = [types.intp if isinstance(kind, types.Integer) else kind for kind in kinds]
        return types.void(*taken), emit

    typed.__name__ = typed.__qualname__ = kernel.__name__
    parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD)
                  for name in ("context", *taken)]
    typed.__signature__ = inspect.Signature(parameters)       # type: ignore[attr-defined]
    return intrinsic(typed)
