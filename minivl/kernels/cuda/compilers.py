"""CUDA's own compilers, which need no GPU: what a kernel takes of a card, before there is one.

    for (kernel, card), usage in usage("gemv.cu", text).items():
        print(kernel, card, usage.registers, usage.spills)

nvcc makes a cubin for each kind of card and says registers, spills, stack and shared memory; PTX alone
would not say all of it. NVRTC is the compiler that CuPy calls in a user's process: a kernel must pass it, too.

Both come with NVIDIA's toolkit, or from PyPI: see INSTALL. Read next: `docs/guide/cuda.md`.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from ...door.errors import MissingExtra
from ...door.files import write_whole
from .build import BuildError, place

CARDS = (75, 80, 86, 89, 90, 100, 120)                     # Turing, A100, Ampere, Ada, Hopper, two Blackwells
INSTALL = "pip install nvidia-cuda-nvcc nvidia-cuda-cccl nvidia-cuda-nvrtc"
PACKAGES = ("nvidia-cuda-nvcc", "nvidia-cuda-nvrtc", "nvidia-cuda-nvrtc-cu12", "nvidia-cuda-nvrtc-cu13")
FLAGS = ("-std=c++17",)


class NoToolkit(MissingExtra):
    """CUDA's compiler is not here. Install NVIDIA's toolkit, or its packages from PyPI: `pip install
    nvidia-cuda-nvcc nvidia-cuda-cccl nvidia-cuda-nvrtc`. No GPU is needed."""


class Usage(NamedTuple):
    """What one kernel takes on one kind of card: registers of a thread; bytes of stack, of spills (stored and
    loaded) and of static shared memory."""
    registers: int
    stack: int
    spills: int
    shared: int


# ---- finding them

def homes() -> Iterator[Path]:
    """Folders that may be a toolkit, the asked-for ones first."""
    for name in ("CUDA_HOME", "CUDA_PATH"):
        if home := os.environ.get(name):
            yield Path(home)
    if program := shutil.which("nvcc"):
        yield Path(program).resolve().parent.parent
    for package in PACKAGES:
        yield from _of_package(package)
    yield from sorted(Path("/usr/local").glob("cuda*"), reverse=True)


def _of_package(name: str) -> Iterator[Path]:
    """The toolkit's folder inside site-packages: files of such a package lie in its bin/, lib/ or include/."""
    try:
        files = metadata.files(name) or []
    except metadata.PackageNotFoundError:
        return
    for file in files:
        if file.parent.name in ("bin", "lib") and file.name.startswith(("nvcc", "libnvrtc.so")):
            yield Path(str(file.locate())).parent.parent
            return


@functools.cache
def nvcc() -> Path:
    """The compiler's path. Raises NoToolkit."""
    asked = [Path(os.environ[name]) / "bin" / "nvcc" for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
    on_path = shutil.which("nvcc")
    for program in (*asked, *([Path(on_path)] if on_path else []), *(home / "bin" / "nvcc" for home in homes())):
        if program.is_file() and os.access(program, os.X_OK):
            return program
    raise NoToolkit(f"compiling for a GPU needs nvcc, which is not here (no GPU is needed): {INSTALL}")


@functools.cache
def version_of(program: Path) -> str:
    """`13.0` of a program; "" for one that does not say it."""
    said = subprocess.run([str(program), "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"release (\d+\.\d+)", said)
    return found[1] if found else ""


@functools.cache
def nvrtc() -> Path:
    """NVRTC's library. Raises NoToolkit."""
    for home in homes():
        for inside in ("lib64", "lib", "targets/x86_64-linux/lib"):
            for path in sorted((home / inside).glob("libnvrtc.so*"), reverse=True):
                if ".alt" not in path.name:
                    return path
    raise NoToolkit(f"NVRTC, the compiler that CuPy calls, is not here (no GPU is needed): {INSTALL}")


def headers(library: Path) -> list[Path]:
    """Folders of CUDA's headers: those that belong to a library, or to the first toolkit that has any."""
    for home in (library.parent.parent, library.parent.parent.parent, *homes()):
        if (home / "include" / "cuda_bf16.h").is_file():
            inside = ("include", "include/cccl", "cccl/include", "cccl")
            return [home / name for name in inside if (home / name).is_dir()]
    return []


# ---- nvcc

SAID = re.compile(r"Compiling entry function '(\w+)' for 'sm_(\d+)'.*?Function properties for \1\s+(\d+) bytes stack "
                  r"frame, (\d+) bytes spill stores, (\d+) bytes spill loads.*?Used (\d+) registers([^\n]*)", re.DOTALL)


def usage(name: str, code: str, cards: Sequence[int] = CARDS,
          options: Sequence[str] = ()) -> dict[tuple[str, int], Usage]:
    """What each kernel of a text takes on each kind of card. Raises NoToolkit, and BuildError with the
    compiler's words. Kept on disk by text, flags and compiler."""
    program = nvcc()
    key = repr((code, name, tuple(cards), tuple(options), FLAGS, str(program), version_of(program)))
    kept = place() / f"usage-{hashlib.sha256(key.encode()).hexdigest()[:40]}.json"
    if kept.is_file():
        rows = json.loads(kept.read_text(encoding="utf-8"))
    else:
        said = compiled(program, name, code, cards, options)
        rows = [[kernel, int(card), int(registers), int(stack), int(stores) + int(loads), shared(rest)]
                for kernel, card, stack, stores, loads, registers, rest in SAID.findall(said)]
        write_whole(kept, lambda file: file.write(json.dumps(rows).encode()))
    return {(kernel, card): Usage(*numbers) for kernel, card, *numbers in rows}


def shared(rest: str) -> int:
    """Bytes of static shared memory in ptxas's line."""
    found = re.search(r"(\d+)(?:\+0)? bytes smem", rest)
    return int(found[1]) if found else 0


def compiled(program: Path, name: str, code: str, cards: Sequence[int], options: Sequence[str]) -> str:
    """Compile a text to one fat binary of cubins; what ptxas says of it."""
    targets = [f"-gencode=arch=compute_{card},code=sm_{card}" for card in cards]
    with tempfile.TemporaryDirectory(prefix="minivl-nvcc-") as folder:
        source = Path(folder) / Path(name).name
        source.write_text(code, encoding="utf-8", newline="\n")
        command = [str(program), "-fatbin", "-Xptxas", "-v", *FLAGS, *options, *targets, "-o", f"{folder}/out",
                   str(source)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(f"nvcc refuses {name}:\n" + "\n".join((done.stderr or done.stdout).splitlines()[:12]))
    return done.stderr + done.stdout


# ---- NVRTC

def through_nvrtc(name: str, code: str, card: int = 80, options: Sequence[str] = ()) -> bytes:
    """Compile a text as CuPy does; the cubin. Raises NoToolkit, and BuildError with the compiler's log."""
    path = nvrtc()
    library = ctypes.CDLL(str(path))
    program = ctypes.c_void_p()
    words = [f"-arch=sm_{card}", *FLAGS, *options, *(f"-I{folder}" for folder in headers(path))]
    flags = (ctypes.c_char_p * len(words))(*(word.encode() for word in words))
    refuse(library, library.nvrtcCreateProgram(ctypes.byref(program), code.encode(), name.encode(), 0, None, None))
    try:
        wrong = library.nvrtcCompileProgram(program, len(words), flags)
        if wrong:
            log = asked(library, program, "ProgramLog").decode("utf-8", "replace")
            raise BuildError(f"NVRTC refuses {name}:\n" + "\n".join(log.splitlines()[:12]))
        return asked(library, program, "CUBIN")
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


def asked(library: Any, program: ctypes.c_void_p, what: str) -> bytes:
    """What a program of NVRTC holds: `nvrtcGet...Size`, then `nvrtcGet...`."""
    size = ctypes.c_size_t()
    refuse(library, getattr(library, f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
    room = ctypes.create_string_buffer(size.value)
    refuse(library, getattr(library, f"nvrtcGet{what}")(program, room))
    return room.raw


def refuse(library: Any, code: int) -> None:
    """Raise BuildError for an error code of NVRTC."""
    if code:
        library.nvrtcGetErrorString.restype = ctypes.c_char_p
        raise BuildError(f"NVRTC fails: {library.nvrtcGetErrorString(code).decode()}")
