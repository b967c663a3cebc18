"""Every rung of the kernel ladder is the first one, a wrong rung is found, and what a machine lacks is said."""

import sys
from dataclasses import replace

import numpy as np
import pytest

from minivl.door.errors import ArgumentError
from minivl.teach import ladder

RUNGS = [(name, rung) for name, found in ladder.LADDERS.items() for rung in found.rungs]


def made(rung):
    """A rung's function; skipped where this machine has no way to run it."""
    try:
        return rung.made()
    except (ImportError, ArgumentError) as lacking:
        pytest.skip(str(lacking))


@pytest.mark.parametrize(("name", "rung"), RUNGS, ids=[f"{name}, {rung.name}" for name, rung in RUNGS])
def test_a_rung_is_right(name, rung):
    assert ladder.verdict(ladder.LADDERS[name], rung, made(rung), seconds=120) == "right"


def test_the_first_rungs_mean_what_the_kernels_mean():
    """By another way than loops: the definitions in float64."""
    from minivl.checkpoint.tree import Linear
    from minivl.checkpoint.weight import weight
    from minivl.kernels import definition
    draw = np.random.default_rng(0)
    w, x = draw.standard_normal((7, 5)), draw.standard_normal((6, 5))
    wanted = definition.linear(x, Linear(weight(w), None))
    assert np.allclose(ladder.product_by_loops(w, x), wanted, rtol=1e-12)
    assert np.allclose(ladder.vector_by_loops(w, x[0]), wanted[0], rtol=1e-12)
    q, k, v = (draw.standard_normal((n, 4)) for n in (3, 9, 9))
    attended = definition.attend(q[:, None], k[:, None], v[:, None], np.array([[0, 3, 0, 9]]), False)
    assert np.allclose(ladder.attention_by_loops(q, k, v), attended[:, 0], rtol=1e-12)


def test_the_rung_on_tiles_is_checked_where_there_are_none():
    pytest.importorskip("numba")
    of = ladder.LADDERS["matrix_product"]
    assert ladder.verdict(of, of.rungs[-1], ladder.emulated_tiles(), seconds=120) == "right"


@pytest.mark.parametrize(("name", "wrong"), [
    ("matrix_vector", lambda w, x: w @ x + np.float32(1e-3)), ("matrix_vector", lambda w, x: (w.T @ w)[0]),
    ("matrix_product", lambda w, x: ladder.in_bf16(x) @ w.T), ("matrix_product", lambda w, x: x[::-1] @ w.T),
    ("attention", lambda q, k, v: ladder.attention_by_numpy(2 * q, k, v)),
    ("attention", lambda q, k, v: np.exp(q @ k.T / q.shape[1] ** 0.5) @ v)])
def test_a_wrong_rung_is_found(name, wrong):
    of = ladder.LADDERS[name]
    assert ladder.verdict(of, of.rungs[1], wrong) != "right"


def test_rungs_with_other_weights_are_held_to_these_weights():
    pytest.importorskip("numba")
    of = ladder.LADDERS["matrix_vector"]
    eight = next(rung for rung in of.rungs if rung.name == "packed, int8")
    assert ladder.verdict(of, eight._replace(sees=None), eight.made()) != "right"


def small(monkeypatch, name):
    of = ladder.LADDERS[name]
    monkeypatch.setitem(ladder.LADDERS, name, of._replace(large=of.small))


def test_the_table_says_what_is_wrong_and_how_fast_the_rest_is(monkeypatch):
    small(monkeypatch, "matrix_vector")
    of = ladder.LADDERS["matrix_vector"]
    broken = of.rungs[1]._replace(made=lambda: lambda w, x: w @ x * 2)
    monkeypatch.setitem(ladder.LADDERS, "matrix_vector", of._replace(rungs=(of.rungs[0], broken)))
    steps = ladder.climbed("matrix_vector", turns=1)
    assert steps[0].verdict == "right" and steps[0].rate > 0 and steps[1].verdict != "right"
    said = str(ladder.climb("matrix_vector", turns=1))
    assert "WRONG" in said and "loops" in said.splitlines()[2]


def test_without_numba_the_first_rungs_are_climbed(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("minivl.kernels.jit")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(sys.modules["minivl.kernels"], "jit", raising=False)
    monkeypatch.setitem(sys.modules, "numba", None)
    ladder.compiled.cache_clear()
    for name in ladder.LADDERS:
        small(monkeypatch, name)
        steps = ladder.climbed(name, turns=1)
        assert [step.rate is not None for step in steps] == [
            "NumPy" in step.rung.name or step.rung.name == "loops" for step in steps]
        assert all('pip install "minivl[jit]"' in step.verdict for step in steps if step.rate is None)


def test_without_tiles_the_rung_is_emulated(monkeypatch):
    tiers = pytest.importorskip("minivl.kernels.jit.tiers")
    small(monkeypatch, "matrix_product")
    monkeypatch.setattr(tiers, "lacking", lambda tier: ["amx_tile"] if tier.tiles else [])
    of = ladder.LADDERS["matrix_product"]
    monkeypatch.setitem(ladder.LADDERS, "matrix_product", of._replace(rungs=(of.rungs[0], of.rungs[-1])))
    step = ladder.climbed("matrix_product", turns=1)[-1]
    assert step.rate is None and step.verdict.startswith("not here: it needs amx_tile") and (
        step.verdict.endswith("one by one in NumPy: right"))


def test_the_rungs_stand_on_the_tiers_that_they_name(monkeypatch):
    tiers = pytest.importorskip("minivl.kernels.jit.tiers")
    monkeypatch.setattr(tiers, "lacking", lambda tier: [])
    assert [ladder.best_tier(tiles).name for tiles in (False, True)] == ["avx512-bf16", "amx"]
    monkeypatch.setattr(tiers, "lacking", lambda tier: ["it"] * (tier.name != "avx2"))
    assert ladder.best_tier(False).name == "avx2"
    with pytest.raises(ArgumentError, match="it needs it"):
        ladder.best_tier(True)


def test_a_ladder_that_there_is_none_of_is_refused():
    with pytest.raises(ArgumentError, match="ladders are matrix_vector, matrix_product, attention, got 'gelu'"):
        ladder.climb("gelu")


def test_an_exercise_of_a_ladder_is_not_the_models():
    """The rule of a rung with other weights never becomes the ladder's own."""
    of = ladder.LADDERS["matrix_vector"]
    assert of.exercise.rule is None and replace(of.exercise, rule=len).rule is len
