"""A small model of random weights over the embedded model's words: what laws are tried on, with no
checkpoint to trust.

Read next: `checks.py`.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np

from ...api import TINY, VLM, assembled, read_processor
from ...checkpoint.names import shapes
from ...checkpoint.weight import weight
from ...config import ModelConfig, TextConfig, VisionConfig, read_config
from ...run.prepare import Processor


def random_model(config: ModelConfig, seed: int = 0, dtype=np.float32,
                 processor: Processor | None = None) -> VLM:
    """A model of random float32 weights with signals of about unit size at every stage."""
    rng = np.random.default_rng(seed)

    def draw(name, shape):
        if len(shape) == 1:
            norm = "norm" in name or "ln_q" in name
            return 1 + 0.1 * rng.normal(size=shape) if norm else 0.05 * rng.normal(size=shape)
        return rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))
    tensors = {name: weight(draw(name, shape).astype(np.float32))
               for name, shape in shapes(config).items()}
    return assembled(tensors, config, np.dtype(dtype).name, processor)


@lru_cache(maxsize=2)
def world(dtype: str = "float32") -> VLM:
    """The model that `checks.py` is about: windows of 2 x 2 cells, windowed and full blocks, shared
    heads of keys."""
    embedded = read_config(TINY)
    vision = VisionConfig(depth=3, hidden_size=32, num_heads=2, intermediate_size=24, in_channels=3,
                          patch_size=14, temporal_patch_size=2, spatial_merge_size=2, window_size=56,
                          fullatt_block_indexes=(1,), tokens_per_second=2, out_hidden_size=48)
    text = TextConfig(hidden_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                      intermediate_size=40, vocab_size=embedded.text.vocab_size, rms_norm_eps=1e-6,
                      rope_theta=1e4, mrope_section=(2, 2, 2), max_position_embeddings=4096)
    config = replace(embedded, vision=vision, text=text, tie_word_embeddings=True)
    processor = replace(read_processor(TINY, embedded), config=config, template=None)
    return random_model(config, 3, dtype, processor)
