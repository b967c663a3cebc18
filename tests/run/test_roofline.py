"""The roof of a machine: arithmetic known by hand, the model's parts against counts by hand, and that measuring runs
with Numba and without."""

import sys

import numpy as np
import pytest
from typer.main import get_command

from minivl.cli import measure, words
from minivl.config import official_config
from minivl.door.errors import ArgumentError
from minivl.run import roofline
from minivl.run.roofline import Part, Roof

ROOF = Roof(10e9, {"a": 200e9, "b": 100e9}, 9e9, 2, {"c": "this machine lacks it"})


def test_memory_decides_left_of_the_edge_and_products_right_of_it():
    assert ROOF.edge == 20 and ROOF.rate(1) == 10e9 and ROOF.rate(20) == ROOF.rate(1000) == 200e9
    slow, fast = Part("slow", 10, 10), Part("fast", 3000, 100)
    assert [measure.waits_for(ROOF, part) for part in (slow, fast)] == ["memory", "products"]
    assert measure.least_seconds(ROOF, Part("x", 0, 10**10)) == 1.0
    assert measure.least_seconds(ROOF, Part("x", 2 * 10**11, 1)) == 1.0


def test_the_parts_of_3b_are_what_one_counts_by_hand():
    found = {part.name: part for part in roofline.parts(official_config("3B"))}
    config = official_config("3B").text
    d, inner = config.hidden_size, config.intermediate_size
    layer = d * d + 2 * config.kv_heads * config.head_dim * d + d * d + 3 * d * inner
    weights = config.num_hidden_layers * layer + config.vocab_size * d
    decode = found["decode at 512, products"]
    assert decode.flops == pytest.approx(2 * weights, rel=1e-3)                   # a multiply-add is two
    assert decode.moved == pytest.approx(2 * weights, rel=2e-2)                   # two bytes of bf16
    assert 0.9 < decode.intensity < 1.1 < found["prefill 512, products"].intensity / 100
    pairs = 2 * 2 * 513 * config.num_attention_heads * config.head_dim * config.num_hidden_layers
    assert found["decode at 512, attention"].flops == pytest.approx(pairs, rel=1e-2)


@pytest.fixture
def small(monkeypatch):
    """Sizes at which measuring takes no time."""
    monkeypatch.setattr(roofline, "cold_bytes", lambda: 2**20)
    for name, size in {"ROWS": 40, "INNER": 64, "OUTER": 64, "TRIES": 1}.items():
        monkeypatch.setattr(roofline, name, size)


def test_every_tier_of_this_machine_is_measured_or_said_to_be_lacking(small):
    tiers = pytest.importorskip("minivl.kernels.jit.tiers")
    roof = roofline.measured(seconds=300)
    own = [tier for tier in tiers.TIERS.values() if not tier.adds_bytes_alone]
    there = [tier.name for tier in own if not tiers.lacking(tier)]
    assert set(roof.peaks) == {"NumPy, float32", *(f"{name}, {kind}" for name in there
                                                   for kind in ("float32", "bfloat16"))}
    assert set(roof.lacking) == {tier.name for tier in own} - set(there)
    assert roof.bandwidth > 0 and roof.weights > 0 and min(roof.peaks.values()) > 0


def test_the_product_of_a_tier_is_the_product(small):
    build = pytest.importorskip("minivl.kernels.jit.build")
    from minivl.checkpoint import packed
    from minivl.checkpoint.weight import weight
    from minivl.kernels.jit.emulator import Emulator
    from minivl.kernels.jit.tiers import TIERS
    draw = np.random.default_rng(0)
    x, w = draw.standard_normal((40, 64), np.float32), draw.standard_normal((33, 64), np.float32)
    tiles = packed.packed(weight(w), "bf16")
    wanted = x.astype(np.float64) @ tiles.dense("float64").T
    for tier in TIERS.values():                               # by hand on the emulator: no machine is needed
        product = roofline.tier_product(build.Maker(tier, Emulator(tier.lanes)), x, tiles)
        product()
        (out,) = [cell.cell_contents for cell in product.__closure__
                  if getattr(cell.cell_contents, "shape", ()) == (40, 33)]
        assert np.abs(out - wanted).max() < 1e-5, tier.name


def test_when_the_time_is_over_the_rest_is_said_to_be_left_out(small, monkeypatch):
    tiers = pytest.importorskip("minivl.kernels.jit.tiers")
    monkeypatch.setenv("MINIVL_TIER", "portable")
    unkept = 'compiled kernels are not kept, because MINIVL_CACHE is "off". Change that'
    for cache, again in (("", "run it again. Compiled kernels are kept"), ("off", unkept)):
        monkeypatch.setenv("MINIVL_CACHE", cache)
        roof = roofline.measured(seconds=0)
        assert list(roof.peaks) == ["portable, float32"]      # what kernels run here, and not NumPy alone
        told = {name: roof.lacking[name] for name in ("portable, bfloat16", "NumPy, float32")}
        assert all(f"the 0 seconds were over before its turn: {again}" in why for why in told.values())
        assert ["ms at the least" in why for why in told.values()] == [True, False]
    others = [tier for tier in tiers.TIERS.values() if tier.name != "portable" and not tier.adds_bytes_alone]
    assert roof.lacking.keys() - told.keys() == {tier.name if tiers.lacking(tier) else f"{tier.name}, {kind}"
                                                 for tier in others for kind in ("float32", "bfloat16")}


def test_what_kernels_use_has_its_turn_first(small, monkeypatch):
    tiers = pytest.importorskip("minivl.kernels.jit.tiers")
    monkeypatch.setattr(tiers, "lacking", lambda tier: [])
    monkeypatch.setattr(roofline, "tier_product", lambda *given: None)
    monkeypatch.delenv("MINIVL_TIER", raising=False)
    for asked, first in ((None, "amx"), ("avx512-vnni", "avx512"), ("avx2-vnni", "avx2"), ("portable", "portable")):
        if asked:
            monkeypatch.setenv("MINIVL_TIER", asked)
        names = [name for name, product in roofline.products(roofline.used_tier(), {})]
        assert names[:3] == [f"{first}, float32", f"{first}, bfloat16", "NumPy, float32"]
        own = [tier.name for tier in tiers.TIERS.values() if not tier.adds_bytes_alone]
        assert names[3::2] == [f"{name}, float32" for name in reversed(own) if name != first]


def test_a_wrong_tier_is_refused_before_anything_is_measured(small, monkeypatch):
    pytest.importorskip("numba")
    monkeypatch.setattr(roofline, "best", lambda *given: pytest.fail("something was measured"))
    monkeypatch.setenv("MINIVL_TIER", "sse")
    with pytest.raises(ArgumentError, match="got 'sse'"):
        roofline.measured()


def test_what_was_left_out_is_told_beside_the_table(capsys):
    why = roofline.over(10, used=True)
    measure.show(ROOF._replace(lacking={"amx, bfloat16": why}), [Part("x", 10, 10)])
    said = " ".join(capsys.readouterr().err.split())
    assert f"not measured: amx, bfloat16: {why}" in said and "the roof may be too low" in said


def test_no_roof_lies_below_what_was_measured_under_it(small, monkeypatch, capsys):
    """On a busy machine the plain read was 3.35 GB/s and the product's 11.1."""
    monkeypatch.setattr(roofline, "weights_rate", lambda *given: 1e15)
    roof = roofline.measured(seconds=0)
    assert roof.bandwidth == 1e15 > roof.plain > 0 and roof.rate(1e-6) == 1e9
    found = [Part("x", 10, 10**9)]
    measure.show(roof, found)
    said = capsys.readouterr()
    assert "more than that, so the roof is of this figure" in said.out and "%" not in said.out
    assert "Measure again on an idle machine" in said.err
    assert measure.document(roof, found)["bandwidth"] == 1e15
    measure.show(ROOF, found)
    said = capsys.readouterr()
    assert "90% of that" in said.out and "idle" not in said.err and measure.document(ROOF, found)["plain"] == 10e9


@pytest.mark.parametrize("asked", ["0", "abc", "1025"])
def test_a_wrong_number_of_threads_is_refused_as_the_kernels_refuse_it(small, monkeypatch, asked):
    team = pytest.importorskip("minivl.kernels.jit.team")
    monkeypatch.setattr(team, "_team", None)
    monkeypatch.setenv("MINIVL_THREADS", asked)
    with pytest.raises(ArgumentError, match=f"MINIVL_THREADS must be .* 1 to 1024, got '{asked}'"):
        roofline.measured()
    monkeypatch.setenv("MINIVL_THREADS", "3")
    monkeypatch.setattr(roofline, "weights_rate", lambda *given: None)
    assert roofline.measured(seconds=0).threads == 3 == team.team().size


def test_the_help_says_after_how_many_seconds_nothing_is_begun():
    said = next(one.help for one in get_command(words.app).commands["doctor"].params if one.name == "measure")
    assert f"After {roofline.SECONDS:g} seconds nothing more is begun" in said


def test_without_numba_numpy_is_measured(small, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("minivl.kernels.jit")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(sys.modules["minivl.kernels"], "jit", raising=False)
    monkeypatch.setitem(sys.modules, "numba", None)
    roof = roofline.measured()
    assert list(roof.peaks) == ["NumPy, float32"] and roof.weights is None
    assert 'pip install "minivl[jit]"' in roof.lacking["compiled kernels"]


def test_the_largest_cache_is_left_behind_within_limits():
    assert roofline.MEMORY <= roofline.cold_bytes() <= roofline.MOST


def test_the_text_plot_has_every_part_under_the_roof():
    found = [Part("x", 10, 10), Part("y", 12, 10), Part("z", 9000, 10)]
    lines = measure.drawing(ROOF, found)
    assert len(lines) == measure.HIGH + 2 and all(len(line) < 100 for line in lines)
    letters = {mark: row for row, line in enumerate(lines) for mark in "ABC" if mark in line.split("|", 1)[-1]}
    assert sorted(letters) == ["A", "B", "C"] and letters["C"] == 0 and letters["A"] > 5
