"""Would the checks on the emulator notice a mistake in the sources of the kernels? Mistakes are made, one at a time.

Read next: `mutants.py`, which mistakes and which checks.
"""

import random

import pytest

from .mutants import EVERY, MODULES, mutants, noticed

SEED, SWEEP, FEW = 2026, 300, 30
LEAST = 0.98                                   # of the sweep, which an emulator has to notice

# Changes that are no mistakes: where, what the changed line has, and why nothing can notice.
CACHE = "how much stays in a cache changes no result"
GROUPED = "a, 0, tiles, place, scales, t, zeros, t, below, 0, sums, c,"
SHARED_OUT = "how work is shared out changes no result"
MEETS_ZEROS, A_ROW_MORE = "what stands there meets zeros of the weight", "a row more, which nobody reads"
ZEROS, LAST = "zeros that are written over", "bits that are shifted out"
PRODUCT, EXPANDED = (f"drivers.{name}" for name in ("matrix_product", "expanded_product"))
VECTOR, GROUP, FOUR = "few.matrix_vector", "drivers._expanded_group", "few._few"
TILES, VECTORS = "drivers.pack_for_tiles", "drivers.pack_for_vectors"
EQUIVALENT = [
    *((where, f"in_strip = {what}", CACHE) for where in (PRODUCT, EXPANDED)
      for what in ("(STRIP + rows - 2)", "(STRIP + rows + 1)")),
    *((GROUP, f"deepest = {what}", CACHE) for what in ("max(2,", "min(1,", "max(1, inner.deepest % in_step)")),
    (GROUP, "k0 >= 0", "sums begin at zero, so going on is the same as starting"),
    *((where, "k0 > 1", "k0 is a multiple of the steps that fit, which are two at least")
      for where in (PRODUCT, GROUP)),
    *((where, "zeros[:0]", "an empty table, whichever it is of") for where in (EXPANDED, VECTOR)),
    (FOUR, "one(a, 0, tiles, place, sums, c, 5 * COLUMNS", "one row, and the way to the next"),
    (FOUR, "one(a, 0, tiles, place, sums, c, 4 + COLUMNS", "one row, and the way to the next"),
    ("few.piece", "", SHARED_OUT),
    *(("few.to_the_end", what, "threads of an emulator do not wait") for what in ("meet(", "pass")),
    ("few.to_the_end", "met, 2, x", SHARED_OUT),
    *((VECTOR, what, SHARED_OUT) for what in ("number == mine or", "begin <= end", "piece(team, blocks")),
    *(("few.widen", what, MEETS_ZEROS) for what in ("= F32(1)", )),
    *(("few.pair", what, MEETS_ZEROS) for what in ("// 2] = 1",)),
    ("few.pair", "np.zeros(9", "a number of room more"), ("few._add_up", "np.zeros(17", "a sum more, of nothing"),
    *(("few._add_up", what, "sums in turn, in another order") for what in ("first) // 16]", "(k + first) % 16]")),
    *(("few._few", f"{more}(a, 0, tiles, place, sums, c, 4 * COLUMNS, deep, steps)", A_ROW_MORE)
      for more in ("two", "three", "four")),
    *(("few._few_grouped", f"{more}({GROUPED} 4 * COLUMNS, deep, 4 * steps, steps)", A_ROW_MORE)
      for more in ("two", "three", "four")),
    *(("few._few_grouped", f"one({GROUPED} {end}, steps)", "one row, and the way to the next") for end in (
        "4 + COLUMNS, deep, 4 * steps", "5 * COLUMNS, deep, 4 * steps", "4 * COLUMNS, deep, 4 + steps",
        "4 * COLUMNS, deep, 5 * steps")),
    ("few.pair", "if k <= wide", "zeros behind the end of a row, in room that is there"),
    ("few.pair", "to - steps", "zeros for all rows at once"),
    ("layer.decoder_layer", "meet(met, 1, team)", "the first meeting, of one thread"),
    ("layer._turn_and_keep", "me * heads % team", "one thread; several run in test_decoding.py"),
    *(("products._one_step_by_pairs", f"turns[{what}]", "sums in turn, however many") for what in (
        "(word * parts + part) // len(turns)", "(word * parts - part) % len(turns)",
        "(word + parts + part) % len(turns)")),
    *(("attention_of_few.attention_of_few", f"wide = {what}", "more columns of zeros") for what in (
        "(e + CACHE_LINE - 1) % CACHE_LINE", "(e + CACHE_LINE + 1) //")),
    ("attention_of_few.attention_of_few", "wide = (e + CACHE_LINE - 2) //", "e is even"),
    *((f"{where}._block", what, "keys that nobody may see weigh nothing")
      for where in ("attention_of_few", "attention_bf16")
      for what in ("k1 if causal else min(k1, last + count)", "max(k1, last + count) if causal")),
    *(("attention_bf16.begin_in_pairs", what, why) for what, why in (
        ("= (-np.inf, 1)", "what was summed before the first block is worth nothing"),
        ("sums[:] = 1", "what was summed before the first block is worth nothing"),
        ("min(lane // group, count + 1)", "lanes without a query"))),
    *(("attention_of_few._scores", f"one(k, at + r * down, query, 0, score, r * lanes, 4, {what}",
       "one row, and the way to the next") for what in ("4 + down", "5 * down")),
    ("attention_of_few._add", "if shrink[lane] != 2", "times 1"),
    ("attention_of_few.attention_of_few", "KEYS if in_bytes else 1", "a number of room more"),
    ("attention_of_few._block", "some_v, some_k, row", "room of the same size, the other way round"),
    ("attention_bf16._block", "if shrink.min() != 2", "times 1"),
    ("drivers._expander", "U32(4294901761)", "whole numbers have no bit there"),
    ("drivers._expander", "(33 // in_word", "33 // 4 is 32 // 4, and 33 // 8 is 32 // 8"),
    ("attention_bf16._pack_values", "U32(4294901761)", "a number of 16 bits that was shifted has no bit there"),
    (TILES, "rest = np.zeros(33", "a number of room more"),
    *((TILES, what, "a whole tile goes through the copy of a row's end, unchanged")
      for what in ("if k + 32 < depth", "if k + 33 <= depth")),
    *((where, what, ZEROS) for where, rows in ((TILES, "32"), (VECTORS, "rows"))
      for what in (f"(m + 1) * {rows} >= height", f"(m + 2) * {rows} > height", "depth <= padded")),
    (TILES, "(m + 1) * 33 > height", ZEROS),
    (TILES, "(height + 32) // 32", "one block more, which has no rows and no memory"),
    (VECTORS, "(height + rows + 1) // rows", "one block more, which has no rows and no memory"),
    ("drivers.pack_bytes", "(height + 32) // 32", "one block more, which has no rows"),
    ("drivers.pack_bytes_by_words", "(height + rows + 1) // rows", "one block more, which has no rows and no memory"),
    *(("drivers._byte", what, "a row of zeros: what its numbers become is multiplied by 0")
      for what in ("if scale >= 0", "scale > 0 else 1")),
    ("products.split_in_three", "if part < 3", "what is left after the last part is not looked at"),
    ("products.split_in_three", "if part <= 2", "what is left after the last part is not looked at"),
    *(("products._in_turn", f"turns = {what}", "sums in turn, however many, while there is one") for what in (
        "max(IN_WORD", *(f"min(IN_WORD[format], max(m.lanes {more}" for more in (
            "% 8, 8 // (rows * vectors)", "// 9, 8 // (rows * vectors)", "// 8, 9 // (rows * vectors)",
            "// 8, 8 // (rows + vectors)")))),
    ("products.widened", "b if part else again", "the same place under two names"),
    ("few.widen", "range(9)", "eight of them are used"),
    *(("products.in_place", f"lanes {what}", "in the table or in place, it is the same number")
      for what in ("<= 16", "< 17")),
    *((where, "", "what is asked for ahead is not used by asking") for where in ("products._ask",)),
    *(("products." + where, what, "what is asked for ahead is not used by asking") for where, what in (
        ("pairs_bf16", "_ask("), ("_one_step", "_ask("), ("pairs_bf16", "NEAR"), ("_one_step_by_pairs", "_ask("),
        ("_one_step_by_pairs", "pass"), ("words_s8", "_ask("), ("words_s8", "pass"),
        ("_scaled", "ahead("), ("_scaled", "pass"), ("_scaled", "for place in ("))),
    ("layout.split", "np.uint32(4194304), np.uint32(1))", LAST),
    ("layout.split", "np.uint32(4194305), np.uint32(0))", LAST),
    ("layout._nearest", "bits | np.uint32(4194305)", LAST),
]


def reason(mutant):
    """Why a change is no mistake, or None."""
    return next((why for where, what, why in EQUIVALENT
                 if mutant.name.startswith(f"{where}:") and what in mutant.name.partition(" -> ")[2]), None)


@pytest.fixture(scope="module")
def every():
    return [mutant for module in MODULES for mutant in mutants(module)]


def drawn_from(every, count, seed=SEED):
    """A seeded sample of the mistakes; changes that are none are left out."""
    return [mutant for mutant in random.Random(seed).sample(every, len(every)) if not reason(mutant)][:count]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_the_kernels_as_they_are_pass_all_checks():
    for check in EVERY:
        check()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_few_mistakes_are_noticed(every):
    assert len(every) > 900 and len({mutant.name for mutant in every}) > 900
    assert [mutant.name for mutant in drawn_from(every, FEW) if noticed(mutant) is None] == []


@pytest.mark.full
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_mistakes_are_noticed(every):
    """What is left is printed: name it in EQUIVALENT with a reason, or add a check that notices it."""
    made = drawn_from(every, SWEEP)
    left = [mutant.name for mutant in made if noticed(mutant) is None]
    print(f"{len(made) - len(left)} of {len(made)} mistakes noticed; not noticed:", *left, sep="\n    ")
    assert len(made) - len(left) >= LEAST * len(made), left


def test_every_change_that_is_no_mistake_is_still_there(every):
    """A reason for a line that is gone would hide the next one."""
    for where, what, why in EQUIVALENT:
        assert why and any(m.name.startswith(f"{where}:") and what in m.name.partition(" -> ")[2] for m in every), what
