"""A model that is cut over ranks gives what the whole one gives, and sends what the formula says."""

import time
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minivl
from minivl.checkpoint.convert import convert
from minivl.checkpoint.shares import columns_of, part
from minivl.checkpoint.tree import Linear
from minivl.checkpoint.weight import CheckpointError, weight
from minivl.config import OFFICIAL, OFFICIAL_PICTURES, official_config
from minivl.door.errors import ArgumentError
from minivl.kernels import definition as kernels
from minivl.run.costs import prompt_of
from minivl.run.cut.group import RankLost, in_threads
from minivl.run.cut.job import in_one_process
from minivl.run.cut.machine import Rank, Summed
from minivl.run.cut.plan import Cut, cut_from, numbers_of, seats, stages
from minivl.run.cut.volume import KINDS, Run, held, shares, volume, volume_of_answer
from minivl.run.generation import NotFiniteError
from minivl.run.streaming import reader_of
from tests.properties.worlds import prompts
from tests.run.cut_models import config, cuts, on_all_ranks, tensors, vlm_of

BF16 = np.dtype(ml_dtypes.bfloat16)


def error(x, right):
    """The largest difference, in the largest right number."""
    return float(np.max(np.abs(x.astype(np.float64) - right)) / np.max(np.abs(right)))


# ---- the same answers ----------------------------------------------------------------------------------

@settings(max_examples=25)
@given(cuts(), st.data())
def test_every_rank_gives_what_the_whole_model_gives(drawn, data):
    made, cut = drawn
    inputs, found = data.draw(prompts(made)), tensors(made, data.draw(st.integers(0, 99)))
    whole = vlm_of(made, found, np.dtype(np.float64))
    right, tokens = whole.logits(inputs), whole.generate(inputs, 4)

    def run(vlm):
        return vlm.logits(inputs), vlm.generate(inputs, 4), Counter(vlm.rank.sent), vlm.rank.steps
    results = on_all_ranks(made, cut, found, np.dtype(np.float64), run)
    for scores, answer, *_ in results:
        assert error(scores, right) < 1e-12 and answer == tokens
    # one run for the scores of every row, then one for the answer
    sent = sum((result[2] for result in results), Counter())
    dtype, (length, patches) = np.dtype(np.float64), (len(inputs.input_ids), len(inputs.patches))
    told = volume(made, cut, Run(length, patches, length), dtype)
    told += volume_of_answer(made, cut, length, patches, results[0][3] - 1, dtype)
    told["tokens"] -= 8 * (cut.ranks - 1) * length                # nothing was chosen from the scores
    assert {kind: sent[kind] for kind in KINDS} == {kind: told[kind] for kind in KINDS}


@settings(max_examples=15)
@given(cuts(), st.data())
def test_in_bfloat16_a_cut_is_no_further_from_float64_than_twice_the_whole(drawn, data):
    made, cut = drawn
    inputs, found = data.draw(prompts(made)), tensors(made, 5)
    right = vlm_of(made, found, np.dtype(np.float64)).logits(inputs)
    whole = error(vlm_of(made, found, BF16).logits(inputs), right)
    for scores in on_all_ranks(made, cut, found, BF16, lambda vlm: vlm.logits(inputs)):
        assert error(scores, right) <= 2 * whole + 2 ** -8


@settings(max_examples=6)
@given(st.sampled_from([Cut(2, 1), Cut(1, 2), Cut(2, 3)]), st.data())
def test_compiled_kernels_are_cut_too(cut, data):
    made = config(2, kv=2, half=8, head=16, inner=40, seen=24)
    inputs, found = data.draw(prompts(made)), tensors(made, 3)
    whole = vlm_of(made, found, np.dtype(np.float32), "jit")
    right, tokens = whole.logits(inputs), whole.generate(inputs, 3)
    for scores, answer in on_all_ranks(made, cut, found, np.dtype(np.float32),
                                       lambda vlm: (vlm.logits(inputs), vlm.generate(inputs, 3)), "jit"):
        assert error(scores, right) < 1e-5 and answer == tokens


def test_rows_of_8_bits_go_from_stage_to_stage():
    """Each stage has its blocks alone; a weight that it lacks is of no wrong format."""
    made = config(2, kv=2, half=8, head=16, inner=40, seen=24)
    found, inputs = tensors(made, 3), minivl.Inputs.from_ids([3, 1, 4, 1, 5], made)
    narrow, kernels = np.dtype(np.float32), "jit-int8"
    right = vlm_of(made, found, narrow, kernels).logits(inputs)
    for scores in on_all_ranks(made, Cut(1, 2), found, narrow, lambda vlm: vlm.logits(inputs), kernels):
        assert np.array_equal(scores, right)


@given(st.integers(0, 99), st.sampled_from([2, 4]))
def test_parts_are_summed_wide_and_rounded_once(seed, of):
    """Whole numbers, so that no sum is rounded in float32: the bits are those of the definition, bias and all."""
    rng = np.random.default_rng(seed)
    rows, table = (weight(rng.integers(-60, 61, shape).astype(BF16)) for shape in ((5, 8 * of), (7, 8 * of)))
    bias, x = weight((rng.integers(-99, 100, 7) / 64).astype(BF16)), rows.dense(BF16)
    right = kernels.linear(x, Linear(table, bias))
    made = config(of)

    def run(make, rank):
        group, (a, b) = make(list(range(of))), part(8 * of, rank, of)
        one = Rank(seats(made, Cut(of, 1))[rank], made, group, group, Counter())
        mine = one.linear(None, x[:, a:b], Summed(columns_of(table, (a, b), "table"), bias))
        return mine.view(np.uint16)
    for bits in in_threads(of, run):
        assert np.array_equal(bits, right.view(np.uint16))


def test_drawn_tokens_are_the_same_on_all_ranks():
    made, cut = config(2), Cut(2, 3)
    found, ids = tensors(made), [3, 1, 4, 1, 5]
    inputs = minivl.Inputs.from_ids(ids, made)
    options = {"do_sample": True, "temperature": 3.0, "seed": 7, "stop_ids": (), "repetition_penalty": 1.3}
    right = vlm_of(made, found, np.dtype(np.float64)).generate(inputs, 12, **options)
    assert len(set(right)) > 4
    for answer in on_all_ranks(made, cut, found, np.dtype(np.float64), lambda vlm: vlm.generate(inputs, 12, **options)):
        assert answer == right


def test_several_conversations_go_through_the_ranks_together():
    made, cut, found = config(2), Cut(2, 2), tensors(config(2))
    talks = [minivl.Inputs.from_ids(ids, made) for ids in ([3, 1, 4], [1], [5, 9, 2, 6, 5])]
    right = vlm_of(made, found, np.dtype(np.float64)).generate(talks, 5)
    for answers in on_all_ranks(made, cut, found, np.dtype(np.float64), lambda vlm: vlm.generate(talks, 5)):
        assert answers == right


def test_a_session_sees_every_pass_of_a_rank_and_labels_are_those_of_the_whole_model():
    made, found = config(2), tensors(config(2))
    inputs = minivl.Inputs.from_ids([3, 1, 4], made)

    def run(vlm):
        with minivl.session(record="decoder.layers.*", verify=True) as seen:
            vlm.logits(inputs)
        return {key: np.shape(value) for key, value in seen.trace.items() if not isinstance(value, tuple)}
    first, second = on_all_ranks(made, Cut(2, 1), found, np.dtype(np.float64), run)
    assert first == second and {key.split(".")[2] for key in first} == {"0", "1", "2"}
    assert first["decoder.layers.1.attend"][1] == made.text.heads // 2
    with pytest.raises(CheckpointError, match="lies on another rank"):
        on_all_ranks(made, Cut(1, 2), found, np.dtype(np.float64), run)


@pytest.mark.parametrize(("kernels", "weights"), [("definition", None), ("jit", None), ("jit", "bf16")])
def test_a_rank_may_stream_its_share(tmp_path, kernels, weights):
    """The embedded model in two shards of two stages, each of which reads its layers as it comes to
    them."""
    if kernels == "jit":
        pytest.importorskip("numba")
    path = None if weights is None else convert(minivl.api.TINY, tmp_path / "packed", weights)
    with minivl.load(path, kernels=kernels) as whole:
        inputs = minivl.Inputs.from_ids([5, 6, 7, 8], whole.config)
        right, tokens = whole.logits(inputs), whole.generate(inputs, 5)

    def run(rank):
        with minivl.load(path, kernels=kernels, parallel=rank, memory="400MiB") as vlm:
            return vlm.logits(inputs), vlm.generate(inputs, 5), [part.bytes for part in reader_of(vlm.weights).parts]
    results = in_one_process(Cut(2, 2), run)
    for scores, answer, sizes in results:
        assert error(scores, right) < 1e-5 and answer == tokens
        assert any(sizes) and not all(sizes)                          # the other stage's parts weigh nothing


def test_a_packed_checkpoint_is_cut_too(tmp_path):
    path = convert(minivl.api.TINY, tmp_path / "packed", "int8")
    with minivl.load(path, kernels="definition") as whole:
        inputs = minivl.Inputs.from_ids([5, 6, 7, 8], whole.config)
        right, tokens = whole.logits(inputs), whole.generate(inputs, 5)

    def run(rank):
        with minivl.load(path, kernels="definition", parallel=rank) as vlm:
            return vlm.logits(inputs), vlm.generate(inputs, 5)
    for scores, answer in in_one_process(Cut(2, 1), run):
        assert error(scores, right) < 1e-5 and answer == tokens


# ---- who has what --------------------------------------------------------------------------------------

@given(st.sampled_from(sorted(OFFICIAL)), st.integers(1, 16))
def test_stages_share_out_all_layers_about_evenly(name, count):
    made = official_config(name)
    found, (layer, first, last) = stages(made, count), numbers_of(made)
    assert found[0][0] == 0 and found[-1][1] == made.text.num_hidden_layers
    assert all(a < b for a, b in found) and all(one[1] == two[0] for one, two in pairwise(found))
    sizes = [layer * (b - a) for a, b in found]
    sizes[0], sizes[-1] = sizes[0] + first, sizes[-1] + last
    least = (layer * made.text.num_hidden_layers + first + last) / count
    assert max(sizes) <= max(least + layer, first + layer + last * (count == 1), last + layer)


@pytest.mark.parametrize("name", sorted(OFFICIAL))
def test_the_shares_of_all_ranks_are_the_whole_model(name):
    made, cut = official_config(name), Cut(2, 4)
    found = shares(made, OFFICIAL_PICTURES, cut)
    whole = held(vlm_of(made, minivl.checkpoint.names.blank_tensors(made), np.dtype(np.float32)).weights)
    total = sum(share.weights for share in found)
    again = 2 * made.text.vocab_size * made.text.hidden_size if made.tie_word_embeddings else 0
    # whole on every rank: norms, biases behind a sum, patches; a tied table is on the first and the last stage
    assert whole + again <= total < (whole + again) * 1.002
    even = total / cut.ranks
    assert max(share.weights for share in found) < even * 1.25


def test_paper_counts_what_the_formula_says():
    for name, cut in (("72B", Cut(8, 2)), ("7B", Cut(4, 3)), ("3B", Cut(2, 1)), ("3B", Cut(1, 3))):
        made = official_config(name)
        found = shares(made, OFFICIAL_PICTURES, cut, [(112, 140)], new_tokens=3)
        inputs = prompt_of(made, OFFICIAL_PICTURES, [(112, 140)], 32)
        dtype = np.dtype(np.float32)
        told = volume(made, cut, Run(len(inputs.input_ids), len(inputs.patches)), dtype)
        assert sum((share.prompt for share in found), Counter()) == +told
        assert sum((share.token for share in found), Counter()) == +volume(made, cut, Run(1), dtype)
        assert sum(share.cache for share in found) == 2 * 4 * made.text.num_hidden_layers * made.text.kv_heads \
            * made.text.head_dim * (len(inputs.input_ids) + 3)


# ---- refusals ------------------------------------------------------------------------------------------

def test_what_does_not_divide_is_named():
    made = config(2)
    with pytest.raises(ArgumentError, match=r"tensor=3 does not divide the decoder's heads \(4\), its key heads \(2\)"):
        seats(made, Cut(3, 1))
    with pytest.raises(ArgumentError, match=r"tensor=4 does not divide its key heads \(4\)|key heads \(2\)"):
        seats(official_config("3B"), Cut(4, 1))
    odd = replace(made, text=replace(made.text, intermediate_size=11, vocab_size=65))
    with pytest.raises(ArgumentError, match=r"its inner width \(11\), the vocabulary \(65\)"):
        seats(odd, Cut(2, 1))
    with pytest.raises(ArgumentError, match=r"pipeline=4 is more stages than the decoder has layers \(3\)"):
        seats(made, Cut(1, 4))


@pytest.mark.parametrize("text", ["", "2", "tensor", "tensor=0", "tensor=2,tensor=2", "data=2", "tensor=2;pipeline=2",
                                  "tensor=-1", "tensor=1e3", "tensor=999999"])
def test_what_is_no_cut_is_refused(text):
    with pytest.raises(ArgumentError, match="parallel must be such as tensor=2,pipeline=2"):
        cut_from(text)


def test_a_cut_is_read():
    assert cut_from("tensor=2,pipeline=3") == (2, 3) == cut_from(" pipeline=3, tensor=2")
    assert cut_from("pipeline=4") == (1, 4) and str(Cut(2, 3)) == "tensor=2,pipeline=3"


def test_arrays_of_another_device_are_refused():
    made = config(2)
    with pytest.raises(ArgumentError, match="parallel= runs on definition, jit"):
        on_all_ranks(made, Cut(2, 1), tensors(made), np.dtype(np.float32), lambda vlm: None,
                     minivl.kernels.Interpreter("elsewhere"))


@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize(("cut", "said"), [(Cut(2, 1), "is the first stage that gives such numbers"),
                                           (Cut(1, 2), "run the same without pipeline stages"),
                                           (Cut(2, 3), "run the same without pipeline stages")])
def test_scores_that_are_no_numbers_are_told_on_every_rank(cut, said, sampled):
    made, found = config(2), tensors(config(2))
    norm = found["model.layers.2.input_layernorm.weight"].stored
    norm[0] = np.nan
    inputs = minivl.Inputs.from_ids([3, 1, 4], made)

    def run(vlm):
        with pytest.raises(NotFiniteError, match=said):
            vlm.generate(inputs, 3, do_sample=sampled)
    on_all_ranks(made, cut, found, np.dtype(np.float32), run)


# ---- ranks that talk -----------------------------------------------------------------------------------

@given(st.integers(1, 5), st.integers(0, 17), st.data())
def test_a_sum_is_made_in_the_order_of_ranks_whoever_comes_first(size, length, data):
    """float32 sums differ by their order: bits are those of the plain loop, whatever is late."""
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    arrays = [(rng.normal(size=length) * 10.0 ** rng.integers(-6, 6, length)).astype(np.float32)
              for _ in range(size)]
    late = data.draw(st.integers(0, size - 1))

    def run(make, rank):
        group = make(list(range(size)))
        if rank == late:
            time.sleep(0.002)
        return group.sum(arrays[rank]), group.gather(arrays[rank]), group.from_first(arrays[rank]), group.sent
    right = arrays[0].copy()
    for one in arrays[1:]:
        right += one
    results = in_threads(size, run)
    for total, beside, first, _ in results:
        assert total.tobytes() == right.tobytes()
        assert beside.tobytes() == np.concatenate(arrays).tobytes() and first.tobytes() == arrays[0].tobytes()
    sent = sum((result[3] for result in results), Counter())
    assert sent["sums"] == 2 * (size - 1) * 4 * length and sent["scores"] == size * (size - 1) * 4 * length
    assert sent["tokens"] == (size - 1) * 4 * length


def test_a_rank_that_fails_ends_all_and_its_own_error_is_told():
    made, found = config(2), tensors(config(2))
    inputs = minivl.Inputs.from_ids([3, 1, 4], made)

    def run(vlm):
        if vlm.rank.seat.rank == 1:
            raise RuntimeError("the disk of rank 1 is gone")
        return vlm.generate(inputs, 3)
    with pytest.raises(RuntimeError, match="the disk of rank 1 is gone"):
        on_all_ranks(made, Cut(2, 2), found, np.dtype(np.float64), run)


def test_ranks_that_wait_for_one_that_failed_are_told():
    def run(make, rank):
        if rank == 0:
            raise ValueError("rank 0 fails")
        try:
            make([0, 1]).from_first(np.zeros(2))
        except RankLost as lost:
            messages.append(str(lost))
            raise
    messages = []
    with pytest.raises(ValueError, match="rank 0 fails"):
        in_threads(2, run)
    assert messages and "rank 0 does not answer" in messages[0]


@pytest.mark.parametrize("cut", [Cut(2, 1), Cut(1, 2), Cut(2, 2)])
def test_a_cache_in_bytes_is_that_of_the_whole_model(cut):
    """Keys in sizes of their channels, which each rank finds for its own layers and heads."""
    whole = minivl.load(kernels="definition", precision="float64")
    inputs = whole.prepare([{"role": "user", "content": "How many squares are there?"}])
    right = whole.logits(inputs, cache="int8")

    def run(rank):
        vlm = minivl.load(kernels="definition", precision="float64", parallel=rank)
        return vlm.logits(inputs, cache="int8")
    for scores in in_one_process(cut, run):
        np.testing.assert_allclose(scores, right, atol=1e-6)


def test_rows_of_earlier_turns_are_refused_by_name():
    def run(rank):
        vlm = minivl.load(kernels="definition", parallel=rank)
        with pytest.raises(ArgumentError, match="reuse= keeps rows of a whole model"):
            vlm.chat([{"role": "user", "content": "How many?"}], reuse=minivl.PromptCache())
        return True
    assert all(in_one_process(Cut(2, 1), run))
