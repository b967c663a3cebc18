"""Small random models and prompts for laws that need no oracle: no checkpoint, no torch, awkward shapes on purpose."""

import numpy as np
from hypothesis import strategies as st

from minivl.config import ModelConfig, TextConfig, VisionConfig
from minivl.run.inputs import Inputs
from minivl.truth.museum.world import random_model

model = random_model
IMAGE, VIDEO, START, END, STOP = 60, 61, 62, 63, 59


@st.composite
def configs(draw):
    heads, head = draw(st.integers(1, 3)), 4 * draw(st.integers(1, 3))
    depth = draw(st.integers(1, 3))
    kv, group, half = draw(st.integers(1, 2)), draw(st.integers(1, 3)), draw(st.integers(3, 6))
    time, height = draw(st.integers(1, half - 2)), 1
    width = kv * group * 2 * half
    vision = VisionConfig(depth=depth, hidden_size=heads * head, num_heads=heads,
                          intermediate_size=draw(st.integers(3, 20)), in_channels=3, patch_size=14,
                          temporal_patch_size=2, spatial_merge_size=2,
                          window_size=28 * draw(st.integers(1, 4)), tokens_per_second=draw(st.integers(1, 4)),
                          fullatt_block_indexes=tuple(sorted(draw(st.sets(st.integers(0, depth - 1))))),
                          out_hidden_size=width)
    text = TextConfig(hidden_size=width, num_hidden_layers=draw(st.integers(1, 3)), num_attention_heads=kv * group,
                      num_key_value_heads=kv, intermediate_size=draw(st.integers(3, 20)), vocab_size=64,
                      rms_norm_eps=1e-6, rope_theta=draw(st.sampled_from([100.0, 1e4, 1e6])),
                      mrope_section=(time, height, half - time - height), max_position_embeddings=4096)
    return ModelConfig(vision, text, draw(st.booleans()), IMAGE, VIDEO, START, END, None, STOP)


def even(most):
    return st.integers(1, most // 2).map(lambda n: 2 * n)


grids = st.tuples(st.just(1), even(10), even(10))
video_grids = st.tuples(st.integers(1, 4), even(6), even(6))
seconds_per_grid = st.sampled_from([0.0833, 0.5, 2 / 3, 1.0, 1.7, 2.0])
pictures = grids.map(lambda grid: (IMAGE, grid, 1.0))
media = st.lists(st.one_of(pictures, st.tuples(st.just(VIDEO), video_grids, seconds_per_grid)), max_size=3)


@st.composite
def prompts(draw, config: ModelConfig, items=media):
    """One conversation: text, pictures, videos in any order, text again."""
    items = draw(items)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    ids = list(rng.integers(0, 50, draw(st.integers(0, 3))))
    held = {IMAGE: ([], []), VIDEO: ([], [])}
    for kind, grid, seconds in items:
        rows = int(np.prod(grid))
        ids += [START, *[kind] * (rows // 4), END, *rng.integers(0, 50, draw(st.integers(0, 3)))]
        held[kind][0].append((rng.normal(size=(rows, config.vision.patch_values)).astype(np.float32), grid))
        held[kind][1].append(seconds)
    ids += list(rng.integers(0, 50, draw(st.integers(1, 4))))

    def stack(kind):
        parts = held[kind][0]
        return (np.concatenate([p for p, _ in parts]), np.array([g for _, g in parts])) if parts else (None, None)
    return Inputs.from_ids(ids, config, *stack(IMAGE), *stack(VIDEO), held[VIDEO][1] or None)


@st.composite
def worlds(draw, conversations=1, items=media):
    """A configuration and as many conversations for it as asked."""
    config = draw(configs())
    return config, [draw(prompts(config, items)) for _ in range(conversations)]
