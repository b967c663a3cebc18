"""Kernels on the CPU behind the two names that CuPy has: RawModule and its kernels.

    module = RawModule(code, build="check")
    scale = module.get_function("scale")
    scale((4,), (128,), (x, y, np.int32(n), np.float32(0.5)))

Arguments are NumPy arrays in one piece, and NumPy's numbers of exactly the size that the kernel declares: a
Python number is refused, since CuPy would pass 8 bytes for it. The arrays are written in place.

What a kernel does is checked by its build (`build.py`); what it computes is for the caller to judge. Nothing
here says how fast a kernel would be. Read next: `signature.py`, `faults.py`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...door.errors import ArgumentError
from . import child, machine
from .build import Kernel, built, kernels_of, shared_of
from .faults import Array, Context, fault
from .memory import Memory
from .signature import Parameter, bound, checked, described

MOST_THREADS = 1024                                        # of a block, on every GPU
FREE_SHARED = 48 * 1024                                    # bytes of shared memory that need no asking
MOST_SHARED = 99 * 1024                                    # the least that cards from sm_80 on offer
SECONDS = 60                                               # of processor time for a launch in its own process


class RawModule:
    """Kernels of one text, compiled for the CPU.

    build: "plain", "address" or "check"
    schedule, seed: the order in which threads run: "forward", "reverse" or "random"
    options: of a CUDA compiler; definitions ("-DNAME=1") count
    isolated: run launches in a process of their own, so that a crash is an error and an endless loop ends;
        the build "address" always does

    Raises BuildError, NoCompiler, ArgumentError.
    """

    def __init__(self, code: str, *, build: str = "plain", schedule: str = "forward", seed: int = 0,
                 options: Sequence[str] = (), name: str = "file.cu", isolated: bool = False,
                 seconds: float = SECONDS):
        if schedule not in machine.SCHEDULES:
            raise ArgumentError(f"schedule must be {' or '.join(map(repr, machine.SCHEDULES))}, got {schedule!r}")
        self.build, self.schedule, self.seed, self.seconds = build, schedule, seed, seconds
        self.kernels = {kernel.name: kernel for kernel in kernels_of(code)}
        self.sizes, self.dynamic = shared_of(code)
        self.path = built(code, name, build, tuple(options))
        self.loaded = machine.loaded(self.path) if build != "address" else None
        self.symbols = self.loaded.shared if self.loaded else machine.symbols_of(self.path)[1]
        self.server = child.Server(self.path, build, seconds) if isolated or build == "address" else None

    def get_function(self, name: str) -> RawKernel:
        """A kernel by its name. Raises ArgumentError for one that the text does not define."""
        if name not in self.kernels:
            raise ArgumentError(f"there is no kernel {name!r}: this text defines "
                                f"{', '.join(map(repr, self.kernels)) or 'none'} (kernels are "
                                'extern "C" __global__ functions; templates have no name here)')
        return RawKernel(self, self.kernels[name])

    def described(self, kernel: Kernel) -> tuple[tuple[Parameter, ...], int]:
        """A kernel's parameters, and the threads that its block may have."""
        if self.loaded is not None:
            return described(self.loaded.library, kernel)
        assert self.server is not None
        return self.server.describe(kernel)

    def close(self) -> None:
        """End the process of isolated launches, if there is one."""
        if self.server is not None:
            self.server.close()


class RawKernel:
    """One kernel. Call it with a grid, a block and its arguments."""

    def __init__(self, module: RawModule, kernel: Kernel):
        self.module, self.kernel, self.name = module, kernel, kernel.name
        self.parameters, self.most_threads = module.described(kernel)
        self.max_dynamic_shared_size_bytes = FREE_SHARED
        self.statics = [one for one in module.symbols
                        if one.function == kernel.name or one.function not in module.kernels]

    @property
    def attributes(self) -> dict[str, int]:
        """What CuPy calls so, as far as a CPU can tell."""
        return {"shared_size_bytes": sum(one.bytes for one in self.statics),
                "max_threads_per_block": self.most_threads,
                "max_dynamic_shared_size_bytes": self.max_dynamic_shared_size_bytes}

    def __call__(self, grid: Sequence[int], block: Sequence[int], args: Sequence[Any], *, shared_mem: int = 0,
                 stream: Any = None, early: bool = False) -> None:
        """Run it to its end. early: on a GPU it would begin before the kernel in front of it has ended, so
        it must wait for that before it touches memory. Raises ArgumentError for what a launch may not be,
        KernelFault for what the kernel may not do."""
        shape = self.shape_of(grid, block, shared_mem)
        values = checked(self.name, self.parameters, args)
        memory = Memory(self.parameters, values, apart=self.module.build == "check" and self.module.server is None)
        launch, arrays = self.launch_of(shape, shared_mem, memory)
        launch.early = early
        context = Context(self.module.path, self.name, arrays, shape[1], shape[0])
        if self.module.server is not None:
            report = self.module.server.run(launch, memory, values, context)
        else:
            report = self.run(launch, memory, values)
        if report.kind:
            error = fault(report, context)
            raise error
        memory.back()

    def run(self, launch: machine.Launch, memory: Memory, values: Sequence[Any]) -> machine.Report:
        """The launch in this process."""
        loaded, report = self.module.loaded, machine.Report()
        assert loaded is not None
        for i in range(launch.regions):
            if launch.region[i].kind == machine.STATIC:
                launch.region[i].start += loaded.base
        words = bound(values, [memory.address(i) for i in range(len(values))])
        entry = getattr(loaded.library, f"cuda_host_run_{self.name}")
        pointers = (ctypes.c_void_p * max(1, len(words)))(*(ctypes.addressof(word) for word in words))
        with loaded.lock:
            loaded.library.cuda_host_launch(entry, pointers, ctypes.byref(launch), ctypes.byref(report))
        return report

    def launch_of(self, shape: tuple[Any, Any], shared: int,
                  memory: Memory) -> tuple[machine.Launch, list[Array]]:
        """The launch with its memory, and the names of that memory."""
        named = [(machine.Region(piece.start, piece.bytes, machine.ARGUMENT, piece.read_only),
                  Array(piece.name, piece.itemsize, piece.bytes)) for piece in memory.pieces]
        module = self.module
        named.append((machine.Region(0, shared, machine.DYNAMIC, 0),
                      Array(*module.dynamic, shared, "shared memory")))
        named += [(machine.Region(one.offset, one.bytes, machine.STATIC, 0),
                   Array(one.name, module.sizes.get(one.name, 0), one.bytes, "shared array"))
                  for one in module.symbols]
        regions = (machine.Region * len(named))(*(region for region, _ in named))
        launch = machine.Launch(machine.Index(*shape[0]), machine.Index(*shape[1]), shared, module.seed + 1,
                                machine.SCHEDULES.index(module.schedule), len(named), 0, 0,
                                ctypes.cast(regions, ctypes.POINTER(machine.Region)))
        return launch, [array for _, array in named]

    def shape_of(self, grid: Sequence[int], block: Sequence[int],
                 shared: int) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
        """Grid and block with three axes each, checked as a driver does it."""
        sides = three("grid", grid), three("block", block)
        threads = sides[1][0] * sides[1][1] * sides[1][2]
        if threads > min(MOST_THREADS, self.most_threads) or sides[1][2] > 64:
            raise ArgumentError(f"{self.name}: a block may have {min(MOST_THREADS, self.most_threads)} threads "
                                f"(__launch_bounds__, 1024, and 64 along z), got {tuple(block)}")
        if sides[0][0] >= 1 << 31 or max(sides[0][1:]) >= 1 << 16:
            raise ArgumentError(f"{self.name}: a grid may have 2^31 - 1 blocks along x and 65535 along y and z, "
                                f"got {tuple(grid)}")
        static = sum(one.bytes for one in self.statics)
        if static > FREE_SHARED:
            raise ArgumentError(f"{self.name}: static shared arrays may have {FREE_SHARED} bytes, these have "
                                f"{static}: use dynamic shared memory")
        allowed = self.max_dynamic_shared_size_bytes
        if allowed > MOST_SHARED or not 0 <= shared <= allowed or shared + static > MOST_SHARED:
            raise ArgumentError(f"{self.name}: {shared} bytes of dynamic shared memory are asked for; {allowed} "
                                "are set in max_dynamic_shared_size_bytes, and with static arrays "
                                f"({static} bytes) at most {MOST_SHARED} fit every card")
        return sides


def three(what: str, sizes: Sequence[int]) -> tuple[int, int, int]:
    """One to three positive sizes as three. Raises ArgumentError."""
    numbers = tuple(sizes) if isinstance(sizes, tuple | list) else (sizes,)
    if not 1 <= len(numbers) <= 3 or not all(isinstance(n, int | np.integer) and n > 0 for n in numbers):
        raise ArgumentError(f"a {what} is one to three whole numbers from 1 on, got {sizes!r}")
    x, y, z = (*map(int, numbers), 1, 1)[:3]
    return x, y, z


__all__ = ["Parameter", "RawKernel", "RawModule"]
