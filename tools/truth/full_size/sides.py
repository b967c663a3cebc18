"""One side of the comparison in a process of its own: what it writes, and its scores, into one file.

A side writes its own greedy answer, token by token, and then scores one given answer in a single pass.
The answer that all sides score is the one that minivl writes in float32. So scores are compared over the
same text, and each place tells which token the side would have written there.
Read next: `report.py`.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import minivl
from minivl.checkpoint.convert import FORMATS
from minivl.run.inputs import PICTURES, Inputs

from ...bench.load_3b import AnonymousPeak
from .prompts import AFTER_VIDEO, answered, prompts

SPREAD = 8  # rows of the prompt whose scores are kept beside the answer's


class Side(NamedTuple):
    """Who computes, on what and in which precision; few: only some of the prompts, because it is slow;
    weights: of a folder that was converted"""

    program: str
    kernels: str
    precision: str
    few: bool = False
    weights: str = ""

    @property
    def name(self) -> str:
        """For a file and a table."""
        return "-".join(filter(None, (self.program, self.kernels, self.precision, self.weights)))


FIRST = Side("minivl", "jit", "float32")  # writes the answer that all sides score
WIDE = Side("transformers", "sdpa", "float32")  # what the others are compared with
SIDES = (
    FIRST,
    WIDE,
    Side("transformers", "sdpa", "bfloat16"),
    Side("minivl", "jit", "bfloat16"),
    Side("minivl", "definition", "float32", few=True),
    Side("minivl", "definition", "bfloat16", few=True),
    Side("minivl", "definition", "float64", few=True),
)
PACKED = {  # f32 would be twice as large, and says nothing of a release in bf16
    weights: Side("minivl", "jit", "bfloat16", few=True, weights=weights) for weights in FORMATS if weights != "f32"
}
BY_NAME = {side.name: side for side in (*SIDES, *PACKED.values())}
Writer = Callable[[Inputs, int], list[int]]  # a prompt and how many tokens
Scorer = Callable[[Inputs], np.ndarray]  # scores of every row: s v


def rows_kept(length: int, tokens: int) -> np.ndarray:
    """Which rows of a prompt of `length` with its answer are kept: some of the prompt, and those by
    which the answer's tokens are chosen (the last of the prompt, and all of the answer but its last)."""
    spread = np.arange(SPREAD) * (length - 1) // SPREAD
    return np.concatenate([spread, np.arange(length - 1, length - 1 + tokens)])


def run(
    side: Side, folder: Path, out: Path, count: int, few: int, tokens: int, memory: str | None
) -> None:
    """Write the file of one side. Other sides than FIRST need FIRST's file beside it, and take its
    prompts; with no tokens they only score."""
    peak = AnonymousPeak()
    peak.start()
    found: dict[str, Any] = {}
    answers = None if side == FIRST else np.load(out / f"{FIRST.name}.npz")
    with minivl.load(folder, "float32", "definition") as vlm:
        asked = prompts(
            vlm, count if answers is None else sum(name.endswith(".tokens") for name in answers.files)
        )
    if side.few:
        asked = dict(list(asked.items())[:: max(1, len(asked) // few)][:few])
    writer, scorer, places = opened(side, folder, memory)
    for name, inputs in asked.items():
        if places is not None and not np.array_equal(places(inputs), inputs.position_ids):
            raise SystemExit(f"{name}: transformers counts other positions")
        wrote = writer(inputs, tokens) if tokens else []
        given = wrote if answers is None else answers[f"{name}.tokens"].tolist()
        scores = scorer(answered(inputs, given))[rows_kept(len(inputs.input_ids), len(given))]
        found |= {
            f"{name}.tokens": np.array(wrote),
            f"{name}.scores": scores.astype(np.float64 if side.precision == "float64" else np.float32),
        }
        print(f"  {name}: {len(inputs.input_ids)} tokens, {wrote}", flush=True)
    size = peak.end()
    np.savez(out / f"{side.name}.npz", peak=size or 0, **found)


def in_a_process(
    side: Side, folder: Path, out: Path, count: int, few: int, tokens: int, memory: str | None
) -> None:
    """`run` in a process of its own, so that one model is in memory at a time. Raises SystemExit when it
    fails."""
    words = ["side", side.name, folder, "-o", out, "--prompts", count, "--few", few, "--tokens", tokens]
    words += ["--memory", memory] if memory else []
    done = subprocess.run([sys.executable, "-m", "tools.truth.full_size", *map(str, words)], check=False)
    if done.returncode:
        raise SystemExit(done.returncode)


def opened(side: Side, folder: Path, memory: str | None) -> tuple[Writer, Scorer, Any]:
    """What writes, what scores, and what counts positions (None for minivl itself)."""
    if side.program == "minivl":
        streamed = memory if side.kernels == "jit" else None  # the definitions map their weights anyway
        vlm = minivl.load(folder, side.precision, side.kernels, memory=streamed)

        def write(inputs: Inputs, tokens: int) -> list[int]:
            if side.few:
                return []  # its scores say enough, and each token widens every weight
            return list(vlm.generate(inputs, tokens, repetition_penalty=1.0, stop_ids=()))

        return write, vlm.logits, None
    return transformers_side(side, folder)


def transformers_side(side: Side, folder: Path) -> tuple[Writer, Scorer, Any]:
    """transformers' own `generate`, its scores and its positions. In float32 it only scores: see
    `wide.py`."""
    import torch

    from minivl.truth.trace import oracle

    from .wide import float32_by_blocks

    wide = side.precision == "float32"
    dtype = getattr(torch, side.precision)
    model = float32_by_blocks(folder) if wide else oracle.reference(folder, dtype)
    model.generation_config.eos_token_id = None  # noise must not end an answer

    def write(inputs: Inputs, tokens: int) -> list[int]:
        if wide:
            return []
        ids = torch.tensor(inputs.input_ids)[None]
        given = {name: torch.tensor(value) for name in PICTURES if len(value := getattr(inputs, name))}
        given |= {
            "attention_mask": torch.ones_like(ids),
            "mm_token_type_ids": torch.tensor(oracle.token_types(model, inputs.input_ids))[None],
        }
        with oracle.running(model):
            answer = model.generate(
                ids, **given, do_sample=False, max_new_tokens=tokens, repetition_penalty=1.0
            )
        return list(answer[0, ids.shape[1] :].tolist())

    def score(inputs: Inputs) -> np.ndarray:
        return oracle.logits(model, inputs, inputs.position_ids)

    return write, score, lambda inputs: oracle.positions(model, inputs, AFTER_VIDEO)
