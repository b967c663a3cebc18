"""From a trace alone: the first bad tap of every fault that shows on its input, in float32 and in bfloat16."""

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from minivl.door.stage import session
from minivl.truth.compare.compare import compare
from minivl.truth.compare.importers import read_candidate
from minivl.truth.compare.local import local_golden
from minivl.truth.compare.metrics import row_leans, sigmas
from minivl.truth.museum import FAULTS, cases
from minivl.truth.museum.world import world
from minivl.truth.trace.format import Trace
from minivl.truth.trace.record import record
from tools.truth.museum_traces import markdown, row, rows

PAGE = Path(__file__).parent.parent.parent / "docs" / "made" / "museum-traces.md"
QUICK = ["resize-twice", "windows-wrong-at-the-edges", "text-after-picture-off-by-one", "mrope-interleaved",
         "padded-rows-attended", "eps-outside-the-root", "gelu-by-tanh", "softmax-in-half-precision", "penalty-missing"]


def agrees(one):
    assert one.right, one
    if one.in_trace:
        assert one.float32 is not None and one.float32[1] == "wrong", one
        assert one.seen, one


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


@pytest.mark.parametrize("eps", [1e-6, 1e-5])
def test_an_eps_ten_times_too_large_leans_in_bfloat16(eps, tmp_path):
    """One part in 200,000, far below a digit of bfloat16: a trace alone does not show it. --local does, on a picture
    that is large enough, by the way in which the last digits of all norms lean."""
    vlm, exact = (world().on(kind, "definition") for kind in ("bfloat16", "float64"))
    prompt = cases.user(cases.picture(13, 13))
    record(exact, prompt, tmp_path / "golden.safetensors", yardsticks=("bfloat16",))
    with session(replace={"kernel.rms_norm": lambda right: lambda x, norm: right(x, norm._replace(eps=eps))}):
        record(vlm, prompt, tmp_path / "candidate.safetensors")
    with Trace(tmp_path / "golden.safetensors") as golden:
        candidate = read_candidate(tmp_path / "candidate.safetensors", golden)
        assert compare(golden, candidate).first_bad is None
        with local_golden(exact, golden, candidate) as local:
            found = compare(local, candidate)
    assert {key.rpartition(".")[2] for key, word in found.words.items() if word == "suspicious"} == (
        {"normalise"} if eps > 1e-6 else set())


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
