"""Writing a packed checkpoint, so that a kill at any moment leaves nothing or all of it.

Everything is written into a hidden folder beside the target, read back, and moved there at the end. The
same command goes on where it was stopped: a journal in that folder has a line for each tensor that lies
in the file, with the SHA-256 of its bytes; a tensor that no longer has it is packed again.

Not here: what the files say (`packed_folder.py`), how weights are packed (`packed.py`).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from math import prod
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from ..config import ConfigError
from ..door.errors import ArgumentError, Error, FileInTheWay
from ..door.files import check_vacant, read_json, sha256, write_whole
from ..door.version import VERSION as MINIVL
from .gguf_model import pair_of
from .instead import INDEX, OTHER_TOOLS
from .layout import LINE
from .names import weights_of
from .packed import Packed, Packer, array_shapes, end_format, fours_in, packed
from .packed_folder import ABOUT, KIND, TILES, VERSION, damaged, is_packed, read_about
from .read import load_model
from .safetensors import ITEM
from .tree import Model, Weight
from .weight import CheckpointError

FORMATS = ("bf16", "int8", "int4")
CONFIG, QUANTISATION = "config.json", "quantization_config"
JOURNAL = "journal.jsonl"
SAFE = 64 << 20                                # bytes after which what is written is made to last
WEIGHTS = (".safetensors", ".index.json", ".bin", ".pt", ".pth", ".ckpt", ".gguf", *OTHER_TOOLS)

Tell = Callable[[str, int, int], object]       # what is done, bytes of it that are done, and all of them


class Tensor(NamedTuple):
    """A tensor of the file: dtype and shape as its header says them, and where it begins in the file."""
    dtype: str
    shape: tuple[int, ...]
    start: int

    @property
    def size(self) -> int:
        """Bytes."""
        return prod(self.shape) * ITEM[self.dtype]


class Plan(NamedTuple):
    """All that a file will be, before a number is packed. matrices: place -> format and (n, k); places:
    place -> its tensors by name; key: of the source and all of this, to go on with nothing else"""
    matrices: dict[str, tuple[str, tuple[int, int]]]
    places: dict[str, dict[str, Tensor]]
    header: bytes
    size: int
    key: str


def convert(source: Path, target: Path, weights: str, packer: Packer | None = None,
            tell: Tell = lambda what, done, total: None,
            beside: Mapping[str, Path | bytes] | None = None) -> Path:
    """Pack the checkpoint of a folder, or .gguf files, into a new folder, in "bf16", "int8" or "int4"; gives
    the target. What is quantised is unpacked and packed anew; four bits of AWQ stay as they are in "int4",
    and then what AWQ left in 16 bits becomes "int8".

    packer: see `packed.packed`; tell: called while it goes on; beside: the files that are no weights, by
        name, where the source's folder has none: None copies them from there.
    Raises ArgumentError, FileInTheWay, ConfigError, CheckpointError or OSError; a later call with the
    same arguments goes on with what is done.
    """
    if weights not in FORMATS:
        raise ArgumentError(f"weights must be {', '.join(FORMATS)}, got {weights!r}")
    if is_packed(source):
        raise ArgumentError(f"{source} is packed already, as {read_about(source).weights}: name the "
                            "folder of the checkpoint that it was made of")
    check_target(target)
    model, tensors = load_model(source, "float32")
    with tensors:
        plan = planned(model, weights, identity(source))
        work = work_folder(target)
        beside = others(source) if beside is None else beside
        check_space(work, plan, beside)
        with only_one(work):
            digests = Writing(work, plan, tell).run(weights_of(model), packer)
            finish(source, work, weights, plan, digests, tell, beside)
            (work / JOURNAL).unlink()
            work.rename(target)                # the one moment in which the target is there
    _lasting(target.parent)
    return target


# ------------------------------------------------------------------------------------- before the work

def check_target(target: Path) -> None:
    """Raise FileInTheWay or ArgumentError unless a new folder can be made here."""
    if target.exists() and not target.is_dir():
        raise FileInTheWay(f"{target} is a file; name a new folder")
    if target.exists():
        check_vacant(target)
        raise FileInTheWay(f"{target} is there; remove it, or name a new folder")
    if not target.name or not target.parent.is_dir():
        raise ArgumentError(f"{target} cannot be made: {target.parent} is no folder; make it first")


def work_folder(target: Path) -> Path:
    """Where a target is made, beside it."""
    return target.parent / f".{target.name}.converting"


def others(source: Path) -> dict[str, Path | bytes]:
    """The files of a checkpoint that are no weights: config, tokenizer, settings, template, texts. The
    config no longer says that the numbers are quantised as they were."""
    found: dict[str, Path | bytes] = {
        path.name: path for path in sorted(source.iterdir()) if path.is_file()
        and not path.name.startswith(".") and not path.name.lower().endswith(WEIGHTS)}
    config = read_json(source / CONFIG, ConfigError)
    if config.pop(QUANTISATION, None) is not None:
        found[CONFIG] = json.dumps(config, indent=2).encode()
    return found


def weight_paths(source: Path) -> list[Path]:
    """The files that its weights come from."""
    if pair := pair_of(source):
        return [path for path in pair if path is not None]
    return [*sorted(source.glob("*.safetensors")), *sorted(source.glob(INDEX))]


def identity(source: Path) -> list[list[Any]]:
    """What tells whether a source is still the same, without reading it."""
    config = source / CONFIG
    found = [(path, path.stat()) for path in [*weight_paths(source), *([config] if config.exists() else [])]]
    return [[path.name, about.st_size, about.st_mtime_ns] for path, about in found]


def check_space(work: Path, plan: Plan, beside: Mapping[str, Path | bytes]) -> None:
    """Raise Error when the disk has no room for what is not yet written."""
    there = (work / TILES).stat() if (work / TILES).exists() else None
    done = getattr(there, "st_blocks", 0) * 512 if there else 0
    needed = plan.size - min(done, plan.size) + sum(
        one.stat().st_size if isinstance(one, Path) else len(one) for one in beside.values())
    free = shutil.disk_usage(work.parent).free
    if needed > free:
        raise Error(f"{work.parent} must have {needed / 1e9:.1f} GB of room, has {free / 1e9:.1f}: make "
                    "room, or name a folder on another disk")


@contextmanager
def only_one(work: Path) -> Iterator[None]:
    """The folder of the work, made when it is not there; held so that a second process does not write
    into it as well. The system lets go of it when this process dies."""
    work.mkdir(exist_ok=True)
    (work / JOURNAL).touch()
    try:
        import fcntl
    except ImportError:                        # Windows has no such lock, and moves no open file
        yield
        return
    with (work / JOURNAL).open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Error(f"{work} is being written by another process: wait, or end it") from None
        yield


def planned(model: Model, weights: str, source: Any) -> Plan:
    """What the file will hold: tiles first, then their tables, then norms and biases, wide ones first."""
    matrices: dict[str, tuple[str, tuple[int, int]]] = {}
    named: dict[str, dict[str, tuple[str, tuple[int, ...]]]] = {}
    found = weights_of(model)
    awq = weights == "int4" and any(map(fours_in, found.values()))      # what it left in 16 bits stays in 8
    for place, weight in found.items():
        if len(weight.shape) == 2:
            inside = bool(fours_in(weight)) if awq else ".blocks." in place or ".layers." in place
            format = weights if inside else str(end_format(weights))
            n, k = weight.shape
            matrices[place] = format, (n, k)
            named[place] = {f"{place}.{name}": about
                            for name, about in array_shapes((n, k), format).items()}
        else:
            named[place] = {place: (weight.format.upper(), weight.shape)}
    every = {name: about for tensors in named.values() for name, about in tensors.items()}
    order = sorted(every, key=lambda name: (not name.endswith(".tiles"), -ITEM[every[name][0]]))
    header, starts, size = headed({name: every[name] for name in order})
    places = {place: {name: Tensor(*about, starts[name]) for name, about in tensors.items()}
              for place, tensors in named.items()}
    key = hashlib.sha256(repr((source, weights, header, VERSION)).encode()).hexdigest()
    return Plan(matrices, places, header, size, key)


def headed(tensors: Mapping[str, tuple[str, tuple[int, ...]]]) -> tuple[bytes, dict[str, int], int]:
    """The beginning of a .safetensors file whose numbers begin at a cache line; where each tensor
    begins; how long the file is."""
    entries: dict[str, Any] = {"__metadata__": {"kind": KIND, "version": str(VERSION)}}
    starts, end = {}, 0
    for name, (dtype, shape) in tensors.items():
        starts[name], size = end, prod(shape) * ITEM[dtype]
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % LINE)
    first = len(text) + 8
    places = {name: first + start for name, start in starts.items()}
    return len(text).to_bytes(8, "little") + text, places, first + end


# ------------------------------------------------------------------------------------------- the work

class Writing:
    """The file of tiles and its journal, as far as they are done."""

    def __init__(self, work: Path, plan: Plan, tell: Tell):
        self.work, self.plan, self.tell = work, plan, tell
        self.pending = 0                       # bytes since what is written was made to last
        self.digests: dict[str, str] = {}      # of what lies in the file, and will after a loss of power
        self.fresh: dict[str, str] = {}        # of what was written since
        self.done = 0
        self.total = sum(tensor.size for place in plan.places.values() for tensor in place.values())

    def run(self, weights: Mapping[str, Weight], packer: Packer | None) -> dict[str, str]:
        """Write what is missing; gives the SHA-256 of every tensor."""
        said = self.journal()
        with (self.work / TILES).open("r+b" if said is not None else "w+b") as file, \
                (self.work / JOURNAL).open("a+b") as journal:
            if said is None:
                journal.truncate(0)
                journal.write(json.dumps({"key": self.plan.key}).encode() + b"\n")
            file.write(self.plan.header)
            file.truncate(self.plan.size)
            for place, tensors in self.plan.places.items():
                if not self.there(file, tensors, said or {}):
                    format, _ = self.plan.matrices.get(place, (None, None))
                    self.write(file, tensors, arrays_of(place, weights[place], format, packer))
                self.done += sum(tensor.size for tensor in tensors.values())
                self.tell(f"packing {place}", self.done, self.total)
                if self.pending >= SAFE:
                    self.keep(file, journal)
            self.keep(file, journal)
        return self.digests

    def journal(self) -> dict[str, str] | None:
        """What an earlier run has written, of the same plan; None when there is nothing to go on with.
        A line that was cut off is left out."""
        lines = (self.work / JOURNAL).read_bytes().split(b"\n")[:-1]
        try:
            found = [json.loads(line) for line in lines]
        except ValueError:
            return None
        if not found or found[0] != {"key": self.plan.key} or not (self.work / TILES).exists():
            return None
        return {name: digest for line in found[1:] for name, digest in line.items()}

    def there(self, file: IO[bytes], tensors: Mapping[str, Tensor], said: Mapping[str, str]) -> bool:
        """Whether all tensors of a place lie in the file as the journal says."""
        if not all(name in said and digest_at(file, one) == said[name] for name, one in tensors.items()):
            return False
        self.digests |= {name: said[name] for name in tensors}
        return True

    def write(self, file: IO[bytes], tensors: Mapping[str, Tensor], arrays: list[np.ndarray]) -> None:
        """A place's arrays into the file."""
        for (name, tensor), array in zip(tensors.items(), arrays, strict=True):
            flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
            if flat.nbytes != tensor.size:
                raise CheckpointError(f"{name} takes {flat.nbytes} bytes, should take {tensor.size}")
            file.seek(tensor.start)
            file.write(flat)
            self.fresh[name] = hashlib.sha256(flat).hexdigest()
            self.pending += tensor.size

    def keep(self, file: IO[bytes], journal: IO[bytes]) -> None:
        """Make what is written last, then say so in the journal."""
        _synced(file)
        journal.seek(0, os.SEEK_END)
        lines = [json.dumps({name: digest}) + "\n" for name, digest in self.fresh.items()]
        journal.write("".join(lines).encode())
        _synced(journal)
        self.digests |= self.fresh
        self.fresh, self.pending = {}, 0


def arrays_of(place: str, weight: Weight, format: str | None, packer: Packer | None) -> list[np.ndarray]:
    """A weight as the arrays that the file holds: tiles and tables of a matrix, else its own numbers."""
    if format is None:
        names = {"bf16": "bfloat16", "f16": "float16", "f32": "float32", "f64": "float64"}
        return [weight.dense(names[weight.format])]
    try:
        made = packed(weight, format, packer)
    except ArgumentError as error:
        raise CheckpointError(f"{place}: {error}") from None
    assert isinstance(made, Packed)
    return [made.array(name) for name in array_shapes(made.shape, format)]


def digest_at(file: IO[bytes], tensor: Tensor) -> str:
    """SHA-256 of a tensor's bytes as they lie in the file."""
    total, left = hashlib.sha256(), tensor.size
    file.seek(tensor.start)
    while left > 0 and (piece := file.read(min(left, 1 << 24))):
        total.update(piece)
        left -= len(piece)
    return total.hexdigest()


def finish(source: Path, work: Path, weights: str, plan: Plan, digests: Mapping[str, str],
           tell: Tell, beside: Mapping[str, Path | bytes]) -> None:
    """Everything beside the tiles, then all of it read back. Raises CheckpointError for a tensor that is
    not what was packed; the next run packs it again."""
    for path in work.iterdir():                # of a run that was killed here, or of another source
        if path.name not in (TILES, JOURNAL):
            path.unlink()
    for name, one in beside.items():
        if isinstance(one, Path):
            shutil.copyfile(one, work / name)
        else:
            (work / name).write_bytes(one)
    tell("reading the source for its hash", plan.size, plan.size)
    origin = {"name": source.resolve().name,
              "sha256": {path.name: sha256(path) for path in weight_paths(source)}}
    matrices = {place: {"format": format, "shape": list(shape)}
                for place, (format, shape) in plan.matrices.items()}
    ordered = {name: digests[name] for tensors in plan.places.values() for name in tensors}
    text = json.dumps({"kind": KIND, "version": VERSION, "minivl": MINIVL, "weights": weights,
                       "source": origin, "matrices": matrices, "digests": ordered}, indent=1).encode()
    write_whole(work / ABOUT, lambda file: file.write(text))
    for path in sorted(work.iterdir()):
        _lasting(path)
    with (work / TILES).open("rb") as file:
        if hasattr(os, "posix_fadvise"):       # or it is read from memory, not from the disk
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if bad := damaged(work, lambda name: tell(f"reading back {name}", plan.size, plan.size)):
        raise CheckpointError(f"{work / TILES}: {len(bad)} of {len(digests)} tensors are not what was "
                              f"written ({bad[0].partition(':')[0]}): the disk may be failing; run the "
                              "command again")


def _synced(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _lasting(path: Path) -> None:
    """What is in a file or a folder lasts through a loss of power, where the system can promise it."""
    with suppress(OSError):                    # Windows opens no folder
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
