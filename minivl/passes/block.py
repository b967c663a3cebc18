"""The passes that a vision block and a decoder layer are made of. The two differ in who sees whom and
in nothing else.

A block adds to the residual stream twice: what its rows gather from other rows (attention), and what
each row makes of itself (the gated MLP). Each half starts with a norm, so that the stream itself is
never normalised.

Read next: `model.py`, where a block is five lines.
"""

from __future__ import annotations

import numpy as np

from ..checkpoint.tree import MLP, Linear, Norm
from ..config import TextConfig, VisionConfig
from ..door.stage import stage
from ..kernels import definition as kernels
from ..kernels.definition import add, gated_mlp, linear, rms_norm


@stage("normalise", "n d, _ -> n d")
def normalise(x: np.ndarray, norm: Norm) -> np.ndarray:
    """Each row divided by its root mean square, each channel times its learned weight."""
    return rms_norm(x, norm)


@stage("project_qkv", "n d, _, _ -> n a e, n k e, n k e")
def project_qkv(x: np.ndarray, qkv: Linear, config: VisionConfig | TextConfig
                ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Query, key and value of every head: one matrix, rows of q, then k, then v; the decoder has fewer
    k and v."""
    heads = linear(x, qkv).reshape(len(x), -1, config.head_dim)          # n d -> n (a+k+k) e
    a, k = config.heads, config.kv_heads
    return heads[:, :a], heads[:, a : a + k], heads[:, a + k :]


@stage("rotate", "n a e, n k e, n f, n f -> n a e, n k e")
def rotate(q: np.ndarray, k: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> tuple[np.ndarray,
                                                                                    np.ndarray]:
    """Queries and keys turned by the angles of their rows, so that a score depends on the distance;
    values stay."""
    return kernels.rotate(q, cos, sin), kernels.rotate(k, cos, sin)


@stage("attend", "w a e, w k e, w k e, g 4 -> w a e")
def attend_inside(q: np.ndarray, k: np.ndarray, v: np.ndarray, segments: np.ndarray) -> np.ndarray:
    """Every patch sees every patch of its segment (window or frame), before and after it alike."""
    return kernels.attend(q, k, v, segments, False)


@stage("attend", "s a e, r k e, r k e, g 4 -> s a e")
def attend_backwards(q: np.ndarray, k: np.ndarray, v: np.ndarray, segments: np.ndarray) -> np.ndarray:
    """Every token sees its conversation up to itself: all rows in the cache before it, visual tokens
    too."""
    return kernels.attend(q, k, v, segments, True)


@stage("add_attended", "n d, n a e, _ -> n d")
def add_attended(x: np.ndarray, attended: np.ndarray, out: Linear) -> np.ndarray:
    """The heads side by side, through the output matrix, onto the residual stream."""
    return add(x, linear(attended.reshape(len(x), -1), out))             # n a e -> n (a e) -> n d


@stage("add_mlp", "n d, _, _ -> n d")
def add_mlp(x: np.ndarray, norm: Norm, mlp: MLP) -> np.ndarray:
    """The normalised row through the gated MLP, onto the residual stream."""
    return add(x, gated_mlp(rms_norm(x, norm), mlp))
