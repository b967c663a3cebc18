"""The recorder for llama.cpp, on an object that has what the binding's `Llama` has; with the binding, whether it has
that.

The binding is built from source where it is installed (pip install llama-cpp-python); no test of the package needs it.
"""

import inspect
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import minivl
from minivl.faults import cases
from minivl.trace.compare import compare
from minivl.trace.format import Trace
from minivl.trace.importers import read_arrays, read_candidate
from minivl.trace.llama_recorder import HIDDEN, IDS, LOGITS, listening, record
from minivl.trace.record import record as record_golden

VLM = minivl.load()


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


def test_the_binding_has_what_is_asked_of_it():
    llama_cpp = pytest.importorskip("llama_cpp", reason="the package llama-cpp-python is not installed")
    known = inspect.signature(llama_cpp.Llama.__init__).parameters
    assert {"logits_all", "embedding", "pooling_type", "n_ctx", "n_batch", "n_ubatch"} <= set(known)
    assert all(callable(getattr(llama_cpp.Llama, name)) for name in ("eval", "reset", "n_ctx", "n_embd", "tokenize"))
    assert isinstance(llama_cpp.Llama.ctx, property) and callable(llama_cpp.llama_get_embeddings_ith)
