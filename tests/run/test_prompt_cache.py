"""A prompt cache: what is taken from it is what would have been computed, and what differs is computed.

Read next: `test_together.py`.
"""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minivl
from minivl.door.errors import ArgumentError
from minivl.run.inputs import Inputs
from minivl.run.prompt_cache import common, known_by
from minivl.show.samples import FOLDER
from minivl.truth.museum.world import world

from ..properties.worlds import IMAGE, VIDEO, configs, model, prompts


def ran(vlm, inputs, steps=4, **options):
    """Tokens, and how many rows went through the decoder until the first of them."""
    with minivl.session(record="decoder.embed_tokens") as seen:
        tokens = vlm.generate(inputs, steps, stop_ids=(), **options)
    return tokens, len(seen.trace["decoder.embed_tokens"])


@st.composite
def turns(draw):
    """A model, and prompts that begin as an earlier one does: with its answer and more text behind
    it, with one token changed, with one number of a picture changed, cut off, or all new."""
    config = draw(configs())
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    first = draw(prompts(config))
    made, kinds = (
        [first],
        draw(st.lists(st.sampled_from(["on", "token", "pixel", "new", "same"]), max_size=4)),
    )
    for kind in kinds:
        base = made[draw(st.integers(0, len(made) - 1))]
        if kind == "new":
            made.append(draw(prompts(config)))
        elif kind == "same":
            made.append(base)
        elif kind == "on":
            made.append(rebuilt(base, config, np.concatenate([base.input_ids, rng.integers(0, 50, 5)])))
        elif kind == "token":
            ids, text = base.input_ids.copy(), np.flatnonzero(base.input_ids < 50)
            ids[rng.choice(text)] = rng.integers(0, 50)
            made.append(rebuilt(base, config, ids))
        elif len(base.patches):
            patches = base.patches.copy()
            patches[rng.integers(len(patches)), 7] += 1
            made.append(Inputs(base.input_ids, base.position_ids, patches, base.media))
    return config, made


def rebuilt(base, config, ids):
    """The same pictures and videos in other ids."""
    arrays = {
        name: value for name, value in base.arrays().items() if name not in ("input_ids", "position_ids")
    }
    return Inputs.from_arrays({**arrays, "input_ids": ids}, config)


def same_beginning(a, b):
    """Rows that two prompts begin with alike, by loops; the patches of a picture are looked at as a
    whole."""
    at, media = 0, 0
    patches = [[p.patches[m.rows].tobytes() + repr(m.grid).encode() for m in p.media] for p in (a, b)]
    ends = [
        [
            row
            for row in range(len(p.input_ids))
            if p.input_ids[row] in (IMAGE, VIDEO)
            and (row == 0 or p.input_ids[row - 1] not in (IMAGE, VIDEO))
        ]
        for p in (a, b)
    ]
    while at < min(len(a.input_ids), len(b.input_ids)):
        if a.input_ids[at] != b.input_ids[at] or (a.position_ids[:, at] != b.position_ids[:, at]).any():
            return at
        if at in ends[0] and patches[0][media] != patches[1][media]:
            return at
        media += at in ends[0]
        at += 1
    return at


@settings(max_examples=40)
@given(turns(), st.sampled_from([None, 3, 17]))
def test_each_turn_writes_what_it_writes_without_and_computes_only_what_is_new(drawn, chunk):
    config, made = drawn
    vlm, kept, before = model(config, dtype="float64"), minivl.PromptCache(), []
    for inputs in made:
        known = kept.reused
        tokens = vlm.generate(inputs, 3, stop_ids=(), reuse=kept, chunk=chunk)
        assert tokens == vlm.generate(inputs, 3, stop_ids=())
        alike = max((same_beginning(inputs, other) for other in before), default=0)
        assert kept.reused - known == min(alike, len(inputs.input_ids) - 1)
        spoken = (
            [] if {IMAGE, VIDEO} & {*tokens} else tokens[:-1]
        )  # a word for a picture is none in a prompt
        before.append(
            rebuilt(inputs, config, np.concatenate([inputs.input_ids, np.array(spoken, np.int64)]))
        )


def test_only_the_new_rows_run_and_pictures_that_are_known_are_not_looked_at():
    vlm, kept = minivl.load(), minivl.PromptCache()
    talk = [
        {
            "role": "user",
            "content": [
                {"type": "image", "image": FOLDER / "number.png"},
                {"type": "text", "text": "What number is written?"},
            ],
        }
    ]
    answer = vlm.chat(talk, reuse=kept)
    talk += [{"role": "assistant", "content": answer}, {"role": "user", "content": "Where is it?"}]
    inputs = vlm.prepare(talk)
    with minivl.session(record=["vision.*", "decoder.embed_tokens"], quiet=True) as seen:
        second = vlm.chat(talk, reuse=kept)
    assert second == vlm.chat(talk) and "vision.embed_patches" not in seen.trace
    assert len(seen.trace["decoder.embed_tokens"]) == len(inputs.input_ids) - kept.reused < 25
    assert kept.reused > len(vlm.prepare(talk[:1]).input_ids)  # the answer's rows were used as well
    stream = vlm.chat(
        [*talk, {"role": "assistant", "content": second}, {"role": "user", "content": "Describe the image."}],
        stream=True,
        reuse=kept,
    )
    next(stream)
    before = len(kept)
    stream.close()  # what a stream has read is kept when it closes
    assert len(kept) >= before and kept.nbytes > 0


@pytest.mark.parametrize(
    ("precision", "kernels", "cache"),
    [
        ("float32", "definition", "int8"),
        ("float32", "definition", "bfloat16"),
        ("bfloat16", "definition", None),
        ("float32", "jit", None),
        ("float32", "jit", "int8"),
        ("bfloat16", "jit", "int8"),
    ],
)
def test_rows_come_back_as_they_were_stored(precision, kernels, cache):
    """Of two runs of one prompt the second takes all rows but the last: bit for bit those of the
    first."""
    vlm, kept = world().on(precision, kernels), minivl.PromptCache()
    inputs = Inputs.from_ids(np.random.default_rng(1).integers(0, 600, 60), vlm.config)
    first, rows = ran(vlm, inputs, reuse=kept, cache=cache)
    ((_, stored),) = kept._kept
    again, left = ran(vlm, inputs, reuse=kept, cache=cache)
    assert (rows, left) == (60, 1) and first == again and len(kept) == 1
    assert stored.k.shape == (2, 63, 2, 12) and kept.nbytes == stored.nbytes + 63 * 6 * 8


def test_what_was_used_longest_ago_goes_first():
    vlm = world()
    prompts_ = [Inputs.from_ids(np.full(40, n), vlm.config) for n in range(4)]
    one = minivl.PromptCache()
    vlm.generate(prompts_[0], 2, stop_ids=(), reuse=one)
    kept = minivl.PromptCache(limit=2 * one.nbytes + 1)
    for n in (0, 1, 0, 2, 0, 1):  # 1 goes for 2, 2 goes for 1
        vlm.generate(prompts_[n], 2, stop_ids=(), reuse=kept)
        assert kept.nbytes <= kept.limit and len(kept) <= 2
    assert kept.reused == 39 * 2
    small = minivl.PromptCache(limit=one.nbytes - 1)
    vlm.generate(prompts_[0], 2, stop_ids=(), reuse=small)
    assert len(small) == 0 and small.nbytes == 0
    kept.clear()
    assert len(kept) == 0


def test_a_longer_turn_takes_the_place_of_its_beginning():
    vlm, kept = world(), minivl.PromptCache()
    ids = np.arange(50)
    for n in (10, 30, 50, 20):
        vlm.generate(Inputs.from_ids(ids[:n], vlm.config), 1, stop_ids=(), reuse=kept)
    assert len(kept) == 1 and len(kept._kept[0][0]) == 50


def test_a_picture_is_computed_whole_or_not_at_all():
    """A prompt that ends in a picture: its last row gives the scores, so the picture runs again,
    from its first row."""
    vlm, kept = world("float64"), minivl.PromptCache()
    config = vlm.config
    ids = [1, 2, config.vision_start_token_id, *[config.image_token_id] * 6]
    pixels = np.random.default_rng(0).normal(size=(24, 1176)).astype(np.float32)
    inputs = Inputs.from_ids(ids, config, pixels, np.array([[1, 4, 6]]))
    first = vlm.generate(inputs, 3, stop_ids=(), reuse=kept)
    assert vlm.generate(inputs, 3, stop_ids=(), reuse=kept) == first and kept.reused == 3


def test_other_positions_are_other_rows():
    vlm, kept = world(), minivl.PromptCache()
    inputs = Inputs.from_ids(np.arange(20), vlm.config)
    vlm.generate(inputs, 2, reuse=kept)
    moved = inputs.with_positions(inputs.position_ids + np.arange(20) // 10)
    assert common(known_by(inputs, vlm.config), known_by(moved, vlm.config)) == 10
    assert vlm.generate(moved, 4, reuse=kept, stop_ids=()) == vlm.generate(moved, 4, stop_ids=())
    assert kept.reused == 10


def test_rows_of_another_model_or_type_are_refused():
    vlm, kept = world(), minivl.PromptCache()
    inputs = Inputs.from_ids([1, 2, 3], vlm.config)
    vlm.generate(inputs, 1, reuse=kept)
    for other, options in ((vlm.on("float64"), {}), (vlm.on(), {}), (vlm, {"cache": "int8"})):
        with pytest.raises(ArgumentError, match="make one for each"):
            other.generate(inputs, 1, reuse=kept, **options)
    for limit in (-1, 1.5, True, "1GB"):
        with pytest.raises(ArgumentError, match="limit"):
            minivl.PromptCache(limit)


def test_rows_that_a_session_changed_are_neither_kept_nor_used():
    vlm, kept = world(), minivl.PromptCache()
    inputs = Inputs.from_ids(np.arange(9), vlm.config)
    plain = vlm.generate(inputs, 3, stop_ids=(), reuse=kept)
    with minivl.using({"decoder.layers.0.add_mlp": lambda x, norm, mlp: x}):
        changed = vlm.generate(inputs, 3, stop_ids=())
        assert vlm.generate(inputs, 3, stop_ids=(), reuse=kept) == changed
    assert kept.reused == 0 and vlm.generate(inputs, 3, stop_ids=(), reuse=kept) == plain


def test_a_run_that_is_stopped_keeps_only_whole_rows():
    """The second step is stopped inside a layer: its row is not kept, those before it are."""
    vlm, kept = world(), minivl.PromptCache()
    inputs = Inputs.from_ids(np.arange(9), vlm.config)
    plain = vlm.generate(inputs, 4, stop_ids=())
    with pytest.raises(minivl.Stopped), minivl.session(stop_after="decoder@2.layers.1.attend"):
        vlm.generate(inputs, 4, stop_ids=(), reuse=kept)
    assert len(kept._kept[0][0]) == 10 and vlm.generate(inputs, 4, stop_ids=(), reuse=kept) == plain


def test_several_threads_use_one():
    vlm, kept = world(), minivl.PromptCache(limit=200_000)
    prompts_ = [Inputs.from_ids(np.arange(n % 5, 30 + n), vlm.config) for n in range(12)]
    wanted = [vlm.generate(inputs, 3, stop_ids=()) for inputs in prompts_]
    found = [None] * len(prompts_)

    def work(n):
        found[n] = vlm.generate(prompts_[n], 3, stop_ids=(), reuse=kept)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(len(prompts_))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == wanted and kept.nbytes <= kept.limit
