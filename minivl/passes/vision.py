"""The two ends of the vision tower: patches into rows of width d, and four rows into one visual token.

Read next: `windows.py` for the order of the rows between these two, `block.py` for what happens there.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from ..checkpoint.tree import Linear, Merger
from ..door.stage import stage
from ..kernels.definition import gelu, linear, narrow, rms_norm


@stage("embed_patches", "p x, _, _ -> p d")
def embed_patches(patches: np.ndarray, embed: Linear, dtype: DTypeLike) -> np.ndarray:
    """Each patch times one matrix. The checkpoint calls it a 3-D convolution; with stride = size it is
    this product."""
    return linear(narrow(patches, dtype), embed)                         # p x -> p d


@stage("merge_2x2", "4c d, _ -> c o")
def merge_2x2(x: np.ndarray, merger: Merger) -> np.ndarray:
    """Four rows of a cell side by side, through two linear maps with a GELU between: one visual token.

    The rows of a cell are consecutive (in_row, in_col); in raster order this would merge strips, with
    all shapes right.
    """
    inner = merger.inner.weight.shape[1]
    cells = rms_norm(x, merger.norm).reshape(-1, inner)                  # w d -> c 4d
    return linear(gelu(linear(cells, merger.inner)), merger.outer)       # c 4d -> c 4d -> c o
