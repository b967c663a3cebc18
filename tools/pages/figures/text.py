"""Figures of lessons 9 to 12 and 14: positions in the prompt, the decoder, how a token is chosen, two losses.

Read next: `numbers.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import minivl
from minivl.kernels.definition import log_softmax
from minivl.passes.answer import boxes_to_original, boxes_to_resized
from minivl.passes.picture import resize, target_size
from minivl.passes.positions import mrope
from minivl.passes.sampling import penalise
from minivl.show import plot

from .scene import asked, model, scene, two_discs
from .sheet import figure
from .tower import shares

PAD, WORD, START, END = 90, 1, 91, 92                # ids of a toy prompt


def toy_prompt(cells: int) -> np.ndarray:
    """Ids of three words, a picture or video of so many cells between its marks, and three words."""
    return np.array([WORD] * 3 + [START] + [PAD] * cells + [END] + [WORD] * 3)


def places(grid: tuple[int, int, int], tick: float) -> np.ndarray:
    """MRoPE triples of the toy prompt, as the pass gives them: 3 s."""
    cells = grid[0] * grid[1] * grid[2] // 4
    return mrope(toy_prompt(cells), np.array([grid]), np.array([tick], np.float32), (PAD,), 2, "max_plus_one")


@figure("mrope-triples", 10, "MRoPE triples of a prompt with a picture of 2 x 3 cells: text goes on above the largest")
def mrope_triples() -> Any:
    table = places((1, 4, 6), 1.0)
    drawn = plot.board(1, 1, (10, 2.2))
    names = ["word"] * 3 + ["start"] + ["cell"] * 6 + ["end"] + ["word"] * 3
    plot.table(table, drawn.axes[0], "positions (3, s)", ["time", "height", "width"], names)
    return drawn


@figure("mrope-picture", 10, "MRoPE positions of a prompt with a picture: three lines part and meet again")
def mrope_picture() -> Any:
    drawn = plot.board(1, 1, (9, 3))
    plot.positions(scene().inputs.position_ids, drawn.axes[0])
    return drawn


@figure("mrope-video-rates", 10, "Absolute time: the same seconds at two frame rates are the same distance")
def mrope_video_rates() -> Any:
    drawn = plot.board(1, 2, (12, 3))
    for axis, (fps, count) in zip(drawn.axes, ((2.0, 6), (4.0, 12)), strict=True):
        video = {"type": "video", "video": [two_discs(56, 84, 12)] * count, "fps": fps}
        inputs = asked([video, {"type": "text", "text": "What moves?"}])
        plot.positions(inputs.position_ids, axis)
        axis.set_title(f"3 seconds, {fps:g} frames a second", size=9)
    return drawn


@figure("mrope-sections", 10, "The decoder's angles: one set of speeds, shared out among time, height and width")
def mrope_sections() -> Any:
    drawn = plot.board(1, 1, (7.5, 3.8))
    sections = model().config.text.mrope_section
    plot.angles(scene().trace["decoder.angles"], drawn.axes[0],
                sections=list(zip(("time", "height", "width"), sections, strict=True)))
    return drawn


@figure("grouped-heads", 11, "Grouped-query attention in the official 3B: sixteen query heads, two key and value heads")
def grouped_heads() -> Any:
    from minivl.config import official_config
    text = official_config("3B").text
    uses = np.arange(text.heads) // (text.heads // text.kv_heads)                     # a
    drawn = plot.board(1, 1, (8, 1.8))
    plot.table(np.eye(text.kv_heads, dtype=int)[:, uses], drawn.axes[0], "which query head reads which k and v",
               [f"k v {n}" for n in range(text.kv_heads)], [f"q {n}" for n in range(text.heads)])
    return drawn


@figure("prefill-and-decode", 11, "Prefill computes a triangle; each step of decoding one row, against the cache")
def prefill_and_decode() -> Any:
    drawn = plot.board(1, 4, (12, 3))
    plot.segments(np.array([[0, 8, 0, 8]]), drawn.axes[0], causal=True)
    drawn.axes[0].set_title("prefill: 8 tokens", size=9)
    for step, axis in enumerate(drawn.axes[1:], start=1):
        plot.segments(np.array([[0, 1, 0, 8 + step]]), axis, causal=True)
        axis.set_title(f"step {step}: 1 query, {8 + step} keys", size=9)
        axis.set_xlim(0, 11)
        axis.set_ylim(8, 0)
    return drawn


@figure("decoder-looks-at-picture", 11, "What the last token of the prompt looks at in the picture, layer by layer")
def decoder_looks_at_picture() -> Any:
    s, text = scene(), model().config.text
    count = len(s.inputs.input_ids)
    drawn = plot.board(2, 2, (9, 5.4))
    for layer, axis in zip(range(text.num_hidden_layers), drawn.axes, strict=False):
        q, k = s.trace[f"decoder.layers.{layer}.rotate"]
        whole = np.array([[0, count, 0, count]])
        plot.attention(q, k, whole, count - 1, "s", s.at, axis, causal=True, pixels=s.pixels)
        axis.set_title(f"layer {layer}", size=9)
    return drawn


@figure("temperature", 11, "Temperature: the same logits, sharpened and flattened")
def temperature() -> Any:
    row = scene().trace["decoder.logits"][-1].astype(np.float64)
    best = np.argsort(-row, kind="stable")[:6]
    names = [plot.token_name(model().tokenizer, int(token)) for token in best]
    rates = (0.5, 1.0, 2.0, 4.0)
    drawn = plot.board(1, 1, (7, 2.6))
    table = np.array([shares(row / rate)[best] for rate in rates])
    lines = [f"T = {rate:g}" for rate in rates]
    plot.table(table, drawn.axes[0], "probability of the six likeliest tokens", lines, names)
    return drawn


@figure("repetition-penalty", 11, "Repetition penalty 1.3: a seen token loses, be its logit positive or negative")
def repetition_penalty() -> Any:
    logits = np.array([2.0, 1.0, -1.0, -2.0])
    drawn = plot.board(1, 1, (6, 1.9))
    seen = penalise(logits[None], (np.arange(4),), (np.array([], int),), 1.3)[0]
    plot.table(np.stack([logits, seen]), drawn.axes[0], "logits of four tokens", ["not seen", "seen"], form="{:.2f}")
    return drawn


@figure("box-to-photo", 12, "A box in the picture that the model saw, and the same box in the photo")
def box_to_photo() -> Any:
    photo = two_discs(120, 150, 24)
    size = target_size(photo.shape, model().processor.preprocessor)
    in_photo = np.array([[150 // 4 - 24, 60 - 24, 150 // 4 + 24, 60 + 24]], float)
    sides = np.array(photo.shape[:2])
    seen_box = np.rint(boxes_to_resized(in_photo, size, sides))                       # what a right answer says
    back = boxes_to_original(seen_box, size, sides)
    drawn = plot.board(1, 2, (9, 3.6))
    for axis, pixels, box in zip(drawn.axes, (resize(photo, size), photo), (seen_box[0], back[0]), strict=True):
        plot.picture(pixels, ax=axis)
        x0, y0, x1, y1 = box - 0.5
        axis.plot([x0, x1, x1, x0, x0], [y0, y0, y1, y1, y0], color=plot.ORANGE, lw=2)
        axis.set_title(f"{pixels.shape[0]} x {pixels.shape[1]}: box {[round(float(n), 1) for n in box]}", size=9)
    return drawn


@figure("dialogue-loss", 14, "The surprise of each token, for an answer with a wrong colour; only the answer counts")
def dialogue_loss() -> Any:
    s, tokenizer = scene(), model().tokenizer
    stop = int(np.atleast_1d(s.vlm.config.eos_token_id)[0])
    answer = [*tokenizer.encode("A red circle and a green circle."), stop]
    ids = np.array([*s.inputs.input_ids, *answer])
    whole = minivl.Inputs.from_ids(ids, s.vlm.config, s.inputs.pixel_values, s.inputs.image_grid_thw)
    log_p = log_softmax(s.vlm.logits(whole)[:-1].astype(np.float64))                  # row i is about token i + 1
    surprise = -log_p[np.arange(len(log_p)), ids[1:]]
    first = int(np.flatnonzero(ids == s.vlm.config.image_token_id)[-1])              # what comes after the picture
    counted = np.arange(1, len(ids)) >= len(s.inputs.input_ids)
    drawn = plot.board(1, 1, (9, 3.4))
    axis = drawn.axes[0]
    axis.bar(range(first, len(surprise)), surprise[first:],
             color=np.where(counted[first:], plot.BLUE, "lightgrey"))
    names = [plot.token_name(tokenizer, int(token)) for token in ids[1 + first :]]
    axis.set_xticks(range(first, len(surprise)), names, rotation=90, size=7)
    axis.set_ylabel("surprise (nats)", size=8)
    axis.set_title(f"blue counts: loss {surprise[counted].mean():.3f}; grey is read, not learned", size=9)
    return drawn


@figure("preference-loss", 14, "The DPO loss of one pair by its margin: at zero it is log 2, and it never reaches zero")
def preference_loss() -> Any:
    margin = np.linspace(-60, 60, 241)
    drawn = plot.board(1, 1, (6.5, 3))
    axis = drawn.axes[0]
    for beta, colour in ((0.1, plot.BLUE), (0.3, plot.ORANGE)):
        axis.plot(margin, np.logaddexp(0, -beta * margin), color=colour, label=f"beta = {beta}")
    axis.plot(0, np.log(2), "o", color=plot.INK)
    axis.set(xlabel="margin: gain of the right answer minus gain of the wrong one (nats)", ylabel="loss")
    axis.legend(fontsize=8)
    return drawn
