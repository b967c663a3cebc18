"""What went wrong in a kernel, in words: the report of the machine, or the last words of a process.

    out of bounds in `scale`, line 12 of scale.cu: thread 17 of block 2 reads x[64], one element past the end

Read next: `cuda/host/memory.cpp`, where reports are filled.
"""

from __future__ import annotations

import functools
import re
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ...door.errors import Error
from .machine import KINDS, Group, Index, Report


class Array(NamedTuple):
    """A piece of memory by its name in the kernel: bytes of an element (0 where it has no one type), and bytes
    in all. `place` says what it is."""
    name: str
    itemsize: int
    bytes: int
    place: str = "argument"


class KernelFault(Error):
    """A kernel did what no GPU forgives: it reached outside an array, raced, read what nobody wrote, or waited
    for ever. The message names kernel, line, block and thread; mend the kernel.

    kind: "race", "out of bounds", ... (KINDS of `machine.py`, and "endless", "crash")
    kernel, file, line: where; line is 0 when nobody knows
    block, thread: x, y, z; None when it is the whole block or nobody knows
    """

    def __init__(self, kind: str, kernel: str, words: str, file: str = "", line: int = 0,
                 block: tuple[int, int, int] | None = None, thread: tuple[int, int, int] | None = None):
        place = f", {at(file, line)}" if line else ""
        super().__init__(f"{kind} in {kernel!r}{place}: {words}")
        self.kind, self.kernel, self.words = kind, kernel, words
        self.file, self.line, self.block, self.thread = file, line, block, thread


def at(file: str, line: int) -> str:
    """`line 12 of scale.cu`"""
    return f"line {line} of {Path(file).name}"


class Context(NamedTuple):
    """What is needed to say a report in words: the compiled file, names of the memory, the launch's shape."""
    path: Path
    kernel: str
    arrays: Sequence[Array]
    block: tuple[int, int, int]
    grid: tuple[int, int, int]


def fault(report: Report, context: Context) -> KernelFault:
    """A report as an error."""
    kind = KINDS[report.kind]
    file, line = report.file.decode(errors="replace"), report.line
    if not line and report.pc:
        file, line = line_of(context.path, report.pc)
    words = WORDS[kind](report, context)
    thread = None if kind == "deadlock" else report.thread.three
    named = {"not in mask": "wrong mask", "undefined": "undefined behaviour", "uninitialised":
             "uninitialised shared memory", "wild": "out of bounds"}.get(kind, kind)
    return KernelFault(named, context.kernel, words, file, line, report.block.three, thread)


@functools.lru_cache(4096)
def line_of(path: Path, pc: int) -> tuple[str, int]:
    """File and line of an instruction: the innermost place that is not the runner's own."""
    if shutil.which("addr2line") is None:
        return "", 0
    said = subprocess.run(["addr2line", "-i", "-e", str(path), hex(pc - 1)], capture_output=True, text=True,
                          check=False).stdout
    places = [re.fullmatch(r"(.*):(\d+)(?: .*)?", line) for line in said.splitlines()]
    found = [(one[1], int(one[2])) for one in places if one]
    own = [place for place in found if "/host/" not in place[0] and place[1]]
    return own[0] if own else ("", 0)


# ---- words for one kind each

def who(thread: Index, block: Index, context: Context) -> str:
    """`thread 17 of block 2`: one number where a launch has one axis."""
    return f"thread {number(thread, context.block)} of block {number(block, context.grid)}"


def number(index: Index, size: tuple[int, int, int]) -> str:
    """An index without the axes that a launch does not have."""
    axes = 3 if size[2] > 1 else 2 if size[1] > 1 else 1
    return str(index.x) if axes == 1 else "(" + ", ".join(map(str, index.three[:axes])) + ")"


def actor(report: Report, context: Context) -> str:
    """Who it was, and what it did."""
    does = "updates" if report.atomic else "writes" if report.writes else "reads"
    return f"{who(report.thread, report.block, context)} {does}"


def element(report: Report, context: Context) -> str:
    """`tile[64]`, or bytes where the memory has no one type."""
    array = context.arrays[report.region]
    if array.itemsize and report.byte % array.itemsize == 0:
        return f"{array.name}[{report.byte // array.itemsize}]"
    if array.itemsize:
        return f"{array.name}[{report.byte // array.itemsize}] (from its byte {report.byte % array.itemsize} on)"
    return f"byte {report.byte} of {array.name}"


def out_of_bounds(report: Report, context: Context) -> str:
    """Which array was meant, and how large it is."""
    if report.region < 0:                                  # an array whose type says its size
        return f"{who(report.thread, report.block, context)} {report.what.decode()}"
    array = context.arrays[report.region]
    size = f"{array.bytes // array.itemsize} elements" if array.itemsize else f"{array.bytes} bytes"
    return f"{actor(report, context)} {element(report, context)}, and {array.place} {array.name!r} has {size}"


def wild(report: Report, context: Context) -> str:
    """Nothing of this kernel lies there."""
    return (f"{actor(report, context)} {report.bytes} bytes where no argument and no shared array lies, nor any "
            "close by")


def race(report: Report, context: Context) -> str:
    """Both threads, with the line of the other one."""
    file, line = line_of(context.path, report.other_pc) if report.other_pc else ("", 0)
    did = "wrote" if report.other_writes else "read"
    there = f" in {at(file, line)}" if line else ""
    same = report.other_block.three == report.block.three
    other = (f"thread {number(report.other_thread, context.block)}" if same
             else who(report.other_thread, report.other_block, context))
    why = ("no barrier stands between them" if same else "blocks run in any order and at the same time; "
           "only atomics may meet")
    return f"{actor(report, context)} {element(report, context)}, which {other} {did}{there}; {why}"


def uninitialised(report: Report, context: Context) -> str:
    """Shared memory begins with anything in it."""
    return f"{actor(report, context)} {element(report, context)}, which nobody wrote"


def misaligned(report: Report, context: Context) -> str:
    """A vector load that a GPU refuses."""
    there = f" at byte {report.byte} of {context.arrays[report.region].name!r}" if report.region >= 0 else ""
    return (f"{who(report.thread, report.block, context)} accesses {report.what.decode()}{there}, which is no "
            f"multiple of {report.bytes} bytes")


def read_only(report: Report, context: Context) -> str:
    """A write to a pointer that is declared const, or to an array that NumPy locks."""
    return f"{actor(report, context)} {element(report, context)}, and that array is read-only"


def too_early(report: Report, context: Context) -> str:
    """A kernel that was launched early, and did not wait for the one in front of it."""
    if not report.bytes:
        return (f"{who(report.thread, report.block, context)} ends without waiting for the kernel in front of this "
                "one, which may still run: call wait_for_former in every thread")
    return (f"{actor(report, context)} {element(report, context)} before it has waited for the kernel in front of "
            "this one, which may still write there: call wait_for_former first")


def undefined(report: Report, context: Context) -> str:
    """What C++ leaves open."""
    return f"{who(report.thread, report.block, context)}: {report.what.decode()}"


def not_in_mask(report: Report, context: Context) -> str:
    """A lane that calls with a mask which does not name it."""
    lane = flat(report.thread, context.block) % 32
    return (f"{who(report.thread, report.block, context)} calls {report.what.decode()} with mask "
            f"0x{report.mask:08x}, which does not name its own lane {lane}")


def flat(thread: Index, size: tuple[int, int, int]) -> int:
    """A thread's number in its block."""
    return thread.x + size[0] * (thread.y + size[1] * thread.z)


def deadlock(report: Report, context: Context) -> str:
    """Where each group of threads stands."""
    parts = [standing(report.group[i], context) for i in range(report.groups)]
    return f"block {number(report.block, context.grid)} waits for ever: " + "; ".join(parts)


def standing(group: Group, context: Context) -> str:
    """`16 threads (the first is 0) wait at __syncthreads, line 3 of k.cu`"""
    some = f"{group.threads} thread{'s' if group.threads > 1 else ''} (the first is "
    some += number(group.first, context.block) + ")"
    if not group.line:
        return f"{some} {'have' if group.threads > 1 else 'has'} ended"
    mask = f" with mask 0x{group.mask:08x}" if group.mask else ""
    wait = "wait" if group.threads > 1 else "waits"
    return f"{some} {wait} at {group.what.decode()}{mask}, {at(group.file.decode(), group.line)}"


WORDS: dict[str, Any] = {
    "deadlock": deadlock, "not in mask": not_in_mask, "out of bounds": out_of_bounds, "wild": wild, "race": race,
    "uninitialised": uninitialised, "misaligned": misaligned, "undefined": undefined, "trap": undefined,
    "read-only": read_only, "too early": too_early}


# ---- the last words of a process

PLACE = re.compile(r"CUDA_HOST block (\d+) (\d+) (\d+) thread (\d+) (\d+) (\d+)")
SIGNAL = re.compile(r"CUDA_HOST signal (\d+) pc ([0-9a-f]+)")
ADDRESS = re.compile(r"ERROR: AddressSanitizer: ([\w-]+)")
DEED = re.compile(r"(READ|WRITE) of size (\d+)")
FRAME = re.compile(r"#\d+ 0x[0-9a-f]+ in (.+) ([^\s:()]+):(\d+)")
UNDEFINED = re.compile(r"^(.+?):(\d+):\d+: runtime error: (.+)$", re.MULTILINE)
BEYOND = re.compile(r"is located (.+?) (?:of|inside of) (\d+)-byte region|'([^']+)'[^\n]*<== Memory access at offset")


def last_words(said: str, code: int, context: Context) -> KernelFault:
    """What a process that ended said about its end."""
    block, thread = Index(), Index()
    if place := PLACE.search(said):
        numbers = list(map(int, place.groups()))
        block, thread = Index(*numbers[:3]), Index(*numbers[3:])
    kind, words, file, line = ended(said, code, context)
    return KernelFault(kind, context.kernel, f"{who(thread, block, context)} {words}", file, line, block.three,
                       thread.three)


def ended(said: str, code: int, context: Context) -> tuple[str, str, str, int]:
    """Kind, words, file and line."""
    if found := UNDEFINED.search(said):
        file, line, words = found.groups()
        kind = "misaligned" if "misaligned" in words else "undefined behaviour"
        kind = "out of bounds" if "out of bounds" in words else kind
        return kind, f"does what C++ leaves undefined: {re.sub(' 0x[0-9a-f]+', '', words)}", file, int(line)
    if found := ADDRESS.search(said):
        deed, frame, beyond = DEED.search(said), own_frame(said), BEYOND.search(said)
        does = f"{'reads' if deed[1] == 'READ' else 'writes'} {deed[2]} bytes" if deed else "reaches"
        there = f", {beyond[1]} of an array of {beyond[2]} bytes" if beyond and beyond[1] else ""
        kind = "crash" if found[1] == "SEGV" else "out of bounds"
        return kind, f"{does} outside of an array ({found[1]}){there}", *frame
    if found := SIGNAL.search(said):
        number = int(found[1])
        file, line = line_of(context.path, int(found[2], 16) + 1)
        if number == signal.SIGVTALRM:
            return "endless", "was still running when the time was up: does a loop ever end?", file, line
        return "crash", f"crashed with signal {number}: it reached far outside of its arrays", file, line
    return "crash", f"crashed; the process ended with code {code}: {said[-300:].strip()}", "", 0


def own_frame(said: str) -> tuple[str, int]:
    """The innermost frame that is not the runner's own."""
    for function, file, line in FRAME.findall(said):
        if "/host/" not in file and "sanitizer" not in function and "asan" not in file:
            return file, int(line)
    return "", 0
