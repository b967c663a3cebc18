"""Small changes to the CUDA kernels, one at a time: each is a mistake that somebody could make.

    python -m tests.kernels.cuda.mutants            # how many there are
    python -m tests.kernels.cuda.mutants gemv 20    # would the cases of gemv.cu notice 20 of them?

What is changed: barriers and fences left out, bounds and numbers by one, operators swapped, conditions turned round,
an atomic that is none, a shuffle's mask and distance, a store to shared memory left out, a rounding, a vector that
begins one element too late, a shared array that is too small. The questions are the kernels' own `cases`; a mutant
runs in a process of its own, which may crash or never end.

A mutant is asked little: the cases of kernels that reach the changed line, in the build that sees most; other kernels
are left out of its text. Only what lives through that is asked in the other builds.

Read next: `cases/__init__.py`; `test_mutants.py`, how many must be noticed, and which need not be.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import resource
import sys
from collections.abc import Iterator
from functools import cache
from time import process_time
from typing import NamedTuple

from minivl.kernels.cuda import sources
from minivl.kernels.cuda.build import COMMENT, BuildError, blanked
from minivl.kernels.cuda.build import machine as compiled_machine
from minivl.kernels.cuda.device import Launcher, Processor

from .cases import FILES, Case, wrong

SECONDS = 4                                                # of processor time for a case, which needs 0.7 at most
MACHINES = (("check", "random", 1), ("address", "forward", 0), ("plain", "random", 2))

# kind: a pattern, and what stands in its place. The patterns count on how the kernels are written: operators have
# blanks around them, those of templates and pointers have none.
CHANGES = [
    ("barrier", r"__sync(?:threads|warp)\(\);", ";"), ("barrier", r"\bwait_for_former\(\);", ";"),
    ("fence", r"__threadfence\(\);", ";"),
    ("bound", r" < ", " <= "), ("bound", r" <= ", " < "), ("bound", r" >= ", " > "), ("bound", r" > ", " >= "),
    ("condition", r" == ", " != "), ("condition", r" != ", " == "), ("condition", r" && ", " || "),
    ("condition", r" \|\| ", " && "),
    ("condition", r"\bif \((?!constexpr)([^;{}()]*(?:\([^()]*\)[^;{}()]*)*)\) ", r"if (!(\1)) "),
    ("operator", r" \+ ", " - "), ("operator", r" - ", " + "), ("operator", r" \* ", " + "),
    ("operator", r" / ", " * "),
    ("operator", r" % ", " / "), ("operator", r" & ", " | "),
    ("operator", r" >> ", " << "), ("operator", r" << ", " >> "),
    ("operator", r" \+= ", " = "), ("operator", r" \*= ", " = "),
    ("number", r"(?<![\w.\"])(\d+)(?![\w.\"])", None),     # plus one
    ("atomic", r"\batomicAdd\(([^;]+), ([^;,]+)\);", r"*(\1) += \2;"),
    ("mask", r"\b0xffffffffu?\b|\bFULL\b|\bALL\b", "0x0000ffffu"),
    ("shuffle", r"__shfl_xor_sync", "__shfl_down_sync"), ("shuffle", r"__shfl_down_sync", "__shfl_up_sync"),
    ("store", r"(?m)^(\s+)[\w.>\-]+\[[^=;]*\] = [^;]+;$", r"\1;"),
    ("rounding", r"\b(?:rounded|to_storage|store_rounded)\(", "("),
    ("rounding", r"__float2bfloat16\(", "__float2bfloat16_rz("),
    ("alignment", r"reinterpret_cast<(const )?(u?int|float)([24])\*>\(", r"reinterpret_cast<\1\2\3*>(1 + "),
    ("size", r"(__shared__ [\w ]+ \w+\[)([^\]]+)\]", r"\1(\2) - 1]"),
    ("function", r"\bfmaxf\(", "fminf("), ("function", r"\bmin\(", "max("), ("function", r"\bmax\(", "min("),
    ("function", r"\bexp2?f\(", "("),
]
LATER = re.compile(r"#\s*(?:if|elif|define|include|pragma|line|error)|static_assert|^\s*template|__launch_bounds__")


class Mutant(NamedTuple):
    """A changed text of a .cu file: its name, what was changed, and the line before and after."""
    file: str
    kind: str
    line: int
    before: str
    after: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.file}.cu:{self.line} {self.kind}: {self.before} -> {self.after}"


def mutants(file: str) -> Iterator[Mutant]:
    """All of one file, in the order of the list above."""
    code = (sources.folder() / f"{file}.cu").read_text(encoding="utf-8")
    bare = COMMENT.sub(blanked, code)
    lines = bare.splitlines()
    for kind, pattern, new in CHANGES:
        for found in re.finditer(pattern, bare):
            number = bare.count("\n", 0, found.start() + len(found[0]) - len(found[0].lstrip()))
            if LATER.search(lines[number]):
                continue
            put = str(int(found[1]) + 1) if new is None else found.expand(new)
            text = code[:found.start()] + put + code[found.end():]
            before, after = code.splitlines()[number].strip(), text.splitlines()[number].strip()
            yield Mutant(file, kind, number + 1, before, after, sources.inlined(text, sources.folder() / f"{file}.cu"))


def chosen(count: int, seed: int) -> list[Mutant]:
    """Some of all files, every kind in its share."""
    every = [mutant for file in FILES for mutant in mutants(file)]
    return random.Random(seed).sample(every, min(count, len(every)))


# ------------------------------------------------------------------------------------ who reaches a line

class Function(NamedTuple):
    """A function of a .cu file: its lines (from 1 on, the last one too), its text, whether it is a kernel."""
    name: str
    first: int
    last: int
    body: str
    kernel: bool


def functions(bare: str) -> list[Function]:
    """All of a text without comments: a body ends with a brace at the begin of a line, or in its first line."""
    found = []
    for start in re.finditer(r'(?m)^(extern "C" __global__|__device__)', bare):
        opened = bare.index("{", start.end())
        one_line = bare[opened:bare.index("\n", opened)].rstrip().endswith("}")
        end = bare.index("\n", opened) if one_line else bare.index("\n}\n", opened) + 2
        head = bare[start.start():opened]
        name = re.findall(r"(\w+)\(", head.replace("__launch_bounds__(", ""))[0]
        first, last = (bare.count("\n", 0, at) + 1 for at in (start.start(), end))
        found.append(Function(name, first, last, bare[opened:end], start[1].startswith("extern")))
    return found


def reached_from(every: list[Function], line: int) -> set[str]:
    """The kernels that a change of a line may show in: those that call the function of the line; all for a line that
    belongs to none."""
    changed = {one.name for one in every if one.first <= line <= one.last}
    if not changed:
        return {one.name for one in every if one.kernel}
    while more := {one.name for one in every if one.name not in changed
                   and any(re.search(rf"\b{name}\(", one.body) for name in changed)}:
        changed |= more
    return {one.name for one in every if one.kernel and one.name in changed}


def without(text: str, every: list[Function], kept: set[str], shift: int) -> str:
    """A text without the kernels that are not asked; lines stay where they are."""
    lines = text.splitlines(keepends=True)
    for one in every:
        if one.kernel and one.name not in kept:
            for number in range(one.first - 1 + shift, one.last + shift):
                lines[number] = "\n"
    return "".join(lines)


class Listening:
    """A device that computes nothing and notes which kernels are called."""
    name, tensor, shared, processors = "listening", True, 99 * 1024, 2

    def __init__(self) -> None:
        self.called: set[str] = set()

    def __getattr__(self, name: str):
        return getattr(Processor(), name)                  # memory is the processor's

    def compiled(self, file: str, defines: tuple[tuple[str, int], ...]):
        return self

    def get_function(self, name: str):
        self.called.add(name)
        return self

    def launch(self, *known: object) -> None:
        """Nothing."""


@cache
def asked(file: str) -> list[tuple[Case, frozenset[str]]]:
    """The cases of a file, and the kernels that each calls."""
    found = []
    for case in FILES[file]():
        device = Listening()
        case.run(Launcher(device))
        found.append((case, frozenset(device.called)))
    return found


# ----------------------------------------------------------------------------------------- would it be noticed

def noticed(mutant: Mutant) -> str | None:
    """What notices a mutant first; None when every machine finds all cases right."""
    code = (sources.folder() / f"{mutant.file}.cu").read_text(encoding="utf-8")
    every = functions(COMMENT.sub(blanked, code))
    kernels = reached_from(every, mutant.line)
    small = without(mutant.text, every, kernels, mutant.text.count("\n") - code.count("\n"))

    def text(file: str) -> str:
        return small if file == f"{mutant.file}.cu" else sources.text(file)
    for build, schedule, seed in MACHINES:
        machine = Launcher(Processor(build=build, schedule=schedule, seed=seed, text=text))
        for case, calls in asked(mutant.file):
            if not calls & kernels:
                continue
            resource.setrlimit(resource.RLIMIT_CPU, (int(process_time()) + SECONDS, resource.RLIM_INFINITY))
            try:
                if said := wrong(case, machine):
                    return f"{build}: {said}"
            except BuildError:
                return "does not compile"
            except Exception as error:                     # a fault, a launch that is refused, numbers that fit nowhere
                return f"{build}: {type(error).__name__}: {error}"
    return None


def tried(mutant: Mutant) -> str | None:
    """The same in a process of its own, in a folder for compiled code that goes with it."""
    for build, _, _ in MACHINES:
        compiled_machine(build)                            # once, for all processes
    asked(mutant.file)
    read, write = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            said = noticed(mutant)
            os.write(write, (said or "-").encode()[:2000])
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        said = pipe.read().decode("utf-8", "replace")
    _, status = os.waitpid(child, 0)
    if not said:
        return f"the process ended with status {status}"
    return None if said == "-" else said


def main(words: list[str]) -> None:
    """Say how many mutants there are, try some of a file, or every n-th of a sample: sample COUNT SEED PART PARTS."""
    if words[:1] == ["sample"]:
        count, seed, part, parts = map(int, words[1:])
        some = chosen(count, seed)[part::parts]
    elif words:
        some = list(mutants(words[0]))
        random.Random(0).shuffle(some)
        some = some[:int(words[1])] if len(words) > 1 else some
    else:
        for file in FILES:
            print(file, len(list(mutants(file))))
        return
    for mutant in some:
        said = tried(mutant)
        mark = "LIVES" if said is None else "unable" if said == "does not compile" else "noticed"
        print(f"{mark}\t{mutant.name}\t{(said or '').splitlines()[0][:160] if said else ''}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
