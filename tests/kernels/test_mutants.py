"""Would the checks on the emulator notice a mistake in the sources of the kernels? Mistakes are made, one at a time.

Read next: `mutants.py`, which mistakes and which checks.
"""

import random

import pytest

from .mutants import EVERY, mutants, noticed

SEED, SWEEP, FEW = 2026, 300, 30
LEAST = 0.98                                   # of the sweep, which an emulator has to notice

# Changes that are no mistakes: where, what the changed line has, and why nothing can notice.
EQUIVALENT = [
    ("drivers.matrix_product", "in_strip = max(2,", "a strip of 512 rows has at least two blocks of any tier"),
    ("drivers.expanded_product", "in_strip = max(2,", "a strip of 512 rows has at least two blocks of any tier"),
    ("drivers.expanded_product", "k0 >= 0", "sums begin at zero, so going on is the same as starting"),
    ("drivers.expanded_product", "k0 > 1", "k0 is a multiple of the steps that fit, which are two at least"),
    ("drivers.expanded_product", "zeros[:0]", "an empty table, whichever it is of"),
    ("drivers.matrix_vector", "zeros[:0]", "an empty table, whichever it is of"),
    ("drivers.pack_for_tiles", "rest = np.zeros(33", "a number of room more"),
    ("drivers.pack_for_tiles", "if k + 32 < depth", "a whole tile goes through the copy of a row's end, unchanged"),
    ("drivers.pack_for_tiles", "if k + 33 <= depth", "a whole tile goes through the copy of a row's end, unchanged"),
    ("drivers.pack_for_tiles", "(m + 1) * 32 >= height", "zeros that are written over"),
    ("drivers.pack_for_tiles", "depth <= padded", "zeros that are written over"),
    ("drivers.pack_for_tiles", "(height + 32) // 32", "one block more, which has no rows and no memory"),
    ("drivers.pack_for_vectors", "(m + 1) * rows >= height", "zeros that are written over"),
    ("drivers.pack_for_vectors", "depth <= padded", "zeros that are written over"),
    ("drivers.pack_for_vectors", "(height + rows + 1) // rows", "one block more, which has no rows and no memory"),
    ("products.split_in_three", "if part < 3", "what is left after the last part is not looked at"),
    ("products.matrix_vector", "turns = min(3, in_word)", "three sums in turn instead of two"),
    ("layout.split", "np.uint32(4194304), np.uint32(1))", "a bit that is shifted out"),
]


def reason(mutant):
    """Why a change is no mistake, or None."""
    return next((why for where, what, why in EQUIVALENT
                 if mutant.name.startswith(f"{where}:") and what in mutant.name.partition(" -> ")[2]), None)


@pytest.fixture(scope="module")
def every():
    return [mutant for module in ("products", "drivers", "layout") for mutant in mutants(module)]


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
