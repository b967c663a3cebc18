"""What the exercises share: small configurations; linear maps and norms in a line, for wrong versions.

The official sizes stand in the configurations where an exercise does not draw others.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ....checkpoint.tree import Linear, Norm
from ....config import PreprocessorConfig, TextConfig, VisionConfig

VISION = VisionConfig(depth=4, hidden_size=16, num_heads=2, intermediate_size=24, in_channels=3,
                      patch_size=14,
                      temporal_patch_size=2, spatial_merge_size=2, window_size=112,
                      fullatt_block_indexes=(1, 3),
                      tokens_per_second=2, out_hidden_size=12)
TEXT = TextConfig(hidden_size=12, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
                  intermediate_size=20, vocab_size=64, rms_norm_eps=1e-6, rope_theta=1e4,
                  mrope_section=(1, 1, 1),
                  max_position_embeddings=4096)
PICTURE = PreprocessorConfig(min_pixels=4 * 28**2, max_pixels=64 * 28**2, patch_size=14,
                             temporal_patch_size=2,
                             merge_size=2, image_mean=(0.48, 0.46, 0.41), image_std=(0.27, 0.26, 0.28))
FLOAT32 = np.dtype(np.float32)


def vision(**changes: Any) -> VisionConfig:
    return replace(VISION, **{"head_dim": 0, **changes})             # 0: as wide as the heads make it


def text(**changes: Any) -> TextConfig:
    return replace(TEXT, **{"head_dim": 0, **changes})


def picture(**changes: Any) -> PreprocessorConfig:
    return replace(PICTURE, **changes)


def matrix(w: Linear) -> np.ndarray:
    """The numbers of a linear map: o d."""
    return w.weight.dense(np.float64)


def bias(w: Linear) -> np.ndarray:
    """Its bias, 0 where it has none: o."""
    return np.zeros(w.weight.shape[0]) if w.bias is None else w.bias.dense(np.float64)


def lin(x: np.ndarray, w: Linear) -> np.ndarray:
    """x @ W.T + b."""
    return x @ matrix(w).T + bias(w)


def normed(x: np.ndarray, norm: Norm) -> np.ndarray:
    """The RMS norm."""
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + norm.eps) * norm.weight.dense(np.float64)


def halves(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first and the second half of the last axis."""
    n = x.shape[-1] // 2
    return x[..., :n], x[..., n:]
