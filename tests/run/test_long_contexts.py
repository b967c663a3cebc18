"""Long contexts: prompts in chunks, rows kept in fewer bits, how long a conversation may be.

Read next: `test_prompt_cache.py` and `test_together.py`, what else is done with the rows.
"""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minivl
from minivl.api import VLM
from minivl.checkpoint.weight import weight
from minivl.door.contract import outputs
from minivl.door.errors import ArgumentError
from minivl.kernels.stored import FORMATS
from minivl.run.cache import KVCache
from minivl.run.calibrate import key_channels
from minivl.run.inputs import Batch
from minivl.truth.museum.world import random_model, world

from ..properties.worlds import model, worlds

EPS = {"float64": 2.0**-52, "float32": 2.0**-23}


def apart(found, exact):
    """Relative distance of two arrays."""
    exact = exact.astype(np.float64)
    return float(np.linalg.norm(found.astype(np.float64) - exact) / max(np.linalg.norm(exact), 1e-30))


# ---- chunks -------------------------------------------------------------------------------------------


@given(worlds(conversations=3), st.integers(1, 40))
def test_parts_are_the_rows_and_each_sees_its_conversation_up_to_itself(world, rows):
    """Who sees whom, by loops over the tokens of the packed prompts."""
    config, conversations = world
    batch = Batch.of(conversations, config, np.float32, every_row=True)
    parts = list(batch.parts(rows))
    assert all(len(part.ids) == rows for part in parts[:-1]) and len(parts[-1].ids) < rows + 16
    for name in ("ids", "positions"):
        assert np.array_equal(
            np.concatenate([getattr(p, name) for p in parts], axis=-1), getattr(batch, name)
        )
    cache = KVCache(config.text, batch.lengths, np.float32)
    sees, place, cells = {}, [], []
    for part in parts:
        cache.admit(part.lengths)
        for q0, q1, k0, k1 in cache.segments.tolist():
            for q in range(q0, q1):
                sees[len(place) + q] = (k0, k1 - (q1 - 1 - q))
        assert np.array_equal(part.asked, np.arange(len(part.ids)))
        cells += [len(place) + row for row in part.placeholders]
        assert part.seen == slice(len(cells) - len(part.placeholders), len(cells))
        place += cache.rows.tolist()
    starts = np.repeat(np.cumsum(batch.lengths) - batch.lengths, batch.lengths)
    assert place == list(range(len(batch.ids))) and cells == batch.placeholders.tolist()
    assert sees == {row: (start, row + 1) for row, start in enumerate(starts.tolist())}


@pytest.mark.parametrize("precision", EPS)
@given(world=worlds(conversations=2), rows=st.integers(1, 40))
def test_a_prompt_in_chunks_has_the_scores_of_the_whole_within_rounding(precision, world, rows):
    """Pictures and videos are cut wherever the chunk ends. float64 proves the program, float32 its
    rounding."""
    vlm = model(world[0]).on(precision)
    for inputs in world[1]:
        whole = vlm.logits(inputs)
        with minivl.session(record="decoder*.place_features") as seen:
            made = vlm.logits(inputs, chunk=rows)
        assert sum(map(len, seen.trace.values())) == len(inputs.input_ids)
        assert len(seen.trace) == len(range(0, max(1, len(whole) - min(rows, 16) + 1), rows))
        assert made.shape == whole.shape and apart(made, whole) <= 4000 * EPS[precision]


@given(worlds(conversations=3), st.integers(1, 40))
def test_packed_conversations_in_chunks_write_the_same(world, rows):
    vlm = model(world[0], dtype="float64")
    assert vlm.generate(world[1], 4, stop_ids=(), chunk=rows) == vlm.generate(world[1], 4, stop_ids=())


@settings(max_examples=15)
@given(worlds(conversations=2), st.integers(16, 40), st.sampled_from(["float32", "bfloat16"]))
def test_compiled_chunks_of_float32_are_the_whole_bit_for_bit(world, rows, precision):
    """A row of a compiled product is the same sum whatever rows are beside it, from 16 on;
    attention adds blocks of keys in one order. In bfloat16 a block of few queries is multiplied
    otherwise than one of many."""
    vlm = model(world[0]).on(precision, "jit")
    for inputs in world[1]:
        whole, made = vlm.logits(inputs), vlm.logits(inputs, chunk=rows)
        if precision == "float32":
            assert np.array_equal(whole, made)
        else:
            exact = vlm.on("float64", "definition").logits(inputs)
            assert apart(made, exact) <= 2 * apart(whole, exact) + 2.0**-8


def peak(vlm, rows, **options):
    """Bytes at the most while a prompt of so many tokens is read."""
    inputs = minivl.Inputs.from_ids(np.arange(rows) % 50, vlm.config)
    tracemalloc.start()
    try:
        vlm.generate(inputs, 1, stop_ids=(), **options)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_of_a_prompt_does_not_grow_with_rows_times_the_widest_pass():
    """A decoder whose MLP is 64 times as wide as its stream: in chunks a row costs what is kept of
    it."""
    base = world().config
    text = replace(
        base.text,
        hidden_size=24,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=12,
        num_hidden_layers=1,
        intermediate_size=1536,
    )
    vlm = random_model(replace(base, text=text, vision=replace(base.vision, out_hidden_size=24)))
    widest = 2 * 1536 * 4  # bytes of gate and up of a row
    whole, chunked = (
        peak(vlm, 3000, chunk=chunk) - peak(vlm, 1500, chunk=chunk) for chunk in (3000, 128)
    )
    assert whole > 1500 * widest and chunked < 1500 * widest / 8


# ---- rows in fewer bits -------------------------------------------------------------------------------

# Largest error of a stage, relative to the stage, for random weights: a number in bfloat16 is
# within 1/512 of its size,
# one in a byte within 1/254 of its row's largest.
BOUNDS = {"float32": 1e-6, "bfloat16": 0.02, "int8": 0.04}


@pytest.mark.parametrize("kernels", ["definition", "jit"])
@pytest.mark.parametrize("cache", FORMATS)
def test_how_far_each_stage_lies_from_the_plain_path(cache, kernels):
    vlm = world("float64").on("float32" if kernels == "jit" else "float64", kernels)
    inputs = minivl.Inputs.from_ids(np.random.default_rng(0).integers(0, 600, 300), vlm.config)
    traces = []
    for options in ({}, {"cache": cache}):
        with minivl.session(record="decoder.*") as seen:
            vlm.logits(inputs, chunk=100, **options)
        traces.append(seen.trace)
    worst = {
        key: max(
            apart(a, b)
            for a, b in zip(outputs(traces[1][key]), outputs(plain), strict=True)
            if b.dtype.kind == "f"
        )
        for key, plain in traces[0].items()
        if key.rpartition(".")[2] in ("attend", "add_attended", "logits")
    }
    assert max(worst.values()) <= BOUNDS[cache]
    assert cache == "float32" or min(worst.values()) > 1e-6  # rows were indeed kept in fewer bits


@pytest.mark.parametrize("cache", ["bfloat16", "int8"])
@given(world=worlds())
def test_greedy_tokens_part_only_where_two_words_are_nearly_as_likely(cache, world):
    """Where an answer parts from that of the plain path, the two best scores lie closer than the
    error there."""
    vlm, (inputs,) = model(world[0], dtype="float64"), world[1]
    ours, plain = (vlm.generate(inputs, 6, stop_ids=(), **more) for more in ({"cache": cache}, {}))
    if ours == plain:
        return
    at = next(n for n, (a, b) in enumerate(zip(ours, plain, strict=True)) if a != b)
    exact, rounded = (
        vlm.logits(inputs, [*plain[:at], 0], **more)[-1] for more in ({}, {"cache": cache})
    )
    assert exact[plain[at]] - exact[ours[at]] <= 2 * np.abs(exact - rounded).max()


def loud(vlm, channel, times):
    """The same model whose keys have one channel so many times as large, in the first layer's first
    head."""
    layer = vlm.weights.decoder.layers[0]
    at = vlm.config.text.heads * vlm.config.text.head_dim + channel
    bias = layer.qkv.bias.dense(np.float64).copy()
    bias[at] += times
    first = layer._replace(qkv=layer.qkv._replace(bias=weight(bias.astype(np.float32))))
    decoder = vlm.weights.decoder._replace(layers=(first, *vlm.weights.decoder.layers[1:]))
    return VLM(
        vlm.folder,
        vlm.weights._replace(decoder=decoder),
        vlm.generation,
        vlm.processor,
        None,
        vlm.interpreter,
    )


def test_a_channel_that_is_always_large_does_not_take_the_others_bytes(monkeypatch):
    """As a large bias of a key makes it. The attention of that layer, with sizes of channels and
    without."""
    vlm = loud(world("float64"), 11, 60.0)  # the pair that turns least
    inputs = minivl.Inputs.from_ids(np.random.default_rng(0).integers(0, 600, 100), vlm.config)

    def attended(**options):
        with minivl.session(record="decoder.layers.0.attend") as seen:
            vlm.logits(inputs, **options)
        return seen.trace["decoder.layers.0.attend"]

    exact, sized = attended(), attended(cache="int8")
    monkeypatch.setattr(vlm, "_channels", np.ones((2, 2, 12), np.float32))
    assert 2 * apart(sized, exact) < apart(attended(cache="int8"), exact)


def test_sizes_of_channels_are_the_models_own_and_no_session_sees_how_they_are_found():
    vlm = world()
    with minivl.session(record="*", stop_after="decoder.layers.1.attend", quiet=True) as seen:
        sizes = key_channels(vlm.weights, vlm.interpreter)
    assert not seen.trace and sizes.shape == (2, 2, 12) and (sizes > 0).all()
    assert np.array_equal(sizes, key_channels(vlm.weights, vlm.interpreter))
    assert key_channels(loud(vlm, 0, np.inf).weights, vlm.interpreter) is None
    zero = loud(vlm, 0, 0.0)
    assert np.array_equal(key_channels(zero.weights, zero.interpreter), sizes)


def test_interpreters_without_such_a_cache_say_so():
    vlm = world()
    inputs = minivl.Inputs.from_ids([1, 2, 3], vlm.config)
    alone = vlm.interpreter._replace(name="alone", caches=())
    with pytest.raises(ArgumentError, match="type of the activations"):
        vlm.on(kernels=alone).generate(inputs, 2, cache="int8")
    with pytest.raises(ArgumentError, match="int8"):
        vlm.generate(inputs, 2, cache="int4")


# ---- how long a conversation may be -------------------------------------------------------------------


def test_a_conversation_fits_into_its_context():
    vlm = world()
    inputs = minivl.Inputs.from_ids(np.arange(30), vlm.config)
    assert len(vlm.generate(inputs, 10, stop_ids=(), context=40)) == 10
    with pytest.raises(ArgumentError, match="at most 9 new tokens fit.*context=40") as error:
        vlm.generate(inputs, 10, stop_ids=(), context=39)
    assert "max_pixels" in str(error.value)
    with pytest.raises(
        ArgumentError, match=r"of 30 tokens.*a context of 30: shorten the prompt.*context=31"
    ):
        vlm.generate(inputs, 1, context=30)


def test_the_default_context_is_32768_tokens():
    base = world().config
    long = replace(base, text=replace(base.text, num_hidden_layers=1, max_position_embeddings=10**6))
    with pytest.raises(ArgumentError, match="context of 32,768"):
        random_model(long).generate(minivl.Inputs.from_ids(np.zeros(32_700, int), long), 69)


def test_positions_stay_below_what_the_model_counts():
    vlm = world()  # 4,096 positions
    inputs = minivl.Inputs.from_ids(np.zeros(4000, int), vlm.config)
    assert len(vlm.generate(inputs, 96, stop_ids=())) == 96  # the last one that is run is 4,094
    with pytest.raises(ArgumentError, match=r"below 4,096.*yarn"):
        vlm.generate(inputs, 98, stop_ids=())
    moved = inputs.with_positions(inputs.position_ids + 97)
    with pytest.raises(ArgumentError, match="4,096"):
        vlm.generate(moved, 1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"chunk": 0}, "chunk is 0"),
        ({"chunk": 2.0}, "chunk"),
        ({"context": 1}, "context"),
        ({"reuse": {}}, "PromptCache"),
        ({"cache": "fp8"}, "cache"),
    ],
)
def test_wrong_options_are_refused(options, words):
    vlm = world()
    with pytest.raises(ArgumentError, match=words):
        vlm.generate(minivl.Inputs.from_ids([1, 2], vlm.config), 1, **options)
