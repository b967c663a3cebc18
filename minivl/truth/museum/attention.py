"""Faults inside attention: who is seen besides those that should be, which head looks where, and in
what type."""

from __future__ import annotations

import numpy as np

from ...kernels.definition import narrow, wide
from . import cases
from .fault import fault
from .rounding import to_bfloat16

BUCKET = 64                              # rows are padded to a multiple of this
BLOCK = 16                               # keys that are looked at in one go


class Positions:
    """Listens to the decoder's positions, for masks that are wrongly made from them: the time of every
    row so far."""
    label = "decoder.angles"

    def __init__(self):
        self.new = np.zeros(0, np.int64)
        self.known: dict[int, np.ndarray] = {}

    def listen(self, right):
        """Note the positions of this step's rows, then do what the pass does."""
        def angles(positions, config):
            self.new = positions[0]
            return right(positions, config)
        return angles

    def of(self, q0: int, q1: int, k0: int, k1: int) -> np.ndarray:
        """Times of rows k0..k1 of the cache, of which the last are rows q0..q1 of this step."""
        before = self.known.get(k0, self.new[:0])[: k1 - k0 - (q1 - q0)]
        self.known[k0] = np.concatenate([before, self.new[q0:q1]])
        return self.known[k0]


def _row_by_row(heard: Positions, segments: np.ndarray, first_and_last) -> np.ndarray:
    """A table with one segment for each row, which sees keys first..last of its conversation:
    g 4 -> s 4."""
    table = []
    for q0, q1, k0, k1 in segments.tolist():
        time = heard.of(q0, q1, k0, k1)
        for row in range(len(time) - (q1 - q0), len(time)):
            first, last = first_and_last(time, row)
            query = q1 - len(time) + row
            table.append((query, query + 1, k0 + first, k0 + last + 1))
    return np.array(table, np.int64).reshape(-1, 4)


@fault("decoder.layers.*.attend", ["ggml-org/llama.cpp#15474", "ggml-org/llama.cpp#16745"], 2025,
       "boxes drift",
       shows=cases.wide, passes=("same", cases.text), hears=Positions)
def causal_mask_from_positions(heard, right, q, k, v, segments):
    """Who comes before whom was read off the positions, which in a language model are the rows. All
    cells of a picture have the same time, so that each sees those after it as well. The model was
    trained to read a picture cell by cell."""
    def since_the_beginning(time, row):
        return 0, np.flatnonzero(time <= time[row])[-1]
    return right(q, k, v, _row_by_row(heard, segments, since_the_beginning))


@fault("decoder.layers.*.attend", ["huggingface/transformers#40154", "huggingface/transformers#40490"],
       2025, "benchmarks fall by several points after an update",
       shows=cases.wide, passes=("same", cases.text), hears=Positions)
def packing_guessed_from_positions(heard, right, q, k, v, segments):
    """Where positions do not go on by one, a helper for packed training data takes a new text to
    begin, and it was given the time axis of a picture. The question then sees neither the picture nor
    what was said before it. Generation tests did not fail: the answers were as fluent as ever."""
    def since_last_break(time, row):
        breaks = np.flatnonzero(np.diff(time[: row + 1]) != 1)
        return (breaks[-1] + 1 if len(breaks) else 0), row
    return right(q, k, v, _row_by_row(heard, segments, since_last_break))


@fault("decoder.layers.*.attend", ["onnx/onnx#7274", "apple/axlearn#842"], 2024,
       "fluent nonsense",
       shows=cases.text)
def wrong_kv_head(right, q, k, v, segments):
    """Four query heads share two heads of keys: 0 0 1 1, not 0 1 0 1; `tile` is not `repeat`. Every
    query looks through the wrong keys from the second head on. With one query head for each key head,
    as in the tower, the two are the same."""
    tiled = np.arange(q.shape[1]) % k.shape[1]
    return right(q, k[:, tiled], v[:, tiled], segments)


@fault("vision.blocks.*.attend", ["vllm-project/vllm-gaudi#831"], 2026,
       "nine points less on a benchmark",
       shows=cases.cell, passes=("same", cases.whole_bucket))
def padded_rows_attended(right, q, k, v, segments):
    """Rows are padded to a few fixed lengths, so that a device need not compile anew, and the mask
    that hides the padding was made and not used. A key of zeros has the score 0, which is not nothing:
    it takes weight from real ones. A picture whose length is one of those lengths is right."""
    missing = -len(k) % BUCKET
    padding = np.zeros((missing, *k.shape[1:]), k.dtype)
    last = segments[:, 3:] == len(k)
    return right(q, np.concatenate([k, padding]), np.concatenate([v, padding]),
                 segments + last * [0, 0, 0, missing])


@fault("vision.blocks.*.attend", ["openvinotoolkit/openvino#33880", "openvinotoolkit/openvino#35959"],
       2026, "nothing but exclamation marks",
       shows=cases.two_windows, passes=("same", cases.one_window))
def nan_from_a_masked_row(right, q, k, v, segments):
    """Keys come in blocks, and the largest score so far is kept. A row for which all of the first
    block is masked has minus infinity there, minus infinity from itself is not a number, and one such
    number spoils the picture. A picture of one window masks nothing."""
    group = np.repeat(np.arange(len(segments)), segments[:, 1] - segments[:, 0])
    highest, total, out = np.full(q.shape[:2], -np.inf), np.zeros(q.shape[:2]), np.zeros(q.shape)
    for at in range(0, len(k), BLOCK):
        keys = slice(at, at + BLOCK)
        score = np.einsum("qae,kae->qak", wide(q), wide(k[keys])) * q.shape[-1] ** -0.5
        score = np.where((group[:, None] == group[keys])[:, None], score, -np.inf)
        new = np.maximum(highest, score.max(axis=-1))
        with np.errstate(invalid="ignore"):
            weight, shrink = np.exp(score - new[..., None]), np.exp(highest - new)       # -inf - -inf
        total = total * shrink + weight.sum(axis=-1)
        out = out * shrink[..., None] + np.einsum("qak,kae->qae", weight, wide(v[keys]))
        highest = new
    return narrow(out / total[..., None], q.dtype)


@fault("kernel.attend", ["huggingface/transformers#35749", "huggingface/transformers#37363",
                         "vllm-project/vllm-gaudi#831"], 2025,
       "charts are read worse by one way of attending than by another",
       shows=cases.long_text, passes=("cosine", cases.small),
       leaves=["vision.blocks.*.attend", "decoder.layers.*.attend"])
def softmax_in_half_precision(right, q, k, v, segments, causal):
    """Scores and their softmax are formed in sixteen bits, the sum as well. A score of 60 has
    neighbours that are a quarter apart, and a sum of hundreds of small weights loses the smallest.
    Each layer is a little off, long inputs more than short ones; users cannot tell it from rounding."""
    out, group = np.zeros_like(q), q.shape[1] // k.shape[1]
    for q0, q1, k0, k1 in segments.tolist():
        for head in range(q.shape[1]):
            key, value = wide(k[k0:k1, head // group]), wide(v[k0:k1, head // group])
            score = to_bfloat16(wide(q[q0:q1, head]) @ key.T * q.shape[-1] ** -0.5)
            if causal:
                seen = np.arange(q1 - q0)[:, None] + (k1 - k0) - (q1 - q0)
                score = np.where(np.arange(k1 - k0) <= seen, score, -np.inf)
            weight = to_bfloat16(np.exp(to_bfloat16(score - score.max(axis=-1, keepdims=True))))
            total = np.zeros_like(weight[:, :1])
            for n in range(weight.shape[1]):
                total = to_bfloat16(total + weight[:, n:n + 1])
            out[q0:q1, head] = narrow(to_bfloat16(weight / total) @ value, q.dtype)
    return out
