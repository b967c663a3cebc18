"""CUDA's words on the runner against NumPy: what a lane gets, what a number rounds to, what a tile product is."""

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from minivl.kernels.cuda.faults import KernelFault
from minivl.kernels.cuda.runner import RawModule

from .runs import needs_compiler

pytestmark = needs_compiler
i32, f32, u32 = np.int32, np.float32, np.uint32
CODE = (Path(__file__).parent / "words.cu").read_text(encoding="utf-8")
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module", params=["plain", "check"])
def words(request):
    made = RawModule(CODE, build=request.param, schedule="random", seed=3, name="words.cu")

    def run(name, grid, block, *args):
        made.get_function(name)((grid,) if isinstance(grid, int) else grid,
                                (block,) if isinstance(block, int) else block, args)
    return run


def hard_floats():
    """Random bits, ties of both narrow types, edges, subnormal numbers."""
    bits = [RNG.integers(0, 1 << 32, 3000, np.uint64).astype(u32),
            (RNG.integers(0, 1 << 16, 500).astype(u32) << 16) | 0x8000,              # halfway between two bfloat16
            (RNG.integers(0x33000000 >> 12, 0x47800000 >> 12, 800).astype(u32) << 12),   # ... and float16
            np.array([0, 1 << 31, 0x7f800000, 0xff800000, 0x7f7fffff, 0x477fefff, 0x477ff000, 0x38800000, 0x387fffff,
                      0x33000000, 0x33000001, 0x7fc00000], u32)]
    return np.concatenate(bits).view(f32)


def bits_of(x):
    return np.where(np.isnan(x), np.uint16(0x7FFF), x.view(np.uint16))


def test_bfloat16_is_rounded_as_the_reference_rounds(words):
    x = hard_floats()
    n = len(x)
    near, zero, back = np.zeros(n, np.uint16), np.zeros(n, np.uint16), np.zeros(n, f32)
    words("to_bf16", -(-n // 128), 128, x, near, zero, back, i32(n))
    with np.errstate(over="ignore", invalid="ignore"):
        right = x.astype(ml_dtypes.bfloat16)
    assert (near == bits_of(right)).all()
    assert np.array_equal(back, near.view(ml_dtypes.bfloat16).astype(f32), equal_nan=True)
    finite = ~np.isnan(x)
    assert (zero[finite] == (x.view(u32) >> 16)[finite]).all()


def test_float16_is_rounded_as_numpy_rounds(words):
    x = hard_floats()
    n = len(x)
    y, back = np.zeros(n, np.float16), np.zeros(n, f32)
    words("to_half", -(-n // 128), 128, x, y, back, i32(n))
    with np.errstate(over="ignore"):
        right = x.astype(np.float16)
    assert (bits_of(y) == bits_of(right)).all()
    assert np.array_equal(back, y.astype(f32), equal_nan=True)


@pytest.mark.parametrize("width", [32, 16, 8, 2])
@pytest.mark.parametrize("by", [0, 1, 3, 8, 31])
def test_shuffles_reach_the_lanes_that_cuda_says(words, width, by):
    n = 64
    x, y = RNG.integers(-99, 99, n, i32), np.zeros((6, n), i32)
    words("shuffles", 1, n, x, y, i32(by), i32(width))
    for t in range(n):
        warp, lane = t // 32 * 32, t % 32
        start = lane // width * width
        end = start + width - 1
        wanted = [start + by % width, lane ^ by if lane ^ by <= end else lane,
                  lane - by if lane - by >= start else lane,
                  lane + by if lane + by <= end else lane, lane ^ 1]
        assert y[:5, t].tolist() == [x[warp + one] for one in wanted], (t, by, width)
        assert y[5, t] == t ^ 2


@pytest.mark.parametrize("mask", [0xFFFFFFFF, 0x0000FFFF, 0x80000001, 0x00F0F000])
def test_votes_count_the_lanes_of_the_mask(words, mask):
    n = 96
    x, y = RNG.integers(-100, 100, n, i32), np.zeros((7, n), u32)
    words("votes", 1, n, x, y, u32(mask))
    inside = np.array([mask >> lane & 1 for lane in range(32)], bool)
    for warp in range(3):
        part, made = x[32 * warp:32 * warp + 32], y[:, 32 * warp:32 * warp + 32].view(i32)
        here = part[inside]
        ballot = sum(1 << lane for lane in range(32) if inside[lane] and part[lane] > 0)
        right = [ballot, (here > 90).any() * 2 + (here > -90).all(), here.sum(), here.max(), here.min()]
        assert (made[:5, inside].view(u32) == np.array(right, np.int64).astype(u32)[:, None]).all()
    assert (y[5] == (x > 0).sum()).all() and (y[6] == (x > 90).any() * 2 + (x > -90).all()).all()


def test_atomics_of_many_blocks(words):
    n = 300
    x = RNG.integers(-50, 50, n, i32)
    y, f, u = np.zeros(9, i32), np.zeros(1, f32), np.zeros(2, u32)
    y[5] = -1
    words("atomics", 5, 64, x, y, f, u, i32(n))
    right = [x.sum(), -x.sum(), max(0, x.max()), min(0, x.min()), np.bitwise_or.reduce(x), np.bitwise_and.reduce(x),
             np.bitwise_xor.reduce(x), 42, 7]
    assert y.tolist() == right and f[0] == x.sum()
    assert u.tolist() == [n % 10, (-n) % 10]


def test_bits_and_bytes(words):
    n = 200
    x, z = (RNG.integers(-(1 << 31), 1 << 31, n).astype(i32) for _ in range(2))
    x[:4], z[:3] = (0, -1, 1, -(1 << 31)), (0, -1, 7)
    y = np.zeros((14, n), i32)
    words("bits", 4, 64, x, z, y, i32(n))
    for i in range(n):
        v, w = int(x[i]) & 0xFFFFFFFF, int(z[i]) & 0xFFFFFFFF
        text = f"{v:032b}"
        signed, plain = ([(one >> 8 * k & 255) - (256 if s and one >> 8 * k & 128 else 0) for k in range(4)]
                         for one, s in ((v, 1), (v, 0)))
        signed_w, plain_w = ([(w >> 8 * k & 255) - (256 if s and w >> 8 * k & 128 else 0) for k in range(4)]
                             for s in (1, 0))
        both = (w << 32 | v).to_bytes(8, "little")
        right = [text.count("1"), len(text) - len(text.lstrip("0")), (v & -v).bit_length(), int(text[::-1], 2),
                 sum(map(int.__mul__, signed, signed_w)) + 5, sum(map(int.__mul__, plain, plain_w)) + 5,
                 int.from_bytes(bytes([both[0], both[6], both[1], both[7]]), "little"), int(x[i]) * int(z[i]) >> 32,
                 v * w >> 32, (w << 7 | v >> 25), (w << 25 | v >> 7), min(int(x[i]), int(z[i])), v]
        assert [one & 0xFFFFFFFF for one in y[:13, i].tolist()] == [one & 0xFFFFFFFF for one in right], i
    assert (y[13] == np.rint((z >> 9).astype(f32) * f32(0.5))).all()


def test_arithmetic(words):
    n = 256
    a, b = (RNG.normal(size=n).astype(f32) for _ in range(2))
    y = np.zeros((8, n), f32)
    words("floats", 2, 128, a, b, y, i32(n))
    wide = a.astype(np.longdouble) * b + a
    right = [a * b + a, wide.astype(f32), (1 / np.sqrt(np.abs(a.astype(float)))).astype(f32), np.maximum(a, b), a,
             np.clip(a, 0, 1), f32(1) / b]
    assert all((made == one).all() for made, one in zip(y, right, strict=False))
    np.testing.assert_allclose(y[7], 2.0 ** a.astype(float), rtol=2e-7)


def test_blocks_and_threads_of_three_axes(words):
    y = np.full(6 * 24, -1, i32)
    words("place", (3, 2), (4, 3, 2), y)
    right = [10000 * block + 100 * z + 10 * r + c
             for block in range(6) for z in range(2) for r in range(3) for c in range(4)]
    assert y.tolist() == right


@pytest.mark.parametrize("name, kind", [("product_bf16", ml_dtypes.bfloat16), ("product_half", np.float16)])
def test_tile_products(words, name, kind):
    m, n, k = 32, 48, 64
    a, b = RNG.normal(size=(m, k)).astype(kind), RNG.normal(size=(k, n)).astype(kind)
    given = np.ascontiguousarray(b.T) if kind is ml_dtypes.bfloat16 else b
    c = np.full((m, n), np.nan, f32)
    words(name, (n // 16, m // 16), 32, a, given, c, i32(m), i32(n), i32(k))
    right = 0.5 * a.astype(float) @ b.astype(float)
    np.testing.assert_allclose(c, right, rtol=1e-5, atol=1e-5)


def test_a_tile_that_cuda_would_not_load_is_refused():
    made = RawModule(CODE, build="check", name="words.cu")
    a = np.zeros(16 * 17 + 8, np.float16)
    for given, k, said in ((a[1:257], 16, "32 bytes"), (a[:272], 17, "16 bytes")):
        with pytest.raises(KernelFault, match=said):
            args = (given, a[:256], np.zeros(256, f32), i32(16), i32(16), i32(k))
            made.get_function("product_half")((1, 1), (32,), args)
