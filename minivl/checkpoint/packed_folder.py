"""A packed checkpoint's folder: `packed.safetensors`, in which every matrix lies in tiles as the
compiled kernels read them, and `packed.json`, which says what they are. Mapped and used where they lie.

The file names its tensors by places of the tree: a matrix `decoder.layers.0.qkv.weight` is `....tiles`
with its `.scales` and `.zeros` (`packed.array_shapes`); norms and biases are as any checkpoint has them.
The folder may come from elsewhere: all that `packed.json` says is checked, in Python's integers, against
the file's header, which is checked against the file's size.

Not here: writing one (`convert.py`). Read next: `packed.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..door.errors import brief
from ..door.files import read_json
from .layout import IN_WORD, LINE
from .packed import Packed, array_shapes
from .safetensors import File, Mapped
from .tree import Weight
from .weight import CheckpointError

ABOUT, TILES = "packed.json", "packed.safetensors"
VERSION = 1                                    # of what both files say
KIND = "packed weights of minivl"
AGAIN = "make the folder anew with minivl convert"
DTYPES = {"U32": np.dtype("<u4"), "F32": np.dtype("<f4")}


class About(NamedTuple):
    """What packed.json says. weights: the format that was asked for; source: what was packed, with the
    SHA-256 of its files; matrices: place -> (format, (n, k)); digests: tensor of the file -> SHA-256 of
    its bytes"""
    weights: str
    source: dict[str, Any]
    matrices: dict[str, tuple[str, tuple[int, int]]]
    digests: dict[str, str]
    minivl: str


class MappedPacked(Packed):
    """Tiles and tables in a mapped file. Raises CheckpointError when they are read after it was
    closed."""

    def __init__(self, arrays: dict[str, Mapped], shape: tuple[int, int], format: str):
        self.shape, self.format, self.parts = shape, format, arrays

    def array(self, name: str) -> np.ndarray:
        """A read-only view of the file."""
        if name not in self.parts:
            return np.zeros(0, np.float32)
        part = self.parts[name]
        return part.file.array(DTYPES[part.format.upper()], part.shape, part.start)


def is_packed(folder: Path) -> bool:
    """Whether a folder holds a packed checkpoint, or half of one."""
    return (folder / ABOUT).exists()


def read_about(folder: Path) -> About:
    """What a packed folder says of itself. Raises CheckpointError for what cannot be."""
    try:
        said = read_json(folder / ABOUT, CheckpointError)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; {AGAIN}") from None
    return checked_about(said, str(folder / ABOUT))


def checked_about(said: dict[str, Any], where: str) -> About:
    """`packed.json` as an About. Raises CheckpointError, which begins with `where`."""
    if said.get("kind") != KIND:
        raise CheckpointError(f"{where}: kind should be {KIND!r}, is {brief(said.get('kind'))}; "
                              f"{AGAIN}")
    if type(said.get("version")) is not int or said["version"] != VERSION:
        raise CheckpointError(f"{where}: version is {brief(said.get('version'))}, this minivl "
                              f"reads {VERSION}; take the minivl that wrote it, or {AGAIN}")
    kinds: dict[str, type] = {"weights": str, "source": dict, "matrices": dict, "digests": dict,
                              "minivl": str}
    for key, kind in kinds.items():
        if not isinstance(said.get(key), kind):
            raise CheckpointError(f"{where}: {key} is {brief(said.get(key))}; {AGAIN}")
    matrices = {place: _matrix(one, f"{where}: {brief(place)}")
                for place, one in said["matrices"].items()}
    if not all(isinstance(digest, str) for digest in said["digests"].values()):
        raise CheckpointError(f"{where}: digests should map tensors to SHA-256; {AGAIN}")
    return About(said["weights"], said["source"], matrices, said["digests"], said["minivl"])


def _matrix(said: Any, where: str) -> tuple[str, tuple[int, int]]:
    """Format and shape of a matrix."""
    shape = said.get("shape") if isinstance(said, dict) else None
    if not isinstance(shape, list) or len(shape) != 2 or not all(type(n) is int and 0 < n < 1 << 40
                                                                 for n in shape):
        raise CheckpointError(f"{where} should have a format and a shape of two sizes, has "
                              f"{brief(said)}; {AGAIN}")
    format = said.get("format")
    if not isinstance(format, str) or format not in IN_WORD:
        raise CheckpointError(f"{where}: format is {brief(format)}, can be {', '.join(IN_WORD)}; "
                              f"{AGAIN}")
    return format, (shape[0], shape[1])


def read_packed(folder: Path) -> tuple[dict[str, Weight], File, About]:
    """The weights of a packed folder by their places, and the mapped file that they lie in.

    Raises CheckpointError that names the file and the tensor; nothing stays open then.
    """
    about = read_about(folder)
    if not (folder / TILES).exists():
        raise CheckpointError(f"{folder}: holds {ABOUT} without {TILES}, which holds its weights: copy both, or "
                              f"{AGAIN}")
    file = File(folder / TILES, AGAIN)
    try:
        return _weights(file, about), file, about
    except BaseException:
        file.close()
        raise


def _weights(file: File, about: About) -> dict[str, Weight]:
    """Every tensor of the file as a weight, or as a part of one; each exactly once."""
    if lost := sorted(about.digests.keys() ^ file.tensors.keys()):
        raise CheckpointError(f"{file.path}: {brief(lost[0])} is only in one of {TILES} and "
                              f"{ABOUT}; {AGAIN}")
    rest: dict[str, Weight] = dict(file.tensors)
    found: dict[str, Weight] = {}
    for place, (format, shape) in about.matrices.items():
        arrays = {}
        for name, (dtype, wanted) in array_shapes(shape, format).items():
            part = rest.pop(f"{place}.{name}", None)
            where = f"{file.path}: {brief(f'{place}.{name}')}"
            if not isinstance(part, Mapped):
                raise CheckpointError(f"{where} is not there; {AGAIN}")
            if (part.format.upper(), part.shape) != (dtype, wanted):
                should = f"{dtype.lower()} {list(wanted)} for {format} {list(shape)}"
                raise CheckpointError(f"{where} is {part.format} {list(part.shape)}, should be {should}; "
                                      f"{AGAIN}")
            if part.start % LINE:
                raise CheckpointError(f"{where} begins at byte {part.start}, which is no multiple of "
                                      f"{LINE}; {AGAIN}")
            arrays[name] = part
        found[place] = MappedPacked(arrays, shape, format)
    if twice := sorted(found.keys() & rest.keys()):
        raise CheckpointError(f"{file.path}: {brief(twice[0])} is there twice; {AGAIN}")
    return found | rest


def damaged(folder: Path, tell: Any = None) -> list[str]:
    """Tensors of a packed folder whose bytes are no longer those that were packed, each as a sentence.

    tell: called with the name of each tensor before it is read
    """
    import hashlib  # when first needed: it takes a while to import
    _, file, about = read_packed(folder)
    try:
        found = []
        for name, part in file.tensors.items():
            if tell is not None:
                tell(name)
            if hashlib.sha256(file.bytes_of(part)).hexdigest() != about.digests[name]:
                found.append(f"{name}: its bytes are not those that were packed; {AGAIN}")
            part.let_go()
        return found
    finally:
        file.close()
