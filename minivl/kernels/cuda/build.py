"""A kernel's text, compiled for the CPU with g++ and kept on disk.

A build is one of three: "plain" is fast; "address" has AddressSanitizer and UndefinedBehaviorSanitizer;
"check" tells every access to the checks of `cuda/host/memory.cpp`. The machine that the kernel runs on
(`cuda/host/machine.cpp`) is compiled once for each.

The key of a kept file is the text, the flags, the compiler's version, the processor and the machine's own
sources. Read next: `runner.py`.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from ...door.errors import ArgumentError, Error, MissingExtra
from ..kept import folder
from ..kept_files import make_private, remove_unused, trusted, used
from . import sources

UNDEFINED = "alignment,bounds,shift,integer-divide-by-zero,signed-integer-overflow"
# Version 4: binutils of some years mix up the files of version 5.
PATTERN = "-ftrivial-auto-var-init=pattern"                # a variable that nobody set has a strange value
COMMON = ("-std=c++17", "-fPIC", "-march=native", "-ffp-contract=fast", "-fno-strict-aliasing", "-fno-exceptions",
          "-fno-rtti", "-w")
DEBUG = ("-O1", "-g", "-gdwarf-4", "-fno-sanitize-recover=all", "-DCUDA_HOST_PLACED", PATTERN)
GCC_ALONE = ("--param", "tsan-instrument-func-entry-exit=0")
BUILDS = {"plain": ("-O2", "-g1", "-gdwarf-4"),
          "address": (*DEBUG, "-fsanitize=address,undefined", "-fno-omit-frame-pointer"),
          "check": (*DEBUG, f"-fsanitize=thread,{UNDEFINED}", *GCC_ALONE)}
PARTS = {"plain": ("machine.cpp",), "address": ("machine.cpp",), "check": ("machine.cpp", "memory.cpp")}
MACHINE = {"plain": (), "address": ("-DCUDA_HOST_ADDRESS",), "check": ("-DCUDA_HOST_CHECK",)}

OURS = re.compile(r"[0-9a-f]{40}-[\w.]+|\.?usage-[0-9a-f]{40}\.json[\w.]*|\.making-\w+")   # names of what is kept

COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
BOUNDS = r"(?:__launch_bounds__\s*\(([^()]*(?:\([^()]*\)[^()]*)*)\)\s*)?"
KERNEL = re.compile(rf"(template\s*<[^;{{}}]*>\s*)?(?:extern\s+\"C\"\s*)?__global__\s+{BOUNDS}"
                    rf"(?:static\s+)?void\s+{BOUNDS}(\w+)\s*\(([^)]*)\)")
DYNAMIC = re.compile(r"extern\s+__shared__\s+((?:(?:__align__|alignas)\s*\([^)]*\)\s*)?)([\w:]+(?:\s+\w+)*?)\s+"
                     r"(\w+)\s*\[\s*\]\s*;")


class NoCompiler(MissingExtra):
    """Running a CUDA kernel on the CPU takes Linux and a C++ compiler. Install g++ (`apt install g++`); on
    Windows use WSL, on macOS a Linux container."""


class BuildError(Error):
    """A kernel's text does not compile. The message holds what the compiler said, with lines of that text."""


class Kernel(NamedTuple):
    """A kernel as its text declares it: threads that it is bounded to (an expression), names of parameters."""
    name: str
    bounds: str
    parameters: tuple[str, ...]


class Compiler(NamedTuple):
    """A C++ compiler: its path, and its version in words."""
    path: str
    version: str


def compiler_path() -> str:
    """Where the compiler is: MINIVL_CXX, or g++, or clang++. Raises NoCompiler."""
    if sys.platform != "linux":
        raise NoCompiler("running a kernel on the CPU needs Linux, this is "
                         f"{sys.platform}: on Windows use WSL, on macOS a Linux container")
    asked = os.environ.get("MINIVL_CXX")
    for name in (asked,) if asked else ("g++", "clang++"):
        if path := shutil.which(name):
            return path
    raise NoCompiler(f"running a kernel on the CPU needs a C++ compiler, and {asked or 'g++'} is not here: "
                     "apt install g++")


@functools.cache
def compiler() -> Compiler:
    """The compiler with its version. Raises NoCompiler."""
    path = compiler_path()
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
    return Compiler(path, said.partition("\n")[0])


def kernels_of(code: str) -> list[Kernel]:
    """The kernels that a text defines; templates are none: they have no name to be asked for by."""
    found: dict[str, Kernel] = {}
    for match in KERNEL.finditer(COMMENT.sub(blanked, code)):
        template, first, second, name, parameters = match.groups()
        if not template:
            names = tuple(re.sub(r"\s*\[.*", "", one).split()[-1].strip("*&") for one in parameters.split(",")
                          if one.strip())
            bounds = (first or second or "1024").split(",")[0].strip()
            found[name] = Kernel(name, bounds, names)
    return list(found.values())


SHARED = re.compile(r"__shared__\s+(?:(?:__align__|alignas)\s*\([^)]*\)\s*)?((?:unsigned |signed |long |const )*[\w:]+)"
                    r"\s+([^;{}()]+);")
SIZES = {"char": 1, "int8_t": 1, "uint8_t": 1, "bool": 1, "short": 2, "__nv_bfloat16": 2, "nv_bfloat16": 2,
         "__half": 2, "half": 2, "uint16_t": 2, "int": 4, "unsigned": 4, "float": 4, "uint32_t": 4, "int32_t": 4,
         "double": 8, "float2": 8, "uint2": 8, "int2": 8, "float4": 16, "uint4": 16, "int4": 16}


def shared_of(code: str) -> tuple[dict[str, int], tuple[str, int]]:
    """Bytes of an element of each shared array, by its name; name and element of the dynamic one. For words
    of a report only: 0 where the text does not say it plainly."""
    sizes: dict[str, int] = {}
    dynamic = ("shared", 0)
    for match in SHARED.finditer(COMMENT.sub(blanked, code)):
        kind, variables = match.groups()
        size = 8 if kind.count("long") == 2 else SIZES.get(kind.split()[-1], 0)
        for one in variables.split(","):
            name = re.split(r"[\s\[=]", one.strip())[0]
            sizes[name] = size
            if one.replace(" ", "").endswith("[]"):
                dynamic = (name, size)
    return sizes, dynamic


def blanked(comment: re.Match[str]) -> str:
    """A comment as blanks, so that places in the text stay."""
    return re.sub(r"[^\n]", " ", comment[0])


def translated(code: str, name: str, options: tuple[str, ...] = ()) -> str:
    """The text as C++: in a namespace without a name, dynamic shared memory as a pointer, entries behind.
    Of a CUDA compiler's options, definitions count; they stand behind the runner's own headers."""
    def pointer(found: re.Match[str]) -> str:
        _, kind, variable = found.groups()
        lines = "\n" * found[0].count("\n")
        return f"{kind}* {variable} = static_cast<{kind}*>(cuda_host::dynamic_shared());{lines}"
    body = DYNAMIC.sub(pointer, code)
    entries = "".join(f"CUDA_HOST_KERNEL({kernel.name}, ({kernel.bounds}))\n" for kernel in kernels_of(code))
    file = name.replace("\\", "/").replace('"', "'")
    given = "".join(f"#define {option[2:].replace('=', ' ', 1) if '=' in option else option[2:] + ' 1'}\n"
                    for option in options if option.startswith("-D"))
    return f'#include "cuda.h"\n{given}namespace {{\n#line 1 "{file}"\n{body}\n}}\n#line 1 "entries"\n{entries}'


@functools.cache
def machine_key() -> str:
    """A hash of all that every build is made of, besides a kernel's text and its flags."""
    total = hashlib.sha256(f"{compiler()} {platform.machine()} {processor()}".encode())
    for path in sorted(sources.host().iterdir()):
        if path.suffix in (".h", ".cpp"):
            total.update(path.name.encode() + path.read_bytes())
    return total.hexdigest()


def processor() -> str:
    """The features of this processor: code that is made for them runs on no other."""
    about = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    lines = {line for line in about.splitlines() if line.startswith(("flags", "Features"))}
    return " ".join(sorted(lines))


@functools.cache
def place() -> Path:
    """Where compiled kernels lie: the package's folder for compiled code, or one of this process alone where
    there is none, or others may write to it."""
    kept = folder()
    try:
        if kept is not None and trusted(kept):
            make_private(kept / "cuda")
            if trusted(kept / "cuda"):
                return kept / "cuda"
    except OSError:
        pass
    return Path(_own().name)


@functools.cache
def _own() -> tempfile.TemporaryDirectory[str]:
    """A folder that goes when the process ends."""
    return tempfile.TemporaryDirectory(prefix="minivl-cuda-")


def made(name: str, key: str, words: list[str], text: str | None = None) -> Path:
    """What a command of the compiler makes, kept under its key. `{out}` in `words` is the file; `text` goes
    to the compiler's stdin. Raises BuildError with what the compiler said."""
    digest = hashlib.sha256("\0".join((machine_key(), key, *words, text or "")).encode()).hexdigest()
    path = place() / f"{digest[:40]}-{name}"
    if path.is_file():
        used(path)
        return path
    # Two processes may build at once: each into a file of its own, and the last one to move it there wins.
    with tempfile.TemporaryDirectory(dir=place(), prefix=".making-") as beside:
        out = Path(beside) / name
        command = [compiler().path, *(word.replace("{out}", str(out)) for word in words)]
        done = subprocess.run(command, input=text, capture_output=True, text=True, encoding="utf-8",
                              errors="replace", check=False, env={**os.environ, "LC_ALL": "C"})
        if done.returncode:
            raise BuildError(said(done.stderr, text or ""))
        out.replace(path)
    remove_unused(place(), OURS)
    return path


def said(words: str, text: str) -> str:
    """The compiler's errors, without what it says about the runner's own headers."""
    lines = words.splitlines()
    first = next((i for i, line in enumerate(lines) if re.search(r"\berror:|undefined reference", line)), 0)
    hint = ("\nPTX cannot run on a CPU: give the function another body under #ifdef MINIVL_CPU"
            if re.search(r"\basm\b", text) else "")
    return "the kernel does not compile:\n" + "\n".join(lines[first:first + 12]) + hint


@functools.cache
def machine(build: str) -> tuple[str, ...]:
    """The machine's object files for a build."""
    found = []
    for part in PARTS[build]:
        words = [*COMMON, "-O2", "-g", *MACHINE[build], "-c", str(sources.host() / part), "-o", "{out}"]
        found.append(str(made(part.replace(".cpp", ".o"), build, words)))
    return tuple(found)


@functools.cache
def server(build: str) -> Path:
    """The program that runs launches in a process of its own."""
    flags = ["-fsanitize=address,undefined"] if build == "address" else []
    words = ["-std=c++17", "-O1", "-g", "-gdwarf-4", *flags, str(sources.host() / "serve.cpp"), "-o", "{out}", "-ldl"]
    return made("serve", build, words)


def flags_of(build: str) -> list[str]:
    """The compiler's flags. Raises ArgumentError for a build that there is none of."""
    if build not in BUILDS:
        raise ArgumentError(f"build must be {' or '.join(map(repr, BUILDS))}, got {build!r}")
    gcc = "clang" not in compiler().version
    return [*COMMON, *(flag for flag in BUILDS[build] if gcc or flag not in GCC_ALONE)]


def built(code: str, name: str, build: str, options: tuple[str, ...] = ()) -> Path:
    """The compiled file of a kernel's text. Raises BuildError, NoCompiler, ArgumentError."""
    words = [*flags_of(build), "-I", str(sources.host()), "-x", "c++", "-c", "-", "-o", "{out}"]
    kernel = made("kernel.o", build, words, translated(code, name, options))
    # The checking build calls hooks of our own: its libraries stay out.
    link = ["-fsanitize=address,undefined"] if build == "address" else []
    return made("kernel.so", build, [*link, "-shared", str(kernel), *machine(build), "-o", "{out}"])
