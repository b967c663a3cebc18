"""Small models that can be cut, and all ranks of a job in one process."""

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from minivl.api import NOWHERE, VLM
from minivl.checkpoint.names import build, shapes
from minivl.checkpoint.weight import weight
from minivl.config import GenerationConfig, ModelConfig, TextConfig, VisionConfig
from minivl.kernels import Interpreter, interpreter
from minivl.run.cut.job import in_one_process
from minivl.run.cut.plan import Cut
from tests.properties.worlds import END, IMAGE, START, STOP, VIDEO

GREEDY = GenerationConfig(False, 1.0, 0, 1.0, 1.0, (STOP,), 0)


def config(tensor=2, layers=3, depth=2, kv=1, group=2, half=6, head=8, inner=5, seen=7, tied=True) -> ModelConfig:
    """Sizes that `tensor` divides. kv, inner, seen: key heads, inner widths of decoder and tower of one
    shard."""
    heads, width = tensor * kv * group, tensor * kv * group * 2 * half
    vision = VisionConfig(depth=depth, hidden_size=tensor * head, num_heads=tensor, intermediate_size=tensor * seen,
                          in_channels=3, patch_size=14, temporal_patch_size=2, spatial_merge_size=2, window_size=56,
                          tokens_per_second=2, fullatt_block_indexes=(depth - 1,), out_hidden_size=width)
    text = TextConfig(hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads,
                      num_key_value_heads=tensor * kv, intermediate_size=tensor * inner, vocab_size=64,
                      rms_norm_eps=1e-6, rope_theta=1e4, mrope_section=(half - 2, 1, 1), max_position_embeddings=512)
    return ModelConfig(vision, text, tied, IMAGE, VIDEO, START, END, None, STOP)


@st.composite
def cuts(draw):
    """A cut, and a model that it fits."""
    tensor, layers = draw(st.sampled_from([1, 2, 4])), draw(st.integers(1, 4))
    pipeline = draw(st.integers(1, min(layers, 8 // tensor)))
    made = config(tensor, layers, draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 2)),
                  draw(st.integers(3, 6)), 4 * draw(st.integers(1, 3)), draw(st.integers(1, 9)),
                  draw(st.integers(1, 9)), draw(st.booleans()))
    return made, Cut(tensor, pipeline)


def tensors(made: ModelConfig, seed: int = 0, dtype=np.float32):
    """Random tensors by the hub's names: float32, so that no product is exact."""
    rng = np.random.default_rng(seed)
    return {name: weight((rng.normal(size=shape) * (shape[-1] ** -0.5 if len(shape) > 1 else 0.1)
                          + (len(shape) == 1 and not name.endswith("bias"))).astype(dtype))
            for name, shape in shapes(made).items()}


def vlm_of(made: ModelConfig, found, dtype, kernels="definition", rank=None) -> VLM:
    """One rank's model, or the whole one."""
    model = build(found, made, dtype, None if rank is None else rank.place())
    machine = kernels if isinstance(kernels, Interpreter) else interpreter(kernels)
    if rank is not None:
        model, machine = rank.marked(model), rank.on(machine)
    return VLM(NOWHERE, model, replace(GREEDY), None, None, machine, rank)


def on_all_ranks(made: ModelConfig, cut: Cut, found, dtype, run, kernels="definition"):
    """What `run(vlm)` gives on every rank, in order."""
    return in_one_process(cut, lambda join: run(vlm_of(made, found, dtype, kernels, join(made))))
