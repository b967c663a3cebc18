"""How large each channel of a model's keys is: what bytes of a KV cache are measured by.

A few channels of a key are many times as large as the others, in every token alike; one scale for
all of a
row would spend its bytes on them. So keys are divided by a size for each channel first: the root of the
largest number there, which spreads the rest between channel and row. It is the model's own, found by a
short run over words drawn at random, and the same for all conversations: what one of them stores
    does not depend on another, nor on how its prompt was cut.

Source: Liu et al., "KIVI" (2024), which measured that keys want scales by channel and values by
token; the root is that of Xiao et al., "SmoothQuant" (2023).
Read next: `kernels/stored.py`, which uses the sizes.
"""

from __future__ import annotations

import numpy as np

from ..checkpoint.tree import Model
from ..door.stage import running, unwatched
from ..kernels import Interpreter
from ..model import prefill
from .cache import KVCache
from .inputs import Batch, Inputs

WORDS = 64  # tokens of the run
LEAST = 2.0**-10  # of the largest channel of a head: none is taken for smaller


def key_channels(model: Model, machine: Interpreter) -> np.ndarray | None:
    """A size for each channel of each layer's keys: (layers, k, e) float32; None for a model whose
    keys are no numbers. No session sees the run."""
    config = model.config
    words = np.random.default_rng(0).integers(0, config.text.vocab_size, WORDS)
    words[np.isin(words, (config.image_token_id, config.video_token_id))] = config.vision_end_token_id
    with unwatched(), np.errstate(all="ignore"), running(machine):
        inputs = Inputs.from_ids(words, config)
        batch = Batch.of([inputs], config, model.decoder.dtype).on(machine.to_device)
        cache = KVCache(config.text, batch.lengths, model.decoder.dtype, machine.zeros)
        prefill(batch, cache, model)
    keys = np.asarray(machine.to_host(cache.k)).astype(np.float32)
    size = np.abs(keys).max(axis=1)  # l r k e -> l k e
    if not np.isfinite(size).all():
        return None
    least = np.maximum(size.max(axis=-1, keepdims=True) * LEAST, np.finfo(np.float32).tiny)
    return np.sqrt(np.maximum(size, least))
