"""The demonstration: the embedded model answers questions about samples, and one answer is taken apart.

    python -c "from minivl.show.demo import main; main()"         or    minivl demo

It prints answers beside the truth, wrong ones too, and behind each how often the model is right about
questions of that kind; then the passes that led to one of them, and writes one PNG with that picture's way
from pixels to tokens. The PNG needs matplotlib; the rest works without.

Not here: a count of the samples that it is right about, for they were chosen; what counts are the figures
of the card (`figures.py`). Read next: `model.py`, whose lines are the rows of the printed table, and
`show/plot/`.
"""

from __future__ import annotations

import io
import re
from itertools import groupby
from math import prod
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..api import TINY, VLM, load
from ..checkpoint.names import shapes
from ..config import read_preprocessor
from ..door.files import write_whole
from ..door.listing import Row, fold, lister, total
from ..door.stage import Session, session
from ..passes.picture import target_size
from ..run.grounding import locate
from ..run.inputs import Inputs
from ..run.open_picture import load_picture
from ..run.provenance import provenance
from . import plot
from .figures import figure_of
from .samples import WORLD, Sample, load_samples

if TYPE_CHECKING:
    from rich.console import Console

OUTPUT = Path("minivl-demo.png")
SHOWN = "odd-size"                        # the sample whose answer is taken apart: its resizing shows
GALLERY = ("thin", "ragged", "box", "number", "video", "when")    # in the picture's first rows: kinds of
                                          # question that the card's figures say it can be asked


def main(output: Path = OUTPUT, console: Console | None = None) -> None:
    """Answer, show the passes, write the picture `output`. A failure to write is said, not raised."""
    screen = console or _console()
    with load() as vlm:
        _say(screen, introduction(vlm), style="bold")
        samples = load_samples()
        said = answer_all(vlm, samples, screen)
        sample = next((s for s in samples if s.name == SHOWN), samples[0])
        run = take_apart(vlm, sample)._replace(said=said)
        asked = f"({sample.name}): {sample.question}  {run.answer}"
        _say(screen, f"\nEvery pass behind one answer {asked}", style="bold")
        screen.print(table_of_passes(run.rows))
        _say(screen, picture_of(run, vlm, Path(output)))


def _console() -> Console:
    from rich.console import Console
    return Console(markup=False, highlight=False, emoji=False)


def _say(screen: Console, text: str, style: str | None = None) -> None:
    screen.print(_printable(screen, text), style=style, soft_wrap=True, markup=False, highlight=False)


def _printable(screen: Console, text: str) -> str:
    """Text in what the terminal's encoding holds: a Windows code page has few characters."""
    kept = "".join(c if c.isprintable() or c == "\n" else "?" for c in text)
    return kept.encode(screen.encoding, "replace").decode(screen.encoding)


def introduction(vlm: VLM) -> str:
    """One line: what the model is and what it knows."""
    million = sum(map(prod, shapes(vlm.config).values())) / 1e6
    blocks, layers = vlm.config.vision.depth, vlm.config.text.num_hidden_layers
    return (f"The model in the package: {million:.1f} million parameters, {blocks} vision blocks, "
            f"{layers} decoder layers. All it was ever shown is {WORLD}.")


# ---- answers ---------------------------------------------------------------------------------------

def answer_all(vlm: VLM, samples: list[Sample], screen: Console) -> dict[str, str]:
    """Ask about every sample, and print each answer beside the truth as it comes, with the card's figure
    of its kind. Answers by name."""
    start, answers = perf_counter(), {}
    for sample in samples:
        begin = perf_counter()
        said = answers[sample.name] = vlm.chat(sample.messages(), 256)
        seconds, right = perf_counter() - begin, sample.is_right(said)
        facts = f"({size_of(sample)}; {sample.note})"
        _say(screen, f"\n{sample.name}: {sample.question}   {facts}", style="dim")
        verdict = f"{'right' if right else 'WRONG'}, {seconds:.2f} s"
        _say(screen, f"    says  {said}   {verdict}", None if right else "yellow")
        if said.strip() != sample.answer:
            _say(screen, f"    true  {sample.answer}")
        _say(screen, f"    card  {figure_of(sample.question, sample.answer).sentence()}", style="dim")
    _say(screen, f"\n{len(answers)} answers in {perf_counter() - start:.1f} s. The pictures were chosen, "
                 "some for an answer that is right, some for one that is wrong: how often it is right, only "
                 "the figures of the card say.")
    return answers


def size_of(sample: Sample) -> str:
    """Height and width in pixels, as all sizes here: rows first."""
    from PIL import Image
    with Image.open(sample.paths[0]) as image:
        size = f"{image.height} x {image.width}"
    return size if sample.fps is None else f"{len(sample.paths)} frames of {size}"


# ---- passes ----------------------------------------------------------------------------------------

class Run(NamedTuple):
    """One answer with everything that was computed on the way."""
    sample: Sample
    inputs: Inputs
    session: Session
    rows: list[Row]
    answer: str
    said: dict[str, str] = {}                  # noqa: RUF012  (answers to the samples, by name)


def take_apart(vlm: VLM, sample: Sample) -> Run:
    """Answer once more, greedily, with all outputs recorded and listed."""
    rows: list[Row] = []
    with session(record="*") as s:
        s.watchers.append(lister(rows))
        inputs = vlm.prepare(sample.messages())
        ids = vlm.generate(inputs)
    return Run(sample, inputs, s, rows, vlm.tokenizer.decode(ids))


def shapes_of(row: Row) -> str:
    """`140x4x48, 2 of 140x2x48`: the shapes that came out, equal neighbours counted, at most two."""
    every = ["x".join(map(str, shape)) or "1" for _, shape in row.outputs]
    counted = [(shape, len(list(same))) for shape, same in groupby(every)]
    words = [shape if times == 1 else f"{times} of {shape}" for shape, times in counted]
    return ", ".join(words[:2] + ["..."] * (len(words) > 2))


def table_of_passes(rows: list[Row]) -> Any:
    """A run, folded, as a table for the terminal."""
    from rich.table import Table
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("pass", "gives", "runs", "ms", "MFLOP"):
        table.add_column(name, justify="left" if name in ("pass", "gives") else "right", overflow="fold")
    for row in [*fold(rows), total(rows, "in all")]:
        costs = f"{1e3 * row.seconds:.2f}", f"{row.flops / 1e6:,.1f}"
        table.add_row(row.label, shapes_of(row), str(row.runs), *costs)
    return table


# ---- the picture -----------------------------------------------------------------------------------

def picture_of(run: Run, vlm: VLM, output: Path) -> str:
    """Write the PNG; what became of it, in one line."""
    buffer = io.BytesIO()
    try:
        draw(run, vlm).savefig(buffer, format="png", metadata={"Software": "minivl"})
    except ImportError as error:
        return f"No picture of the passes: {error}"
    try:
        write_whole(output, lambda file: file.write(buffer.getbuffer()))
    except OSError as error:
        return f"The picture was not written to {output} ({error.strerror or error}); name another file."
    return f"From pixels to tokens, in one picture: {output}"


def draw(run: Run, vlm: VLM) -> Any:
    """Two rows of answers, then nine panels in the order of the passes: the picture cut up, the tower,
    the decoder."""
    trace, config, inputs = run.session.trace, vlm.config, run.inputs
    grid, at = inputs.grids[0], provenance(inputs, config)
    pixels, preprocessor = trace["picture.resize"], vlm.processor.preprocessor
    full = trace["vision.schedule"][config.vision.fullatt_block_indexes[-1]]
    last = f"vision.blocks.{config.vision.depth - 1}.add_mlp"
    figure = plot.board(5, 3, (12.0, 16.5))
    a = iter(figure.axes)
    samples = {sample.name: sample for sample in load_samples()}
    for name in filter(samples.__contains__, GALLERY):
        _answer_panel(samples[name], run.said.get(name, ""), next(a))
    _panel(plot.picture(_source(run.sample), ax=next(a)), "the picture as it came")
    _panel(plot.patch_grid(pixels, grid, config, next(a)), "picture.resize", "to whole cells: {}")
    _panel(plot.patches(inputs.pixel_values, grid, preprocessor, next(a)), "patches.patchify",
           "{}: cell by cell")
    _panel(plot.windows(pixels, grid, config, next(a)), "vision.order_by_window")
    _panel(_both_schedules(trace["vision.schedule"][0], full, next(a)), "vision.schedule")
    _panel(plot.rows(trace[last], "w", at, next(a), pixels=pixels), last,
           "what comes out of the tower: {}")
    _panel(plot.positions(inputs.position_ids, next(a)), "positions.mrope")
    layer = most_looking(trace, at, config.text.num_hidden_layers)
    _panel(_gaze(trace, at, layer, pixels, next(a)), f"decoder.layers.{layer}.attend")
    step, before = second_token(trace, vlm)
    _panel(plot.logits(trace[step][-1], vlm.tokenizer, 8, next(a)), step, f'{{}} after "{before}"')
    figure.suptitle(f"{run.sample.question}   {run.answer}", size=15, weight="bold", color=plot.INK)
    return figure


def _panel(ax: Any, label: str, words: str = "{}") -> None:
    """The pass's label over what the panel shows; `{}` is the title that the plot gave itself."""
    title = ax.get_title()
    ax.set_title("")
    ax.set_title(f"{label}\n", loc="left", size=10, weight="bold", family="monospace")
    note = ax.annotate(words.format(title), (0, 1), (0, 5), "axes fraction", "offset points", size=8.5,
                       color="#555555")
    note.set_in_layout(False)                             # or a long line would push the panels apart


def _answer_panel(sample: Sample, said: str, ax: Any) -> None:
    """A sample with its question and answer; what the answer locates is drawn where it puts it."""
    frames = np.stack([_source(sample, n) for n in range(len(sample.paths))])
    size = target_size(frames.shape[1:3], read_preprocessor(TINY))
    found = locate(said, (int(size[0]), int(size[1])), frames.shape[1:3])
    ax = plot.found(frames[0], found, ax) if found else plot.picture(frames, ax=ax)
    if sample.fps:
        ax.set_xlabel(f"{len(frames)} frames, {sample.fps:g} a second", size=8)
    short = said if len(said) < 40 else said[:37] + "..."           # a panel is that wide
    mark = "" if sample.is_right(said) else "   (wrong)"
    share = figure_of(sample.question, sample.answer).short()
    ax.set_title("")
    ax.set_title(f"{sample.question}   ({share})\n{short}{mark}", loc="left", size=9)


def _source(sample: Sample, frame: int = 0) -> np.ndarray:
    return load_picture(sample.paths[frame])


def _both_schedules(windowed: np.ndarray, full: np.ndarray, ax: Any) -> Any:
    """Windows in colour on the grey of what a full block sees."""
    for q0, q1, k0, k1 in full.tolist():
        ax.fill([k0, k1, k1, k0], [q0, q0, q1, q1], facecolor="#d9d9d9")
    plot.segments(windowed, ax)
    ax.set_title(f"{len(windowed)} windows in most blocks, whole frames (grey) in the full ones")
    return ax


def _gaze(trace: dict[str, Any], at: dict[str, np.ndarray], layer: int, pixels: np.ndarray, ax: Any
          ) -> Any:
    q, k = trace[f"decoder.layers.{layer}.rotate"]
    whole = np.array([[0, len(q), 0, len(k)]])
    plot.attention(q, k, whole, len(q) - 1, "s", at, ax, causal=True, pixels=pixels)
    ax.set_title("what the prompt's last token looks at")
    return ax


def most_looking(trace: dict[str, Any], at: dict[str, np.ndarray], layers: int) -> int:
    """The decoder layer whose last prompt token gives most of its attention to the picture."""
    visual, shares = (at["s"] >= 0).all(axis=(1, 2)), []
    for layer in range(layers):
        q, k = trace[f"decoder.layers.{layer}.rotate"]
        whole = np.array([[0, len(q), 0, len(k)]])
        weights = plot.attention_weights(q, k, whole, len(q) - 1, True)       # a r
        shares.append(weights.mean(axis=0)[visual].sum())
    return int(np.argmax(shares))


def second_token(trace: dict[str, Any], vlm: VLM) -> tuple[str, str]:
    """The step that chose the answer's second token, or its only one, and the answer before it."""
    steps = [key for key in trace if re.fullmatch(r"decoder(@1)?\.logits", key)]
    before = [int(plot.top_tokens(trace[key][-1], 1)[0][0]) for key in steps[:-1]]
    return steps[-1], vlm.tokenizer.decode(before)
