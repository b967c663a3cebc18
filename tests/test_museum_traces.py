"""From a trace alone: the first bad tap of every fault that shows on its input, in float32 and in bfloat16."""

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from minivl.faults import FAULTS
from minivl.trace.metrics import row_leans, sigmas
from tools.museum_traces import markdown, row, rows

PAGE = Path(__file__).parent.parent / "docs" / "museum-traces.md"
UNSEEN = {"softmax-in-half-precision"}                        # in bfloat16; the page says why
QUICK = ["resize-twice", "windows-wrong-at-the-edges", "text-after-picture-off-by-one", "mrope-interleaved",
         "padded-rows-attended", "eps-outside-the-root", "gelu-by-tanh", "penalty-missing"]


def agrees(one):
    assert one.right, one
    if one.in_trace:
        assert one.float32 is not None and one.float32[1] == "wrong", one
        seen = one.bfloat16 or one.local
        assert (seen is None) == (one.fault.name in UNSEEN), one


@pytest.mark.parametrize("name", QUICK)
def test_the_first_bad_tap_is_the_pass_of_the_fault(name, tmp_path):
    agrees(row(FAULTS[name], tmp_path))


@pytest.mark.full
def test_the_whole_museum_and_its_page():
    table = list(rows(FAULTS.values()))
    for one in table:
        agrees(one)
    assert PAGE.read_text(encoding="utf-8") == markdown(table), "stale: see the command on the page"


def test_the_page_has_a_row_for_every_fault():
    text = PAGE.read_text(encoding="utf-8")
    assert [name for name in FAULTS if f"| {name} |" not in text] == []


def test_rows_that_lean_are_told_from_rows_that_differ_by_chance():
    """A share of 1e-5 of every number moves few bfloat16 digits, all of them one way; sums in another order move as
    many both ways, and whole rows together."""
    exact = np.random.default_rng(0).normal(size=(400, 192))
    ours = exact.astype(np.float32).astype(ml_dtypes.bfloat16)
    smaller = (exact * (1 - 1e-5)).astype(ml_dtypes.bfloat16)
    by_chance = (exact * (1 + 1e-5 * np.random.default_rng(1).normal(size=(400, 1)))).astype(ml_dtypes.bfloat16)
    assert 0 < (smaller != ours).mean() < 0.01
    assert sigmas(row_leans(smaller, ours, 0)) < -8
    assert abs(sigmas(row_leans(by_chance, ours, 0))) < 4
    assert sigmas(row_leans(ours, ours, 0)) == 0
