"""Our reader of .safetensors: 8 bytes of header length, a JSON header, then the numbers. The file is
mapped into memory; nothing of it but the header is read before a kernel asks for a tensor.

The header of a file from elsewhere is not to be believed: everything it says is checked against the
file's size before the first tensor is made. This is always what the package reads with; the library of
the same name is used by the tests only, to prove that both read the same. Read next: `read.py`
(several files), `weight.py`.
"""

from __future__ import annotations

import mmap
from contextlib import suppress
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ..door.errors import brief
from ..door.files import MAX_JSON, check_regular, parse_json
from ..door.looks import kind_of_file
from .weight import STORED, CheckpointError, Stored

# bytes of one number; the formats of `STORED` are read, the others are known so that an audit can name
# them
ITEM = {"BF16": 2, "F16": 2, "F32": 4, "F64": 8, "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1,
        "F8_E8M0": 1, "I16": 2, "U16": 2, "I32": 4, "U32": 4, "I64": 8, "U64": 8}


class MappedFile:
    """A file of numbers in memory, unread. After `close()` its weights raise CheckpointError."""

    def __init__(self, path: Path):
        self.path = path
        self._map: mmap.mmap | None = None
        try:
            check_regular(path, CheckpointError)
            self.size = path.stat().st_size
            with path.open("rb") as file:
                if self.size:                  # a map of nothing cannot be made
                    self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as problem:
            raise CheckpointError(f"{path}: cannot be read: {problem.strerror}") from None

    def read(self, start: int, count: int) -> bytes:
        """Bytes of the file, as many as there are."""
        return self._map[start:start + count] if self._map is not None else b""

    def array(self, dtype: np.dtype, shape: tuple[int, ...], start: int) -> np.ndarray:
        """The numbers from byte `start` on, as a read-only view of the file."""
        if self._map is None:
            raise CheckpointError(f"{self.path}: was closed; its weights can no longer be read")
        if prod(shape) == 0:
            return np.empty(shape, dtype)
        return np.frombuffer(self._map, dtype, prod(shape), start).reshape(shape)

    def bytes_of(self, tensor: Mapped) -> memoryview:
        """The bytes of one of its tensors, of whatever type, as a read-only view."""
        return self.array(np.dtype(np.uint8), (tensor.size,), tensor.start).data

    def let_go(self, start: int, size: int) -> None:
        """Give the pages of these bytes back to the system: reading them again fetches them again."""
        if self._map is None or not hasattr(mmap, "MADV_DONTNEED"):
            return
        first = start // mmap.PAGESIZE * mmap.PAGESIZE
        if size:
            self._map.madvise(mmap.MADV_DONTNEED, first, start + size - first)

    def close(self) -> None:
        """Unmap the file, so that it can be replaced or removed on every system. Twice is once."""
        mapped, self._map = self._map, None
        if mapped is not None:
            with suppress(BufferError):       # somebody holds a view: the map goes with the last of them
                mapped.close()


class File(MappedFile):
    """One mapped .safetensors file. `.tensors` maps name -> Mapped, `.notes` name -> text (the header's
    `__metadata__`).

    remedy: what a message says to do about a file that is cut off
    """

    def __init__(self, path: Path, remedy: str = "fetch it again"):
        super().__init__(path)
        length = int.from_bytes(self.read(0, 8), "little")
        try:
            if not 2 <= length <= min(MAX_JSON, self.size - 8):
                kind = kind_of_file(path)
                raise CheckpointError(f"{path}: is {kind}" if kind else
                                      f"{path}: is cut off or no .safetensors file: of its {self.size} "
                                      f"bytes {length} should be a header (of at most {MAX_JSON}); {remedy}")
            self.tensors, self.notes = _tensors(self, self.read(8, length), 8 + length, self.size, remedy)
        except BaseException:
            self.close()
            raise


class Mapped(Stored):
    """A weight in a mapped file."""

    def __init__(self, file: MappedFile, dtype: str, shape: tuple[int, ...], start: int):
        self.file, self.shape, self.format, self.start = file, shape, dtype.lower(), start

    @property
    def stored(self) -> np.ndarray:
        if self.format not in STORED:
            raise CheckpointError(f"{self.file.path}: numbers in {self.format} are no weights of this "
                                  "model")
        return self.file.array(STORED[self.format], self.shape, self.start)

    @property
    def size(self) -> int:
        """Its bytes in the file."""
        return prod(self.shape) * ITEM[self.format.upper()]

    def let_go(self) -> None:
        """Give its pages back to the system."""
        self.file.let_go(self.start, self.size)


def _tensors(file: File, header: bytes, data: int, size: int, remedy: str
             ) -> tuple[dict[str, Mapped], dict[str, str]]:
    """Every entry of the header, checked, as a weight, and its notes; `data` is the byte where the
    numbers begin."""
    if not header.startswith(b"{"):
        raise CheckpointError(f"{file.path}: the header should begin with '{{'; this is no "
                              ".safetensors file")
    entries = parse_json(header, f"{file.path}: header", CheckpointError)
    notes = entries.pop("__metadata__", {})
    if not isinstance(notes, dict) or not all(isinstance(note, str) for note in notes.values()):
        raise CheckpointError(f"{file.path}: __metadata__ should map texts to texts")
    spans = sorted((*_checked(f"{file.path}: {brief(name)}", e), name)
                   for name, e in entries.items())
    end = 0
    for first, last, _, _, name in spans:                        # no byte twice, none left out
        if first != end:
            raise CheckpointError(f"{file.path}: {brief(name)} begins at byte {first} of the "
                                  f"data; the tensor before it ends at {end}")
        end = last
    if data + end != size:
        raise CheckpointError(f"{file.path}: the header speaks of {data + end} bytes, the file has "
                              f"{size}; {remedy}")
    return {name: Mapped(file, dtype, shape, data + first)
            for first, _, dtype, shape, name in spans}, notes


def _checked(where: str, entry: Any) -> tuple[int, int, str, tuple[int, ...]]:
    """begin, end, dtype and shape of one entry, in agreement with each other."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise CheckpointError(f"{where} should have dtype, shape and data_offsets, has "
                              f"{brief(entry)}")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM:
        raise CheckpointError(f"{where}: dtype {brief(dtype)} is not known; {', '.join(ITEM)} are")
    if not _counts(shape) or len(shape) > 32 or prod(max(n, 1) for n in shape) >= 1 << 60:
        raise CheckpointError(f"{where}: shape {brief(shape)} is no list of sizes")
    if not _counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise CheckpointError(f"{where}: data_offsets {brief(offsets)} should be [begin, end]")
    if offsets[1] - offsets[0] != prod(shape) * ITEM[dtype]:
        raise CheckpointError(f"{where}: {dtype} {shape} takes {prod(shape) * ITEM[dtype]} bytes, but "
                              f"data_offsets {offsets} are {offsets[1] - offsets[0]}")
    return offsets[0], offsets[1], dtype, tuple(shape)


def _counts(value: Any) -> bool:
    """A list of integers from 0 up to what a file can hold; `true` is none."""
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 1 << 60 for n in value)

