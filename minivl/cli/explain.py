"""`minivl explain`: the whole program pass by pass, for any released size, without its weights.

Read next: `run/costs.py` of the package, which does the work.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

from ..api import config_of, dtype_of, find, read_processor
from ..checkpoint.names import formats
from ..checkpoint.read import in_few_bits, load_model
from ..config import OFFICIAL, OFFICIAL_PICTURES, ModelConfig, PreprocessorConfig, official_config
from ..door.errors import ArgumentError, MissingFile
from ..run.costs import Cost, Costs, costs
from ..run.cut.plan import cut_from
from .console import count, facts, heading, note, print_json, size, table
from .costs import explain_cut


def explain(model: str | None, sizes: Sequence[tuple[int, int]], text_tokens: int, new_tokens: int,
            precision: str, as_json: bool, cache: str | None = None, chunk: int | None = None,
            parallel: str | None = None) -> None:
    """Print what a run costs. Raises ArgumentError or OSError for whatever is wrong with the input."""
    config, pictures, name = described(model)
    if parallel is not None and (cache or chunk):
        raise ArgumentError("--parallel tells of a cache in the type of the activations and of a prompt that "
                            "runs at once: leave --cache and --chunk out")
    if parallel is not None:
        return explain_cut(name, config, pictures, cut_from(parallel), sizes, text_tokens, new_tokens,
                           precision, as_json)
    dtype, weights = dtype_of(precision), "bf16"
    with ExitStack() as stack:
        held = None
        if model not in OFFICIAL and in_few_bits(find(model, weights=False)):
            held, tensors = load_model(find(model), dtype)
            stack.enter_context(tensors)
            weights = formats(held)
        found = costs(config, pictures, sizes, text_tokens, new_tokens, dtype, held, cache, chunk)
    if as_json:
        return print_json(document(name, precision, weights, found))
    heading(f"{name}: a prompt of {found.tokens} tokens, {found.visual_tokens} of them visual")
    show(found.prefill)
    if found.first:
        heading("each further token, here the first one")
        show(found.first)
    summary(found, weights)


def described(model: str | None) -> tuple[ModelConfig, PreprocessorConfig, str]:
    """Dimensions and picture settings of a released size, of a folder, or of the embedded model."""
    if model in OFFICIAL:
        return official_config(model), OFFICIAL_PICTURES, f"Qwen2.5-VL-{model}"
    try:
        folder = find(model, weights=False)
    except MissingFile as error:
        raise MissingFile(f"{error}; released sizes are {', '.join(OFFICIAL)}") from None
    config = config_of(folder)
    return config, read_processor(folder, config).preprocessor, "the embedded model" if model is None else model


def document(name: str, precision: str, weights: str, found: Costs) -> dict[str, Any]:
    """What `--json` prints."""
    parts = {part: [row._asdict() for row in getattr(found, part)]
             for part in ("prefill", "first", "last")}
    return {"model": name, "precision": precision, "weights": weights, **asdict(found), **parts,
            "prefill_flops": found.prefill_flops,
            "decode_flops": found.decode_flops, "peak_bytes": found.peak_bytes}


def show(rows: Sequence[Cost]) -> None:
    """One part of the run as a table, with its sum. Parameters of a tied table are used twice, so they
    have none."""
    cells = [(row.label, row.contract, shapes(row), row.runs, count(row.parameters), count(row.flops),
              size(row.moved)) for row in rows]
    together = ("together", "", "", sum(row.runs for row in rows), "",
                count(sum(row.flops for row in rows)), size(sum(row.moved for row in rows)))
    table(("pass", "contract", "comes out", "runs", "parameters", "FLOPs", "bytes"), [*cells, together],
          right=("runs", "parameters", "FLOPs", "bytes"), droppable=("bytes", "runs", "contract"))


def shapes(row: Cost) -> str:
    """What comes out. A table of segments for each of 32 blocks is no news 32 times."""
    if len(row.shapes) < 4:
        return "  ".join(str(list(shape)) for shape in row.shapes)
    return "  ".join(f"{times} x {list(shape)}" for shape, times in Counter(row.shapes).items())


def summary(found: Costs, weights: str) -> None:
    """What the whole run takes."""
    per_token = found.cache_bytes // (found.tokens + found.new_tokens)
    facts([("parameters", count(found.parameters)), ("prompt", f"{count(found.prefill_flops)} FLOPs"),
           ("further tokens", f"{found.new_tokens - 1}, together {count(found.decode_flops)} FLOPs"),
           (f"weights in {weights}", size(found.weight_bytes)),
           (f"KV cache in {found.cache}", f"{size(found.cache_bytes)}, {size(per_token)} a token"),
           ("memory", f"at least {size(found.peak_bytes)}: weights, cache, and what goes in and out of "
                      "the widest pass")])
    note(f"bytes: weights in {weights}, and every pass's inputs and outputs; a kernel that joins passes moves "
         "fewer, and the definitions widen a matrix to float32 while they multiply")
