"""Our reader of .gguf, the format of llama.cpp: counts, metadata, a table of tensors, then the numbers,
in blocks that share scales. The file is mapped; nothing of it but the header is read before a kernel
asks for a tensor.

No count, length or offset of the file is believed: each is checked in Python's integers against the
bytes that are there before anything is made by it. Published facts of the format: the specification in
`docs/gguf.md` of github.com/ggml-org/ggml; the order of bits in a block is that of `ggml-quants.c`
there. The package `gguf` is used by the tests only, which hold every type equal to it bit by bit.

Not here: what the tensors are called (`gguf_names.py`), what the metadata mean (`gguf_model.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..door.errors import brief
from ..door.looks import kind_of_file
from .safetensors import Mapped, MappedFile
from .tree import Weight
from .weight import CheckpointError, Stored, checked_rows, precision

MAGIC = b"GGUF"
VERSIONS = (2, 3)                              # 1 counted in 32 bits
LARGEST = 1 << 25                              # bytes of a header; a vocabulary of 152,064 takes 6 million
NAME = 256                                     # bytes of a key or of a tensor's name
AXES = 4                                       # of a tensor
ALIGNMENT = 32                                 # of the numbers, unless the metadata say another
PIECE = 1 << 21                                # numbers that are made at a time
TAKE = "take a file in Q8_0, Q6_K, Q5_K, Q4_K, Q4_1, Q4_0, BF16, F16 or F32"

Array = np.ndarray
Dequantise = Callable[[Array], Array]          # blocks (b, bytes) uint8 -> numbers (b, count) float32


# -------------------------------------------------------------------------------------- kinds of blocks

def halves(blocks: Array, at: int) -> Array:
    """The float16 at byte `at` of every block: b -> b 1, float32."""
    return np.ascontiguousarray(blocks[:, at:at + 2]).view("<f2").astype(np.float32)


def nibbles(packed: Array, width: int) -> Array:
    """Numbers of four bits: of each `width` bytes all low halves, then all high ones: b n -> b 2n/width
    width."""
    parts = packed.reshape(len(packed), -1, 1, width) >> np.array([[0], [4]], np.uint8)
    return (parts & np.uint8(15)).reshape(len(packed), -1, width)


def q8_0(blocks: Array) -> Array:
    """32 numbers of 8 bits with a scale."""
    return blocks[:, 2:].view(np.int8).astype(np.float32) * halves(blocks, 0)


def q4_0(blocks: Array) -> Array:
    """32 numbers of 4 bits around 8, with a scale."""
    return (nibbles(blocks[:, 2:], 16).reshape(-1, 32).astype(np.float32) - 8) * halves(blocks, 0)


def q4_1(blocks: Array) -> Array:
    """32 numbers of 4 bits, with a scale and the least of them."""
    numbers = nibbles(blocks[:, 4:], 16).reshape(-1, 32).astype(np.float32)
    return numbers * halves(blocks, 0) + halves(blocks, 2)


def q4_k(blocks: Array) -> Array:
    """256 numbers of 4 bits in eight groups, each with a scale and a least number of 6 bits."""
    return grouped(blocks, nibbles(blocks[:, 16:], 32))


def q5_k(blocks: Array) -> Array:
    """The same with a fifth bit, of group g in bit g of 32 bytes."""
    fifth = blocks[:, 16:48, None] >> np.arange(8, dtype=np.uint8) & np.uint8(1)             # b 32 8
    return grouped(blocks, nibbles(blocks[:, 48:], 32) | fifth.transpose(0, 2, 1) << np.uint8(4))


def grouped(blocks: Array, numbers: Array) -> Array:
    """Numbers (b, 8, 32) times their group's scale, less its least number: both in steps of the
    block's."""
    low, mid, high = (blocks[:, at:at + 4] for at in (4, 8, 12))
    scales = np.concatenate([low & 63, high & 15 | low >> 2 & 48], axis=1)                   # b 8
    least = np.concatenate([mid & 63, high >> 4 | mid >> 2 & 48], axis=1)
    scale, lowest = halves(blocks, 0) * scales, halves(blocks, 2) * least
    return (numbers * scale[..., None] - lowest[..., None]).reshape(-1, 256)


def q6_k(blocks: Array) -> Array:
    """256 numbers of 6 bits around 32 in sixteen groups, each with a scale of 8 bits."""
    low = nibbles(blocks[:, :128], 64).reshape(-1, 8, 32)
    high = blocks[:, 128:192].reshape(-1, 2, 1, 32) >> np.array([[0], [2], [4], [6]], np.uint8)
    numbers = low | (high & np.uint8(3)).reshape(-1, 8, 32) << np.uint8(4)
    scale = halves(blocks, 208) * blocks[:, 192:208].view(np.int8)                           # b 16
    return ((numbers.reshape(-1, 16, 16).astype(np.float32) - 32) * scale[..., None]).reshape(-1, 256)


class Kind(NamedTuple):
    """A type of tensor: numbers of a block, its bytes, and what makes numbers of blocks; none for what
    is stored plainly, under one of the names of `STORED`, and for what is not read."""
    name: str
    length: int
    size: int
    unpack: Dequantise | None = None


KINDS = {0: Kind("f32", 1, 4), 1: Kind("f16", 1, 2), 30: Kind("bf16", 1, 2), 2: Kind("q4_0", 32, 18, q4_0),
         3: Kind("q4_1", 32, 20, q4_1), 8: Kind("q8_0", 32, 34, q8_0), 12: Kind("q4_k", 256, 144, q4_k),
         13: Kind("q5_k", 256, 176, q5_k), 14: Kind("q6_k", 256, 210, q6_k)}
OTHERS = {6: "Q5_0", 7: "Q5_1", 9: "Q8_1", 10: "Q2_K", 11: "Q3_K", 15: "Q8_K", 16: "IQ2_XXS",
          17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 20: "IQ4_NL", 21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS",
          24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64", 29: "IQ1_M", 34: "TQ1_0", 35: "TQ2_0",
          39: "MXFP4", 40: "NVFP4"}


class Blocks:
    """A weight in quantised blocks along its last axis; what it gives back is float32, rounded once to
    another precision where one is asked for."""

    def __init__(self, file: MappedFile, kind: Kind, shape: tuple[int, ...], start: int):
        self.file, self.kind, self.shape, self.start = file, kind, shape, start
        self.format = kind.name
        self.row = prod(shape[1:]) // kind.length * kind.size             # bytes of a row

    @property
    def nbytes(self) -> int:
        """Its bytes in the file."""
        return self.shape[0] * self.row

    def rows(self, index: Array, dtype: Any) -> Array:
        """Rows `index`, read from their blocks alone. Raises OutOfRange for one that is not there."""
        index = checked_rows(index, self.shape[0])
        raw = self.file.array(np.dtype(np.uint8), (self.shape[0], self.row), self.start)[index]
        assert self.kind.unpack is not None
        with np.errstate(invalid="ignore", over="ignore"):               # a scale may be infinity or NaN
            numbers = self.kind.unpack(raw.reshape(-1, self.kind.size))
        return Stored(numbers.reshape(*index.shape, *self.shape[1:]), "f32").dense(dtype)

    def dense(self, dtype: Any) -> Array:
        """All of it as a model of precision `dtype` holds it."""
        out = np.empty(self.shape, precision(dtype))
        self.fill(out)
        return out

    def fill(self, out: Array) -> None:
        """Write `dense(out.dtype)` into `out`, some rows at a time."""
        step = max(1, PIECE // max(1, prod(self.shape[1:])))
        for start in range(0, self.shape[0], step):
            index = np.arange(start, min(start + step, self.shape[0]))
            out[start:start + len(index)] = self.rows(index, out.dtype)

    def let_go(self) -> None:
        """Give its pages back to the system."""
        self.file.let_go(self.start, self.nbytes)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.format} {list(self.shape)})"


# --------------------------------------------------------------------------------------------- the file

NUMBERS = {0: "u1", 1: "i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 10: "<u8", 11: "<i8",
           12: "<f8"}                          # types of metadata -> types of NumPy
BOOL, TEXT, LIST = 7, 8, 9


class GGUF(MappedFile):
    """One mapped .gguf file. `.metadata` maps key -> int, float, bool, str, a list of str or an array of
    numbers, `.tensors` name -> weight, in the file's order.
    """

    def __init__(self, path: Path):
        super().__init__(path)
        try:
            reader = Reader(self)
            tensors, pairs = reader.beginning()
            self.metadata = reader.metadata(pairs)
            self.tensors = reader.tensors(tensors, self._alignment())
        except BaseException:
            self.close()
            raise

    def _alignment(self) -> int:
        value = self.metadata.get("general.alignment", ALIGNMENT)
        if type(value) is not int or not 8 <= value <= 1 << 16 or value & value - 1:
            raise CheckpointError(f"{self.path}: "
                                  f"general.alignment is {brief(value)}, should be a "
                                  "power of two from 8 to 65536")
        return value


class Reader:
    """Reads a header from front to back; `at` is the byte that comes next, `end` the last that a header
    may have. Raises CheckpointError, which names the file and what was being read."""

    def __init__(self, file: GGUF):
        self.file, self.path, self.at, self.end = file, file.path, 0, min(file.size, LARGEST)

    def take(self, count: int, what: str) -> bytes:
        """The next bytes, if the header may have so many."""
        if count > self.end - self.at:
            limit = "; a header has at most that many" if self.end == LARGEST else "; fetch it again"
            raise CheckpointError(f"{self.path}: "
                                  f"{what} should have {count} bytes from byte {self.at} on, of {self.end}{limit}")
        found = self.file.read(self.at, count)
        self.at += count
        return found

    def number(self, size: int, what: str) -> int:
        """An unsigned integer of `size` bytes."""
        return int.from_bytes(self.take(size, what), "little")

    def counted(self, least: int, what: str) -> int:
        """How many of something follow, each of at least `least` bytes."""
        count = self.number(8, what)
        if count * least > self.end - self.at:
            raise CheckpointError(f"{self.path}: "
                                  f"{what} is {count}; {self.end - self.at} bytes are left of the header, at "
                            f"least {least} for each")
        return count

    def text(self, what: str, limit: int = LARGEST) -> str:
        """A text with its length before it."""
        length = self.number(8, what)
        if length > limit:
            raise CheckpointError(f"{self.path}: {what} has {length} bytes, should have at most {limit}")
        try:
            return self.take(length, what).decode("utf-8")
        except UnicodeDecodeError:
            raise CheckpointError(f"{self.path}: {what} is no UTF-8") from None

    def beginning(self) -> tuple[int, int]:
        """How many tensors and how many metadata there are."""
        if self.file.read(0, 4) != MAGIC:
            kind = kind_of_file(self.file.path)
            raise CheckpointError(f"{self.path}: is {kind}" if kind else
                                  f"{self.path}: should begin with GGUF; this is no GGUF file")
        self.at = 4
        version = self.number(4, "version")
        if version not in VERSIONS:
            big = " (it is big-endian, for another kind of processor)" if version >> 16 else ""
            raise CheckpointError(f"{self.path}: "
                                  f"version is {version}{big}, should be 2 or 3; convert the model anew")
        return self.counted(32, "the number of tensors"), self.counted(13, "the number of metadata")

    def metadata(self, count: int) -> dict[str, Any]:
        """Every key with its value."""
        found: dict[str, Any] = {}
        for n in range(count):
            key = self.text(f"key {n}", NAME)
            if key in found:
                raise CheckpointError(f"{self.path}: {brief(key)} is there twice")
            found[key] = self.value(self.number(4, brief(key)), brief(key))
        return found

    def value(self, kind: int, what: str) -> Any:
        """A value of a type; of a list, all of it."""
        if kind == TEXT:
            return self.text(what)
        if kind != LIST:
            return self.numbers(kind, 1, what)[0].item()
        kind = self.number(4, what)
        if kind == TEXT:
            return [self.text(what) for _ in range(self.counted(8, what))]
        return self.numbers(kind, self.counted(np.dtype(NUMBERS.get(kind, "u1")).itemsize, what), what)

    def numbers(self, kind: int, count: int, what: str) -> Array:
        """Numbers of one type, one after the other; their count is checked."""
        if kind not in NUMBERS and kind != BOOL:
            raise CheckpointError(f"{self.path}: "
                                  f"{what} has values of type {kind}, which is none of the format's")
        dtype = np.dtype(NUMBERS.get(kind, "u1"))
        found = np.frombuffer(self.take(count * dtype.itemsize, what), dtype)
        if kind == BOOL and found.size and found.max() > 1:
            raise CheckpointError(f"{self.path}: {what} should be true or false, is {found.max()}")
        return found.astype(bool) if kind == BOOL else found

    def tensors(self, count: int, alignment: int) -> dict[str, Weight]:
        """Every tensor as a weight: one after the other from the end of the header on, each from a
        multiple of the alignment, the last at the end of the file."""
        entries: dict[str, tuple[Kind, tuple[int, ...], int]] = {}
        for n in range(count):
            name = self.text(f"the name of tensor {n}", NAME)
            if name in entries:
                raise CheckpointError(f"{self.path}: tensor {brief(name)} is there twice")
            entries[name] = self.entry(f"tensor {brief(name)}")
        data, end, found = self.at + -self.at % alignment, 0, {}
        for name, (kind, shape, offset) in entries.items():
            if offset != end:
                raise CheckpointError(f"{self.path}: "
                                      f"tensor {brief(name)} begins at byte {offset} of the numbers, "
                                f"should begin at {end}")
            size = prod(shape) // kind.length * kind.size
            if size > self.file.size - data - offset:
                raise CheckpointError(f"{self.path}: "
                                      f"tensor {brief(name)} should have {size} bytes from byte "
                                f"{data + offset} on, the file ends at {self.file.size}; fetch it again")
            end = offset + size + -size % alignment
            found[name] = weight_of(self.file, kind, shape, data + offset)
        if self.file.size > data + end:
            raise CheckpointError(f"{self.path}: "
                                  f"the header speaks of {data + end} bytes, the file has {self.file.size}; "
                            "fetch it again")
        return found

    def entry(self, what: str) -> tuple[Kind, tuple[int, ...], int]:
        """Type, shape and offset of a tensor. The file counts axes from the innermost on."""
        axes = self.number(4, what)
        if not 1 <= axes <= AXES:
            raise CheckpointError(f"{self.path}: {what} has {axes} axes, should have 1 to {AXES}")
        shape = tuple(self.number(8, what) for _ in range(axes))[::-1]
        if prod(max(n, 1) for n in shape) >= 1 << 60 or 0 in shape:
            raise CheckpointError(f"{self.path}: {what}: shape {list(shape)} is no list of sizes")
        number = self.number(4, what)
        if number not in KINDS:
            said = OTHERS.get(number, f"of type {number}, which is not known")
            raise CheckpointError(f"{self.path}: {what} is {said}, which is not read; {TAKE}")
        kind = KINDS[number]
        if kind.unpack is not None and axes == 1:
            raise CheckpointError(f"{self.path}: "
                                  f"{what} is a vector in {kind.name}, should be stored as F32, F16 or BF16")
        if shape[-1] % kind.length:
            raise CheckpointError(f"{self.path}: "
                                  f"{what}: rows of {shape[-1]} are no multiple of {kind.length}, a block of "
                            f"{kind.name}")
        return kind, shape, self.number(8, what)


def weight_of(file: MappedFile, kind: Kind, shape: tuple[int, ...], start: int) -> Weight:
    """A tensor of the file as a weight; nothing is read."""
    if kind.unpack is None:
        return Mapped(file, kind.name, shape, start)
    return Blocks(file, kind, shape, start)
