"""Would the kernels' cases notice a mistake in a CUDA kernel? Mistakes are made, one at a time.

Read next: `mutants.py`, which mistakes.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .mutants import CHANGES, chosen, mutants, tried
from .runs import needs_compiler

pytestmark = needs_compiler
SEED, SWEEP = 2026, 320
LEAST = 0.98                                   # of the sweep, which the cases have to notice
ROOT = Path(__file__).parents[3]

# A mistake that lives: attention.cu:58 without `sum[c] = 0.f`. What is not set is multiplied by exp(NEVER) = 0 before
# it is added to: wrong where it is a NaN, and the runner has none for variables that nobody set.
# Changes that are no mistakes: file, words of the line before or after the change, and why nothing can notice.
ADVICE = "advice for the cache and for the next launch: nothing is read, and the runner holds that it lies in the array"
EQUIVALENT: list[tuple[str, str, str]] = [
    ("attention_tensor.cu", "-> if (lane % 2 == 1) factors[row]", "both lanes of a row hold the row's total"),
    ("attention_tensor.cu", "-> if (!(lane % 2 == 0)) factors[row]", "both lanes of a row hold the same factor"),
    ("attention_tensor.cu", "-> total = total * keep + part + __shfl_down_sync",
     "even lanes get what they got before, and theirs alone is written"),
    ("attention.cu", "-> for (int c = 0; c <= PARTS; c++)",
     "PARTS * 32 >= HEAD: the condition inside is false for c = PARTS"),
    ("decode_attention.cu", "-> int tiles = (k1 - k0 + THREADS + 1)",
     "the tiles are shared out otherwise, and each still has one split"),
    ("decode_attention.cu", "each = (tiles + gridDim.x + 1) / gridDim.x",
     "the tiles are shared out otherwise, and each still has one split"),
    ("decode_attention.cu", "-> if (threadIdx.x == 1) {", "any one thread may count, between two barriers"),
    ("sampling.cu", "b.id <= 0) return a.id < 0", "lane 0 alone is written, and id 0 comes to it as a, never as b"),
    ("sampling.cu", "b.id <= a.id) ? b : a", "two with one score and one id are the same"),
    ("gemv.cu", "-> if (lane == 1) y[at] = finished(whole", "a sum of a warp, by xor, is in every lane"),
    ("gemv.cu", "-> if (threadIdx.x % WARP == 1 && warp % slices == 0", "every lane has the sum, by xor or from parts"),
    ("gemv.cu", "-> if (whole && IN_LOAD > IN_VECTOR) {", "the same numbers, one by one instead of a vector at a time"),
    ("gemv.cu", "ask_ahead(", ADVICE),
    ("gemv.cu", "EARLIEST * step", ADVICE),
    ("gemv.cu", "let_next_begin()", ADVICE),
    ("gemv.cu", "prefetch(", ADVICE),
]


def harmless(line):
    """Whether a line of the report is one of EQUIVALENT."""
    return any(file in line and words in line for file, words, _ in EQUIVALENT)


def test_there_are_mistakes_of_every_kind():
    some = chosen(SWEEP, SEED)
    assert len(some) == SWEEP == len({(one.file, one.line, one.text) for one in some})
    kinds = {one.kind for file in ("attention", "gemv", "norm", "sampling", "attention_tensor", "decode_attention")
             for one in mutants(file)}
    assert {"barrier", "bound", "condition", "operator", "number", "function", "store"} <= kinds
    assert kinds <= {kind for kind, _, _ in CHANGES}


def test_some_mistakes_are_noticed():
    """One kind each of the smallest kernel, so that the tool itself is tried in every run."""
    found = {one.kind: one for one in mutants("swiglu")}
    assert {"bound", "operator", "rounding"} <= set(found)
    assert [one.name for one in found.values() if one.kind in ("bound", "rounding") and tried(one) is None] == []


@pytest.mark.full
def test_a_sweep_of_mistakes_is_noticed(tmp_path):
    command = [sys.executable, "-m", "tests.kernels.cuda.mutants", "sample", str(SWEEP), str(SEED)]
    env = {**os.environ, "MINIVL_CACHE": str(tmp_path), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    parts = [subprocess.Popen([*command, str(part), "2"], cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)
             for part in range(2)]
    lines = [line for part in parts for line in part.communicate()[0].splitlines()]
    assert all(part.returncode == 0 for part in parts) and len(lines) == SWEEP
    able = [line for line in lines if not line.startswith("unable")]
    able = [line for line in able if not (line.startswith("LIVES") and harmless(line))]
    live = [line for line in able if line.startswith("LIVES")]
    assert len(able) >= 300 and len(live) <= (1 - LEAST) * len(able), "\n".join(live)
