"""`minivl diagnose` on what made none of its signatures: another checkpoint (other depth, widths, windows and grids), a
copy of the reference in PyTorch with the fault written anew, float32 and bfloat16, nine taps under the modules' names.

`python -m tests.oracle.test_diagnose_oracle` prints the table; CI runs a few rows of it, the marker `full` all.
"""

import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest
import torch

import minivl
from minivl.truth.compare.importers import read_candidate
from minivl.truth.diagnose import Diagnosis, diagnose
from minivl.truth.trace.format import Trace
from minivl.truth.trace.record import record
from minivl.truth.trace.torch_recorder import listening

from .broken import KNOWN, RAGGED, STRANGE, Given, bright, broken
from .comparison import checkpoint, minivl_inputs
from .reference import logits, reference

PRECISIONS = ("float32", "bfloat16")
BRIGHT = {"norm-overflows-in-f16": 1e6, "tower-in-f16": 1e6, "mlp-overflows-in-f16": 1e6, "eps-outside-the-root": 1e-4}
EAGER = ("padded-rows-attended", "softmax-in-half-precision")
NINE = ("vision.embed_patches", "vision.blocks.0.add_mlp", "vision.blocks.2.add_mlp", "vision.merge_2x2",
        "decoder.embed_tokens", "decoder.place_features", "decoder.layers.0.add_mlp", "decoder.layers.2.add_mlp",
        "decoder.logits")


def case_of(name):
    return {**KNOWN, **STRANGE}.get(name, (None, RAGGED))[1]


def found_in(name: str, precision: str, folder: Path, taps=NINE) -> Diagnosis:
    """What is said about the reference with a fault in it, "" for none."""
    case = case_of(name)
    breaker, _ = {**KNOWN, **STRANGE}.get(name, (None, None))
    vlm = minivl.load(checkpoint(case), "float64")
    given = Given(case.inputs(), None)
    if name in BRIGHT:
        bright(given, BRIGHT[name])
    inputs = minivl_inputs(given.inputs, vlm.config, case.after_video)
    given.positions = inputs.position_ids
    record(vlm, inputs, folder / "golden.safetensors", yardsticks=(precision,))
    model = reference(checkpoint(case), getattr(torch, precision), "eager" if name in EAGER else "sdpa")
    with broken(breaker, model, given), listening(model, folder / "mine.safetensors"):
        logits(model, given.inputs, given.positions)
    with Trace(folder / "golden.safetensors") as golden:
        mine = read_candidate(folder / "mine.safetensors", golden, precision=precision)
        mine.taps = {key: parts for key, parts in mine.taps.items() if key in taps}
        return diagnose(vlm, golden, mine)


def place_of(name: str, found: Diagnosis) -> int | None:
    """1 for the likeliest fault, and for what cannot be told from it; None when the fault is not among the known."""
    known = [one.fault.name for one in found.known]
    if name in known:
        return 1
    names = [one.fault.name for one in found.ranking]
    return names.index(name) + 1 if known and name in names else None


def table(names):
    """Rows of (fault, precision, place, what is said), in float32 and then in bfloat16."""
    for precision in PRECISIONS:
        for name in names:
            with tempfile.TemporaryDirectory() as folder:
                found = found_in(name, precision, Path(folder))
            yield name, precision, place_of(name, found), found


def row(name: str, precision: str, place: int | None, found: Diagnosis) -> str:
    """One row of the table."""
    first = [f"{one.fault.name} ({one.nearer:.2f})" for one in found.known] or ["none of the known"]
    return (f"{name or '(healthy)':36s} {precision:8s} {found.comparison.first_bad or 'nothing bad':26s} "
            f"{place or '-'!s:2s} {', '.join(first)}")


def counted(names) -> Counter:
    """How many faults were seen, named first and among the first three; prints the table."""
    counts: Counter = Counter()
    for name, precision, place, found in table(names):
        print(row(name, precision, place, found), flush=True)
        if name in KNOWN:
            counts.update({"seen": not found.healthy, "first": place == 1, "among three": (place or 9) <= 3})
    return counts


@pytest.mark.parametrize(("name", "precision"), [
    ("order-not-inverted", "float32"), ("windows-wrong-at-the-edges", "bfloat16"), ("mrope-interleaved", "bfloat16"),
    ("gelu-by-tanh", "float32")])
def test_a_fault_written_anew_is_named(name, precision, tmp_path):
    assert place_of(name, found_in(name, precision, tmp_path)) == 1


@pytest.mark.parametrize("name", ["", "scores divided by the width"])
def test_what_is_healthy_or_strange_is_none_of_the_known(name, tmp_path):
    found = found_in(name, "float32", tmp_path)
    assert found.known == [] and found.healthy == (name == "")


@pytest.mark.full
def test_the_whole_table():
    counts = counted(KNOWN)
    assert counts["among three"] >= 0.8 * counts["seen"] and counts["first"] >= 0.6 * counts["seen"]
    for name, _, _, found in table([*STRANGE, ""]):
        assert found.known == [] and found.healthy == (name == ""), name


if __name__ == "__main__":
    print(dict(counted(sys.argv[1:] or [*KNOWN, *STRANGE, ""])))
