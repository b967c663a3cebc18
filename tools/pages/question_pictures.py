"""The pictures of docs/guide/questions.md, drawn by the functions that the lessons use.

    python -m tools.pages.question_pictures        writes docs/made/pictures/*.png

What they show of the model's numbers is of the embedded model as it is now: run it again when that changes.
Read next: `minivl/show/plot/`, docs/guide/questions.md.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache
from operator import methodcaller
from pathlib import Path
from typing import Any

import numpy as np

import minivl
from minivl.door.contract import outputs
from minivl.door.files import write_whole
from minivl.door.watch import relative_error
from minivl.kernels.definition import log_softmax
from minivl.passes import sampling
from minivl.passes.answer import boxes_to_resized
from minivl.passes.picture import bicubic_weights
from minivl.passes.positions import ticks
from minivl.passes.windows import schedule
from minivl.run.grounding import Found
from minivl.run.provenance import provenance
from minivl.show import plot
from tools.pages import described

FOLDER = Path(__file__).parent.parent.parent / "docs" / "made" / "pictures"


@cache
def scene() -> tuple[Any, Any, np.ndarray]:
    """The embedded model, a conversation about a picture of two discs, and its pixels."""
    vlm = minivl.load()
    pixels = np.full((140, 196, 3), 205, np.uint8)
    y, x = np.ogrid[:140, :196]
    for column, colour in ((50, (222, 40, 40)), (146, (45, 75, 225))):
        pixels[np.hypot(y - 70, x - column) < 28] = colour
    content = [{"type": "image", "image": pixels}, {"type": "text", "text": "Describe the image."}]
    return vlm, vlm.prepare([{"role": "user", "content": content}]), pixels


def patch_order() -> Any:
    vlm, inputs, _ = scene()
    figure = plot.board(1, 1, (7, 5))
    plot.patches(inputs.pixel_values, inputs.image_grid_thw[0], vlm.processor.preprocessor, figure.axes[0])
    return figure


def resize_weights() -> Any:
    figure = plot.board(1, 2, (10, 3))
    plot.resize_weights(*bicubic_weights(10, 16), ax=figure.axes[0])
    plot.resize_weights(*bicubic_weights(30, 12), ax=figure.axes[1])
    return figure


def kinds_of_block(vision: Any) -> dict[str, int]:
    """One windowed and one full block."""
    windowed = next(n for n in range(vision.depth) if n not in vision.fullatt_block_indexes)
    return {"a windowed block": windowed, "a full block": vision.fullatt_block_indexes[0]}


def windows() -> Any:
    vlm, inputs, pixels = scene()
    figure = plot.board(1, 3, (12, 4), width_ratios=[1.5, 1, 1])
    plot.windows(pixels, inputs.image_grid_thw[0], vlm.config, figure.axes[0])
    tables = schedule(inputs.grids, vlm.config.vision)
    for axis, (kind, block) in zip(figure.axes[1:], kinds_of_block(vlm.config.vision).items(), strict=True):
        plot.segments(tables[block], axis)
        axis.set_title(f"{kind}: {axis.get_title()}", size=9)
    return figure


def attention() -> Any:
    vlm, inputs, pixels = scene()
    at = provenance(inputs, vlm.config)
    with minivl.session(record="vision.*") as session:
        vlm.vision(inputs)
    row = int(np.flatnonzero((at["w"][:, 2:] == (4, 3)).all(axis=1))[0])
    figure = plot.board(1, 2, (11, 3.8))
    for axis, (kind, block) in zip(figure.axes, kinds_of_block(vlm.config.vision).items(), strict=True):
        q, k = session.trace[f"vision.blocks.{block}.rotate"]
        plot.attention(q, k, session.trace["vision.schedule"][block], row, "w", at, axis, pixels=pixels)
        axis.plot(3, 4, "w+", ms=12, mew=2)
        axis.set_title(f"what the patch at the cross looks at in {kind}", size=9)
    return figure


def mrope() -> Any:
    vlm, _, pixels = scene()
    content = [{"type": "video", "video": [pixels[:56, :84]] * 6, "fps": 2.0}, {"type": "text", "text": "What moves?"}]
    figure = plot.board(1, 1, (9, 3))
    plot.positions(vlm.prepare([{"role": "user", "content": content}]).position_ids, figure.axes[0])
    return figure


def prompt_tokens() -> Any:
    vlm, _, pixels = scene()
    content = [{"type": "text", "text": "Is this"}, {"type": "image", "image": pixels[:56, :84]},
               {"type": "text", "text": "like this?"}, {"type": "image", "image": pixels[:56, :56]}]
    figure = plot.board(1, 1, (12, 4))
    plot.tokens(vlm.prepare([{"role": "user", "content": content}]).input_ids, vlm.tokenizer,
                [vlm.config.image_token_id], figure.axes[0])
    return figure


def clocks() -> Any:
    """Four frames a second, half a second from pair to pair: the time numbers by the rule and by three mistakes."""
    per_second = scene()[0].config.vision.tokens_per_second
    seconds = {"right: 0.5 s": 0.5, "cut to whole seconds": 0.0, "1 s taken for granted": 1.0,
               "24 frames a second guessed": 2 / 24}
    steps = ticks(np.array(list(seconds.values())), per_second)
    numbers = np.floor(steps[:, None] * np.arange(8, dtype=np.float32)).astype(int)
    figure = plot.board(1, 1, (8, 2))
    plot.table(numbers, figure.axes[0], "time number of each pair of frames", list(seconds),
               [f"pair {n}" for n in range(8)])
    return figure


def after_video() -> Any:
    vlm, _, pixels = scene()
    content = [{"type": "video", "video": [pixels[:56, :84]] * 8, "fps": 1.0}, {"type": "text", "text": "What moves?"}]
    figure = plot.board(1, 2, (12, 3.2))
    for axis, rule in zip(figure.axes, ("max_plus_one", "tf5"), strict=True):
        plot.positions(vlm.prepare([{"role": "user", "content": content}], after_video=rule).position_ids, axis)
        axis.set_title(f"after_video={rule!r}", size=9)
    return figure


def look_back() -> Any:
    """Four tokens of text, six cells, four tokens of text."""
    time = np.array([0, 1, 2, 3, *[4] * 6, 7, 8, 9, 10])
    names = [*"abcd", *(f"cell {n}" for n in range(6)), *"efgh"]
    figure = plot.board(1, 2, (10, 3.8))
    tables = {"by row: right": np.tri(len(time), dtype=int), "by time number: wrong": time[:, None] >= time[None]}
    for axis, (title, seen) in zip(figure.axes, tables.items(), strict=True):
        plot.table(seen.astype(int), axis, title, names)
        axis.set(xlabel="key: who is looked at", ylabel="query: who looks")
    return figure


def last_row() -> tuple[Any, Any, np.ndarray]:
    """The model, the ids so far, and the scores (1, v) of the step of a box at which it is half sure."""
    vlm, _, pixels = scene()
    content = [{"type": "image", "image": pixels}, {"type": "text", "text": "Find the red circle."}]
    inputs = vlm.prepare([{"role": "user", "content": content}])
    with minivl.session(record="decoder*.logits") as session:
        vlm.generate(inputs, max_new_tokens=40)
    rows = np.concatenate(list(session.trace.values()))                               # one a step: n v
    sure = np.array([plot.top_tokens(row, 1)[1][0] for row in rows])
    step = int(np.abs(sure - 0.5).argmin())
    return vlm, np.append(inputs.input_ids, rows[:step].argmax(axis=1)), rows[step : step + 1]


def temperature() -> Any:
    vlm, _, row = last_row()
    figure = plot.board(1, 3, (12, 3))
    for axis, heat in zip(figure.axes, (1e-6, 1.0, 2.0), strict=True):
        plot.logits(sampling.narrow_choice(row, heat, None, None)[0], vlm.tokenizer, 6, axis)
        axis.set_title(f"temperature {heat:g}", size=9)
    return figure


def penalty() -> Any:
    vlm, seen, row = last_row()
    figure = plot.board(1, 2, (10, 3))
    for axis, strength in zip(figure.axes, (1.0, 1.3), strict=True):
        plot.logits(sampling.penalise(row, (seen,), (seen[:0],), strength)[0], vlm.tokenizer, 8, axis)
        axis.set_title("no penalty" if strength == 1 else f"repetition penalty {strength}", size=9)
    return figure


def kept_rows() -> Any:
    """A prompt of 12 rows and an answer of 5 tokens: prefill, then steps."""
    prompt, steps = 12, 5
    rows = [np.array([[0, prompt + n] for n in range(steps)]),
            np.array([[prompt + n - 1 if n else 0, prompt + n] for n in range(steps)])]
    figure = plot.board(1, 2, (10, 2.4))
    for axis, spans, title in zip(figure.axes, rows, ("without a cache", "with one"), strict=True):
        done = np.array([[start <= row < stop for row in range(prompt + steps - 1)] for start, stop in spans])
        plot.table(done.astype(int), axis, f"rows computed {title}: {done.sum()}",
                   ["prefill", *(f"step {n}" for n in range(1, steps))])
        axis.set_xlabel("row of the sequence")
    return figure


def boxes() -> Any:
    """A true box where the model sees it, the same numbers on the photo, and carried back."""
    photo = np.full((300, 400, 3), 205, np.uint8)
    photo[70:160, 60:150], photo[40:130, 230:320] = (222, 40, 40), (45, 75, 225)
    true = np.array([[60, 70, 150, 160], [230, 40, 320, 130]], float)
    vlm = scene()[0]
    with minivl.session(record="picture.resize") as session:
        (medium,) = vlm.prepare([{"role": "user", "content": [{"type": "image", "image": photo}]}]).media
    resized = session.trace["picture.resize"]
    assert medium.size and medium.source_size
    said = boxes_to_resized(true, np.array(medium.size), np.array(medium.source_size))
    figure = plot.board(1, 3, (12, 3.4))
    panes = [(resized, said, "what the model sees and says"), (photo, said, "the same numbers on the photo"),
             (photo, true, "carried back")]
    for axis, (pixels, places, title) in zip(figure.axes, panes, strict=True):
        plot.found(pixels, [Found("", tuple(place), None, ()) for place in places.tolist()], axis)
        axis.set_title(title, size=9)
    return figure


def errors() -> Any:
    """Relative error of every stage against float64, in the three narrower types."""
    inputs, traces = scene()[1], {}
    for precision in ("float64", "bfloat16", "float16", "float32"):
        with minivl.load(precision=precision) as vlm, minivl.session(record=["vision.*", "decoder.*"]) as session:
            vlm.logits(inputs)
        traces[precision] = {key: outputs(value)[0] for key, value in session.trace.items()}
    golden = traces.pop("float64")
    stages = [key for key, value in golden.items() if value.dtype == np.float64]
    figure = plot.board(1, 1, (12, 4.6))
    plot.errors({name: {key: relative_error(trace[key], golden[key]) for key in stages}
                 for name, trace in traces.items()}, figure.axes[0])
    return figure


def loss_mask() -> Any:
    """Surprise of each token of a dialogue; those of the assistant count."""
    vlm, _, pixels = scene()
    content = [{"type": "image", "image": pixels}, {"type": "text", "text": "Is there a red circle?"}]
    said = [{"role": "assistant", "content": "Yes."}, {"role": "user", "content": "What color is the circle?"},
            {"role": "assistant", "content": "Crimson."}]
    inputs = vlm.prepare([{"role": "user", "content": content}, *said], add_generation_prompt=False)
    ids, pairs = inputs.input_ids, log_softmax(vlm.logits(inputs)[:-1])
    opening, (stop,) = vlm.tokenizer.encode("<|im_start|>assistant\n"), vlm.tokenizer.encode("<|im_end|>")
    starts = [n + len(opening) for n in range(len(ids)) if ids[n : n + len(opening)].tolist() == opening]
    mask = np.zeros(len(ids), bool)
    for start in starts:
        mask[start : start + int(np.argmax(ids[start:] == stop)) + 1] = True
    shown = np.flatnonzero(ids[1:] != vlm.config.image_token_id)
    figure = plot.board(1, 1, (12, 3))
    plot.token_bars([plot.token_name(vlm.tokenizer, token) for token in ids[1:][shown]],
                    -pairs[np.arange(len(ids) - 1), ids[1:]][shown], mask[1:][shown], figure.axes[0],
                    label="surprise (nats)")
    return figure


PICTURES: dict[str, Callable[[], Any]] = {
    "patch-order": patch_order, "resize-weights": resize_weights, "windows": windows, "attention": attention,
    "mrope": mrope, "prompt-tokens": prompt_tokens, "clocks": clocks, "after-video": after_video,
    "look-back": look_back, "temperature": temperature, "penalty": penalty, "cache": kept_rows,
    "boxes": boxes, "errors": errors, "loss-mask": loss_mask}


def main() -> None:
    described.install()
    FOLDER.mkdir(exist_ok=True)
    for name, draw in PICTURES.items():
        buffer = io.BytesIO()
        draw().savefig(buffer, format="png", metadata={"Software": None})
        write_whole(FOLDER / f"{name}.png", methodcaller("write", buffer.getvalue()))
        print(FOLDER / f"{name}.png", len(buffer.getvalue()))


if __name__ == "__main__":
    main()
