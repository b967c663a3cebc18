"""Products of every tier: on the emulator everywhere, on the processor where it has the instructions.

Read next: `compiled.py` (how a tier is run), `test_mutants.py` (what these checks would notice).
"""

import functools
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minivl.checkpoint import layout
from minivl.checkpoint.packed import packed
from minivl.checkpoint.tree import Linear
from minivl.checkpoint.weight import weight
from minivl.kernels import jit
from minivl.kernels.jit import int8, tiers
from minivl.kernels.jit.build import Maker
from minivl.kernels.jit.emulator import Emulator, Trap
from minivl.kernels.jit.few import FEW

from .compiled import (
    BF16,
    PRECISIONS,
    Quick,
    assert_exact_enough,
    drawn,
    everywhere,
    guarded,
    here,
    on_this_processor,
    running,
)
from .laws import laws_of_packers, laws_of_packing, laws_of_tiles, laws_of_words

FORMATS = tuple(layout.IN_WORD)
PLACES = ((1, 1), (33, 70), (45, 33), (96, 129))              # (n, k): one number, ragged ends, several steps


# ------------------------------------------------------------------------------------------------ layout

@given(st.integers(1, 70), st.integers(1, 150), st.sampled_from(FORMATS), st.integers(0, 99))
def test_tiles_are_as_their_drawing_says_and_give_everything_back(n, k, format, seed):
    laws_of_tiles(layout, n, k, format, seed)


@given(st.sampled_from(FORMATS), st.integers(1, 5), st.integers(0, 99))
def test_words_hold_the_lowest_k_in_the_lowest_bits(format, count, seed):
    laws_of_words(layout, format, count, seed)


def test_three_bfloat16_numbers_add_up_to_a_float32_exactly():
    laws_of_packing(layout)


def test_rows_are_packed_in_their_tiers_order():
    laws_of_packers()


# ---------------------------------------------------------------------------------------------- exactness

@everywhere
@pytest.mark.parametrize("precision", PRECISIONS)
def test_products_are_as_exact_as_their_precision(tier, emulated, precision):
    """The processor does all shapes; the emulator, one instruction after another, those at the edges of blocks."""
    heights = (1, 2, 3, 4, 5, 31, 33, 70) if not emulated else (1, 3, 5, 33 if tier == "amx" else 13)
    places = PLACES if not emulated else PLACES[1:2]
    with running(tier, emulated, kind=Quick):
        for height, (n, k), bias in itertools.product(heights, places, (True, False) if not emulated else (True,)):
            product = drawn(height, n, k, precision, bias=bias)
            assert_exact_enough(product, guarded(product.x, product.w))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("tier", ["portable", "avx2", "avx512-bf16", "amx"])
def test_products_of_every_format_on_the_emulator(tier, format, precision):
    """More steps than stay in a cache, more blocks than a group, no bias."""
    with running(tier, True, small=True, kind=Quick):
        for height in (2, 5):
            product = drawn(height, 40, 33 if format == "f32" else 65, precision, format, bias=False)
            assert_exact_enough(product, guarded(product.x, product.w))


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_products_of_every_format_on_this_processor(format, precision):
    with running(tiers.best().name, False):
        for height, (n, k) in itertools.product((1, 2, 3, 4, 5, 40), (*PLACES, (300, 1100))):
            product = drawn(height, n, k, precision, format)
            assert_exact_enough(product, guarded(product.x, product.w))


@on_this_processor
def test_many_steps_groups_and_strips(tier):
    """More than fit into a cache at once: 530 rows, 9 blocks of columns, 65 steps."""
    with running(tier, False):
        for height, n, k in ((530, 40, 40), (6, 290, 40), (33, 34, 2070)):
            product = drawn(height, n, k)
            assert_exact_enough(product, guarded(product.x, product.w))


@pytest.mark.parametrize("tier", ["avx512", "amx"])
def test_an_emulator_that_rounds_later_finds_the_same_within_rounding(tier):
    """`Quick`, on which most of this runs, against the exact emulator."""
    product, found = drawn(13, 34, 40), []
    for kind in (Emulator, Quick):
        with running(tier, True, kind=kind):
            found.append(guarded(product.x, product.w))
    np.testing.assert_allclose(*found, rtol=1e-5, atol=1e-4)


# ---------------------------------------------------------------------------------- the same on both machines

@on_this_processor
@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_emulator_gives_the_processors_bits(tier, precision):
    if "fma" not in tiers.flags():
        pytest.skip("a sum of a product is rounded twice on this processor")
    for height in (2, tiers.TIERS[tier].rows + 1):
        product, found = drawn(height, 33, 40, precision), []
        for emulated in (True, False):
            with running(tier, emulated):
                found.append(guarded(product.x, product.w))
        assert found[0].tobytes() == found[1].tobytes()


# ------------------------------------------------------------------------------------------------- threads

@everywhere
def test_the_number_of_threads_changes_nothing(tier, emulated):
    for precision, height in (("float32", 5), ("bfloat16", 5), ("float32", 2)):
        product, found = drawn(height, 100, 33, precision), []
        for threads in (1, 2, 3, 4, 9):                                    # nine: more than there are blocks
            with running(tier, emulated, threads, kind=Quick):
                found.append(guarded(product.x, product.w).tobytes())
        assert len(set(found)) == 1


@pytest.mark.parametrize("format", ["f32", "int8", "int4"])
def test_the_number_of_threads_changes_nothing_in_other_formats(format):
    for height in (3, 40):
        product, found = drawn(height, 100, 200, format=format), []
        for threads in (1, 2, 3, 4):
            with running(tiers.best().name, False, threads):
                found.append(guarded(product.x, product.w).tobytes())
        assert len(set(found)) == 1


# ------------------------------------------------------------------------------------------- special numbers

@everywhere
@pytest.mark.parametrize("precision", PRECISIONS)
def test_infinities_and_nan_stay_in_their_rows(tier, emulated, precision):
    """Each of these rows gives what float64 says, and no other row sees it."""
    heights = (4, 35) if not emulated else (4, 6)
    for height in heights:
        product = drawn(height, 34, 40, precision)
        x = product.x.copy()
        x[0, 3], x[1, 39], x[2, 7], x[2, 8] = np.inf, np.nan, np.inf, -np.inf
        with running(tier, emulated, kind=Quick):
            clean, spoilt = guarded(product.x, product.w), guarded(x, product.w)
        assert spoilt[3:].tobytes() == clean[3:].tobytes()
        wanted = product._replace(x=x).exact
        np.testing.assert_array_equal(spoilt[:3].astype(np.float64), wanted[:3])


@on_this_processor
def test_the_largest_and_the_smallest_numbers(tier):
    """No part of a number overflows, and what is lost of the smallest ones is below the normal numbers."""
    largest = np.finfo(np.float32).max
    w = Linear(packed(weight(np.array([[1.0, 0], [0.5, 0.5], [-1, 0]], BF16))), None)
    x = np.array([[largest, largest], [2.0**-126, 2.0**-126], [3e-39, 1e-45], [-largest, largest], [1e-30, 1e30]],
                 np.float32)
    exact = x.astype(np.float64) @ w.weight.dense("float64").T
    for rows in (x, x[:3]):                                                # many rows, few rows
        with running(tier, False):
            y = guarded(rows, w)
        assert (np.abs(y - exact[:len(rows)]) <= 2.0**-23 * np.abs(exact[:len(rows)]) + 2.0**-126).all()


def test_no_rows_and_rows_of_other_types():
    w = drawn(1, 40, 33).w
    for dtype in ("float32", BF16):
        assert jit.linear(np.zeros((0, 33), dtype), w).shape == (0, 40)
    x = np.random.default_rng(0).normal(size=(3, 33))
    wanted = x @ w.weight.dense("float64").T + w.bias.dense("float64")
    np.testing.assert_allclose(jit.linear(x, w), wanted, rtol=1e-12)
    assert jit.linear(x, w).dtype == np.float64


# ------------------------------------------------------------------------------------------- configuration

WRONG = {"rows of a tile of sums": (48, 8), "rows of B": (54, 15), "bytes of A": (16 + 2 * 4, 32), "palette": (0, 0),
         "the second tile of A": (53, 0), "the last tile of B": (55, 0)}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_configuration_of_tiles_is_noticed(name, monkeypatch):
    at, value = WRONG[name]
    form = jit.tile_form()
    form[at] = value
    monkeypatch.setattr(jit, "tile_form", lambda: form)
    product = drawn(5, 33, 33)
    with running("amx", True), pytest.raises(Trap):
        jit.linear(product.x, product.w)


def test_tiles_are_given_back_after_every_product():
    machine = Emulator()
    product = drawn(5, 33, 33)
    with running("amx", True, kind=lambda lanes: machine):
        jit.linear(product.x, product.w)
    assert machine.tiles == [None] * 8
    assert machine.counts == {"tdpbf16ps": 2 * 2 * 3 * 4}                  # blocks, steps, parts, corners


# -------------------------------------------------------------------------------------- what was compiled

EXPECTED = {"amx": ("tdpbf16ps", "tmm", 3, 24), "avx512-bf16": ("vdpbf16ps", "zmm", 1, 384),
            "avx512": ("vfmadd", "zmm", 3, 768), "avx2": ("vfmadd", "ymm", 3, 384)}


def instructions(code, name, register):
    """How many instructions of a name on registers of a kind there are in the text of an assembler."""
    return sum(line.split()[0].startswith(name) and f"%{register}" in line
               for line in code.splitlines() if line.strip())


@on_this_processor
@pytest.mark.skipif("fma" not in tiers.flags(), reason="instructions of x86-64")
def test_the_machine_code_has_the_tiers_instructions(tier, monkeypatch):
    """In both forms of the innermost product, the one that starts from nothing and the one that goes on."""
    if tier not in EXPECTED:
        pytest.skip("the portable tier has no instructions of its own")
    name, register, parts, least = EXPECTED[tier]
    monkeypatch.setenv("MINIVL_CACHE", "off")                              # code from a file has no text
    make = Maker(tiers.TIERS[tier])
    product = drawn(5, 33, 33, "float32" if parts == 3 else "bfloat16")
    with running(tier, False):
        monkeypatch.setattr(jit, "function", functools.cache(make.made))
        jit.linear(product.x, product.w)
        multiply = jit.function("product", "bf16", parts == 3)[0]
    code = "\n".join(multiply.inspect_asm().values())
    assert instructions(code, name, register) >= least, tier
    for other in {"tdpbf16ps", "vdpbf16ps"} - {name}:
        assert instructions(code, other, "") == 0


@pytest.mark.parametrize("tier", [name for name in here(tiers.TIERS) if tiers.TIERS[name].byte_rows])
def test_the_machine_code_of_bytes_has_its_instructions(tier, monkeypatch):
    monkeypatch.setenv("MINIVL_CACHE", "off")
    make = Maker(tiers.TIERS[tier])
    for height in (FEW, FEW + 1):
        product = drawn(height, 33, 33, format="int8")
        with running(tier, False):
            monkeypatch.setattr(jit, "function", functools.cache(make.made))
            int8.linear(product.x, product.w)
            multiply = jit.function("byte_product", height <= FEW)[1]
        name = "tdpbssd" if tier == "amx" and height > FEW else "vpdpbusd"
        code = "\n".join(multiply.inspect_asm().values())
        register = "tmm" if name == "tdpbssd" else "zmm" if tiers.TIERS[tier].lanes == 16 else "ymm"
        assert instructions(code, name, register) >= 8, (tier, height)
