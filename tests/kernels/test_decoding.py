"""A decoder layer in one call: the bits of the same layer kernel by kernel, and where it does not stand in.

Read next: `compiled.py` (how a tier is run).
"""

from __future__ import annotations

import gc
import sys
import threading
import time
import weakref
from queue import SimpleQueue

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minivl
from minivl import model
from minivl.door.errors import ArgumentError
from minivl.door.stage import running as on_machine
from minivl.kernels import interpreter, jit
from minivl.kernels.jit import meeting, tiers
from minivl.kernels.jit.layer import Weights
from minivl.kernels.jit.team import SMALL, Team
from minivl.run.cache import KVCache

from .compiled import PRECISIONS, Quick, drawn_layer, running, steps_of

THREADS = sys.modules["minivl.kernels.jit.team"]
BEST = tiers.best().name
EMULATED = ["portable", "avx2", "avx512-bf16"]


def assert_same_bits(sizes, format, conversations, precision):
    layer = drawn_layer(*sizes, format, seed=3)
    together, one_by_one = (steps_of(layer, sizes[3], conversations, precision, fused) for fused in (True, False))
    assert together == one_by_one


FORMS = [("bf16", "float32"), ("bf16", "bfloat16"), ("int4", "bfloat16")]
ALSO = [("f32", "float32"), ("f32", "bfloat16"), ("int4", "float32"), ("int8", "float32"), ("int8", "bfloat16")]


@pytest.mark.parametrize(("format", "precision"), [*FORMS, *(pytest.param(*form, marks=pytest.mark.full)
                                                             for form in ALSO)])
def test_one_call_gives_the_bits_of_its_kernels(format, precision):
    """Sizes that are no multiples of anything, one to four conversations of other lengths, several threads."""
    for threads, sizes, conversations in ((1, (4, 2, 3, 40, 50), [7]), (2, (6, 3, 8, 33, 70), [1, 90]),
                                          (3, (2, 2, 5, 130, 129), [64, 1, 3, 200])):
        with running(BEST, False, threads):
            assert_same_bits(sizes, format, conversations, precision)


@given(st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 20), st.integers(1, 100), st.integers(1, 100)),
       st.sampled_from(["bf16", "int4"]), st.lists(st.integers(0, 150), min_size=1, max_size=4),
       st.sampled_from(sorted(PRECISIONS)), st.integers(1, 3))
def test_one_call_gives_the_bits_of_its_kernels_for_any_sizes(sizes, format, conversations, precision, threads):
    kv_heads, group, *others = sizes
    with running(BEST, False, threads):
        assert_same_bits((kv_heads * group, kv_heads, *others), format, conversations, precision)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("tier", EMULATED)
def test_one_call_on_the_emulator(tier, precision):
    with running(tier, True, kind=Quick):
        for format in ("bf16", "int8", "int4"):
            assert_same_bits((4, 2, 3, 33, 40), format, [3, 70], precision)


def test_it_is_one_call_and_only_for_steps_that_it_can_do(monkeypatch):
    asked = []

    class Counting(Team):
        def run_together(self, function, *args, work):
            asked.append(isinstance(args[2], Weights))
            super().run_together(function, *args, work=work)
    crew = Counting(1)
    monkeypatch.setattr(jit, "team", lambda: crew)
    layer, dtype = drawn_layer(4, 2, 4, 40, 50, "bf16", 0), np.dtype(np.float32)

    def calls(rows, lengths, made=layer, stored=dtype):
        asked.clear()
        cache = KVCache(made.config, np.full(len(lengths), 20), stored)
        turn = (np.ones((rows, 4), dtype), np.zeros((rows, 4), dtype))
        with on_machine(interpreter("jit")):
            cache.admit(np.array(lengths))
            model.decoder_layer(0, np.ones((rows, 40), dtype), turn, cache, made)
        return asked.count(True)
    assert calls(1, [1]) == calls(4, [1, 1, 1, 1]) == calls(2, [1, 0, 1]) == 1
    assert calls(5, [1] * 5) == calls(3, [3]) == calls(3, [2, 1]) == 0
    assert calls(1, [1], stored=PRECISIONS["bfloat16"]) == 0
    mixed = layer._replace(out=drawn_layer(4, 2, 4, 40, 50, "int8", 0).out)
    assert calls(1, [1], made=mixed) == 0 and calls(1, [1]) == 1


def test_a_layer_with_another_part_is_another_layer():
    """Weights are kept as compiled code takes them; a layer that shares all but one with an earlier one is its own."""
    with running(BEST, False):
        one, two = (drawn_layer(4, 2, 3, 40, 50, "bf16", seed) for seed in (0, 1))
        before = steps_of(one, 40, [3], "float32", True)
        for name in ("out", "norm1", "norm2", "mlp"):
            changed = one._replace(**{name: getattr(two, name)})
            assert steps_of(changed, 40, [3], "float32", True) == steps_of(changed, 40, [3], "float32", False) != before
        changed = one._replace(norm1=one.norm1._replace(eps=0.5))
        assert steps_of(changed, 40, [3], "float32", True) == steps_of(changed, 40, [3], "float32", False) != before
        assert steps_of(one, 40, [3], "float32", True) == before


def test_weights_are_let_go_with_their_model():
    with running(BEST, False):
        layer = drawn_layer(4, 2, 3, 40, 50, "bf16", 0)
        steps_of(layer, 40, [3], "float32", True)
        held = [weakref.ref(layer.qkv.weight), weakref.ref(layer.qkv.weight.tiles)]
        del layer
        gc.collect()
        assert [one() for one in held] == [None, None]


def test_who_looks_inside_sees_every_stage():
    small = minivl.load(kernels="jit")
    with minivl.session(record="decoder*.rotate") as looking:
        said = small.ask(np.zeros((56, 56, 3), np.uint8), "What is this?", 2)
    assert {"decoder.layers.0.rotate", "decoder@1.layers.0.rotate"} <= set(looking.trace)
    assert said == small.ask(np.zeros((56, 56, 3), np.uint8), "What is this?", 2)


# --------------------------------------------------------------------------------- threads that wait for each other

def test_threads_meet_as_often_as_they_say():
    """Each sees what all others wrote before the meeting."""
    meet = jit.maker().made("meeting")[0]
    def share(me, size, met, board, sums):
        for turn in range(4):
            board[turn, me] = me + turn
            meet(met, size, turn + 1)
            sums[turn, me] = board[turn].sum()
        meet(met, size, 5)
    for team in (2, 3, 5):
        crew = Team(team)
        for _ in range(20):
            board, sums = np.zeros((2, 4, team), np.int64)
            crew.run_together(share, board, sums, work=SMALL)
            assert (sums == (np.arange(team).sum() + team * np.arange(4))[:, None]).all()


@pytest.mark.parametrize("guilty", [0, 1])
def test_nobody_waits_for_a_thread_that_failed(guilty):
    meet, crew = jit.maker().made("meeting")[0], Team(3)

    def share(me, team, met):
        if me == guilty:
            raise KeyError(me)
        meet(met, team, 1)
    for _ in range(3):
        with pytest.raises(KeyError, match=str(guilty)):
            crew.run_together(share, work=SMALL)


def test_work_is_claimed_once():
    claim, crew, took = jit.maker().made("meeting")[2], Team(4), []

    def share(me, team, met):
        while (number := claim(met, 2)) < 100:
            took.append(number)
        meeting_end(met, team, 1)
    meeting_end = jit.maker().made("meeting")[1]
    crew.run_together(share, work=SMALL)
    assert sorted(took) == list(range(100))


def test_an_interruption_leaves_no_word_behind(monkeypatch):
    """Who interrupts a call and makes another one must not hear of the first when the second is asked for."""
    interrupts, late, done = [], threading.Event(), []

    class Interrupted:
        """A queue; its reader is interrupted once when it waits for others' word."""

        def __init__(self):
            self.inner = SimpleQueue()
            self.put = self.inner.put

        def get(self):
            if threading.current_thread() is threading.main_thread() and interrupts:
                raise interrupts.pop()
            return self.inner.get()
    monkeypatch.setattr(THREADS, "SimpleQueue", Interrupted)
    crew = Team(2)
    interrupts.append(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        crew.run(lambda me, team: me and late.wait(20))

    def work(me, team):
        time.sleep(0.1 * me)
        done.append(me)
    late.set()
    crew.run(work)
    assert sorted(done) == [0, 1]


def test_an_emulator_refuses_to_wait():
    with pytest.raises(ArgumentError, match="a team must be 1 thread, got 2"):
        meeting.meet_alone(meeting.counts(), 2, 1)
