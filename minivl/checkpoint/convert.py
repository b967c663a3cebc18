"""Writing a packed checkpoint, so that a kill at any moment leaves nothing or all of it.

Everything is written into a hidden folder beside the target, read back, and moved there at the end. The
same command goes on where it was stopped: a journal in that folder has a line for each tensor that lies
in the file, with the SHA-256 of its bytes; a tensor that no longer has it is packed again. The journal is
the lock too, so it goes last of all; one that a kill left in a finished folder is not looked at. A folder
without one is somebody else's, and is refused.

Not here: what the files say (`packed_folder.py`), how weights are packed (`packed.py`).
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import stat
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from math import prod
from pathlib import Path
from typing import IO, Any, NamedTuple, NoReturn, cast

import numpy as np

from ..config import ConfigError
from ..door.errors import ArgumentError, Error, FileInTheWay, brief
from ..door.files import check_vacant, is_mine, read_json, sha256, write_whole
from ..door.version import VERSION as MINIVL
from .gguf_model import pair_of
from .instead import INDEX, OTHER_TOOLS
from .layout import COLUMNS, LINE
from .names import weights_of
from .packed import Packed, Packer, array_shapes, end_format, fours_in, packed
from .packed_folder import ABOUT, KIND, TILES, VERSION, damaged, is_packed, read_about
from .read import load_model
from .safetensors import ITEM
from .tree import Model, Weight
from .weight import CheckpointError, Interleaved, Joined, Reordered, Reshaped, let_go, precision

FORMATS = ("bf16", "f32", "int8", "int4")
DTYPES = {"bf16": "bfloat16", "f16": "float16", "f32": "float32", "f64": "float64"}
EXACT = {"bf16": {"bf16"}, "f32": {"bf16", "f16", "f32"}}      # a format -> those of which it holds every number
CONFIG, QUANTISATION = "config.json", "quantization_config"
JOURNAL = ".journal.jsonl"                     # a name that `others` takes from no source
BEGINNING = b'{"key": "'                       # of every journal
PASSING = {getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EFBIG", "EIO", "ENOMEM") if hasattr(errno, name)}
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
    """Pack the checkpoint of a folder, or .gguf files, into a new folder, in "bf16", "f32", "int8" or "int4";
    gives the target. What is quantised is unpacked and packed anew; four bits of AWQ stay as they are in
    "int4", and then what AWQ left in 16 bits becomes "int8".

    packer: see `packed.packed`; tell: called while it goes on; beside: the files that are no weights, by
        name, where the source's folder has none: None copies them from there.
    Raises ArgumentError, FileInTheWay, ConfigError, CheckpointError or OSError; a later call with the
    same arguments goes on with what is done. What ends the work has a note on the folder that is left.
    """
    check_format(weights)
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
        found = weights_of(model)
        with only_one(work, target), noting_what_is_left(work, plan):
            digests = Writing(work, plan, tell).run(found, packer)
            bad = finish(source, work, weights, plan, digests, tell, beside, rounded(found, plan, tell))
            if not bad:
                work.rename(target)            # the one moment in which the target is there
                with suppress(OSError):        # the lock: until here nobody else begins
                    (target / JOURNAL).unlink()
    if bad:
        raise CheckpointError(f"{work / TILES}: {len(bad)} of {len(digests)} tensors are not what was "
                              f"written ({bad[0].partition(':')[0]}): the disk may be failing; run the "
                              "command again")
    _lasting(target.parent)
    return target


# ------------------------------------------------------------------------------------- before the work

def check_format(weights: str) -> None:
    """Raise ArgumentError, with the nearest format, for one that there is none of."""
    if weights in FORMATS:
        return
    near = get_close_matches(weights.lower(), FORMATS, 1) if isinstance(weights, str) else []
    meant = f"; did you mean {near[0]!r}?" if near else ""
    raise ArgumentError(f"weights must be {', '.join(FORMATS[:-1])} or {FORMATS[-1]}, got {brief(weights)}{meant}")


def check_target(target: Path) -> None:
    """Raise FileInTheWay or ArgumentError unless a new folder can be made here."""
    try:
        os.lstat(work_folder(target))          # the longest name beside it, and of it
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise ArgumentError(f"a folder's name must be short enough for {work_folder(Path('NAME'))} beside it, "
                                f"{brief(target.name)} is too long: name a shorter one") from None
    if target.is_symlink() and not target.exists():
        raise FileInTheWay(f"{target} is a link to nothing; remove it, or name a new folder")
    check_vacant(target)
    if target.exists():
        raise FileInTheWay(f"{target} is there; remove it, or name a new folder")
    if not target.name or not target.parent.is_dir():
        raise ArgumentError(f"{target} cannot be made: {target.parent} is no folder; make it first")
    if not os.access(target.parent, os.W_OK):
        refuse_to_write(target.parent)


def refuse_to_write(folder: Path) -> NoReturn:
    """Raise ArgumentError for a folder in which nothing can be made."""
    raise ArgumentError(f"{folder} must be a folder that may be written to, and is not: change that, or name a new "
                        "folder elsewhere")


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
    return [path for pattern in ("*.safetensors", INDEX) for path in sorted(source.glob(pattern)) if path.is_file()]


def identity(source: Path) -> list[list[Any]]:
    """What tells whether a source is still the same, without reading it."""
    config = source / CONFIG
    found = [(path, path.stat()) for path in [*weight_paths(source), *([config] if config.is_file() else [])]]
    return [[path.name, about.st_size, about.st_mtime_ns] for path, about in found]


def check_space(work: Path, plan: Plan, beside: Mapping[str, Path | bytes]) -> None:
    """Raise Error when the disk has no room for what is not yet written."""
    there = (work / TILES).stat() if (work / TILES).exists() else None
    done = getattr(there, "st_blocks", 0) * 512 if there else 0
    needed = plan.size - min(done, plan.size) + sum(
        one.stat().st_size if isinstance(one, Path) else len(one) for one in beside.values())
    free = shutil.disk_usage(work.parent).free
    if needed > free:
        raise Error(f"{work.parent} must have {size_in_words(needed)} of room, has {size_in_words(free)}: make "
                    "room, or name a folder on another disk")


def size_in_words(size: int) -> str:
    """Bytes in the largest unit in which they are not 0."""
    for unit, name in ((10 ** 9, "GB"), (10 ** 6, "MB"), (1000, "kB")):
        if size >= unit / 10:
            return f"{size / unit:.1f} {name}"
    return f"{size} bytes"


@contextmanager
def only_one(work: Path, target: Path) -> Iterator[None]:
    """The folder of the work, made when it is not there; held so that a second process does not write
    into it as well. The system lets go of it when this process dies.

    Raises Error while another process holds it, FileInTheWay when another one has made the target.
    """
    try:
        import fcntl
    except ImportError:                        # Windows has no such lock, and moves no open file
        begun(work).close()
        yield
        return
    while True:
        check_target(target)
        try:
            file = begun(work)
        except FileNotFoundError:              # another process has moved it between two lines
            continue
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise Error(f"{work} is being written by another process: wait, or end it") from None
            if not _lies_at(file, work / JOURNAL):     # it was moved meanwhile: this is the lock of nothing
                continue
            try:
                check_target(target)
            except BaseException:
                if [path.name for path in work.iterdir()] == [JOURNAL]:
                    (work / JOURNAL).unlink()
                    work.rmdir()
                raise
            yield
            return


def begun(work: Path) -> IO[bytes]:
    """The journal, open, in the folder of the work; both are made when they are not there. Raises
    FileInTheWay for a folder that no earlier run of ours left."""
    if work.is_symlink() or (work.exists() and not work.is_dir()):
        raise FileInTheWay(f"{work} is where the work is done, and is no folder; remove it, or name another new folder")
    try:
        work.mkdir(exist_ok=True)
        check_ours(work)
        return opened(work / JOURNAL, "ab")
    except OSError as error:
        if isinstance(error, Error) or error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        refuse_to_write(work if work.is_dir() else work.parent)


def check_ours(work: Path) -> None:
    """Raise FileInTheWay for a folder of another user, or with anything in it and no journal of ours. What
    lies in the folder of the work is written over and removed."""
    if not is_mine(work.stat()):
        refuse_work(work, "must belong to you, and belongs to another user")
    names = {path.name for path in work.iterdir()}
    for path in (work / JOURNAL, work / TILES):
        if path.name in names and not stat.S_ISREG(path.lstat().st_mode):
            refuse_work(work, f"must hold {path.name} as a plain file, and holds a link or something else")
    if names and not (JOURNAL in names and begins_as_ours(work / JOURNAL)):
        refuse_work(work, "must be empty or left by minivl convert, and holds something else")
    strays(work)


def begins_as_ours(journal: Path) -> bool:
    """Whether a file is the beginning of a journal: nothing of it, half its first line, or more."""
    with opened(journal, "rb") as file:
        first = file.read(len(BEGINNING))
    return BEGINNING.startswith(first)


def strays(work: Path) -> list[Path]:
    """Files that a run that was killed, or one of another source, left beside the tiles. Raises FileInTheWay
    for a folder: no run makes one."""
    found = [path for path in work.iterdir() if path.name not in (TILES, JOURNAL)]
    for path in found:
        if path.is_dir() and not path.is_symlink():
            refuse_work(work, f"must hold no folder, and holds {path.name}")
    return found


def refuse_work(work: Path, words: str) -> NoReturn:
    """Raise FileInTheWay for a folder in which the work cannot be done."""
    raise FileInTheWay(f"{work} is where the work is done; it {words}: move it away, or name another new "
                       "folder") from None


def opened(path: Path, mode: str) -> IO[bytes]:
    """A file of the work, open. Raises FileInTheWay for a link, where the system can tell: writing would go
    through it."""
    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)
    try:
        return cast(IO[bytes], open(path, mode, opener=opener))
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        refuse_work(path.parent, f"must hold {path.name} as a plain file, and holds a link")


def _lies_at(file: IO[bytes], path: Path) -> bool:
    """Whether an open file is still the one at a path."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


@contextmanager
def noting_what_is_left(work: Path, plan: Plan) -> Iterator[None]:
    """Whatever ends the work gets a note: that the same command goes on, or what may be removed. A refusal
    would come again; an interruption or a full disk need not."""
    try:
        yield
    except BaseException as error:
        if not work.exists():
            pass
        elif passes(error) and said_before(work, plan.key)[0]:
            error.add_note("the same command goes on where this one was stopped")
        else:
            error.add_note(f"{work} was left and may be removed")
        raise


def passes(error: BaseException) -> bool:
    """Whether what ended the work passes by itself, or by what its user does: room, memory, another try."""
    if isinstance(error, OSError):
        return error.errno in PASSING and not isinstance(error, Error)
    return isinstance(error, KeyboardInterrupt | SystemExit | MemoryError)


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
    tables = {name for place in matrices for name in named[place]}      # begin at cache lines: all are multiples of one
    order = sorted(every, key=lambda name: (not name.endswith(".tiles"), name not in tables, -ITEM[every[name][0]]))
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
        said, end = said_before(self.work, self.plan.key)
        with opened(self.work / JOURNAL, "a+b") as journal, \
                opened(self.work / TILES, "r+b" if end else "w+b") as file:
            journal.truncate(end)              # or the next line would be written behind half of one
            if not end:
                journal.write(json.dumps({"key": self.plan.key}).encode() + b"\n")
                journal.flush()                # this is what makes the folder ours
            file.write(self.plan.header)
            file.truncate(self.plan.size)
            for place, tensors in self.plan.places.items():
                if not self.there(file, tensors, said):
                    format, _ = self.plan.matrices.get(place, (None, None))
                    self.write(file, tensors, arrays_of(place, weights[place], format, packer))
                self.done += sum(tensor.size for tensor in tensors.values())
                self.tell(f"packing {place}", self.done, self.total)
                if self.pending >= SAFE:
                    self.keep(file, journal)
            self.keep(file, journal)
        return self.digests

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


def said_before(work: Path, key: str) -> tuple[dict[str, str], int]:
    """What the journal says that an earlier run of the plan with this key has written, and the bytes that
    say it; 0 bytes when there is nothing to go on with. Nothing behind a line that was cut off, or that no
    run wrote, is believed."""
    if not (work / JOURNAL).exists() or not (work / TILES).exists():
        return {}, 0
    with opened(work / JOURNAL, "rb") as file:
        first, *lines = file.read().splitlines(keepends=True) or [b""]
    if line_of(first) != {"key": key}:
        return {}, 0
    said: dict[str, str] = {}
    end = len(first)
    for line in lines:
        if (found := line_of(line)) is None:
            break
        said |= found
        end += len(line)
    return said, end


def line_of(line: bytes) -> dict[str, str] | None:
    """What a line of the journal says; None for half a line, and for what no run wrote."""
    try:
        found = json.loads(line) if line.endswith(b"\n") else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or not all(isinstance(one, str) for one in found.values()):
        return None
    return found


def arrays_of(place: str, weight: Weight, format: str | None, packer: Packer | None) -> list[np.ndarray]:
    """A weight as the arrays that the file holds: tiles and tables of a matrix, else its own numbers."""
    if format is None:
        return [weight.dense(DTYPES[weight.format])]
    try:
        made = packed(weight, format, packer)
    except CheckpointError as error:           # a fault of the weight; of a setting the weight knows nothing
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


def rounded(weights: Mapping[str, Weight], plan: Plan, tell: Tell) -> dict[str, Any]:
    """The matrices that lost something on the way to 16 or 32 bits, {} for none: from which types, to which
    one, how many, and how many of their numbers became infinity. That int8 and int4 are coarser than what
    they are made of is their point. Warns of infinities."""
    came, count, infinite, kept = set[str](), 0, 0, ""
    for place, (format, _) in plan.matrices.items():
        wider = formats_in(weights[place]) - EXACT[format] if format in EXACT else set()
        if wider:
            tell(f"comparing {place}", plan.size, plan.size)
            kept = DTYPES[format]
            same, beyond = compared(weights[place], kept, wider)
            if not same:
                came, count, infinite = came | wider, count + 1, infinite + beyond
    names = sorted(DTYPES.get(format, format.upper()) for format in came)
    if infinite:
        what = "pack them as f32, which keeps them" if "float64" not in names else "no format keeps them"
        warnings.warn(f"{infinite:,} {'number is' if infinite == 1 else 'numbers are'} beyond the range of {kept} "
                      f"and became infinity: {what}", stacklevel=3)
    found = {"from": names, "to": kept, "matrices": count} if count else {}
    return found | ({"infinite": infinite} if infinite else {})


def formats_in(weight: Weight) -> set[str]:
    """How the numbers of a weight are stored, of all that it is made of."""
    if isinstance(weight, Joined | Interleaved):
        return {format for part in weight.parts for format in formats_in(part)}
    if isinstance(weight, Reshaped | Reordered):
        return formats_in(weight.weight)
    return {weight.format}


def compared(weight: Weight, dtype: str, wider: set[str]) -> tuple[bool, int]:
    """Whether every number of a weight is one of `dtype` too, and how many are beyond its range. Of types
    that have none beyond it, it reads until one number differs."""
    if isinstance(weight, Joined):             # each by itself: a part of blocks cannot be asked for no rows
        parts = [compared(part, dtype, wider) for part in weight.parts]
        return all(same for same, _ in parts), sum(beyond for _, beyond in parts)
    wide = "float64" if weight.format == "f64" else "float32"
    whole, infinite = True, 0
    try:
        for first in range(0, weight.shape[0], 8 * COLUMNS):
            numbers = weight.rows(np.arange(first, min(first + 8 * COLUMNS, weight.shape[0])), wide)
            with np.errstate(over="ignore", invalid="ignore"):
                again = numbers.astype(precision(dtype)).astype(wide)
            whole = whole and np.array_equal(again, numbers, equal_nan=True)
            infinite += int(np.count_nonzero(np.isinf(again) & np.isfinite(numbers)))
            if not whole and not wider & {"f32", "f64"}:
                break
    finally:
        let_go(weight)
    return whole, infinite


def finish(source: Path, work: Path, weights: str, plan: Plan, digests: Mapping[str, str],
           tell: Tell, beside: Mapping[str, Path | bytes], lost: Mapping[str, Any]) -> list[str]:
    """Everything beside the tiles, then all of it read back; gives the tensors that are not what was
    packed, which the next run packs again. lost: see `rounded`"""
    for path in strays(work):
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
    about = {"kind": KIND, "version": VERSION, "minivl": MINIVL, "weights": weights, "source": origin,
             "matrices": matrices, "digests": ordered} | ({"rounded": lost} if lost else {})
    text = json.dumps(about, indent=1).encode()
    write_whole(work / ABOUT, lambda file: file.write(text))
    for path in sorted(work.iterdir()):
        _lasting(path)
    with (work / TILES).open("rb") as file:
        if hasattr(os, "posix_fadvise"):       # or it is read from memory, not from the disk
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return damaged(work, lambda name: tell(f"reading back {name}", plan.size, plan.size))


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
