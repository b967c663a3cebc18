"""The recorder for llama.cpp, on an object that has what the binding's `Llama` has, and on llama.cpp itself where it is
installed.

The binding is compiled where it is installed (`pip install llama-cpp-python gguf`, a quarter of an hour on two cores),
so that `make test` does without. These tests passed with llama-cpp-python 0.3.36 and gguf 0.19.0.
"""

import sys
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

import minivl
from minivl.truth.compare.compare import compare
from minivl.truth.compare.importers import read_arrays, read_candidate
from minivl.truth.museum import cases
from minivl.truth.trace.format import Trace
from minivl.truth.trace.llama_recorder import HIDDEN, IDS, LOGITS, listening, record
from minivl.truth.trace.record import record as record_golden
from tools.checkpoints import gguf_of
from tools.checkpoints.make_checkpoint import config_of, make_checkpoint

VLM = minivl.load()
FLOAT32 = 0                                               # GGML_TYPE_F32


class Standing:
    """minivl's decoder behind the few names that the recorder uses."""

    def __init__(self, embedding=False, logits_all=True, n_batch=512):
        self.context_params, self.n_batch, self.n_tokens = SimpleNamespace(embeddings=embedding), n_batch, 0
        self.scores = np.full((64 if logits_all else 1, VLM.config.text.vocab_size), np.nan, np.float32)
        self.ctx, self.said = self, []

    def n_ctx(self):
        return 64

    def n_embd(self):
        return VLM.config.text.hidden_size

    def reset(self):
        self.n_tokens, self.said = 0, []

    def eval(self, tokens):
        self.said += tokens
        with minivl.session(record="decoder.normalise") as s:
            logits = VLM.logits(minivl.Inputs.from_ids(self.said, VLM.config))
        self.rows = s.trace["decoder.normalise"]
        self.scores[self.n_tokens : len(self.said)] = logits[self.n_tokens :]
        self.n_tokens = len(self.said)


@pytest.fixture
def binding(monkeypatch):
    """The one function of the module that hidden rows are asked of."""
    monkeypatch.setitem(sys.modules, "llama_cpp", SimpleNamespace(
        llama_get_embeddings_ith=lambda ctx, n: np.ctypeslib.as_ctypes(ctx.rows[n])))


def test_a_recording_is_what_diff_reads(binding, tmp_path):
    inputs = cases.text.prepare(VLM)[0]
    record_golden(minivl.load(precision="float64"), inputs, tmp_path / "golden.safetensors", yardsticks=("float32",))
    record(Standing(embedding=True), inputs.input_ids, tmp_path / "theirs.safetensors")
    assert set(read_arrays(tmp_path / "theirs.safetensors")) == {IDS, LOGITS, HIDDEN}
    with Trace(tmp_path / "golden.safetensors") as golden:
        found = compare(golden, read_candidate(tmp_path / "theirs.safetensors", golden))
    assert set(found.words) == {LOGITS, HIDDEN} and found.first_bad is None


def test_every_run_of_text_is_heard_and_the_model_is_left_as_it_was(tmp_path):
    llm = Standing()
    with listening(llm, tmp_path / "a.safetensors"):
        llm.eval([1, 2, 3])
        llm.eval([4])
    assert "eval" not in vars(llm)
    found = read_arrays(tmp_path / "a.safetensors")
    assert found["text.0.ids"].tolist() == [1, 2, 3] and found["text.1.ids"].tolist() == [4]
    np.testing.assert_array_equal(found["text.1.logits"][0], llm.scores[3])
    with pytest.raises(RuntimeError), listening(llm, tmp_path / "b.safetensors"):
        raise RuntimeError
    assert "eval" not in vars(llm) and not (tmp_path / "b.safetensors").exists()


def test_a_model_that_keeps_too_little_is_refused(tmp_path):
    with pytest.raises(ValueError, match="logits_all=True"):
        record(Standing(logits_all=False), [1], tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="batches of 2"):
        record(Standing(embedding=True, n_batch=2), [1, 2, 3], tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def binding_itself():
    pytest.importorskip("gguf", reason="the package gguf is not installed")
    return pytest.importorskip("llama_cpp", reason="the package llama-cpp-python is not installed")


@pytest.fixture(scope="module")
def open_llama(binding_itself, tmp_path_factory):
    """The embedded model's decoder in llama.cpp itself; options of its `Llama` as keywords."""
    path = tmp_path_factory.mktemp("gguf") / "decoder.gguf"
    gguf_of.write(VLM, path)
    return partial(binding_itself.Llama, str(path), n_ctx=256, n_batch=256, n_ubatch=256, logits_all=True,
                   embedding=True, pooling_type=binding_itself.LLAMA_POOLING_TYPE_NONE, verbose=False)


def compared(llm, folder, precision="float32"):
    """The verdicts on a text that llama.cpp ran."""
    inputs = cases.text.prepare(VLM)[0]
    record_golden(minivl.load(precision="float64"), inputs, folder / "golden.safetensors",
                  yardsticks=("float32", "float16"))
    record(llm, inputs.input_ids, folder / "theirs.safetensors")
    with Trace(folder / "golden.safetensors") as golden:
        return compare(golden, read_candidate(folder / "theirs.safetensors", golden, precision=precision))


def test_llama_cpp_itself_is_recorded_and_compared(open_llama, tmp_path):
    """A text through the real binding: its ids, and logits and the rows before the head within rounding of float32."""
    llm, ids = open_llama(type_k=FLOAT32, type_v=FLOAT32), cases.text.prepare(VLM)[0].input_ids
    text = VLM.tokenizer.decode(ids, skip_special_tokens=False)
    assert llm.tokenize(text.encode(), add_bos=False, special=True) == ids.tolist()
    found = compared(llm, tmp_path)
    assert set(found.words) == {LOGITS, HIDDEN} and found.first_bad is None


def test_llama_cpps_usual_cache_is_half_precision(open_llama, tmp_path):
    """It keeps keys and values in float16 unless it is told: too coarse for float32, and rounding in float16."""
    assert compared(open_llama(), tmp_path).first_bad == HIDDEN
    assert compared(open_llama(), tmp_path, "float16").first_bad is None


def test_a_fault_in_llama_cpps_file_is_seen(binding_itself, tmp_path):
    """The same file with another base of the rotary angles: the logits are wrong."""
    text = replace(VLM.config.text, rope_theta=2 * VLM.config.text.rope_theta)
    broken = SimpleNamespace(config=replace(VLM.config, text=text), weights=VLM.weights, folder=VLM.folder)
    gguf_of.write(broken, tmp_path / "broken.gguf")
    llm = binding_itself.Llama(str(tmp_path / "broken.gguf"), n_ctx=256, logits_all=True, type_k=FLOAT32,
                               type_v=FLOAT32, verbose=False)
    assert compared(llm, tmp_path).words == {LOGITS: "wrong"}


def test_every_run_of_the_real_binding_is_heard(open_llama, tmp_path):
    llm = open_llama()
    with listening(llm, tmp_path / "a.safetensors"):
        llm.create_completion([100, 101, 102], max_tokens=2, temperature=0.0)
    assert "eval" not in vars(llm)
    found = read_arrays(tmp_path / "a.safetensors")
    assert found["text.0.ids"].tolist() == [100, 101, 102]
    assert found["text.0.logits"].shape == (3, VLM.config.text.vocab_size)


def test_a_made_checkpoint_becomes_a_gguf_of_its_own_words(tmp_path):
    """It has one file of the tokenizer, no lists of words and merges beside it; the package `gguf` reads what was
    written."""
    gguf = pytest.importorskip("gguf")
    make_checkpoint(config_of("3B", small=True), tmp_path / "made")
    with minivl.load(tmp_path / "made") as vlm:
        gguf_of.write(vlm, tmp_path / "decoder.gguf")
        size, table = vlm.config.text.vocab_size, vlm.weights.decoder.embed.dense(np.float32)
        words = {vlm.tokenizer.encode(word)[0]: word for word in ("a", "t", "!", "<|im_end|>")}
    found = gguf.GGUFReader(str(tmp_path / "decoder.gguf"))
    listed = found.fields["tokenizer.ggml.tokens"].contents()
    assert len(listed) == size and {number: listed[number] for number in words} == words
    assert found.fields["tokenizer.ggml.merges"].contents()
    held = next(tensor for tensor in found.tensors if tensor.name == "token_embd.weight")
    assert np.array_equal(held.data, table)
