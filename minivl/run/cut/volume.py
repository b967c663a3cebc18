"""How much the ranks of a job tell each other: by a formula, and on paper.

For a run of `s` tokens, `p` patches in `c` cells, and scores of `n` rows, with t ranks a stage and P
stages, all ranks together send

| kind | bytes |
|---|---|
| sums | 2 (t - 1) w (2 L s H + 2 B p V + c H) |
| words | 2 (t - 1) b s H |
| scores | (t - 1) b n N + (P - 1) t b n N |
| rows | (P - 1) t b s H |
| tokens | (t P - 1) 8 n |

H is the decoder's width, L its layers, N the vocabulary; V the tower's width, B its blocks; b the bytes
of a number, w those of the wide type that sums are formed in. A sum of X numbers costs 2 (t - 1) X: each
rank sends all pieces but its own, and its own piece, summed, to all others. Nothing of it depends on
what the numbers are.

Read next: `group.py`, which counts what is really sent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ...checkpoint.names import blank_tensors, build, weights_of
from ...checkpoint.tree import Model, Weight
from ...config import ModelConfig, PreprocessorConfig
from ...door.stage import running
from ...kernels import interpreter
from ...kernels.definition import wide_type
from ...model import prefill, step
from ..cache import KVCache
from ..costs import TEXT_TOKENS, prompt_of, size_of, stored_bytes
from ..inputs import Batch
from .job import on_paper
from .machine import Rank
from .plan import Cut, Seat

KINDS = ("sums", "words", "rows", "scores", "tokens")


class Run(NamedTuple):
    """What goes through the model at once: tokens, patches, and rows whose scores are asked for."""
    tokens: int
    patches: int = 0
    asked: int = 1


def volume(config: ModelConfig, cut: Cut, run: Run, dtype: np.dtype) -> Counter[str]:
    """Bytes that all ranks send together in one run, by kind: the formula above. The token is counted,
    too."""
    v, h = config.vision, config.text.hidden_size
    item, wide, others = dtype.itemsize, wide_type(dtype).itemsize, cut.tensor - 1
    cells = run.patches // v.spatial_merge_size ** 2
    summed = 2 * config.text.num_hidden_layers * run.tokens * h + cells * h
    summed += 2 * v.depth * run.patches * v.hidden_size
    on = (cut.pipeline - 1) * cut.tensor
    return Counter({"sums": 2 * others * wide * summed, "words": 2 * others * item * run.tokens * h,
                    "rows": on * item * run.tokens * h,
                    "scores": (others + on) * item * run.asked * config.text.vocab_size,
                    "tokens": (cut.ranks - 1) * 8 * run.asked})


def volume_of_answer(config: ModelConfig, cut: Cut, tokens: int, patches: int, steps: int,
                     dtype: np.dtype) -> Counter[str]:
    """Bytes that all ranks send for an answer: the prompt, then one token in each further step."""
    once = volume(config, cut, Run(1), dtype)
    further = Counter({kind: count * (steps - 1) for kind, count in once.items()})
    return volume(config, cut, Run(tokens, patches), dtype) + further


class Share(NamedTuple):
    """What one rank holds and sends. weights: bytes; cache: bytes; sent: bytes by kind, for the prompt,
    then for each further token"""
    seat: Seat
    weights: int
    cache: int
    prompt: Counter[str]
    token: Counter[str]


def shares(config: ModelConfig, pictures: PreprocessorConfig, cut: Cut,
           sizes: Sequence[tuple[int, int]] = (), text_tokens: int = TEXT_TOKENS, new_tokens: int = 1,
           dtype: np.dtype | None = None) -> list[Share]:
    """Every rank of a cut on paper: the program itself runs over shapes, once a stage, with weights in
    bf16.

    sizes: (height, width) of pictures in the prompt. Raises ArgumentError for a model that cannot be cut
        so.
    """
    kind = np.dtype(np.float32) if dtype is None else dtype
    inputs = prompt_of(config, pictures, sizes, text_tokens)
    batch = Batch.of([inputs], config, kind)
    token = batch.followed_by(np.zeros(1, np.int64), inputs.position_ids[:, -1:] + 1, np.ones(1, bool))
    found: list[Share] = []
    for rank in on_paper(config, cut)[::cut.tensor]:  # all ranks of a stage hold and send the same ...
        model = rank.marked(build(blank_tensors(config), config, kind, rank.place()))
        machine = rank.on(interpreter("shapes"))
        cache = KVCache(config.text, batch.lengths + new_tokens, kind, machine.zeros)
        with running(machine):
            prefill(batch, cache, model)
            prompt = taken(rank)
            step(token, token.no_features, cache, model)
        one = Share(rank.seat, held(model), size_of(cache.k) + size_of(cache.v), prompt, taken(rank))
        seats = [rank.seat._replace(rank=rank.seat.rank + j) for j in range(cut.tensor)]
        found += [one._replace(seat=seat) for seat in seats]
    chosen = Counter({"tokens": 8 * (cut.ranks - 1)})        # ... but rank 0, which says what was chosen
    found[0] = found[0]._replace(prompt=found[0].prompt + chosen, token=found[0].token + chosen)
    return found


def taken(rank: Rank) -> Counter[str]:
    """What a rank has sent since the last look."""
    sent = Counter(rank.sent)
    rank.sent.clear()
    return sent


def held(model: Model) -> int:
    """Bytes of the weights that a rank has; a tied table once."""
    weights = {id(one): one for one in weights_of(model).values()}
    return sum(bytes_of(one) for one in weights.values())


def bytes_of(weight: Weight) -> int:
    """Bytes of one weight as it is kept, of all parts that are here."""
    parts = getattr(weight, "parts", None)
    if isinstance(parts, tuple):
        return sum(map(bytes_of, parts))
    return 0 if weight.format == "none" else stored_bytes(weight)          # another rank's

