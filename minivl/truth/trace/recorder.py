"""A recorder to carry to the device: one file, NumPy only, nothing else of minivl. Copy it and write

    with Recorder("mine.safetensors") as tap:
        tap.put("blk.0.attn_out", array)  # any name, any shape; a name that comes again gets @1, @2, ...

The file is .safetensors, streamed: each array goes to disk as it comes, and nothing is kept. While it
is open it is called NAME.partial, so that a run that died leaves nothing that looks like a whole one.
What names mean is said later, by `minivl diff --names`: `truth/compare/importers.py`.
"""

import json
from pathlib import Path

import numpy as np

KINDS = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64",
         "int32": "I32", "int16": "I16", "int8": "I8", "uint64": "U64", "uint32": "U32",
         "uint16": "U16", "uint8": "U8", "bool": "BOOL"}
ROOM = 1 << 18                         # bytes kept free for the header, which is known only at the end


class Recorder:
    """Arrays by name into one file. `.entries` maps name -> what the header says of it."""

    def __init__(self, path, notes=None):
        self.path, self.notes = Path(path), dict(notes or {})
        self.partial = self.path.with_name(self.path.name + ".partial")
        self.entries, self.end, self.room = {}, 0, ROOM
        self.file = self.partial.open("w+b")

    def put(self, name, array):
        """Write one array; the name that it got in the file."""
        array = np.asarray(array, order="C")
        if array.dtype.name not in KINDS:
            raise TypeError(f"{name}: {array.dtype} has no place in .safetensors; convert it first")
        if array.dtype.byteorder == ">":
            array = array.astype(array.dtype.newbyteorder("<"))
        tries = (f"{name}@{n}" if n else name for n in range(len(self.entries) + 1))
        name = next(name for name in tries if name not in self.entries)
        self.file.seek(8 + self.room + self.end)
        self.file.write(array.reshape(-1).view(np.uint8))
        self.entries[name] = {"dtype": KINDS[array.dtype.name], "shape": list(array.shape),
                              "data_offsets": [self.end, self.end + array.nbytes]}
        self.end += array.nbytes
        return name

    def close(self):
        """Write the header and give the file its name; nothing is left when that fails."""
        try:
            self._finish()
        except OSError as problem:
            self.__exit__(type(problem), problem, None)
            raise OSError(problem.errno, problem.strerror, str(self.path)) from None

    def _finish(self):
        header = json.dumps({"__metadata__": self.notes, **self.entries}, separators=(",", ":")).encode()
        while len(header) > self.room:
            self._move(2 * self.room)
        self.file.seek(0)
        self.file.write(self.room.to_bytes(8, "little") + header.ljust(self.room))
        self.file.close()
        self.partial.replace(self.path)

    def _move(self, room, step=1 << 24):
        """Move the arrays up, from the last byte on, to make more room before them."""
        for start in reversed(range(0, self.end, step)):
            self.file.seek(8 + self.room + start)
            piece = self.file.read(min(step, self.end - start))
            self.file.seek(8 + room + start)
            self.file.write(piece)
        self.room = room

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        if kind is None:
            return self.close()
        self.file.close()
        self.partial.unlink(missing_ok=True)
