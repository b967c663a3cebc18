"""Conversations that join and leave while others run: each writes what it writes alone, and rows
are used again.

Read next: `minivl/run/together.py`.
"""

import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minivl
from minivl.door.errors import ArgumentError
from minivl.run.cache import KVCache
from minivl.run.generation import NotFiniteError
from minivl.run.inputs import Inputs
from minivl.truth.museum.world import world

from ..properties.worlds import configs, grids, model, prompts

WAYS = [
    {},
    {"do_sample": True, "temperature": 1.5, "seed": 5},
    {"repetition_penalty": 1.3},
    {"do_sample": True, "top_k": 5, "seed": 9, "repetition_penalty": 1.1},
]


@st.composite
def scripts(draw):
    """A model, prompts with their ways of choosing, and what happens before each step: who joins,
    who leaves."""
    config = draw(configs())
    talks = [
        (draw(prompts(config)), draw(st.integers(1, 6)), draw(st.sampled_from(WAYS)))
        for _ in range(draw(st.integers(1, 5)))
    ]
    joins = sorted(draw(st.lists(st.integers(0, 12), min_size=len(talks), max_size=len(talks))))
    leaves = draw(st.dictionaries(st.integers(0, len(talks) - 1), st.integers(0, 12), max_size=2))
    least = max(len(inputs.input_ids) + new for inputs, new, _ in talks)
    return config, talks, joins, leaves, least + draw(st.integers(0, 60)), draw(st.integers(1, 30))


def spoilt(room):
    """The same room, whose rows that nobody has written are NaN: whoever reads one shows it."""
    for table in (room.cache.k, room.cache.v):
        table[:] = np.nan
    return room


@settings(max_examples=50)
@given(scripts())
def test_each_writes_what_it_writes_alone_whoever_joins_and_leaves(script):
    config, talks, joins, leaves, rows, chunk = script
    vlm = model(config, dtype="float64")
    room = spoilt(vlm.together(rows=rows, chunk=chunk))
    wanted = [vlm.generate(inputs, new, stop_ids=(), **way) for inputs, new, way in talks]
    seated, number = [], 0
    while number <= 12 or not all(talk.over for talk in seated):
        for n in range(len(seated), sum(at <= number for at in joins)):
            inputs, new, way = talks[n]
            seated.append(room.join(inputs, new, stop_ids=(), **way))
        for n, at in leaves.items():
            if at == number and n < len(seated):
                seated[n].leave()
        going = room.step()
        assert going == any(not talk.over for talk in seated)
        held = [(talk.capacity, room.cache.starts[talk.slot]) for talk in room.seated]
        assert sum(size for size, _ in held) <= rows and len({start for _, start in held}) == len(held)
        number += 1
        assert number < 500
    assert len(seated) == len(talks) and not room.cache.capacities.any()
    for talk, right in zip(seated, wanted, strict=True):
        assert (
            talk.tokens == right if talk.reason == "length" else talk.tokens == right[: len(talk.tokens)]
        )
        assert talk.reason in ("length", "left") and (talk.reason == "left") <= (
            seated.index(talk) in leaves
        )


@settings(max_examples=10)
@given(scripts())
def test_compiled_and_in_bytes_too(script):
    """Scores of compiled kernels differ by rounding between one row and many: tokens are compared
    where the scores of the two best words are further apart than that."""
    config, talks, _, _, rows, chunk = script
    vlm = model(config).on("float32", "jit")
    room = vlm.together(rows=rows, chunk=chunk, cache="int8")
    seated = [room.join(inputs, new, stop_ids=()) for inputs, new, _ in talks]
    room.run()
    for talk, (inputs, new, _) in zip(seated, talks, strict=True):
        right = vlm.generate(inputs, new, stop_ids=(), cache="int8")
        at = next(
            (n for n, pair in enumerate(zip(talk.tokens, right, strict=True)) if pair[0] != pair[1]),
            None,
        )
        if at is not None:
            scores = vlm.logits(inputs, [*right[:at], 0], cache="int8")[-1]
            assert scores[right[at]] - scores[talk.tokens[at]] < 1e-2 * np.abs(scores).max()


def test_stop_ids_and_reasons():
    vlm = world("float64")
    inputs = Inputs.from_ids(np.arange(12), vlm.config)
    free = vlm.generate(inputs, 6, stop_ids=())
    room = vlm.together(rows=100)
    stopped, whole, gone = (room.join(inputs, 6, stop_ids=ids) for ids in ((free[2],), (), ()))
    gone.leave()
    assert list(stopped) == free[: free.index(free[2]) + 1] and stopped.reason == "stop"
    assert (
        list(whole) == free and whole.reason == "length" and list(gone) == [] and gone.reason == "left"
    )


def test_rows_of_those_who_left_are_used_again_and_others_wait_for_them():
    """Room for two of three: the third waits for the first to end, and takes its rows."""
    vlm = world("float64")
    room = vlm.together(rows=40)
    one, two, three = (
        room.join(Inputs.from_ids(np.arange(n, n + 10), vlm.config), new, stop_ids=())
        for n, new in ((0, 3), (1, 10), (2, 9))
    )
    room.step()
    assert room.cache.capacities.tolist() == [13, 20] and [t.slot for t in (one, two, three)] == [
        0,
        1,
        -1,
    ]
    room.run()
    assert three.slot == 0 and [len(t.tokens) for t in (one, two, three)] == [3, 10, 9]
    with pytest.raises(ArgumentError, match=r"rows, and there are 40.*together\(rows"):
        room.join(Inputs.from_ids(np.arange(30), vlm.config), 11)
    with pytest.raises(ArgumentError, match="max_new_tokens"):
        room.join(Inputs.from_ids(np.arange(3), vlm.config), 0)
    with pytest.raises(ArgumentError, match="rows is"):
        vlm.together(rows=1)


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 9)), max_size=40))
def test_ranges_of_the_arena_never_overlap(moves):
    """Joins and leaves at random, against a list of single rows."""
    vlm, rows = world(), 20
    cache = KVCache(vlm.config.text, np.zeros(0, np.int64), np.float32, rows=rows)
    owner, open_ = [None] * rows, []
    for leaves, size in moves:
        if leaves and open_:
            j = open_.pop(size % len(open_))
            cache.leave(j)
            owner = [None if one == j else one for one in owner]
            continue
        free = [
            at
            for at in range(rows - size + 1)
            if not any(one is not None for one in owner[at : at + size])
        ]
        j = cache.join(size)
        assert (j is None) == (not free)
        if j is not None:
            assert cache.starts[j] == free[0] and cache.capacities[j] == size and j not in open_
            owner[free[0] : free[0] + size] = [j] * size
            open_.append(j)


def test_pictures_are_looked_at_once_however_many_chunks_they_take():
    config = world().config
    vlm = world("float64")
    rng = np.random.default_rng(0)
    ids = [1, config.vision_start_token_id, *[config.image_token_id] * 30, config.vision_end_token_id, 2]
    inputs = Inputs.from_ids(
        ids, config, rng.normal(size=(120, 1176)).astype(np.float32), np.array([[1, 10, 12]])
    )
    with minivl.session(record=["vision.embed_patches", "decoder*.place_features"]) as seen:
        talk = vlm.together(rows=200, chunk=7).join(inputs, 2, stop_ids=())
        assert list(talk) == vlm.generate(inputs, 2, stop_ids=())
    assert sum(key.startswith("vision") for key in seen.trace) == 2  # once for each of the two ways


def test_scores_that_are_no_numbers_end_one_and_no_other():
    config, vlm = world().config, world()
    ids = [1, config.vision_start_token_id, *[config.image_token_id] * 4, config.vision_end_token_id, 2]
    bad = Inputs.from_ids(ids, config, np.full((16, 1176), 3e38, np.float32), np.array([[1, 4, 4]]))
    good = Inputs.from_ids(np.arange(9), config)
    room = vlm.together(rows=100)
    one, two = room.join(good, 8, stop_ids=()), room.join(bad, 8)
    with np.errstate(all="ignore"), pytest.raises(NotFiniteError, match="vision"):
        list(two)
    assert list(one) == vlm.generate(good, 8, stop_ids=()) and two.reason == "error"


def test_what_goes_wrong_in_a_step_reaches_everybody_and_leaves_the_room_usable():
    vlm = world("float64")
    room, inputs = vlm.together(rows=100), Inputs.from_ids(np.arange(9), vlm.config)
    talks = [room.join(inputs, 4, stop_ids=()) for _ in range(2)]

    def broken(x, norm, mlp):
        raise RuntimeError("a kernel broke")

    planted = minivl.session(replace={"decoder.layers.1.add_mlp": lambda right: broken}, quiet=True)
    with planted, pytest.raises(RuntimeError, match="broke"):
        room.run()
    for talk in talks:
        with pytest.raises(RuntimeError, match="broke"):
            list(talk)
    assert list(room.join(inputs, 4, stop_ids=())) == vlm.generate(inputs, 4, stop_ids=())


def with_a_picture(config, seed=0):
    rng = np.random.default_rng(seed)
    ids = [1, config.vision_start_token_id, *[config.image_token_id] * 4, config.vision_end_token_id, 2]
    return Inputs.from_ids(ids, config, rng.normal(size=(16, 1176)).astype(np.float32), np.array([[1, 4, 4]]))


def test_what_goes_wrong_with_ones_pictures_ends_that_one_alone():
    vlm = world("float64")
    plain, seen = Inputs.from_ids(np.arange(9), vlm.config), with_a_picture(vlm.config)
    right = vlm.generate(plain, 6, stop_ids=())

    def broken(rows, index):
        raise MemoryError("a picture too many")
    room = vlm.together(rows=100)
    planted = minivl.session(replace={"vision.order_by_window": lambda pass_: broken}, quiet=True)
    with planted:
        one, two = room.join(plain, 6, stop_ids=()), room.join(seen, 6)
        with pytest.raises(MemoryError, match="too many"):
            list(two)
        assert two.reason == "error" and not one.over and list(one) == right
    assert not room.cache.capacities.any()


@pytest.mark.parametrize("stays", [False, True])
def test_who_leaves_in_the_midst_of_a_run_stops_it_only_where_nobody_else_waits(stays):
    vlm = world("float64")
    plain, seen = Inputs.from_ids(np.arange(9), vlm.config), with_a_picture(vlm.config)
    room, talks, ran = vlm.together(rows=100, reuse=minivl.PromptCache()), [], []

    def leaving(label):
        ran.append(label)
        if label == "decoder.layers.1":
            talks[0].leave()
    talks += [room.join(inputs, 5, stop_ids=()) for inputs in ([plain, seen] if stays else [plain])]
    with minivl.session(before=leaving):
        room.run()
    assert talks[0].reason == "left"
    if stays:                                          # that run came to its end, and the other one goes on
        assert list(talks[1]) == vlm.generate(seen, 5, stop_ids=()) and len(talks[0].tokens) == 1
    else:
        assert talks[0].tokens == [] and ran[-1].startswith("decoder.layers.1") and len(room.reuse) == 0


def test_pictures_of_one_who_left_are_not_looked_at_to_their_end():
    vlm = world("float64")
    plain, seen = Inputs.from_ids(np.arange(9), vlm.config), with_a_picture(vlm.config)
    room, ran = vlm.together(rows=100), []

    def leaving(label):
        ran.append(label)
        if label == "vision.blocks.0":
            two.leave()
    one, two = room.join(plain, 6, stop_ids=()), room.join(seen, 6)
    with minivl.session(before=leaving):
        room.run()
    assert two.reason == "left" and list(one) == vlm.generate(plain, 6, stop_ids=())
    assert "vision.blocks.1" not in ran


def test_scores_are_those_by_which_the_newest_token_was_chosen():
    vlm = world("float64")
    inputs = Inputs.from_ids(np.arange(9), vlm.config)
    room, found = vlm.together(rows=100), []
    talk = room.join(inputs, 4, stop_ids=())
    assert talk.scores is None
    while room.step():
        found.append(talk.scores)
    found.append(talk.scores)
    np.testing.assert_allclose(np.stack(found), vlm.logits(inputs, talk.tokens), atol=1e-9)


def test_a_thread_runs_the_steps_while_others_join_wait_and_leave():
    vlm, kept = world("float64"), minivl.PromptCache()
    prompts_ = [Inputs.from_ids(np.arange(n, n + 20 + n), vlm.config) for n in range(8)]
    wanted = [vlm.generate(inputs, 12, stop_ids=()) for inputs in prompts_]
    room, closed, found = vlm.together(rows=120, chunk=8, reuse=kept), threading.Event(), {}
    loop = threading.Thread(target=room.run_until, args=(closed, 0.01))
    loop.start()

    def customer(n):
        talk = room.join(prompts_[n], 12, stop_ids=())
        found[n] = []
        for token in talk:
            found[n].append(token)
            if n % 3 == 2 and len(found[n]) == 3:
                talk.leave()

    threads = [threading.Thread(target=customer, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
        time.sleep(0.002)
    for thread in threads:
        thread.join(60)
    closed.set()
    loop.join(60)
    assert not loop.is_alive() and sorted(found) == list(range(8))
    for n, tokens in found.items():
        assert tokens == (wanted[n][: len(tokens)] if n % 3 == 2 else wanted[n]) and len(tokens) >= 3
    again = room.join(prompts_[1], 12, stop_ids=())  # by nobody's thread, and from what was kept
    assert list(again) == wanted[1] and kept.reused >= 20


def test_text_comes_in_whole_characters():
    vlm = minivl.load()
    messages = [{"role": "user", "content": "Hello?"}]
    talk = vlm.together().join(vlm.prepare(messages), 20)
    assert talk.text() == vlm.chat(messages, 20, temperature=0)


@settings(max_examples=10)
@given(st.data())
def test_a_chunk_of_any_size_cuts_pictures_anywhere(data):
    config = data.draw(configs())
    inputs = data.draw(
        prompts(config, st.lists(grids.map(lambda grid: (60, grid, 1.0)), min_size=1, max_size=2))
    )
    vlm = model(config, dtype="float64")
    right = vlm.generate(inputs, 2, stop_ids=())
    for chunk in range(1, 12):
        assert (
            list(vlm.together(rows=len(inputs.input_ids) + 2, chunk=chunk).join(inputs, 2, stop_ids=()))
            == right
        )
