"""A run as the plain document that the page reads: texts, small tables, and arrays in one packed block.

Read next: `page.py` (the file around it), `data.js` (the reader on the other side).
"""

from __future__ import annotations

import base64
import gzip
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..plot.text import token_text
from .attention import all_attention
from .lens import lens_of
from .run import Run
from .stages import stages_of

BUDGET = 3_500_000           # bytes of attention weights for one run; the page is about as large
KINDS = {"int32": "i4", "float32": "f4", "float16": "f2"}


class Pack:
    """Arrays one after the other, each at a multiple of four bytes; equal ones are kept once."""

    def __init__(self) -> None:
        self.size, self.parts, self.known = 0, list[bytes](), dict[bytes, dict[str, Any]]()

    def add(self, array: np.ndarray) -> dict[str, Any]:
        """Where the array lies: what the page needs to read it again."""
        kind = KINDS[array.dtype.name]
        raw = f"{kind} {array.shape}".encode() + array.tobytes()
        if raw not in self.known:
            self.known[raw] = {"at": self.size, "kind": kind, "shape": list(array.shape)}
            data = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
            data += bytes(-len(data) % 4)
            self.parts.append(data)
            self.size += len(data)
        return self.known[raw]

    def text(self) -> str:
        """All of it, compressed, in base64."""
        return base64.b64encode(gzip.compress(b"".join(self.parts), 9, mtime=0)).decode("ascii")


def document(runs: Sequence[Run], budget: int = BUDGET) -> tuple[dict[str, Any], str]:
    """What the page shows of one run or of two side by side: the JSON part and the packed arrays."""
    pack = Pack()
    made: dict[str, Any] = {"runs": [describe(run, pack, budget) for run in runs]}
    if len(runs) == 2:
        made["pair"] = pair(runs[0], runs[1], pack)
    return made, pack.text()


def describe(run: Run, pack: Pack, budget: int) -> dict[str, Any]:
    """Everything about one run."""
    vision, lens, words = run.vlm.config.vision, lens_of(run), run.vlm.tokenizer
    return {
        "name": run.name, "question": question_of(run), "answer": words.decode(run.written),
        "precision": run.vlm.dtype.name, "patch": vision.patch_size, "merge": vision.spatial_merge_size,
        "window": vision.window_size, "full": list(vision.fullatt_block_indexes),
        "media": media(run), "prompt": len(run.inputs.input_ids), "written": run.written,
        "tokens": [token_text(words, token) for token in [*run.ids, *run.written[-1:]]],
        "ids": pack.add(_whole(run.ids)), "positions": pack.add(_whole(run.positions)),
        "at": {letter: pack.add(_whole(run.at[letter])) for letter in "pwcms"},
        "segments": [pack.add(_whole(table)) for table in run.trace["vision.schedule"]],
        "attention": [{**vars(a), "weights": pack.add(a.weights)} for a in all_attention(run, budget)],
        "heads": {"vision": vision.num_heads, "decoder": run.vlm.config.text.num_attention_heads},
        "lens": {"first": int(lens.rows[0]), "ids": pack.add(lens.ids),
                 "chances": pack.add(lens.chances), "chosen": pack.add(lens.chosen)},
        "words": {int(token): token_text(words, token) for token in np.unique(lens.ids)},
        "stages": [_stage(stage, pack) for stage in stages_of(run)],
    }


def _stage(stage: Any, pack: Pack) -> dict[str, Any]:
    arrays = [array._asdict() | {"rows": None if array.rows is None else pack.add(array.rows)}
              for array in stage.arrays]
    return stage._asdict() | {"arrays": arrays}


def _whole(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array, np.int32)


def media(run: Run) -> list[dict[str, Any]]:
    """Each picture and video: sizes, grid, and what the model sees; of a pair of frames the first."""
    resized = {"image": iter(run.runs.get("picture.resize", [])),
               "video": iter(run.runs.get("video.resize", []))}
    rates, pair = iter(run.inputs.second_per_grid_ts), run.vlm.config.vision.temporal_patch_size
    found = []
    for medium in run.inputs.media:
        (pixels,), is_video = next(resized[medium.kind]), medium.kind == "video"
        frames = pixels[::pair] if is_video else pixels[None]                 # 2t h u 3 -> t h u 3
        found.append({"kind": medium.kind, "grid": list(medium.grid), "size": list(pixels.shape[-3:-1]),
                      "source": medium.source_size and list(medium.source_size),
                      "seconds": float(next(rates)) or None if is_video else None,
                      "frames": [picture_url(frame) for frame in frames]})
    return found


def picture_url(pixels: np.ndarray) -> str:
    """Pixels as a PNG in a data URL: exactly these."""
    from PIL import Image
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def question_of(run: Run) -> str:
    """The words between the last picture and the next special token, else all words of the prompt."""
    ids, visual = run.inputs.input_ids, (run.at["s"] >= 0).all(axis=(1, 2))
    decode, words = run.vlm.tokenizer.decode, list[int]()
    for token in ids[np.flatnonzero(visual)[-1] + 1 :].tolist():
        special = decode([token]) == "" and decode([token], skip_special_tokens=False) != ""
        if special and words:
            break
        words += [] if special else [token]
    return decode(words).strip() or decode(ids.tolist()).strip()


# ---- two runs --------------------------------------------------------------------------------------

def pair(first: Run, second: Run, pack: Pack) -> dict[str, Any]:
    """Which row of the second run stands where a row of the first does, and how far apart they are.

    rows: s of the first -> s of the second or -1. vision, decoder: ||a - b|| / ||a|| of each row after
    each block and layer.
    """
    rows = counterparts(first, second)
    same = np.array_equal(first.inputs.grids, second.inputs.grids)
    where = np.arange(len(first.at["w"])) if same else np.full(len(first.at["w"]), -1)
    return {"rows": pack.add(_whole(rows)), "same_grid": same,
            "vision": pack.add(_apart(first, second, "vision.blocks", where)),
            "decoder": pack.add(_apart(first, second, "decoder.layers", rows))}


def counterparts(first: Run, second: Run) -> np.ndarray:
    """Rows that mean the same: equal tokens counted from the start, then from the end of the prompt,
    then answers. Visual tokens have counterparts only where the grids are the same."""
    visual = np.all(first.at["s"] >= 0, axis=(1, 2))
    same = np.array_equal(first.inputs.grids, second.inputs.grids)
    n, m = len(first.inputs.input_ids), len(second.inputs.input_ids)
    found = np.full(len(first.ids), -1)
    ends = np.arange(len(first.ids)) - n + m             # the same distance from the end of the prompt
    for row, (token, end) in enumerate(zip(first.ids, ends, strict=True)):
        if visual[row] and not same:
            continue
        if row < min(n, m) and second.ids[row] == token and (row == 0 or found[row - 1] == row - 1):
            found[row] = row
        elif (0 <= end < m and second.ids[end] == token) if row < n else end < len(second.ids):
            found[row] = end
    return found


def _apart(first: Run, second: Run, blocks: str, rows: np.ndarray) -> np.ndarray:
    """Layers x rows of the first; NaN where the second has no counterpart."""
    known = rows >= 0
    labels = [label for label in first.runs if label.startswith(blocks) and label.endswith("add_mlp")]
    lines = np.full((len(labels), len(rows)), np.nan, np.float32)
    for line, label in zip(lines, labels, strict=True):
        a, b = (run.rows(label).astype(np.float64) for run in (first, second))
        apart = np.linalg.norm(a[known] - b[rows[known]], axis=1)
        line[known] = apart / np.linalg.norm(a[known], axis=1)
    return lines
