"""Record llama.cpp through its Python binding: token ids, logits, and the last hidden rows.

    llm = llama_cpp.Llama("model.gguf", n_ctx=4096, n_batch=4096, n_ubatch=4096,
                          logits_all=True, embedding=True,
                          pooling_type=llama_cpp.LLAMA_POOLING_TYPE_NONE,
                          type_k=llama_cpp.GGML_TYPE_F32, type_v=llama_cpp.GGML_TYPE_F32)
    record(llm, ids, "theirs.safetensors")    # of a prompt without pictures, those of the golden trace

    with listening(llm, "theirs.safetensors"):    # whatever is evaluated: by a chat handler, say
        llm.create_chat_completion(messages, max_tokens=1)

What is written is what `minivl diff` reads: `prompt.expand` (the ids), `decoder.logits`, and with
embedding=True `decoder.normalise`, the rows before the head, all of them float32. Without `type_k` and
`type_v` keys and values are kept in float16: compare such a run with `--precision float16`.

What the binding does not reach: anything inside the graph. A graph's tensors can be watched by
`cb_eval`, a C callback of the context's parameters, which the class `Llama` does not hand on. And
pictures: a chat handler evaluates them in C, so that only runs of text come by. `listening` writes
each run under names of its own (`text.0.ids`, `text.0.logits`, ...), for `minivl diff --names` against
a golden trace that was recorded with the rows of that run (`--rows s=...`).

The binding is not imported here: who has a model has it. Read next: `recorder.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ...door.errors import ArgumentError
from .recorder import Recorder

IDS, LOGITS, HIDDEN = "prompt.expand", "decoder.logits", "decoder.normalise"


def record(llm: Any, ids: Sequence[int], path: str | Path) -> None:
    """Evaluate token ids from the beginning and write what comes out. Raises ArgumentError where rows
    would be missing."""
    check_opened(llm, len(ids))
    llm.reset()
    llm.eval(list(map(int, ids)))
    with Recorder(path) as out:
        out.put(IDS, np.asarray(ids, np.int64))
        out.put(LOGITS, np.array(llm.scores[: len(ids)]))
        if llm.context_params.embeddings:
            out.put(HIDDEN, hidden(llm, len(ids)))


@contextmanager
def listening(llm: Any, path: str | Path) -> Iterator[None]:
    """Write ids and logits of every run of text that is evaluated while it is open."""
    check_opened(llm, 0)
    evaluate: Callable[[Sequence[int]], None] = llm.eval
    count = 0
    with Recorder(path) as out:
        def heard(tokens: Sequence[int]) -> None:
            nonlocal count
            start = llm.n_tokens
            evaluate(tokens)
            out.put(f"text.{count}.ids", np.asarray(tokens, np.int64))
            out.put(f"text.{count}.logits", np.array(llm.scores[start : start + len(tokens)]))
            count += 1
        llm.eval = heard
        try:
            yield
        finally:
            del llm.eval                              # the class's own again


def check_opened(llm: Any, rows: int) -> None:
    """Raise ArgumentError unless the model was opened so that every row's numbers can be had."""
    if llm.scores.shape[0] < llm.n_ctx():
        raise ArgumentError("open the model with logits_all=True: without it only the last row has "
                            "logits")
    if llm.context_params.embeddings and rows > llm.n_batch:
        raise ArgumentError(f"{rows} tokens are evaluated in batches of {llm.n_batch}; only the last "
                            "one's hidden rows are kept: open the model with n_batch and n_ubatch of at "
                            "least that, or with embedding=False")


def hidden(llm: Any, rows: int) -> np.ndarray:
    """The rows before the head, of every token of the last batch: s d."""
    binding = sys.modules["llama_cpp"]                # there, or there would be no model
    width = llm.n_embd()
    return np.stack([np.ctypeslib.as_array(binding.llama_get_embeddings_ith(llm.ctx, n), (width,)).copy()
                     for n in range(rows)])
