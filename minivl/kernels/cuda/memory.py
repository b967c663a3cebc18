"""The memory of a launch: which arrays are one piece, and copies of them that lie far apart.

Arrays that overlap are one piece of memory; all others are pieces of their own, with bounds that are exact to the
byte. In the checking build each piece is copied to a place where nothing else is near, so that an index that is wrong
by a row, or by a whole matrix, hits no other array.

A piece lies as far behind a multiple of 512 bytes as its array does in the array that owns its memory: so do CuPy's
arrays. An array that was laid into a buffer of bytes keeps its own address: whoever lays it there aligns it.

Read next: `runner.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .signature import Parameter

ALIGNMENT = 512                                            # bytes; what CuPy's memory pool gives
GAP = 1 << 20                                              # bytes around a piece, at the least
Bytes = np.ndarray[Any, np.dtype[np.uint8]]


class Piece:
    """One piece of memory: where it is, its array's name, bytes of an element, whether nobody writes to it."""

    def __init__(self, name: str, array: np.ndarray[Any, Any], itemsize: int, read_only: bool):
        self.name, self.itemsize, self.read_only = name, itemsize, read_only
        self.source = self.start = array.ctypes.data
        self.bytes = array.nbytes
        self.offset = offset_of(array)
        self.arrays = [array]

    def add(self, other: Piece) -> None:
        """Join one that begins inside of this one."""
        self.bytes = max(self.bytes, other.source + other.bytes - self.source)
        self.name = self.name if self.name == other.name else f"{self.name}, {other.name}"
        self.read_only &= other.read_only
        self.itemsize = self.itemsize if self.itemsize == other.itemsize else 0
        self.arrays += other.arrays


class Memory:
    """The arrays of a launch. apart: copy them, see above."""

    def __init__(self, parameters: Sequence[Parameter], values: Sequence[Any], apart: bool = False):
        self.values = values
        self.pieces = joined([Piece(parameter.name, value, value.itemsize, parameter.constant)
                              for parameter, value in zip(parameters, values, strict=True)
                              if isinstance(value, np.ndarray) and value.nbytes])
        self.room: Bytes | None = spread(self.pieces) if apart else None

    def where(self, number: int) -> tuple[int, int] | None:
        """Which piece an argument lies in, and how many bytes behind its start; None for no array."""
        value = self.values[number]
        if not isinstance(value, np.ndarray):
            return None
        source = value.ctypes.data
        return next(((i, source - piece.source) for i, piece in enumerate(self.pieces)
                     if piece.source <= source < piece.source + piece.bytes), None)

    def address(self, number: int) -> int | None:
        """The address that a kernel gets for an argument."""
        value, found = self.values[number], self.where(number)
        if found is not None:
            return self.pieces[found[0]].start + found[1]
        return value.ctypes.data if isinstance(value, np.ndarray) else None

    def back(self) -> None:
        """Copy what may have been written back into the caller's arrays."""
        if self.room is None:
            return
        for piece in self.pieces:
            if not piece.read_only:
                at = piece.start - self.room.ctypes.data
                store(piece, self.room[at:at + piece.bytes])


def offset_of(array: np.ndarray[Any, Any]) -> int:
    """How many bytes behind a multiple of ALIGNMENT an array would begin on a card."""
    whole = owner(array)
    laid = whole.dtype == np.uint8 and array.dtype != np.uint8
    return int(array.ctypes.data - (0 if laid else whole.ctypes.data)) % ALIGNMENT


def owner(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The array that owns an array's memory."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def joined(pieces: list[Piece]) -> list[Piece]:
    """Pieces that overlap as one."""
    found: list[Piece] = []
    for piece in sorted(pieces, key=lambda one: (one.source, -one.bytes)):
        if found and piece.source < found[-1].source + found[-1].bytes:
            found[-1].add(piece)
        else:
            found.append(piece)
    return found


def spread(pieces: list[Piece]) -> Bytes:
    """Memory that holds copies of all pieces, far apart; each piece's `start` is moved there."""
    gaps = [max(GAP, 2 * piece.bytes) // ALIGNMENT * ALIGNMENT for piece in pieces]
    total = sum(piece.bytes + 2 * gap + 2 * ALIGNMENT for piece, gap in zip(pieces, gaps, strict=True))
    room = np.empty(total + 2 * ALIGNMENT, np.uint8)       # pages that nobody touches cost nothing
    at = -room.ctypes.data % ALIGNMENT
    for piece, gap in zip(pieces, gaps, strict=True):
        start = at + gap + piece.offset
        for array in piece.arrays:
            begin = start + array.ctypes.data - piece.source
            room[begin:begin + array.nbytes] = raw(array)
        piece.start = room.ctypes.data + start
        at += 2 * gap + -(-(piece.offset + piece.bytes) // ALIGNMENT) * ALIGNMENT
    return room


def store(piece: Piece, data: Bytes) -> None:
    """Put a piece's bytes back into its arrays."""
    for array in piece.arrays:
        if array.flags.writeable:
            begin = array.ctypes.data - piece.source
            raw(array)[:] = data[begin:begin + array.nbytes]


def raw(array: np.ndarray[Any, Any]) -> Bytes:
    """The bytes of an array in one piece, where they lie."""
    return array.reshape(-1).view(np.uint8)
