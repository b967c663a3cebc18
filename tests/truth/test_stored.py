"""In what a run was computed, told from taps that are each stored in a type of their own: healthy runs of the foreign
port in several arithmetics, with taps and types drawn.

Read next: `test_foreign.py` (whole dumps), `oracle/test_foreign_oracle.py` (models drawn too).
"""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minivl.truth.compare.compare import compare
from minivl.truth.compare.importers import read_candidate
from minivl.truth.compare.local import local_golden
from minivl.truth.compare.stored import of_features
from minivl.truth.compare.taps import laid
from minivl.truth.trace.format import COORDINATES, YARDSTICK
from tools.truth.foreign.dumps import as_stored
from tools.truth.foreign.port import Arithmetic, label_of
from tools.truth.foreign.sweep import Sweep

TOWERS = {"float32": Arithmetic(), "bfloat16": Arithmetic("bfloat16", decoder="float32"),
          "float16": Arithmetic("float16", decoder="float32")}
BEHIND = [*(f"lm.{n}.{part}" for n in range(5) for part in ("mid", "out")), "lm.norm", "lm.scores"]


@pytest.fixture(scope="module")
def sweep():
    with Sweep() as healthy:
        yield healthy


def left_behind(sweep, arithmetic, stored, folder, scene="ragged"):
    """A healthy run's taps, each stored in a type: the golden trace, the candidate."""
    golden, run = sweep.scene(scene), sweep.own(arithmetic, scene)
    np.savez(folder / "dump.npz", **{name: as_stored(run[name], kind) for name, kind in stored.items()})
    names = {name: {"label": label_of(name), "dtype": "bfloat16"} if kind == "bfloat16" else label_of(name)
             for name, kind in stored.items()}
    return golden, read_candidate(folder / "dump.npz", golden, names)


@settings(max_examples=25)
@given(st.sampled_from(["ragged", "mostly text"]), st.sampled_from(list(TOWERS)),
       st.sets(st.sampled_from(BEHIND), min_size=1, max_size=6))
def test_a_tower_without_taps_is_told_by_the_rows_that_it_hands_over(sweep, tmp_path_factory, scene, tower, behind):
    """However fine the decoder behind them is: in a long text few rows come from the tower."""
    stored = {"lm.in": tower, **dict.fromkeys([name for name in BEHIND if name in behind], "float32")}
    golden, candidate = left_behind(sweep, TOWERS[tower], stored, tmp_path_factory.mktemp("dump"), scene)
    found = compare(golden, candidate)
    assert not found.differs and set(found.computed.values()) == {tower}


def test_rows_of_text_do_not_speak_for_the_tower(sweep, tmp_path):
    """They may round a great deal, or not at all, as the table of words is stored."""
    golden, candidate = left_behind(sweep, TOWERS["bfloat16"], {"lm.in": "bfloat16"}, tmp_path)
    (tap,) = laid(golden, candidate)
    text = golden.tables(COORDINATES)["s"].reshape(len(tap.golden), -1)[:, 0] < 0
    yards = golden.tables(f"{YARDSTICK}.bfloat16")
    rough = {tap.name: np.where(text, 100 * yards[tap.name].max(), yards[tap.name])}
    other = SimpleNamespace(tables=lambda name: rough if name.startswith(YARDSTICK) else golden.tables(name))
    assert text.any() and of_features(other, [tap]) == of_features(golden, [tap]) == {tap.name: "bfloat16"}


@pytest.mark.parametrize("moved", [("tower.stem", "tower.sorted"), ("bridge.cells", "bridge.out")])
@pytest.mark.parametrize("kinds", [("bfloat16", "float16"), ("bfloat16", "float32"), ("float16", "float32")])
def test_what_another_tap_holds_in_finer_numbers_was_only_stored_so(sweep, tmp_path, moved, kinds):
    stored = dict(zip(moved, kinds, strict=True))
    golden, candidate = left_behind(sweep, TOWERS["float32"], stored, tmp_path)
    assert compare(golden, candidate).computed[label_of(moved[0])] != kinds[0]
    with local_golden(sweep.vlm, golden, candidate) as beside:
        assert not compare(beside, candidate).differs
    # a run that is computed so shows it in both, and rounds as roughly as it says
    stored = dict.fromkeys(moved, kinds[0])
    golden, candidate = left_behind(sweep, TOWERS[kinds[0]], stored, tmp_path)
    assert set(compare(golden, candidate).computed.values()) == {kinds[0]}
