"""A kernel checked on the CPU, for somebody who writes one: in every build and schedule, and against NumPy.

    from minivl.kernels.cuda import check
    check("scale.cu")

The file says in its first lines how it is launched, with what, and what must come out:

    //: scale<<<4, 128>>>                      kernel, blocks, threads; a third number is dynamic shared memory
    //: x = rng.normal(size=500)               a value for each parameter, in Python: np and rng are there
    //: y = np.full(500, np.nan)               (arrays and numbers are turned into the types that the kernel declares)
    //: n = 500
    //: y == 2 * x                             what must hold afterwards, of the values before

From a notebook the same can be said in Python: `check(code, "scale", (4,), (128,), {"x": x, ...}, {"y": 2 * x})`.

The file is compiled and runs, and so do these lines: check files that you trust. Read next: `runner.py`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...door.errors import ArgumentError
from ...door.files import read_text
from . import sources
from .build import BuildError
from .faults import KernelFault, at
from .runner import RawKernel, RawModule
from .signature import Parameter

# What is tried, the most telling first: (build, schedule, seed)
RUNS = (("check", "forward", 0), ("check", "random", 1), ("address", "forward", 0), ("plain", "forward", 0),
        ("plain", "reverse", 0), ("plain", "random", 1), ("plain", "random", 2))
SECONDS = 10                                               # of processor time for each
TYPES = {"f": "float", "i": "int", "u": "uint"}
CLOSE = {"f": 1e-5, "H": 2e-3, "B": 1.6e-2}                # relative, by a parameter's kind; integers are equal
LAUNCH = re.compile(r"(\w+)\s*<<<(.+)>>>\s*")
MAX_SOURCE = 1 << 20                                       # bytes of a file
Values = Mapping[str, Any]


class Case(NamedTuple):
    """A launch: kernel, grid, block, bytes of dynamic shared memory, a value for each parameter, what must
    come out of some of them."""
    kernel: str
    grid: tuple[int, ...]
    block: tuple[int, ...]
    shared: int
    values: Values
    expected: Values


class Finding(NamedTuple):
    """Something wrong: its kind, words, place, and the runs that showed it."""
    kind: str
    words: str
    file: str
    line: int
    runs: list[str]


class Verdict(NamedTuple):
    """What came of a check. `print` it; `ok` says whether nothing is wrong."""
    kernel: str
    file: str
    findings: tuple[Finding, ...]
    source: tuple[str, ...]
    runs: int
    compared: int

    @property
    def ok(self) -> bool:
        return not self.findings

    def __str__(self) -> str:
        if self.ok:
            same = f"; {self.compared} arrays are what they should be" if self.compared else ""
            return (f"{self.kernel} of {self.file}: nothing is wrong in {self.runs} runs: no race, no access out of "
                    f"bounds, nothing uninitialised, no deadlock{same}")
        count = len(self.findings)
        head = f"{self.kernel} of {self.file}: {count} {'thing is' if count == 1 else 'things are'} wrong"
        return "\n".join([head, *(text for finding in self.findings for text in ("", *self.shown(finding)))])

    def shown(self, finding: Finding) -> list[str]:
        """A finding with the lines of the source around it."""
        place = f", {at(finding.file, finding.line)}" if finding.line else ""
        lines = [f"{finding.kind}{place}:", f"  {finding.words}"]
        if finding.line and Path(finding.file).name == self.file:
            for number in range(max(1, finding.line - 1), min(len(self.source), finding.line + 1) + 1):
                mark = ">" if number == finding.line else " "
                lines.append(f"  {mark} {number:4} | {self.source[number - 1]}")
        return [*lines, f"  seen in: {', '.join(finding.runs)}"]


def check(source: str | Path, kernel: str | None = None, grid: Sequence[int] | None = None,
          block: Sequence[int] | None = None, values: Values | None = None, expected: Values | None = None,
          shared: int | None = None, name: str | None = None) -> Verdict:
    """Run a kernel in every build and schedule; what is wrong with it, and where.

    source: a file, or the text of one (with a line break). What is given here stands above what the file's
        first lines say
    values: for each parameter by its name; expected: what some of the arrays must hold afterwards

    Raises ArgumentError when something is missing, BuildError when it does not compile, NoCompiler.
    """
    code, file = told(source, name)
    case = case_of(code, kernel)
    given: dict[str, Any] = {"kernel": kernel, "grid": grid, "block": block, "values": values,
                             "expected": expected, "shared": shared}
    case = case._replace(**{key: value for key, value in given.items() if value is not None})
    if not case.kernel or not case.grid or not case.block:
        raise ArgumentError(f"{file}: say how it is launched, in its first lines, as //: kernel<<<blocks, threads>>>")
    findings: list[Finding] = []
    for build, schedule, seed in RUNS:
        words = f"{build} {schedule}" + (f" {seed}" if schedule == "random" else "")
        add(findings, tried(code, file, case, (build, schedule, seed)), words)
    return Verdict(case.kernel, file, tuple(findings), tuple(code.splitlines()), len(RUNS), len(case.expected))


def told(source: str | Path, name: str | None) -> tuple[str, str]:
    """The text with its headers inside, and its name."""
    if isinstance(source, str) and "\n" in source:
        return source, name or "kernel.cu"
    path = Path(source)
    return sources.inlined(read_text(path, MAX_SOURCE, ArgumentError), path), name or path.name


def tried(code: str, file: str, case: Case, run: tuple[str, str, int]) -> Finding | None:
    """One run; what went wrong in it."""
    build, schedule, seed = run
    module = RawModule(code, build=build, schedule=schedule, seed=seed, name=file, isolated=True, seconds=SECONDS)
    try:
        kernel = module.get_function(case.kernel)
        arguments = arguments_of(kernel, case, file)
        kernel.max_dynamic_shared_size_bytes = max(case.shared, kernel.max_dynamic_shared_size_bytes)
        kernel(case.grid, case.block, arguments, shared_mem=case.shared)
        return compared(kernel, arguments, case)
    except KernelFault as fault:
        return Finding(fault.kind, fault.words, fault.file, fault.line, [])
    finally:
        module.close()


def add(findings: list[Finding], found: Finding | None, run: str) -> None:
    """Note a finding; one of the same kind and place is the same one."""
    if found is None:
        return
    for other in findings:
        if (other.kind, other.file, other.line) == (found.kind, found.file, found.line):
            other.runs.append(run)
            return
    findings.append(found._replace(runs=[run]))


# ---- values and results

def arguments_of(kernel: RawKernel, case: Case, file: str) -> list[Any]:
    """The values in the types that the kernel declares, fresh for each run."""
    missing = [one.name for one in kernel.parameters if one.name not in case.values]
    if missing:
        raise ArgumentError(f"{file}: {kernel.name} takes {', '.join(missing)}, which no value is given for: "
                            f"write //: {missing[0]} = ... in the first lines")
    return [typed(one, case.values[one.name]) for one in kernel.parameters]


def typed(parameter: Parameter, value: Any) -> Any:
    """A value as the kernel takes it. An array of another kind than the parameter's is converted."""
    if value is None:
        return None
    kind = parameter.kind
    array = np.asarray(value)
    if kind == "B":
        array = array if array.dtype == np.uint16 else rounded(array)
    elif kind == "H":
        array = array.astype(np.float16) if array.dtype != np.uint16 else array
    elif kind in TYPES:
        array = array.astype(f"{TYPES[kind]}{8 * parameter.size}")
    elif kind == "b":
        array = array.astype(bool)
    if parameter.pointer:
        return np.array(array, order="C")
    return array.reshape(())[()]


def rounded(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Numbers as the bits of bfloat16, rounded to nearest, ties to even."""
    bits = array.astype(np.float32).view(np.uint32)
    made = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(array), np.uint16(0x7FFF), made)


def widened(parameter: Parameter, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """An array's numbers as float64, integers as they are."""
    if parameter.kind == "B" and array.dtype == np.uint16:
        return (array.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    if parameter.kind == "H" and array.dtype == np.uint16:
        return array.view(np.float16).astype(np.float64)
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def compared(kernel: RawKernel, arguments: Sequence[Any], case: Case) -> Finding | None:
    """The first array that is not what it should be."""
    for parameter, array in zip(kernel.parameters, arguments, strict=True):
        if parameter.name not in case.expected:
            continue
        right = np.broadcast_to(widened(parameter, np.asarray(case.expected[parameter.name])), array.shape)
        made = widened(parameter, array)
        close = CLOSE.get(parameter.kind, 0)
        bad = ~np.isclose(made, right, rtol=close, atol=close * scale(right), equal_nan=True)
        if bad.any():
            return Finding("wrong", differing(parameter.name, made, right, bad), "", 0, [])
    return None


def scale(right: np.ndarray[Any, Any]) -> float:
    """The size of the numbers of an array: sums that cancel may err by so much."""
    finite = np.abs(right[np.isfinite(right)])
    return float(finite.max()) if finite.size else 0.0


def differing(name: str, made: np.ndarray[Any, Any], right: np.ndarray[Any, Any], bad: np.ndarray[Any, Any]) -> str:
    """Where the first difference is, and how many there are."""
    first = tuple(int(i[0]) for i in np.nonzero(bad))
    place = f"{name}[{', '.join(map(str, first))}]"
    return (f"{place} is {made[first]:.7g}, should be {right[first]:.7g}; {int(bad.sum())} of {bad.size} elements of "
            f"{name} are wrong")


# ---- the first lines of a file

def case_of(code: str, kernel: str | None) -> Case:
    """The launch that a file's `//:` lines describe; of several, the one of `kernel`, or the first."""
    common: list[str] = []
    cases: dict[str, tuple[str, list[str]]] = {}
    lines = common
    for line in re.findall(r"^[ \t]*//:[ \t]*(.+?)[ \t]*$", code, re.MULTILINE):
        if found := LAUNCH.fullmatch(line):
            lines = []
            cases.setdefault(found[1], (found[2], lines))
        else:
            lines.append(line)
    name = kernel or next(iter(cases), "")
    if name not in cases:
        return Case("", (), (), 0, {}, {})
    launch, own = cases[name]
    return evaluated(name, launch, [*common, *own])


def evaluated(name: str, launch: str, lines: Sequence[str]) -> Case:
    """A launch from its lines. Raises ArgumentError with the line that is no Python, or no assignment."""
    space: dict[str, Any] = {"np": np, "rng": np.random.default_rng(0)}
    expected: dict[str, Any] = {}
    values: dict[str, Any] = {}
    for line in lines:
        try:
            (node,) = ast.parse(line).body
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                values[node.targets[0].id] = space[node.targets[0].id] = eval(ast.unparse(node.value), space)
            elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Compare):
                left, right = node.value.left, node.value.comparators[0]
                expected[ast.unparse(left)] = eval(ast.unparse(right), space)
            else:
                raise ArgumentError("it is neither `name = value` nor `name == value`")
        except Exception as error:
            raise ArgumentError(f"//: {line}: {type(error).__name__}: {error}") from None
    try:
        sizes = eval(f"({launch},)", space)
    except Exception as error:
        raise ArgumentError(f"//: {name}<<<{launch}>>>: {type(error).__name__}: {error}") from None
    grid, block, *rest = (size if isinstance(size, tuple) else (int(size),) for size in sizes)
    return Case(name, grid, block, rest[0][0] if rest else 0, values, expected)


__all__ = ["BuildError", "Verdict", "check"]
