"""Healthy runs of a foreign port are never accused: whatever the model, the taps, their storage and padding, and the
threads.

The port is that of `tools/truth/foreign`, in four arithmetics; models and prompts are drawn at random. A part of the
taps is kept, each in a storage and a layout of its own. `python -m tests.oracle.test_foreign_oracle 125` prints the
words of 1,000 comparisons: 500 of `diff` and 500 of `diff --local`; a number behind it is the first case.
"""

import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

import minivl
from minivl.truth.compare.compare import compare
from minivl.truth.compare.importers import read_candidate
from minivl.truth.compare.local import local_golden
from minivl.truth.trace.format import Trace
from minivl.truth.trace.record import record
from tools.truth.foreign.dumps import drawn
from tools.truth.foreign.port import Arithmetic, Port

from .comparison import checkpoint, minivl_inputs
from .strategies import FIXTURES, each_case

ARITHMETICS = (Arithmetic(), Arithmetic("bfloat16"), Arithmetic("bfloat16", decoder="float32"), Arithmetic("float16"))


def words_of(case, number: int, folder: Path) -> Counter:
    """The worst word of every comparison of one case: each arithmetic, as a whole and stage by stage."""
    found: Counter = Counter()
    random = np.random.default_rng(number)
    vlm = minivl.load(checkpoint(case), "float64")
    inputs = minivl_inputs(case.inputs(), vlm.config, case.after_video)
    record(vlm, inputs, folder / "golden.safetensors", yardsticks=("float32", "float16", "bfloat16"))
    with Trace(folder / "golden.safetensors") as golden, threadpool_limits(1 + number % 2):
        for arithmetic in ARITHMETICS:
            port = Port(checkpoint(case), arithmetic)
            port.axes = lambda ids, grids, ticks: inputs.position_ids        # counted after videos as the case says
            dumped = drawn({name: x for name, x in port.run(inputs.arrays()).items() if name != "px"}, random, folder)
            candidate = read_candidate(dumped.path, golden, dumped.names)
            with local_golden(vlm, golden, candidate) as beside:
                for way, against in (("diff", golden), ("local", beside)):
                    judged = compare(against, candidate)
                    word = next((w for w in ("wrong", "suspicious") if w in judged.words.values()), "rounding")
                    found[way, word] += 1
                    if word != "rounding":
                        worst = max(judged.judged, key=lambda row: row.ratio)
                        print(way, word, number, arithmetic, worst.name, f"{worst.ratio:.2f}", worst.stored,
                              worst.computed, worst.notes[-1:], flush=True)
    return found


def sweep(examples: int, first: int = 0) -> Counter:
    """The words of 8 comparisons for each example; no example is drawn twice."""
    words: Counter = Counter()

    def judge(case, number):
        with tempfile.TemporaryDirectory() as folder:
            words.update(words_of(case, first + number, Path(folder)))
    each_case(examples, judge, first)
    return words


@pytest.mark.parametrize("name", ["ragged both ways"])
def test_a_healthy_port_is_not_accused(name, tmp_path):
    assert set(words_of(FIXTURES[name], 1, tmp_path)) == {("diff", "rounding"), ("local", "rounding")}


@pytest.mark.full
def test_1000_healthy_comparisons():
    words = sweep(125)
    assert words.total() == 1000
    assert words["diff", "wrong"] == words["local", "wrong"] == 0
    assert words["diff", "suspicious"] <= 5 and words["local", "suspicious"] <= 5


if __name__ == "__main__":
    print({" ".join(key): count for key, count in sorted(sweep(*map(int, sys.argv[1:])).items())})
