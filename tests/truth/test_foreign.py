"""A port that minivl's authors did not write, dumped as toolchains dump: what `minivl diff` says of it.

The port is `tools/truth/foreign`: plain loops, own names, own storage; its truth is measured on the port alone
(`sweep.py`). `python -m tools.truth.foreign` prints the whole table, of which a part is tested here. Read next:
`test_trace_foreign.py` (layouts and files one by one), `oracle/test_foreign_oracle.py` (healthy runs, drawn).
"""

import json

import numpy as np
import pytest

from minivl.cli.words import app
from minivl.truth.compare.compare import compare
from minivl.truth.compare.guess import guess, table_of
from minivl.truth.compare.importers import read_arrays, read_candidate
from minivl.truth.compare.report import headline
from minivl.truth.trace.format import TraceError
from tools.truth.foreign.dumps import WAYS
from tools.truth.foreign.sweep import Sweep
from tools.truth.foreign.variants import HEALTHY, variant, variants

FEW = ("float32", "bf16", "tower-bf16", "int8", "gelu-by-sigmoid", "merger-norm-plus-one", "order-by-sorting",
       "last-head-halved", "nan-in-one-row")


def minivl_says(capsys, *words) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        app(list(map(str, words)))
    return left.value.code, *capsys.readouterr()


@pytest.fixture(scope="module")
def sweep():
    with Sweep() as guessed:
        yield guessed


@pytest.mark.parametrize("name", FEW)
def test_in_whatever_way_it_lies(sweep, name):
    rows = [sweep.judge(variant(name), way) for way in WAYS]
    assert all(row.interval_right and not row.accused and not row.problem for row in rows)
    assert sum(row.first_right for row in rows) >= len(rows) - 1
    assert sum(row.named[1] for row in rows) <= 2                        # names that were guessed wrongly


@pytest.mark.parametrize(("name", "way"), [("float32", "mixed"), ("bf16", "partial"), ("tower-bf16", "padded"),
                                           ("int8", "names"), ("f16", "numbered"), ("stream-f32", "mixed")])
def test_stage_by_stage_a_healthy_one_is_not_accused(sweep, name, way):
    sweep.local, sweep.named = True, True
    try:
        row = sweep.judge(variant(name), way)
    finally:
        sweep.local, sweep.named = False, False
    assert row.found is not None and row.found.words and not row.accused


@pytest.mark.full
def test_the_table_of_acceptance():
    with Sweep() as guessed, Sweep(local=True, named=True) as local, Sweep(hidden=True) as hidden:
        for one in (guessed, local, hidden):
            rows = [row for way in WAYS for v in variants() if (row := one.judge(v, way))]
            assert not [(row.variant.name, row.way) for row in rows if row.accused and row.variant.kind == HEALTHY]
            faulty = [row for row in rows if row.variant.kind != HEALTHY and row.seen]
            assert not [(row.variant.name, row.way) for row in rows if not row.interval_right]
            assert one is hidden or sum(row.first_right for row in faulty) >= 0.95 * len(faulty)
            assert one is not hidden or not any(row.first for row in rows)


# ---- nothing is dropped on the way to "the same" --------------------------------------------------------------------

@pytest.fixture(scope="module")
def mixed(sweep, tmp_path_factory):
    """A port that goes wrong in a layer, in mixed storage: the golden trace, the dump, a right table of names."""
    folder = tmp_path_factory.mktemp("mixed")
    made, _ = sweep.dumped(variant("nan-in-one-row"), "mixed", "ragged", folder)
    return sweep.scene("ragged"), made


def test_broken_taps_without_a_label_are_no_clean_bill(mixed):
    golden, made = mixed
    names = {name: entry for name, entry in made.names.items() if not name.startswith("lm.")}
    found = compare(golden, read_candidate(made.path, golden, names))
    assert found.first_bad is None and found.differs
    loose = {one.name: one for one in found.unplaced}
    assert not loose["lm.2.out"].finite and not loose["lm.scores"].finite
    assert loose["lm.0.out"].known and loose["lm.0.out"].places[0][0] == "decoder.layers.0.add_mlp"
    said = "\n".join(headline(found))
    assert "no label: lm.2.out [62, 192], holds numbers that are not finite: may be" in said
    # what is left out by hand is said, and does not count
    aside = {**names, **dict.fromkeys(loose)}
    found = compare(golden, read_candidate(made.path, golden, aside))
    assert not found.differs and "left out by hand: lm.0.out" in "\n".join(headline(found))


def test_the_command_line_goes_by_arrays_without_a_label(mixed, tmp_path, capsys):
    golden, made = mixed
    names = {name: entry for name, entry in made.names.items() if not name.startswith("lm.")}
    (tmp_path / "names.json").write_text(json.dumps(names), encoding="utf-8")
    code, said, _ = minivl_says(capsys, "diff", golden.path, made.path, "--names", tmp_path / "names.json")
    assert code == 1 and "not known to be the same" in said


def test_what_is_imported_is_what_was_understood(mixed, sweep, tmp_path, capsys):
    golden, made = mixed
    code, *_ = minivl_says(capsys, "trace", "import", made.path, "-o", tmp_path / "c.safetensors", "--golden",
                           golden.path)
    assert code == 0
    direct = compare(golden, read_candidate(made.path, golden, table_of(guess(read_arrays(made.path), golden))))
    kept = compare(golden, read_candidate(tmp_path / "c.safetensors", golden))
    assert kept.words == direct.words and kept.first_bad == direct.first_bad and kept.suspects == direct.suspects
    assert kept.computed == direct.computed
    assert [row.stored for row in kept.judged] == [row.stored for row in direct.judged]


# ---- storage and computation ----------------------------------------------------------------------------------------

def test_storage_of_each_tap_and_one_arithmetic_of_the_run(sweep, tmp_path):
    golden = sweep.scene("ragged")
    made, _ = sweep.dumped(variant("float32"), "mixed", "ragged", tmp_path / "a")
    found = compare(golden, read_candidate(made.path, golden, made.names))
    assert {row.stored for row in found.judged} == {"float32", "float16", "bfloat16"}
    assert set(found.computed.values()) == {"float32"}
    made, _ = sweep.dumped(variant("tower-bf16"), "padded", "ragged", tmp_path / "b")
    found = compare(golden, read_candidate(made.path, golden, made.names))
    # junk in the padding is no number of the tap
    assert {row.stored for row in found.judged if row.key.startswith("vision.blocks")} == {"bfloat16"}
    assert {row.stored for row in found.judged if row.key.startswith("decoder.layers")} == {"float32"}


def test_by_hand_the_type_of_a_tap_and_of_its_computation(sweep, tmp_path):
    golden = sweep.scene("ragged")
    made, _ = sweep.dumped(variant("bf16"), "mixed", "ragged", tmp_path)
    entry = {"label": "vision.blocks.3.add_mlp", "precision": "float32"}
    found = compare(golden, read_candidate(made.path, golden, {**made.names, "tower.3.out": entry}))
    assert found.first_bad == "vision.blocks.3.add_mlp"               # for a float32 run it would be much too far off
    for entry, words in ({"label": "decoder.logits", "dtyp": "f16"}, "has 'dtyp'; an entry can have label, dtype"), \
            ({"label": "decoder.logits", "precision": "int9"}, "has the precision 'int9'"), \
            ({"label": "decoder.logits", "dtype": "int8"}, "16-bit integers can be bfloat16 or float16"), \
            ({"label": "decoder.logits", "scale": "nothing"}, "there is no such array"), \
            ({"label": "decoder.logits", "rows": [5, 500]}, "cannot be taken of an array of"):
        with pytest.raises(TraceError, match=words):
            read_candidate(made.path, golden, {"lm.scores": entry})
    with pytest.raises(TraceError, match="both mean 'decoder.logits'"):
        read_candidate(made.path, golden, {"lm.scores": "decoder.logits", "lm.in": "decoder.logits"})


def test_weights_of_eight_bits_are_told_and_not_guessed(sweep, tmp_path, capsys):
    golden = sweep.scene("ragged")
    made, _ = sweep.dumped(variant("int8"), "partial", "ragged", tmp_path)
    assert compare(golden, read_candidate(made.path, golden, made.names)).differs
    assert not compare(golden, read_candidate(made.path, golden, made.names, weights="int8")).differs
    for kind, words in ("int3", "int8 or int4"), ("int4", "record it with --yardstick int4"):
        code, _, said = minivl_says(capsys, "diff", golden.path, made.path, "--weights", kind)
        assert code == 2 and words in " ".join(said.split())


# ---- where it sits -----------------------------------------------------------------------------------------------

def test_a_fault_in_the_last_head_names_the_head_and_rows_in_other_places_are_named(sweep, tmp_path):
    golden = sweep.scene("ragged")
    made, _ = sweep.dumped(variant("last-head-halved"), "names", "ragged", tmp_path / "a")
    said = "\n".join(headline(compare(golden, read_candidate(made.path, golden, made.names))))
    assert "decoder.layers.3.attend: query heads: 1 of 4 hold nine tenths of the difference: 3" in said
    assert "and those before" not in said
    made, _ = sweep.dumped(variant("gather-of-five-bits"), "partial", "ragged", tmp_path / "b")
    said = "\n".join(headline(compare(golden, read_candidate(made.path, golden, made.names))))
    assert "4 rows hold another row's values, as row 132 holds those of row 128; 4 of them repeat one" in said


def test_every_pass_that_may_be_guilty_is_listed(sweep, tmp_path):
    golden = sweep.scene("ragged")
    made, _ = sweep.dumped(variant("some-windows-missing"), "partial", "ragged", tmp_path)
    found = compare(golden, read_candidate(made.path, golden, made.names))
    (line,) = (line for line in headline(found) if line.startswith("guilty: "))
    assert "vision.schedule" in line and "vision.blocks.0..3: normalise, project_qkv, rotate, attend" in line
    assert np.sum([key in found.suspects for key in ("vision.embed_patches", "vision.window_order")]) == 0
