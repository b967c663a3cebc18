"""What runs kernels: a GPU by way of CuPy, or the processor by way of the runner. The code that calls
kernels is the same for both; this file is all that differs.

    device = gpu()                    # raises NoDevice, which says what is missing
    device = on_processor()           # the same kernels on the CPU: slow, and exact about every mistake

A device has raw memory (one axis, a NumPy or a CuPy array), compiled kernels, and one large product,
which is cuBLAS's on a GPU. Not here: arrays with shapes (`arrays.py`), who calls which kernel
(`calls.py`).
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike

from ...door.errors import Error
from . import sources
from .driver import Shape, driver, launch_early

Raw = Any                                       # memory of a device: an array of one axis
BESIDE = 48 * 1024                              # bytes of shared memory that a kernel has unasked


class NoDevice(Error):
    """There is no GPU to run on; the message says which of driver, CuPy and toolkit is missing."""


class Device(Protocol):
    """Where kernels run.

    processors: how many blocks run side by side at least (streaming multiprocessors)
    shared: bytes of shared memory that a block may ask for
    tensor: whether it has tensor cores for bfloat16
    """
    name: str
    processors: int
    shared: int
    tensor: bool

    def empty(self, size: int, dtype: DTypeLike) -> Raw: ...
    def zeros(self, size: int, dtype: DTypeLike) -> Raw: ...
    def upload(self, flat: np.ndarray) -> Raw: ...
    def download(self, raw: Raw) -> np.ndarray: ...
    def write(self, raw: Raw, flat: np.ndarray) -> None: ...
    def recorded(self, launches: Callable[[], None]) -> Callable[[], None]: ...
    def compiled(self, file: str, defines: tuple[tuple[str, int], ...]) -> Any: ...
    def launch(self, kernel: Any, grid: tuple[int, ...], block: int, args: tuple[Any, ...], shared: int,
               early: bool) -> None: ...
    def product(self, x: Raw, w: Raw, n: int, k: int) -> Raw: ...


class Launcher:
    """Kernels by file, name and constants; compiled when they are first called."""

    def __init__(self, device: Device):
        self.device, self.nothing = device, device.zeros(1, np.float32)
        self._kernel = functools.cache(self._found)

    def _found(self, file: str, name: str, defines: tuple[tuple[str, int], ...]) -> Any:
        return self.device.compiled(file, defines).get_function(name)

    def __call__(self, file: str, name: str, grid: Sequence[int], block: int, args: Sequence[Any],
                 shared: int = 0, early: bool = False, **defines: int) -> None:
        """Launch one kernel. args: raw memory, and whole numbers and floats of NumPy's exact types. early:
        it may begin before the kernel in front of it has ended, and waits for that itself."""
        if min(grid) < 1:
            return
        kernel = self._kernel(file, name, tuple(sorted(defines.items())))
        if shared > BESIDE and hasattr(kernel, "max_dynamic_shared_size_bytes"):
            kernel.max_dynamic_shared_size_bytes = shared
        self.device.launch(kernel, tuple(map(int, grid)), block, tuple(args), shared, early)


# -------------------------------------------------------------------------------------- the processor

class Processor:
    """Kernels on the CPU, by the runner: every block, warp and thread as on a GPU, one after the other.

    build: "plain" (fast), "address" (bounds and alignment) or "check" (races, bounds of every argument,
        shared memory that nobody wrote); schedule, seed: in which order threads take turns; text: gives
        the text of a .cu file by name, for one that was changed
    """

    name, tensor, shared = "runner", True, 99 * 1024

    def __init__(self, build: str = "plain", schedule: str = "forward", seed: int = 0,
                 processors: int = 2, text: Callable[[str], str] = sources.text):
        self.build, self.schedule, self.seed = build, schedule, seed
        self.processors, self.text = processors, text

    def empty(self, size: int, dtype: DTypeLike) -> Raw:
        """Filled with what a forgotten write leaves: a NaN in every float."""
        raw = aligned(size, dtype)
        raw.view(np.uint8)[:] = 0xFF
        return raw

    def zeros(self, size: int, dtype: DTypeLike) -> Raw:
        raw = aligned(size, dtype)
        raw[:] = 0
        return raw

    def upload(self, flat: np.ndarray) -> Raw:
        raw = aligned(flat.size, flat.dtype)
        raw[:] = flat
        return raw

    def download(self, raw: Raw) -> np.ndarray:
        copy: np.ndarray = raw.copy()
        return copy

    def write(self, raw: Raw, flat: np.ndarray) -> None:
        """Numbers of the host into memory that is there."""
        raw[: flat.size] = flat

    def recorded(self, launches: Callable[[], None]) -> Callable[[], None]:
        """Nothing is recorded here: the launches themselves."""
        return launches

    def compiled(self, file: str, defines: tuple[tuple[str, int], ...]) -> Any:
        from .runner import RawModule
        options = tuple(f"-D{key}={value}" for key, value in defines)
        return RawModule(self.text(f"{file}.cu"), build=self.build, schedule=self.schedule, seed=self.seed,
                         options=options, name=f"{file}.cu")

    def launch(self, kernel: Any, grid: tuple[int, ...], block: int, args: tuple[Any, ...], shared: int,
               early: bool) -> None:
        """One kernel, to its end; of one that begins early it is checked that it waits."""
        kernel(grid, (block,), args, shared_mem=shared, early=early)

    def product(self, x: Raw, w: Raw, n: int, k: int) -> Raw:
        """m k, n k -> m n, float32."""
        return (widened(x).reshape(-1, k) @ widened(w).reshape(n, k).T).reshape(-1)


def aligned(size: int, dtype: DTypeLike, to: int = 256) -> np.ndarray:
    """Memory that begins where a GPU's does."""
    dtype = np.dtype(dtype)
    memory = np.empty(size * dtype.itemsize + to, np.uint8)
    start = -memory.ctypes.data % to
    return memory[start : start + size * dtype.itemsize].view(dtype)


def widened(raw: np.ndarray) -> np.ndarray:
    """float32 of the bits of bfloat16, or of float32 itself."""
    if raw.dtype != np.uint16:
        return raw
    return np.left_shift(raw, 16, dtype=np.uint32).view(np.float32)


def on_processor(**options: Any) -> Device:
    """The runner as a device; options are those of `Processor`."""
    return Processor(**options)


# -------------------------------------------------------------------------------------------- the GPU

REAL_32F, REAL_16BF, COMPUTE_32F, BY_DEFAULT = 0, 14, 68, -1      # cuBLAS's own numbers
AS_IT_IS, TURNED = 0, 1


class GPU:
    """Kernels on the first GPU, by CuPy. Raw memory comes from CuPy's pool. early: kernels of a step overlap,
    where the card is of sm_90 or later."""

    name = "gpu"

    def __init__(self, early: bool = True) -> None:
        import cupy
        self.cupy = cupy
        facts = cupy.cuda.Device().attributes
        self.processors = int(facts["MultiProcessorCount"])
        self.shared = int(facts["MaxSharedMemoryPerBlockOptin"])
        major = int(facts["ComputeCapabilityMajor"])
        self.tensor = major >= 8
        self.driver = driver() if major >= 9 and early else None
        self.one, self.nothing = np.ones(1, np.float32), np.zeros(1, np.float32)

    def empty(self, size: int, dtype: DTypeLike) -> Raw:
        return self.cupy.empty(size, dtype)

    def zeros(self, size: int, dtype: DTypeLike) -> Raw:
        return self.cupy.zeros(size, dtype)

    def upload(self, flat: np.ndarray) -> Raw:
        return self.cupy.asarray(flat)

    def download(self, raw: Raw) -> np.ndarray:
        copy: np.ndarray = self.cupy.asnumpy(raw)
        return copy

    def write(self, raw: Raw, flat: np.ndarray) -> None:
        """Numbers of the host into memory that is there."""
        raw[: flat.size].set(flat)

    def recorded(self, launches: Callable[[], None]) -> Callable[[], None]:
        """The launches as one graph, to be replayed on the same memory. All of them have run before, so
        that nothing is compiled and no memory is taken while they are recorded. The stream waits for
        the default one, and the default one for it."""
        stream = self.cupy.cuda.Stream()
        with stream:
            stream.begin_capture()
            launches()
            graph = stream.end_capture()
        return lambda: graph.launch(stream)

    def compiled(self, file: str, defines: tuple[tuple[str, int], ...]) -> Any:
        options = ("-std=c++17", *(f"-D{key}={value}" for key, value in defines))
        return self.cupy.RawModule(code=sources.text(f"{file}.cu"), options=options)

    def launch(self, kernel: Any, grid: tuple[int, ...], block: int, args: tuple[Any, ...], shared: int,
               early: bool) -> None:
        """One kernel, into CuPy's stream of this thread; early where the card can (`driver.py`)."""
        if early and self.driver is not None:
            stream = self.cupy.cuda.get_current_stream().ptr
            launch_early(self.driver, kernel.kernel.ptr, Shape(grid, block, shared), stream, args)
        else:
            kernel(grid, (block,), args, shared_mem=shared)

    def product(self, x: Raw, w: Raw, n: int, k: int) -> Raw:
        """m k, n k -> m n: both of one type, bits of bfloat16 or float32; summed up in float32.

        cuBLAS counts columns first: it sees w and x turned, and gives the product turned.
        """
        m = x.size // k
        kind = REAL_16BF if x.dtype == np.uint16 else REAL_32F
        out = self.cupy.empty(m * n, np.float32)
        if m * n:
            self.cupy.cuda.cublas.gemmEx(
                self.cupy.cuda.device.get_cublas_handle(), TURNED, AS_IT_IS, n, m, k,
                self.one.ctypes.data, w.data.ptr, kind, k, x.data.ptr, kind, k,
                self.nothing.ctypes.data, out.data.ptr, REAL_32F, n, COMPUTE_32F, BY_DEFAULT)
        return out


def missing() -> list[str]:
    """What this machine lacks of a GPU that can be used: driver, CuPy, toolkit; each with what to do."""
    found = []
    if not has_driver():
        found.append("no NVIDIA driver (libcuda is not found, or sees no GPU): install the driver, and "
                     "run nvidia-smi to see the card")
    if find_spec("cupy") is None:
        found.append("no CuPy: pip install cupy-cuda13x, or cupy-cuda12x for a driver of CUDA 12")
    elif not has_toolkit():
        found.append("no CUDA headers or libraries that CuPy can compile with: pip install "
                     '"cupy-cuda13x[ctk]", or install the CUDA toolkit')
    return found


def has_driver() -> bool:
    """Whether the driver's library is there and counts at least one GPU."""
    count = ctypes.c_int(0)
    for name in ("libcuda.so.1", "nvcuda.dll"):
        try:
            driver = ctypes.CDLL(name)
        except OSError:
            continue
        counted = driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0
        return counted and count.value > 0
    return False


def has_toolkit() -> bool:
    """Whether CuPy finds what it compiles with."""
    try:
        from cupy.cuda import nvrtc
        nvrtc.getVersion()
    except Exception:                           # whatever a half-installed library raises: it is of no use
        return False
    return True


def gpu(**options: Any) -> Device:
    """The first GPU; options are those of `GPU`. Raises NoDevice, which says which of driver, CuPy and
    toolkit is missing."""
    if lacking := missing():
        raise NoDevice('kernels="cuda" needs a GPU, and here there is ' + "; ".join(lacking) +
                       '. Without a GPU the same kernels run on the processor, slowly: kernels="cuda-runner"')
    return GPU(**options)


OPEN: dict[str, Callable[..., Device]] = {"gpu": gpu, "runner": on_processor}
