"""The emulator's instructions against their meaning in fractions, and against the processor where it has them."""

import itertools

import numpy as np
import pytest

from minivl.kernels.jit import products, tiers
from minivl.kernels.jit.build import tile_form
from minivl.kernels.jit.emulator import Emulator, Trap, pointer

from . import exact

F32, U32 = np.float32, np.uint32
EDGES = np.array([0, 1, 2**-126, 2**-126 * (1 + 2**-23), 2**-127, 2**-149, 2**-63, 2**-64, 1 + 2**-7, 255, 2.0**127,
                  3.4028235e38, np.inf, np.nan, 1 / 3, 2**-150 * 1.5 * 2], F32)
EDGES = np.concatenate([EDGES, -EDGES])


def halfway(rng, count):
    """float32 triples whose product and sum lie near the middle of two neighbours, or cancel."""
    x, y = (rng.normal(size=count).astype(F32) for _ in range(2))
    product = x.astype(np.float64) * y
    z = (product * rng.choice([-1, 2.0**23, -2.0**24, 2.0**-24, 1], count)).astype(F32)
    return x, y, z


def numbers(rng, count):
    """Three arrays of float32: any bits, normal ones, halfway ones, and every triple of the edges in turn."""
    anything = rng.integers(0, 2**32, (3, count), dtype=np.uint64).astype(U32).view(F32)
    ordinary = rng.normal(size=(3, count)).astype(F32)
    near = np.stack(halfway(rng, count))
    edges = rng.choice(EDGES, (3, count))
    small = (rng.normal(size=(3, count)) * 2.0 ** rng.integers(-80, -60, (3, count))).astype(F32)
    small[2] *= F32(2.0**-60)
    return np.concatenate([anything, ordinary, near, edges, small], axis=1)


def words(rng, count):
    """Words of two bfloat16: any bits, and both halves of the edges or near to one."""
    edges = rng.choice(EDGES, (2, count)).view(U32) >> 16
    ordinary = rng.normal(size=(2, count)).astype(F32).view(U32) >> 16
    small = (rng.normal(size=(2, count)) * 2.0 ** rng.integers(-80, -60, (2, count))).astype(F32).view(U32) >> 16
    pairs = np.concatenate([edges, ordinary, small], axis=1)
    return np.concatenate([rng.integers(0, 2**32, count, dtype=np.uint64).astype(U32), pairs[0] << 16 | pairs[1]])


# ------------------------------------------------------------------------------------------------- by meaning

def test_multiply_add_rounds_once():
    x, y, z = numbers(np.random.default_rng(1), 300)
    wanted = [exact.fma(*map(float, three)) for three in zip(x, y, z, strict=True)]
    assert exact.same(Emulator().multiply_add(x, y, z), wanted)


def test_multiply_and_add_are_those_of_float32():
    x, y, _ = numbers(np.random.default_rng(2), 200)
    with np.errstate(all="ignore"):
        assert exact.same(Emulator().multiply(x, y), (x.astype(np.float64) * y).astype(F32))
    wanted = [exact.fma(float(a), 1.0, float(b)) for a, b in zip(x, y, strict=True)]
    assert exact.same(Emulator().add(x, y), wanted)


def dot(total, x, y):
    (x0, x1), (y0, y1) = exact.halves(int(x)), exact.halves(int(y))
    return exact.fma_flushed(x0, y0, exact.fma_flushed(x1, y1, float(total)))


def test_dot_bf16_takes_the_upper_half_first_and_flushes():
    rng = np.random.default_rng(3)
    x, y = words(rng, 300), words(rng, 300)
    total = np.resize(rng.permutation(numbers(rng, 120)[2]), len(x))
    assert exact.same(Emulator().dot_bf16(total, x, y), [dot(*three) for three in zip(total, x, y, strict=True)])


def just_below_normal():
    """A sum a little below the smallest normal number, which rounds up to it on the denormals' grid alone."""
    def word(upper):
        return U32(np.array([upper], F32).view(U32)[0] >> 16 << 16)
    total, x, y = F32(2.0**-126), word(1.5 * 2.0**-75), word(-(2.0**-76))
    return np.full(16, total), np.full(16, x), np.full(16, y)


def test_a_sum_just_below_the_normal_numbers_is_flushed():
    total, x, y = just_below_normal()
    assert exact.same(Emulator().dot_bf16(total, x, y), [dot(*three) for three in zip(total, x, y, strict=True)])


def test_bytes_and_nibbles_of_words():
    held = np.random.default_rng(4).integers(0, 2**32, 64, dtype=np.uint64).astype(U32)
    held[:4] = 0, 0xFFFFFFFF, 0x80808080, 0x7F7F7F7F
    for n in range(4):
        wanted = [exact.bytes_of(int(word), True)[n] for word in held]
        assert Emulator().signed_byte(held, n).tolist() == wanted
    for n in range(8):
        four = [int(f"{word:08x}"[7 - n], 16) for word in held]
        assert Emulator().nibble(held, n).tolist() == four
        assert Emulator().nibble_in_place(held, n).tolist() == [x * 16**(n % 7) for x in four]
    lifted = Emulator().lifted(held).view(np.uint8).astype(int)
    assert (lifted == held.view(np.int8).astype(int) + 128).all()
    assert exact.same(Emulator().low(held), [exact.halves(int(word))[0] for word in held])
    assert exact.same(Emulator().high(held), [exact.halves(int(word))[1] for word in held])


def test_products_of_bytes_wrap_around():
    rng = np.random.default_rng(5)
    x, y, total = (rng.integers(0, 2**32, 200, dtype=np.uint64).astype(U32) for _ in range(3))
    x[:3], y[:3], total[:3] = 0xFFFFFFFF, (0x7F7F7F7F, 0x80808080, 1), (0x7FFFFFFF, 0x80000000, 0)
    wanted = [exact.wrapped(int(t) + sum(a * b for a, b in zip(exact.bytes_of(int(u), False),
              exact.bytes_of(int(v), True), strict=True))) for t, u, v in zip(total, x, y, strict=True)]
    assert Emulator().dot_u8s8(total, x, y).view(np.int32).tolist() == wanted


def tiles_of(rng, kind):
    """Memory of A, B and the sums (1 KB each), random: words of bfloat16, or bytes and int32."""
    if kind == "bf16":
        a, b = (np.resize(rng.permutation(words(rng, 64)), 256) for _ in range(2))
        c = np.resize(rng.permutation(numbers(rng, 52)[2]), 256).view(U32)
    else:
        a, b, c = (rng.integers(0, 2**32, 256, dtype=np.uint64).astype(U32) for _ in range(3))
    return a, b, c


def tile_product(m, form, a, b, c, word):
    """c += a . b on tiles 1, 5 and 3."""
    m.configure(form)
    m.tile_load(1, c, 64)
    m.tile_load(5, a)
    m.tile_load(3, b, 64)
    getattr(m, word)(1, 5, 3)
    m.tile_store(1, c, 64)
    m.release()


def emulated(word, a, b, c):
    c = c.copy()
    tile_product(Emulator(), *map(pointer, (tile_form(), a, b, c)), word)
    return c


def test_tiles_of_bf16_by_meaning():
    a, b, c = tiles_of(np.random.default_rng(6), "bf16")
    got = emulated("tile_dot_bf16", a, b, c).view(F32).reshape(16, 16)
    for m, n in itertools.product((0, 3, 15), range(16)):
        sums = [0.0, 0.0]
        for k in range(16):
            left, right = exact.halves(int(a[16 * m + k])), exact.halves(int(b[16 * k + n]))
            sums = [exact.fma_flushed(*three) for three in zip(left, right, sums, strict=True)]
        both = exact.fma_flushed(1.0, sums[0], sums[1])
        wanted = exact.fma_flushed(1.0, float(c[16 * m + n:][:1].view(F32)[0]), both)
        assert exact.same(got[m, n], wanted), (m, n)


def test_tiles_of_bytes_by_meaning():
    a, b, c = tiles_of(np.random.default_rng(7), "s8")
    got = emulated("tile_dot_s8", a, b, c).view(np.int32).reshape(16, 16)
    for m, n in itertools.product((0, 7, 15), range(16)):
        total = int(c[16 * m + n])
        for k in range(16):
            left, right = (exact.bytes_of(int(word), True) for word in (a[16 * m + k], b[16 * k + n]))
            total += sum(x * y for x, y in zip(left, right, strict=True))
        assert got[m, n] == exact.wrapped(total)


# --------------------------------------------------------------------------------- what would not survive

def configured(**change):
    """An emulator with tiles configured from a whole form with some entries changed."""
    form = tile_form()
    for at, value in change.items():
        form[int(at[1:])] = value
    machine = Emulator()
    machine.configure(pointer(form))
    return machine


def test_tiles_hold_what_their_configuration_says():
    memory = np.arange(2048).astype(np.uint8)
    small = configured(_50=3, _20=8)                                   # tile 2: 3 rows of 8 bytes
    small.tile_load(2, pointer(memory), 100)
    assert small.tile(2).tolist() == [memory[100 * i:100 * i + 8].tolist() for i in range(3)]
    out = np.zeros(2048, np.uint8)
    small.tile_store(2, pointer(out), 64)
    assert np.flatnonzero(out).max() < 2 * 64 + 8
    small.tile_zero(2)
    assert not small.tile(2).any()


@pytest.mark.parametrize(("does", "message"), [
    (lambda m: m.tile_zero(0), "not configured"),
    (lambda m: m.tile_load(7, pointer(np.zeros(512, U32))), "not configured"),
    (lambda m: m.tile_dot_bf16(0, 1, 2), "not configured"),
    (lambda m: [m.configure(pointer(tile_form())), m.release(), m.tile_zero(3)], "not configured"),
    (lambda m: m.configure(pointer(np.zeros(64, np.uint8))), "palette 0"),
    (lambda m: m.configure(pointer(tile_form(), 1)), "bytes 1..65"),
    (lambda m: [m.configure(pointer(tile_form())), m.tile_dot_bf16(0, 1, 1)], "are not three"),
    (lambda m: [m.configure(pointer(tile_form())), m.tile_dot_s8(1, 1, 2)], "are not three"),
    (lambda m: [m.configure(pointer(tile_form())), m.tile_load(0, pointer(np.zeros(255, U32)))], "of an array of 1020"),
    (lambda m: m.load(pointer(np.zeros(15, F32))), "of an array of 60"),
    (lambda m: m.splat(pointer(np.zeros(4, F32)) + -4), "bytes -4..0"),
    (lambda m: m.loop(0), "0 turns"),
])
def test_what_a_processor_would_not_survive_is_a_trap(does, message):
    with pytest.raises(Trap, match=message):
        does(Emulator())


@pytest.mark.parametrize("change", [{"_48": 8}, {"_54": 15}, {"_16": 32}, {"_30": 60}, {"_49": 17}, {"_17": 1}])
def test_tiles_of_another_shape_are_a_trap(change):
    with pytest.raises(Trap, match="do not give one of|tiles of"):
        configured(**change).tile_dot_bf16(0, 6, 7)


# ------------------------------------------------------------------------- on the processor, bit for bit

def on_the_processor(kernel, lanes, places):
    """A kernel of machine words as a function of arrays (flat) and integers."""
    numba = pytest.importorskip("numba")
    from minivl.kernels.jit.machine import compiled
    inner = compiled(kernel, lanes, places)
    run = {3: lambda a, b, c, n: inner(a, 0, b, 0, c, 0, n), 4: lambda a, b, c, d, n: inner(a, 0, b, 0, c, 0, d, 0, n)}
    return numba.njit(run[places])


def on_the_emulator(kernel, lanes):
    return lambda *args: kernel(Emulator(lanes), *map(pointer, args[:-1]), args[-1])


def needs(*flags):
    lacks = sorted(set(flags) - tiers.flags())
    return pytest.mark.skipif(bool(lacks), reason=f"the processor has no {', '.join(lacks)}")


WORDS = 36                                     # results of every_word


def every_word(m, a, b, c, out, count):
    """All words on vectors of one width."""
    for k in m.loop(count):
        at = k * (4 * m.lanes)
        x, y, z, held = m.load(a + at), m.load(b + at), m.load(c + at), m.load_words(a + at)
        total = m.register()
        total.value = m.multiply_add(x, y, total.value)
        made = [x, m.splat(b + at), m.low(m.splat_word(a + at)), m.low(held), m.high(held),
                *[m.signed_byte(held, n) for n in range(4)], *[m.nibble_in_place(held, n) for n in range(8)],
                *[m.nibble(held, n) for n in range(8) if m.lanes == 16],
                m.add(x, y), m.subtract(x, y), m.multiply(x, y), m.multiply_add(x, y, z), total.value,
                m.as_floats(held), m.as_floats(m.lifted(held)), m.low(m.as_words(x)), m.quiet(x), m.without_nan(x)]
        place = out + k * (4 * WORDS * m.lanes)
        for n, value in enumerate(made):
            m.store(place + 4 * m.lanes * n, value)
        for n, value in enumerate((x, m.quiet(x))):
            m.store_upper(place + (4 * m.lanes * len(made) + 2 * m.lanes * n), value)


def both(kernel, lanes, places, arrays, count, size):
    """What the emulator and the processor write into the last array."""
    outs = []
    for run in (on_the_emulator(kernel, lanes), on_the_processor(kernel, lanes, places)):
        out = np.zeros(size, F32)
        run(*arrays, out, count)
        outs.append(out)
    return outs


@needs("fma")
@pytest.mark.parametrize("lanes", [4, 8, pytest.param(16, marks=needs("avx512f"))])
def test_vectors_as_the_processor_has_them(lanes):
    """Only with FMA is a sum of a product rounded once; sixteen lanes take four bits by an instruction of AVX-512."""
    x, y, z = numbers(np.random.default_rng(lanes), 16 * 20)
    count = len(x) // lanes
    mine, theirs = both(every_word, lanes, 4, (x, y, z), count, WORDS * len(x))
    assert exact.same(mine, theirs)


def dots(m, a, b, c, count):
    for k in m.loop(count):
        at = k * (4 * m.lanes)
        m.store(c + at, m.dot_bf16(m.load(c + at), m.load_words(a + at), m.load_words(b + at)))


def byte_dots(m, a, b, c, count):
    for k in m.loop(count):
        at = k * (4 * m.lanes)
        held = m.dot_u8s8(m.load_words(c + at), m.load_words(a + at), m.load_words(b + at))
        m.store(c + at * 2, m.low(held))
        m.store(c + (at * 2 + 4 * m.lanes), m.high(held))


def in_both(kernel, lanes, a, b, c, count):
    """Results of a kernel that changes its third array, on the emulator and on the processor."""
    mine, theirs = c.copy(), c.copy()
    on_the_emulator(kernel, lanes)(a, b, mine, count)
    on_the_processor(kernel, lanes, 3)(a, b, theirs, count)
    return mine, theirs


@needs("avx512_bf16", "avx512vl")
@pytest.mark.parametrize("lanes", [4, 8, 16])
def test_dots_of_bf16_as_the_processor_has_them(lanes):
    rng = np.random.default_rng(10 + lanes)
    x, y = words(rng, 2000), words(rng, 2000)
    total = np.resize(rng.permutation(numbers(rng, 800)[2]), len(x))
    for n, edge in enumerate(just_below_normal()):
        (total, x, y)[n][:16] = edge
    assert exact.same(*in_both(dots, lanes, x, y, total, len(x) // lanes))


@needs("avx512_vnni", "avx512vl")
@pytest.mark.parametrize("lanes", [4, 8, 16])
def test_dots_of_bytes_as_the_processor_has_them(lanes):
    rng = np.random.default_rng(20 + lanes)
    x, y, total = (rng.integers(0, 2**32, 16, dtype=np.uint64).astype(U32) for _ in range(3))
    for at in range(0, 16, lanes):                                   # one vector at a time: two results for each
        out = np.concatenate([total[at:at + lanes], np.zeros(lanes, U32)]).view(F32)
        mine, theirs = in_both(byte_dots, lanes, x[at:at + lanes], y[at:at + lanes], out, 1)
        assert np.array_equal(mine.view(U32), theirs.view(U32))
        both = mine.view(U32)
        assert np.array_equal(both[:lanes] >> 16 | both[lanes:],
                              Emulator(lanes).dot_u8s8(total[at:at + lanes], x[at:at + lanes], y[at:at + lanes]))


def tile_words(word):
    def kernel(m, form, a, b, c, count):
        for k in m.loop(count):
            tile_product(m, form, a + k * 1024, b + k * 1024, c + k * 1024, word)
    return kernel


@pytest.mark.skipif(bool(tiers.lacking(tiers.TIERS["amx"])), reason="the processor has no tiles")
@pytest.mark.parametrize(("word", "kind"), [("tile_dot_bf16", "bf16"), ("tile_dot_s8", "s8")])
def test_tiles_as_the_processor_has_them(word, kind):
    rng = np.random.default_rng(30)
    a, b, c = (np.concatenate(parts) for parts in zip(*(tiles_of(rng, kind) for _ in range(12)), strict=True))
    mine, theirs = c.copy(), c.copy()
    on_the_emulator(tile_words(word), 16)(tile_form(), a, b, mine, 12)
    on_the_processor(tile_words(word), 16, 4)(tile_form(), a, b, theirs, 12)
    if kind == "s8":
        assert np.array_equal(mine, theirs)
    else:
        assert exact.same(mine.view(F32), theirs.view(F32))


@pytest.mark.skipif(bool(tiers.lacking(tiers.TIERS["amx"])), reason="the processor has no tiles")
def test_small_tiles_as_the_processor_has_them():
    """A configuration of parts of tiles: rows and bytes beyond it are neither read nor written."""
    form = tile_form()
    form[[48, 53, 51]] = 5, 5, 7                                       # unused, A: 5 rows, B: 7 rows
    form[49], form[18], form[26], form[22] = 5, 24, 28, 24             # sums: 5 rows of 6, A: 7 words, B: 6 columns
    a, b, c = tiles_of(np.random.default_rng(31), "bf16")
    mine, theirs = c.copy(), c.copy()
    on_the_emulator(tile_words("tile_dot_bf16"), 16)(form, a, b, mine, 1)
    on_the_processor(tile_words("tile_dot_bf16"), 16, 4)(form, a, b, theirs, 1)
    assert exact.same(mine.view(F32), theirs.view(F32))
    changed = np.flatnonzero(mine != c)
    assert len(changed) and (changed // 16).max() < 5 and (changed % 16).max() < 6


def test_the_words_of_both_machines_are_the_same():
    pytest.importorskip("numba")
    from minivl.kernels.jit.machine import Machine
    public = [{name for name in vars(kind) if not name.startswith("_")} for kind in (Emulator, Machine)]
    assert public[0] - {"tile"} == public[1] and callable(products.configure)
