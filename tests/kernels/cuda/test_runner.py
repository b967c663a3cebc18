"""A mistake in a kernel is caught by the build that must catch it, in its line; a kernel without one never is, in no
order of threads; and what a launch may not be is refused."""

import re

import numpy as np
import pytest

from minivl.door.errors import ArgumentError
from minivl.kernels.cuda.faults import KernelFault
from minivl.kernels.cuda.runner import MOST_SHARED, RawModule

from .runs import ORDERS, line_of, module, needs_compiler

pytestmark = needs_compiler
i32, f32 = np.int32, np.float32
RNG = np.random.default_rng(0)
X = RNG.normal(size=150).astype(f32)
W = RNG.normal(size=(6, 256)).astype(f32)
V = RNG.normal(size=256).astype(f32)
HALVES = RNG.integers(0, 65536, 64, np.uint16)


def ones(n=32):
    return np.ones(n, f32)


def nan(*shape):
    return np.full(shape, np.nan, f32)


# kernel: grid, block, arguments before `bug` (fresh for each run), what must come out of which argument
LAUNCHES = {
    "tiles": (1, 64, lambda: [X.copy(), nan(64), i32(150)], 1, lambda: np.full(64, X.astype(float).sum())),
    "split": ((6, 4), 32, lambda: [W.copy(), V.copy(), np.zeros(6, f32), i32(6), i32(256)], 2,
              lambda: W.astype(float) @ V),
    "mirror": (1, 64, lambda: [X[:64].copy(), nan(64)], 1, lambda: X[:64].reshape(2, 32)[:, ::-1].reshape(-1)),
    "vector_load": (1, 32, lambda: [np.arange(160, dtype=f32), nan(32)], 1,
                    lambda: np.arange(128).reshape(32, 4).sum(1)),
    "branch": (1, 32, lambda: [nan(32)], 0, ones),
    "half_warp": (1, 32, lambda: [np.arange(32, dtype=f32)], 0,
                  lambda: np.concatenate([np.arange(16) ^ 1, np.arange(16, 32)])),
    "shifted": (1, 32, lambda: [ones()], 0, ones),
    "half_written": (1, 32, lambda: [nan(32)], 0, ones),
    "one_cell": (4, 32, lambda: [nan(4)], 0, lambda: np.arange(4)),
    "copied": (1, 32, lambda: [np.arange(200, dtype=f32), nan(200), i32(50)], 1, lambda: np.arange(200)),
    "stranger": (1, 32, lambda: [np.arange(32, dtype=f32)], 0, lambda: np.arange(32) ^ 1),
    "dynamic": (1, 64, lambda: [np.arange(64, dtype=f32)], 0, lambda: np.arange(64)),
    "narrow": (1, 64, lambda: [HALVES.copy(), np.zeros(64, np.uint16), np.zeros(64, np.uint8)], 1,
               lambda: HALVES[np.arange(64) ^ 1]),
    "endless": (1, 32, lambda: [nan(32)], 0, lambda: np.zeros(32)),
    "counted": (1, 96, lambda: [np.zeros(1, i32)], 0, lambda: [96]),
    "constant": (1, 32, lambda: [X[:32].copy(), nan(32)], 1, lambda: X[:32]),
    "far_away": (1, 32, lambda: [nan(32)], 0, ones),
    "own_array": (1, 32, lambda: [nan(32)], 0, lambda: np.arange(32) % 4),
    "asserted": (1, 32, lambda: [nan(32)], 0, ones),
    "two_places": (1, 64, lambda: [nan(64)], 0, lambda: ones(64)),
    "handed_on": (3, 64, lambda: [V[:192].copy(), nan(192), np.zeros(1, np.uint32), nan(64)], 3,
                  lambda: 2 * V[:192].reshape(3, 64).sum(0)),
    "hasty": (1, 32, lambda: [X[:32].copy(), nan(32)], 1, lambda: X[:32]),
}


def run(kernel, bug, build, schedule="forward", seed=0, isolated=True):
    """Run a planted kernel; whether it gave what it should."""
    grid, block, arguments, which, right = LAUNCHES[kernel]
    args = arguments()
    grid = grid if isinstance(grid, tuple) else (grid,)
    shared = 4 * block if kernel == "dynamic" else 0
    found = module(build, schedule, seed, isolated).get_function(kernel)
    found(grid, (block,), (*args, i32(bug)), shared_mem=shared, early=kernel == "hasty")
    return bool(np.allclose(args[which], right(), rtol=1e-5, atol=1e-4))


# ---- planted mistakes

# (kernel, bug): what the checking build says, and the place: words of its line, and which line that has them
CHECKED = {
    ("tiles", 1): ("race", "sum += tile[i]"), ("tiles", 2): ("uninitialised shared memory", "sum += tile[i]"),
    ("tiles", 3): ("out of bounds", "tile[t] = x[start + t]"), ("split", 4): ("race", "y[row] += sum"),
    ("mirror", 5): ("uninitialised shared memory", "one * line"), ("mirror", 6): ("race", "one * line"),
    ("vector_load", 7): ("misaligned", "float4 v = from"), ("branch", 8): ("deadlock", ""),
    ("half_warp", 9): ("deadlock", ""), ("shifted", 11): ("out of bounds", "line[to]"),
    ("half_written", 12): ("uninitialised shared memory", "line[63 - t]"), ("one_cell", 13): ("race", "bug == 13"),
    ("copied", 14): ("out of bounds", "bug == 14"), ("stranger", 15): ("wrong mask", "bug == 15"),
    ("dynamic", 16): ("out of bounds", "bug == 16"), ("narrow", 17): ("race", "bug == 17"),
    ("narrow", 18): ("uninitialised shared memory", "halves[t ^ 1]"), ("endless", 19): ("endless", "while (go)"),
    ("counted", 20): ("uninitialised shared memory", "atomicAdd(&total"), ("counted", 21):
    ("undefined behaviour", "bug == 21"), ("constant", 22): ("read-only", "const_cast"),
    ("far_away", 23): ("out of bounds", "p[threadIdx.x] = 1.f"), ("own_array", 24): ("out of bounds", "bug == 24"),
    ("asserted", 25): ("trap", "bug != 25"), ("two_places", 26): ("deadlock", ""),
    ("handed_on", 27): ("race", "sum += parts[b"), ("handed_on", 28): ("race", "sum += parts[b"),
    ("handed_on", 29): ("race", "sum += parts[b"), ("handed_on", 30): ("race", "sum += parts[b"),
    ("hasty", 31): ("too early", "bug == 31 ? x"), ("hasty", 32): ("too early", "")}
# What AddressSanitizer and UndefinedBehaviorSanitizer see by other means than the checks.
ADDRESSED = {("tiles", 3): "out of bounds", ("vector_load", 7): "misaligned", ("shifted", 11): "out of bounds",
             ("copied", 14): "out of bounds", ("dynamic", 16): "out of bounds", ("counted", 21): "undefined behaviour",
             ("own_array", 24): "out of bounds"}
# What no order of threads can hide from any build.
ALWAYS = {("branch", 8): "deadlock", ("half_warp", 9): "deadlock", ("stranger", 15): "wrong mask",
          ("asserted", 25): "trap", ("two_places", 26): "deadlock", ("endless", 19): "endless",
          ("hasty", 32): "too early"}


@pytest.mark.parametrize("kernel, bug", CHECKED)
def test_the_checking_build_catches_every_mistake_in_its_line(kernel, bug):
    kind, words = CHECKED[kernel, bug]
    with pytest.raises(KernelFault) as caught:
        run(kernel, bug, "check")
    fault = caught.value
    assert fault.kind == kind and fault.kernel == kernel, str(fault)
    assert not words or fault.line == line_of(words), str(fault)
    assert kernel in str(fault) and (not fault.line or f"line {fault.line} of planted.cu" in str(fault))


@pytest.mark.parametrize("kernel, bug", CHECKED)
def test_and_in_a_random_order(kernel, bug):
    with pytest.raises(KernelFault):
        run(kernel, bug, "check", "random", 3)


@pytest.mark.parametrize("kernel, bug", ADDRESSED)
def test_the_address_build_catches_what_leaves_its_memory(kernel, bug):
    with pytest.raises(KernelFault) as caught:
        run(kernel, bug, "address")
    assert caught.value.kind == ADDRESSED[kernel, bug] and caught.value.line == line_of(CHECKED[kernel, bug][1])


@pytest.mark.parametrize("build", ["plain", "address"])
@pytest.mark.parametrize("kernel, bug", ALWAYS)
def test_every_build_catches_what_never_ends_or_meets(kernel, bug, build):
    with pytest.raises(KernelFault) as caught:
        run(kernel, bug, build)
    assert caught.value.kind == ALWAYS[kernel, bug]


def test_the_order_of_threads_shows_a_missing_barrier_in_the_plain_build():
    assert not run("tiles", 1, "plain") and not run("mirror", 5, "plain")
    assert run("split", 4, "plain")                        # one thread after the other: a lost update cannot happen


@pytest.mark.parametrize("build", ["plain", "address", "check"])
@pytest.mark.parametrize("schedule, seed", ORDERS)
def test_healthy_kernels_raise_no_alarm_in_any_order(build, schedule, seed):
    assert [kernel for kernel in LAUNCHES if not run(kernel, 0, build, schedule, seed)] == []


@pytest.mark.parametrize("build", ["plain", "check"])
def test_and_none_inside_this_process(build):
    wrong = [kernel for kernel in LAUNCHES if not run(kernel, 0, build, isolated=False)]
    assert wrong == []


def test_an_order_is_its_seed_alone():
    def order(seed):
        y = np.zeros(64, i32)
        code = ('extern "C" __global__ void turn(int* y, int* n) { int t = blockIdx.x * 32 + threadIdx.x; '
                "y[t] = atomicAdd(n, 1); }")
        RawModule(code, schedule="random", seed=seed).get_function("turn")((2,), (32,), (y, np.zeros(1, i32)))
        return y.tolist()
    assert order(1) == order(1) != order(2)
    assert sorted(order(1)) == list(range(64)) != order(1)


# ---- what a report says

def test_a_report_names_thread_block_element_and_the_other_line():
    said = {}
    for key in (("half_written", 12), ("tiles", 1), ("split", 4), ("branch", 8), ("copied", 14), ("narrow", 17)):
        with pytest.raises(KernelFault) as caught:
            run(*key, "check")
        said[key] = str(caught.value)
    line = line_of("line[63 - t]")
    assert said["half_written", 12] == (f"uninitialised shared memory in 'half_written', line {line} of planted.cu: "
                                        "thread 0 of block 0 reads line[63], which nobody wrote")
    assert f"thread 0 wrote in line {line_of('tile[t] = x')} of planted.cu" in said["tiles", 1]
    assert "thread 0 of block (0, 1) reads y[0], which thread 0 of block (0, 0) wrote" in said["split", 4]
    assert re.search(r"16 threads \(the first is 0\) wait at __syncthreads, line \d+ of planted.cu; 16 threads "
                     r"\(the first is 16\) have ended", said["branch", 8])
    assert re.search(r"thread 18 of block 0 (reads x|writes y)\[200\], and argument '[xy]' has 200 elements",
                     said["copied", 14])
    assert "writes bytes[0], which thread 0 wrote" in said["narrow", 17]


def test_after_a_fault_the_module_works_on():
    for build in ("plain", "address", "check"):
        with pytest.raises(KernelFault):
            run("endless" if build == "plain" else "copied", 19 if build == "plain" else 14, build)
        assert run("copied", 0, build)


def test_a_fault_leaves_the_callers_arrays_alone():
    y = nan(200)
    with pytest.raises(KernelFault):
        module("check").get_function("copied")((1,), (32,), (np.arange(200, dtype=f32), y, i32(50), i32(14)))
    assert np.isnan(y).all()


# ---- arguments and launches

def refused(name, *args, grid=(1,), block=(32,), **more):
    with pytest.raises(ArgumentError) as caught:
        module("plain", isolated=False).get_function(name)(grid, block, args, **more)
    return str(caught.value)


@pytest.mark.parametrize("factor", [1.5, 2, True])
def test_a_python_number_is_refused_by_name(factor):
    said = refused("scaled", ones(), i32(4), factor)
    assert "argument 2 (factor) must be a NumPy number, np.float32(...)" in said and "CuPy would pass 8 bytes" in said


@pytest.mark.parametrize("args, words", [
    ((ones(), i32(4)), "takes 3 arguments (y, n, factor), got 2"),
    ((ones(), i32(4), np.float64(2)), "argument 2 (factor) must be a number, np.float32(...), got float64"),
    ((ones(), np.int64(4), f32(2)), "argument 1 (n) must be a number, np.int32(...), got int64"),
    ((ones(), np.uint32(4), f32(2)), "np.int32(...), got uint32"),
    ((ones(), ones(), f32(2)), "np.int32(...), got float32 of shape [32]"),
    ((np.ones(32), i32(4), f32(2)), "argument 0 (y) must be an array of float32, got float64"),
    ((np.ones(32, i32), i32(4), f32(2)), "must be an array of float32, got int32"),
    ((ones(64)[::2], i32(4), f32(2)), "must lie in one piece"),
    (([1.0], i32(4), f32(2)), "is a pointer: pass a NumPy array, got a list"),
    ((np.broadcast_to(f32(1), 1), i32(1), f32(2)), "this array is read-only: pass a copy")])
def test_arguments_of_another_kind_are_refused(args, words):
    assert words in refused("scaled", *args)


@pytest.mark.parametrize("grid, block, more, words", [
    ((1,), (1025,), {}, "a block may have 1024 threads"), ((1,), (32, 33), {}, "a block may have 1024 threads"),
    ((1,), (1, 1, 65), {}, "64 along z"), ((0,), (32,), {}, "a grid is one to three whole numbers from 1 on"),
    ((1, 65536), (32,), {}, "65535 along y and z"), ((1,), (32, 1, 1, 1), {}, "a block is one to three"),
    ((1,), (32,), {"shared_mem": 49153}, "max_dynamic_shared_size_bytes")])
def test_launches_that_no_card_takes_are_refused(grid, block, more, words):
    assert words in refused("scaled", ones(), i32(4), f32(2), grid=grid, block=block, **more)


def test_more_shared_memory_is_asked_for_as_in_cupy():
    kernel = module("plain", isolated=False).get_function("dynamic")
    assert kernel.attributes["shared_size_bytes"] == 0 and kernel.attributes["max_threads_per_block"] == 1024
    kernel.max_dynamic_shared_size_bytes = MOST_SHARED
    kernel((1,), (64,), (np.arange(64, dtype=f32), i32(0)), shared_mem=MOST_SHARED)
    kernel.max_dynamic_shared_size_bytes = MOST_SHARED + 1
    with pytest.raises(ArgumentError, match="fit every card"):
        kernel((1,), (64,), (np.arange(64, dtype=f32), i32(0)), shared_mem=MOST_SHARED + 1)


def test_launch_bounds_hold():
    code = 'extern "C" __global__ void __launch_bounds__(2 * 32, 4) k(float* y) { y[threadIdx.x] = 1; }'
    kernel = RawModule(code).get_function("k")
    kernel((1,), (64,), (nan(64),))
    with pytest.raises(ArgumentError, match="may have 64 threads"):
        kernel((1,), (65,), (nan(65),))


def test_a_kernel_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(ArgumentError, match=r"no kernel 'tile': this text defines 'tiles', 'split'"):
        module("plain", isolated=False).get_function("tile")
    with pytest.raises(ArgumentError, match="schedule must be 'forward' or"):
        RawModule("", schedule="sideways")
    with pytest.raises(ArgumentError, match="build must be 'plain' or"):
        RawModule("", build="fast")


# ---- memory

@pytest.mark.parametrize("build", ["plain", "address", "check"])
def test_arrays_that_overlap_are_one_piece_of_memory(build):
    code = ('extern "C" __global__ void move(const float* x, float* y) { float v = x[threadIdx.x]; __syncthreads(); '
            "y[threadIdx.x] = v; }")
    whole = np.arange(40, dtype=f32)
    RawModule(code, build=build).get_function("move")((1,), (32,), (whole[:32], whole[8:]))
    assert whole.tolist() == [*range(8), *range(32)]


@pytest.mark.parametrize("build", ["address", "check"])
def test_neighbours_in_one_buffer_are_apart(build):
    """A piece of a buffer ends where its array does, though memory goes on."""
    buffer = np.zeros(96, f32)
    code = 'extern "C" __global__ void fill(float* x, float* y, int n) { y[threadIdx.x] = 1; x[threadIdx.x + n] = 1; }'
    kernel = RawModule(code, build=build, name="fill.cu").get_function("fill")
    kernel((1,), (32,), (buffer[:32], buffer[64:], i32(0)))
    assert buffer.sum() == 64
    with pytest.raises(KernelFault) as caught:
        kernel((1,), (32,), (buffer[:32], buffer[64:], i32(1)))
    assert caught.value.kind == "out of bounds" and caught.value.thread == (31, 0, 0)


def test_an_array_lies_as_it_would_on_a_card():
    """A view that begins in the middle of a vector is misaligned, wherever NumPy's memory happens to lie."""
    for build in ("address", "check"):
        kernel = module(build).get_function("vector_load")
        whole = np.arange(200, dtype=f32)
        kernel((1,), (32,), (whole[4:], nan(32), i32(0)))
        with pytest.raises(KernelFault, match="misaligned"):
            kernel((1,), (32,), (whole[2:], nan(32), i32(0)))


def test_shared_memory_begins_as_nan_in_every_block():
    code = ('extern "C" __global__ void fresh(float* y) { __shared__ float a[32]; extern __shared__ float b[]; int t = '
            "threadIdx.x; y[blockIdx.x * 32 + t] = a[t] + b[t]; a[t] = b[t] = 1.f; }")
    for build in ("plain", "address"):
        y = np.zeros(96, f32)
        RawModule(code, build=build).get_function("fresh")((3,), (32,), (y,), shared_mem=128)
        assert np.isnan(y).all()


@pytest.mark.parametrize("build", ["plain", "address", "check"])
def test_shared_arrays_of_templates_and_functions_are_shared(build):
    code = """
template <class T, int N> __device__ T total(T v) {
  __shared__ T part[N];
  part[threadIdx.x] = v;
  __syncthreads();
  T sum = 0;
  for (int i = 0; i < N; i++) sum += part[i];
  __syncthreads();
  return sum;
}
extern "C" __global__ void floats(float* y) { y[threadIdx.x] = total<float, 32>(y[threadIdx.x]); }
extern "C" __global__ void ints(int* y) { y[threadIdx.x] = total<int, 32>(y[threadIdx.x]); }
"""
    made = RawModule(code, build=build)
    for name, kind in (("floats", f32), ("ints", i32)):
        y = np.arange(32, dtype=kind)
        made.get_function(name)((1,), (32,), (y,))
        assert (y == 496).all()
    assert made.get_function("floats").attributes["shared_size_bytes"] == 256       # of both functions
