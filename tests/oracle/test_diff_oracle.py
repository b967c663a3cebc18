"""`minivl diff` against the reference itself: a healthy run is never called wrong, whatever its type and its attention.

The full sweep is 500 comparisons, and 500 of `diff --local`, of models and prompts drawn at random, in float32 and
bfloat16, with sdpa and eager attention, every second one on two threads; `make test` runs a small part.
`python -m tests.oracle.test_diff_oracle 125` prints the figures, and those of `diff --local` with `local` behind it.
"""

import sys
import tempfile
from collections import Counter
from contextlib import nullcontext
from itertools import product
from pathlib import Path

import pytest
import torch

import minivl
from minivl.truth.compare.compare import Comparison, compare
from minivl.truth.compare.importers import read_candidate
from minivl.truth.compare.local import local_golden
from minivl.truth.trace.format import Trace
from minivl.truth.trace.record import record, record_reference
from minivl.truth.trace.torch_recorder import listening

from .comparison import checkpoint, minivl_inputs
from .reference import logits, reference
from .strategies import FIXTURES, each_case

WAYS = list(product(("float32", "bfloat16"), ("sdpa", "eager")))


def healthy(case, folder: Path, threads: int = 1, local: bool = False) -> dict[tuple[str, str], Comparison]:
    """The reference in every type and attention against minivl's golden trace of the same prompt; local: each stage
    against minivl's on the reference's own values."""
    vlm = minivl.load(checkpoint(case), "float64")
    inputs = minivl_inputs(case.inputs(), vlm.config, case.after_video)
    record(vlm, inputs, folder / "golden.safetensors", yardsticks=("float32", "bfloat16"))
    found = {}
    torch.set_num_threads(threads)
    try:
        for precision, attention in WAYS:
            path = folder / "candidate.safetensors"
            record_reference(vlm, inputs, path, precision, attention, after_video=case.after_video)
            with Trace(folder / "golden.safetensors") as golden:
                candidate = read_candidate(path, golden)
                with local_golden(vlm, golden, candidate) if local else nullcontext(golden) as beside:
                    found[precision, attention] = compare(beside, candidate)
    finally:
        torch.set_num_threads(1)
    return found


def word_of(found: Comparison) -> str:
    words = set(found.words.values())
    return next(word for word in ("wrong", "suspicious", "rounding") if word in words)


@pytest.mark.parametrize("name", ["ragged both ways", "picture, video, picture", "text only"])
def test_a_healthy_run_is_never_more_than_rounding(name, tmp_path):
    for way, found in healthy(FIXTURES[name], tmp_path).items():
        assert word_of(found) == "rounding" and found.first_bad is None, way
        assert found.warnings == []


@pytest.mark.full
@pytest.mark.parametrize("local", [False, True], ids=["whole", "local"])
def test_500_healthy_runs(local):
    words = sweep(125, local)
    assert sum(words.values()) >= 500
    assert words["wrong"] == 0
    assert words["suspicious"] <= sum(words.values()) / 100


def test_a_broken_copy_of_the_reference_in_a_few_lines(tmp_path):
    """The walk-through of docs/reference/trace-format.md: listen to a torch module, and let `diff` say what is wrong
    with it."""
    case = FIXTURES["ragged both ways"]
    vlm = minivl.load(checkpoint(case), "float64")
    inputs = minivl_inputs(case.inputs(), vlm.config, case.after_video)
    record(vlm, inputs, tmp_path / "golden.safetensors", yardsticks=("float32",))
    model = reference(checkpoint(case))
    model.model.visual.fullatt_block_indexes = []                          # the bug: full attention is never used
    with listening(model, tmp_path / "mine.safetensors") as coverage:
        logits(model, case.inputs(), inputs.position_ids)
    assert "silent" not in str(coverage)
    with Trace(tmp_path / "golden.safetensors") as golden:
        candidate = read_candidate(tmp_path / "mine.safetensors", golden)
        found = compare(golden, candidate)
        with local_golden(vlm, golden, candidate) as local:
            each = compare(local, candidate)
    assert found.precision == "float32" and found.first_bad == "vision.blocks.1.attend"
    assert {key for key, word in each.words.items() if word == "wrong"} == {
        f"vision.blocks.{n}.attend" for n in case.full}


def sweep(examples: int, local: bool = False) -> Counter:
    """The words of 4 comparisons for each example; no example is drawn twice."""
    words: Counter = Counter()

    def judge(case, number):
        with tempfile.TemporaryDirectory() as folder:
            for way, found in healthy(case, Path(folder), 1 + number % 2, local).items():
                words[word_of(found)] += 1
                if word_of(found) != "rounding":
                    worst = max(found.judged, key=lambda row: row.ratio)
                    print(way, word_of(found), worst.name, f"{worst.ratio:.2f}", case, flush=True)
    each_case(examples, judge)
    return words


if __name__ == "__main__":
    print(dict(sweep(int(sys.argv[1]), "local" in sys.argv)))
