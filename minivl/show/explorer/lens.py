"""What the decoder would say if it stopped after layer l: each row through the final norm and the head.

That reading is known as the logit lens (nostalgebraist, 2020). After the last layer it is the model's
own prediction; where the trace holds the model's logits, these are shown, not formed again.

Read next: `document.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...door.stage import unwatched
from ...kernels.definition import log_softmax
from ...passes.block import normalise
from ...passes.decoder import logits
from .run import Run

SHOWN = 6                    # tokens a row and layer
AFFORDABLE = 4e10            # multiply-adds; beyond these only the rows that wrote something are read


@dataclass(frozen=True)
class Lens:
    """rows (n,): which rows of the sequence; ids, chances (layers, n, k): the likeliest tokens.

    chosen (n,): probability of the token that was written after a row, NaN where none was.
    """
    rows: np.ndarray
    ids: np.ndarray
    chances: np.ndarray
    chosen: np.ndarray


def lens_of(run: Run, shown: int = SHOWN) -> Lens:
    """The lens on every row, or, where all take too long, on the last of the prompt and the answer's."""
    text, weights = run.vlm.config.text, run.vlm.weights.decoder
    layers, first = text.num_hidden_layers, len(run.inputs.input_ids) - 1
    cost = len(run.ids) * layers * text.hidden_size * text.vocab_size
    rows = np.arange(0 if cost <= AFFORDABLE else first, len(run.ids))
    own, asked = _own(run)
    found = []
    for layer in range(layers):
        x = run.rows(f"decoder.layers.{layer}.add_mlp")[rows]
        with unwatched():
            scores = logits(normalise(x, weights.norm), weights.head).astype(np.float64)    # n d -> n v
            if layer == layers - 1:
                scores[asked - rows[0]] = own
            found.append(np.exp(log_softmax(scores)))
    ids = np.stack([np.argsort(-p, axis=1, kind="stable")[:, :shown] for p in found])
    chances = np.stack([np.take_along_axis(p, i, 1) for p, i in zip(found, ids, strict=True)])
    chosen = np.full(len(rows), np.nan)
    for n, token in enumerate(run.written):
        chosen[first + n - rows[0]] = found[-1][first + n - rows[0], token]
    return Lens(rows, ids.astype(np.int32), chances.astype(np.float32), chosen.astype(np.float32))


def _own(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """The recorded logits (n, v) and the rows of the sequence that they belong to."""
    own = run.rows("decoder.logits").astype(np.float64)
    return own, np.arange(len(run.ids) - len(own), len(run.ids))
