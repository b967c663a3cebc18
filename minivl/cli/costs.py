"""What a run has cost that did not fit into one memory: where the time of a streamed one went, and what
the ranks of a job hold and have sent. Also the same of a job that was never run.

Read next: `run/streaming.py` and `run/cut/volume.py` of the package, which do the work.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from ..api import VLM, dtype_of
from ..config import ModelConfig, PreprocessorConfig
from ..run.costs import prompt_of
from ..run.cut.machine import Rank
from ..run.cut.mpi import one_voice
from ..run.cut.plan import Cut
from ..run.cut.volume import KINDS, Run, Share, held, shares, volume, volume_of_answer
from ..run.inputs import Inputs
from ..run.streaming import Spent, reader_of, spent
from .console import console, facts, heading, line, note, print_json, size, table

BAR, BESIDE = 40, 72                           # columns of the longest bar, and of what stands beside it


def in_a_job(parallel: str | None, explained: Callable[[Exception], tuple[str, int]]
             ) -> AbstractContextManager[Any]:
    """What a command runs in that may be one of several ranks."""
    return nullcontext() if parallel is None else one_voice(explained)


def tell_costs(vlm: VLM, inputs: Inputs) -> None:
    """Print what the run of an answer has cost."""
    if vlm.rank is not None:
        ranks(vlm, vlm.rank, inputs)
    if (reader := reader_of(vlm.weights)) is not None:
        timeline(spent(reader))


# --------------------------------------------------------------------------------------- a streamed run

def timeline(found: Spent) -> None:
    """Every part of a streamed model as a bar: # it computed, . it waited for the disk."""
    heading("where the time went: # computing, . waiting for the disk")
    most = max((times.compute + times.wait for _, _, _, times in found.rows), default=0.0) or 1.0
    rows, longest = [], max(6, min(BAR, console().width - BESIDE))
    for name, kept, bytes, times in found.rows:
        bar = "#" * round(longest * times.compute / most) + "." * round(longest * times.wait / most)
        seconds = (f"{value:.2f}" for value in (times.read, times.wait, times.compute))
        rows.append((name, "kept" if kept else "", size(bytes), times.runs, *seconds, bar))
    sums = [sum(getattr(times, name) for *_, times in found.rows)
            for name in ("read", "wait", "compute", "bytes")]
    rows.append(("together", "", size(sums[3]), "", *(f"{value:.2f}" for value in sums[:3]), ""))
    table(("part", "", "bytes", "runs", "read s", "wait s", "compute s", ""), rows,
          right=("bytes", "runs", "read s", "wait s", "compute s"))
    if found.plain:
        share = found.reached / found.plain
        note(f"read at {found.reached / 1e9:.2f} GB/s, {share:.0%} of a plain read of the same file "
             f"({found.plain / 1e9:.2f} GB/s)")


# --------------------------------------------------------------------------------------- ranks of a job

def ranks(vlm: VLM, rank: Rank, inputs: Inputs) -> None:
    """What each rank holds and has sent, and the sum beside the formula's."""
    own = np.array([held(vlm.weights), anonymous(), *(rank.sent[kind] for kind in KINDS)], np.int64)
    everybody = rank.world.gather(own, "report").reshape(-1, len(own))
    rows = [(r, r // rank.seat.cut.tensor, r % rank.seat.cut.tensor,
             *(size(int(value)) for value in values)) for r, values in enumerate(everybody)]
    heading(f"what each rank holds, and has sent for {rank.steps} tokens")
    table(("rank", "stage", "shard", "weights", "memory of its own", *KINDS), rows)
    sent = Counter(dict(zip(KINDS, everybody[:, 2:].sum(axis=0).tolist(), strict=True)))
    told = volume_of_answer(vlm.config, rank.seat.cut, len(inputs.input_ids), len(inputs.patches),
                            rank.steps, vlm.dtype)
    beside(sent, told)


def beside(sent: Mapping[str, int], told: Mapping[str, int]) -> None:
    """Bytes that were counted beside those of the formula, by kind."""
    heading("bytes sent by all ranks, and by the formula")
    table(("kind", "counted", "formula", ""),
          [(kind, f"{sent[kind]:,}", f"{told[kind]:,}",
            "equal" if sent[kind] == told[kind] else "DIFFERENT") for kind in KINDS],
          right=("counted", "formula"))


def anonymous() -> int:
    """Bytes of memory that only this process has; 0 where the system does not say."""
    try:
        text = Path("/proc/self/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    found = [row.split()[1] for row in text.splitlines() if row.startswith("RssAnon:")]
    return int(found[0]) * 1024 if found else 0


# --------------------------------------------------------------------------------------------- on paper

def explain_cut(name: str, config: ModelConfig, pictures: PreprocessorConfig, cut: Cut,
                sizes: Sequence[tuple[int, int]], text_tokens: int, new_tokens: int, precision: str,
                as_json: bool) -> None:
    """Print what each rank of a job would hold and send. Raises ArgumentError for a model that cannot be
    cut so."""
    dtype = dtype_of(precision)
    found = shares(config, pictures, cut, sizes, text_tokens, new_tokens, dtype)
    inputs = prompt_of(config, pictures, sizes, text_tokens)
    prompt = volume(config, cut, Run(len(inputs.input_ids), len(inputs.patches)), dtype)
    token = volume(config, cut, Run(1), dtype)
    if as_json:
        return print_json({"model": name, "parallel": str(cut), "precision": precision,
                           "tokens": len(inputs.input_ids), "prompt": prompt, "token": token,
                           "ranks": [one_rank(share) for share in found]})
    heading(f"{name}, {cut}: {cut.ranks} ranks, a prompt of {len(inputs.input_ids)} tokens")
    columns = ("rank", "stage", "shard", "layers", "weights", "cache", "sent for the prompt",
               "for each further token")
    table(columns, [(*list(one_rank(share).values())[:3], layers_of(share), size(share.weights),
                     size(share.cache), size(share.prompt.total()), size(share.token.total()))
                    for share in found])
    line()
    beside(sum((share.prompt for share in found), Counter()), prompt)
    facts([("weights", size(sum(share.weights for share in found))),
           ("prompt", f"{size(prompt.total())} between the ranks"),
           ("each further token", f"{size(token.total())} between the ranks")])


def layers_of(share: Share) -> str:
    """The layers of a rank's stage, the last one named."""
    return f"{share.seat.layers[0]}..{share.seat.layers[1] - 1}"


def one_rank(share: Share) -> dict[str, Any]:
    """A rank as JSON has it."""
    seat = share.seat
    return {"rank": seat.rank, "stage": seat.stage, "shard": seat.shard, "layers": list(seat.layers),
            "weights": share.weights, "cache": share.cache, "prompt": share.prompt, "token": share.token}
