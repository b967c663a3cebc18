"""The two ends of the decoder: token ids and visual tokens into one sequence, and the last rows into
logits.

Read next: `block.py` for the layers between them, `sampling.py` for what is done with logits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from ..checkpoint.tree import Linear, Weight
from ..door.stage import stage
from ..kernels.definition import embed, linear, put_rows, take_rows


@stage("embed_tokens", "s, _, _ -> s d")
def embed_tokens(ids: np.ndarray, table: Weight, dtype: DTypeLike) -> np.ndarray:
    """The learned vector of each token; placeholders get one too, and lose it in the next pass."""
    return embed(ids, table, dtype)


@stage("place_features", "s d, m, m d -> s d")
def place_features(x: np.ndarray, placeholders: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Row placeholders[i] becomes visual token i; all other rows stay as they are."""
    return put_rows(x, placeholders, features)


@stage("select_rows", "s d, n -> n d")
def select_rows(x: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Only the rows whose logits are asked for: while generating, the last of each conversation."""
    return take_rows(x, rows)


@stage("logits", "n d, _ -> n v")
def logits(x: np.ndarray, head: Linear) -> np.ndarray:
    """One score for each word of the vocabulary; in a tied model the matrix is the embedding table
    itself."""
    return linear(x, head)
