"""Candidates for triage whose fault is known: minivl with something wrong in it, by the door or by its settings,
written down as another program would write its answers.

    write_lines(CANDIDATES["windows wrong at the edges"], vlm, samples, folder / "candidate.jsonl")

`kind` and `shared` are the truth: what `minivl triage` should say of (b) and (c). Pixels are spoilt by Pillow, not by
the museum's code, which triage itself uses as hypotheses. Read next: `__main__.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import minivl
from minivl.checkpoint.tree import Linear
from minivl.door.stage import Session, Wrap
from minivl.kernels.definition import log_softmax
from minivl.run.inputs import Inputs
from minivl.truth.museum import get

from .samples import Reading

MOST_TOKENS = 5


@dataclass(frozen=True)
class Candidate:
    """wraps: what stands behind the door, given the model; options: of `generate`; says: fields that it reports besides
    its text."""
    name: str
    kind: str | None                             # pixels, settings, arithmetic; None for a healthy one
    shared: str | None                           # the property of the bad samples; None where all samples suffer
    wraps: Callable[[minivl.VLM], Mapping[str, Wrap]] = lambda vlm: {}
    options: Mapping[str, Any] = field(default_factory=dict)
    says: tuple[str, ...] = ("ids", "logprobs")
    told: Mapping[str, Any] = field(default_factory=lambda: {"temperature": 0})     # what it says of its sampler


def row_of(candidate: Candidate, vlm: minivl.VLM, sample: Reading, folder: Path) -> dict[str, Any]:
    """One line of the candidate's file."""
    messages = [{**m, "content": [_opened(item, folder) for item in m["content"]]} for m in sample.messages]
    with Session(replace=candidate.wraps(vlm), record="decoder.logits", quiet=True) as s:
        inputs: Inputs = vlm.prepare(messages)
        ids = vlm.generate(inputs, MOST_TOKENS, **candidate.options)
    logits = np.concatenate(list(s.trace.values())).astype(np.float64)                      # k v
    known = {"ids": ids, "logprobs": [round(float(row[n]), 4) for n, row in zip(ids, log_softmax(logits), strict=True)],
             "prompt_ids": inputs.input_ids.tolist(), "grid": [list(m.grid) for m in inputs.media]}
    stops = vlm.generation.eos_token_ids
    return {"id": sample.name, "messages": sample.messages, "expected": sample.expected,
            "text": vlm.tokenizer.decode([n for n in ids if n not in stops]),
            "settings": {"max_new_tokens": MOST_TOKENS, "precision": vlm.dtype.name, **candidate.told},
            **{name: known[name] for name in candidate.says}}


def _opened(item: dict[str, Any], folder: Path) -> dict[str, Any]:
    if "image" in item:
        return {**item, "image": folder / item["image"]}
    return {**item, "video": [folder / frame for frame in item["video"]]} if "video" in item else item


def write_lines(candidate: Candidate, vlm: minivl.VLM, samples: Sequence[Reading], path: Path) -> None:
    """The candidate's answers to all samples, whose pictures lie beside the file."""
    rows = [row_of(candidate, vlm, sample, path.parent) for sample in samples]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


# ---- what is wrong ------------------------------------------------------------------------------------------

def museum(name: str) -> Callable[[minivl.VLM], Mapping[str, Wrap]]:
    """A fault of the museum."""
    return lambda vlm: get(name).table()


def pillow(filter_: Image.Resampling) -> Callable[[minivl.VLM], Mapping[str, Wrap]]:
    """Pictures and frames resized by another filter of Pillow's."""
    def resize(right: Callable) -> Callable:
        def resized(pixels: np.ndarray, size: np.ndarray) -> np.ndarray:
            frames = pixels if pixels.ndim == 4 else pixels[None]
            out = np.stack([np.asarray(Image.fromarray(f).resize((int(size[1]), int(size[0])), filter_))
                            for f in frames])
            return out if pixels.ndim == 4 else out[0]
        return resized
    return lambda vlm: {"picture.resize": resize, "video.resize": resize}


def smaller_limit(vlm: minivl.VLM) -> Mapping[str, Wrap]:
    """No picture may be larger than a quarter of the checkpoint's limit."""
    def wrap(right: Callable) -> Callable:
        return lambda shape, config: right(shape, replace(config, max_pixels=max(config.min_pixels,
                                                                                  config.max_pixels // 4)))
    return {"picture.target_size": wrap}


def digits_moved(vlm: minivl.VLM) -> Mapping[str, Wrap]:
    """The head's rows of the ten digits are one further, as after a vocabulary was put together anew. All else is
    right to the last bit."""
    rows = [vlm.tokenizer.encode(digit)[0] for digit in "0123456789"]

    def wrap(right: Callable) -> Callable:
        def logits(x: np.ndarray, head: Linear) -> np.ndarray:
            out = right(x, head).copy()
            out[:, rows] = np.roll(out[:, rows], 1, axis=1)
            return out
        return logits
    return {"decoder.logits": wrap}


def rendered(change: Callable[[str], str]) -> Callable[[minivl.VLM], Mapping[str, Wrap]]:
    """The prompt's text, changed."""
    def wrap(right: Callable) -> Callable:
        def render(*args: Any) -> np.ndarray:
            return np.frombuffer(change(right(*args).tobytes().decode()).encode(), np.uint8)
        return render
    return lambda vlm: {"prompt.render": wrap}


def without_system_turn(text: str) -> str:
    return text[text.index("<|im_start|>user"):]


PICTURE, TEXT_AFTER, TEXT_BEFORE, RAGGED, SEVERAL, MANY, PICTURES, DIGITS, VIDEO, RESIZED = (
    "picture or video", "text after picture", "picture after text", "ragged windows", "several windows", "many patches",
    "several pictures", "digits", "video", "resized")

TEN = (
    Candidate("windows wrong at the edges", "arithmetic", RAGGED, museum("windows-wrong-at-the-edges")),
    Candidate("full attention never used", "arithmetic", SEVERAL, museum("full-attention-never-used")),
    Candidate("second picture as text", "arithmetic", PICTURES, museum("second-picture-as-text")),
    Candidate("video in one moment", "arithmetic", VIDEO, museum("video-in-one-moment"),
              says=("ids", "logprobs", "grid")),
    Candidate("text after picture off by one", "arithmetic", PICTURE, museum("text-after-picture-off-by-one"),
              says=("ids", "logprobs", "grid", "prompt_ids")),
    Candidate("digits of the head one further", "arithmetic", DIGITS, digits_moved),
    Candidate("bilinear resize", "pixels", RESIZED, pillow(Image.Resampling.BILINEAR)),
    Candidate("a smaller limit", "pixels", MANY, smaller_limit, says=("ids", "logprobs", "grid")),
    Candidate("pictures before text", "settings", TEXT_BEFORE, museum("pictures-before-text")),
    Candidate("no system turn", "settings", None, rendered(without_system_turn),
              says=("ids", "logprobs", "prompt_ids")),
)
MORE = (
    Candidate("healthy", None, None, says=("ids", "logprobs", "prompt_ids", "grid")),
    Candidate("penalty that nobody asked for", "settings", None, options={"repetition_penalty": 1.3}, told={}),
    Candidate("drawn, not greedy", "settings", None, options={"do_sample": True, "temperature": 1.0, "seed": 3},
              told={}),
    Candidate("nearest pixel", "pixels", RESIZED, pillow(Image.Resampling.NEAREST)),
)
DRAWN_OTHERWISE = MORE[1:3]
CANDIDATES = {one.name: one for one in (*TEN, *MORE)}
